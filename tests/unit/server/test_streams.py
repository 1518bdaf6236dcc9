"""When a stream speaks up by itself, when it is cut off, and when it is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from turnwire.server.streams import Leaving, Streams
from turnwire.server.writer import Outbox, sse_chunk
from turnwire.session.watch import Watch

COMMENT: Final = b": keep-alive\n\n"


class Tap(asyncio.Transport):
    """A transport that notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.unsent = 0
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True


class Watched:
    """Streams over one tap, and a clock that only the test moves."""

    def __init__(self, *, keepalive_sec: float = 15.0, stalled_sec: float = 60.0) -> None:
        self.streams = Streams(keepalive_sec=keepalive_sec, stalled_sec=stalled_sec)
        self.tap = Tap()
        self.outbox = Outbox(self.tap, None, sse_chunk)  # type: ignore[arg-type]
        self.began = self.outbox.written_sec

    @contextmanager
    def stream(self, *, chunked: bool = True) -> Iterator[None]:
        """An answer that lasts as long as the context."""
        stream = self.streams.watch(self.outbox, chunked=chunked)
        yield
        stream.end()

    def beat(self, at: float) -> None:
        """Look after them, so many seconds after the beginning."""
        for stream in self.streams:
            self.streams.beat(stream, self.began + at)


@pytest.mark.parametrize(
    ("chunked", "expected"), [(True, b"e\r\n: keep-alive\n\n\r\n"), (False, COMMENT)]
)
async def test_a_silent_stream(*, chunked: bool, expected: bytes) -> None:
    """After so much silence a comment goes out, a chunk of its own where there are chunks."""
    watched = Watched()
    with watched.stream(chunked=chunked):
        watched.beat(14.9)
        assert [] == watched.tap.writes
        watched.beat(15.0)
        assert [expected] == watched.tap.writes


@pytest.mark.parametrize("unsent", [0, 1])
async def test_a_stream_that_is_over(unsent: int) -> None:
    """Behind its end nothing is said, and it is forgotten once all of it has left."""
    watched = Watched()
    with watched.stream():
        assert 1 == len(watched.streams)
    watched.tap.unsent = unsent
    watched.beat(20)
    assert unsent == len(watched.streams)
    watched.tap.unsent = 0
    watched.beat(21)
    assert 0 == len(watched.streams)
    assert [] == watched.tap.writes
    assert not watched.tap.aborted


@pytest.mark.parametrize("over", [True, False])
async def test_a_client_that_takes_nothing(*, over: bool) -> None:
    """It is cut off in time, also behind the end, and hears no comments before that."""
    watched = Watched()
    with watched.stream():
        watched.tap.unsent = 100
        watched.beat(0)
        if not over:
            watched.beat(59)
            assert not watched.tap.aborted
            watched.beat(61)
    if over:
        watched.beat(59)
        assert not watched.tap.aborted
        watched.beat(61)
    assert watched.tap.aborted
    assert 0 == len(watched.streams)
    assert [] == watched.tap.writes


async def test_a_client_that_takes_a_little() -> None:
    """Slow is not stalled."""
    watched = Watched()
    with watched.stream():
        for minute in range(10):
            watched.tap.unsent = 100 - minute
            watched.beat(59.0 * minute)
    assert not watched.tap.aborted


async def test_rules_that_are_off() -> None:
    """0 turns a timer off."""
    watched = Watched(keepalive_sec=0, stalled_sec=0)
    with watched.stream():
        watched.beat(1e6)
        watched.tap.unsent = 1
        watched.beat(2e6)
        watched.beat(3e6)
    assert ([], False) == (watched.tap.writes, watched.tap.aborted)


@pytest.mark.parametrize(
    ("unsent", "stays", "aborted"),
    [
        pytest.param([0], [False], False, id="gone at once"),
        pytest.param([9, 9, 5, 5, 0], [True, True, True, True, False], False, id="taken slowly"),
        pytest.param([9, 9, 9], [True, True, False], True, id="not taken"),
    ],
)
def test_a_large_answer(unsent: list[int], stays: list[bool], *, aborted: bool) -> None:
    """It is looked after until it has left, or its client has taken nothing for too long."""
    tap = Tap()
    watch = Watch(max_age_sec=0.0, idle_sec=0.0, keepalive_sec=0.0, stalled_sec=60.0)
    leaving = Leaving(tap, watch)
    found = []
    for minute, left in enumerate(unsent):
        tap.unsent = left
        found.append(leaving.beat(1000.0 + 31.0 * minute))
    assert (stays, aborted) == (found, tap.aborted)
