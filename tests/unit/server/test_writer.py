"""Frames are whole, and writes are few."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from aiohttp.http_websocket import WSMsgType
from msgspec import Raw

from turnwire.protocol.events import OutputTextDelta, ResponseCompleted
from turnwire.server.writer import Outbox, sse_chunk, sse_frame, websocket_frame


def delta(text: str = "a", number: int = 0) -> OutputTextDelta:
    """A delta event."""
    return OutputTextDelta(
        sequence_number=number, item_id="msg_1", output_index=0, content_index=0, delta=text
    )


DONE = ResponseCompleted(sequence_number=1, response=Raw(b"{}"))


class Tap(asyncio.Transport):
    """A transport that notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False
        self.unsent = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Gate:
    """Stands for the library's writer: notes that somebody waited for room."""

    def __init__(self) -> None:
        self.drains = 0

    async def drain(self) -> None:
        self.drains += 1


def outbox() -> tuple[Outbox, Tap, Gate]:
    """An outbox over a tapped transport."""
    tap, gate = Tap(), Gate()
    return Outbox(tap, gate, websocket_frame), tap, gate  # type: ignore[arg-type]


def parse(data: bytes) -> list[bytes]:
    """Payloads of unmasked, final text frames."""
    found = []
    while data:
        assert data[0] == 0x80 | WSMsgType.TEXT
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        found.append(data[start : start + size])
        data = data[start + size :]
    return found


@pytest.mark.parametrize("size", [0, 1, 10, 60, 5_000, 65_400, 70_000])
def test_a_frame_holds_its_event(size: int) -> None:
    """Length fields of one, two and eight bytes are written as RFC 6455 says."""
    [payload] = parse(websocket_frame(delta("x" * size)))
    assert json.loads(payload)["delta"] == "x" * size


def test_an_sse_frame_is_two_lines_and_an_empty_one() -> None:
    """LF only, JSON on one line, the type named twice."""
    head, data, *rest = sse_frame(delta("a\nb")).split(b"\n")
    assert b"event: response.output_text.delta" == head
    assert "a\nb" == json.loads(data.removeprefix(b"data: "))["delta"]
    assert [b"", b""] == rest


def test_a_chunk_is_one_frame_and_done_is_its_own() -> None:
    """Chunk sizes are those of whole frames; the terminal event brings [DONE]."""
    frame = sse_frame(delta())
    assert b"%x\r\n%b\r\n" % (len(frame), frame) == sse_chunk(delta())
    assert sse_chunk(DONE).endswith(b"\r\ne\r\ndata: [DONE]\n\n\r\n")


async def written(events: Sequence[OutputTextDelta], flush: bool) -> list[int]:
    """How many frames each write held, after the loop had time to flush."""
    box, tap, _ = outbox()
    box.send(events, flush=flush)
    await asyncio.sleep(0.02)
    return [len(parse(data)) for data in tap.writes]


async def test_what_becomes_ready_together_is_one_write() -> None:
    """Events join; nothing stays behind without a flush."""
    assert [3] == await written([delta(), delta(), delta()], flush=False)


async def test_a_flush_writes_at_once() -> None:
    """The first and the terminal event do not wait."""
    box, tap, _ = outbox()
    box.send([delta()], flush=True)
    assert 1 == len(tap.writes)
    box.send([delta()])
    assert 1 == len(tap.writes)
    box.send([DONE], flush=True)
    assert [1, 2] == [len(parse(data)) for data in tap.writes]


async def test_much_is_written_without_waiting() -> None:
    """At 32 KB the outbox does not wait for its timer."""
    box, tap, _ = outbox()
    box.send([delta("x" * 40_000)])
    assert 1 == len(tap.writes)


async def test_nothing_is_written_to_a_closing_transport() -> None:
    """After the client has gone, events are dropped."""
    box, tap, _ = outbox()
    tap.closing = True
    box.send([delta()], flush=True)
    assert ([], 0) == (tap.writes, box.num_bytes)


async def test_a_slow_client_makes_its_turn_wait() -> None:
    """The outbox is congested while the transport holds much unsent; drain flushes first."""
    box, tap, gate = outbox()
    before = box.congested
    tap.unsent = 10_000_000
    assert (False, True) == (before, box.congested)
    box.send([delta()])
    await box.drain()
    assert (1, 1) == (len(tap.writes), gate.drains)
