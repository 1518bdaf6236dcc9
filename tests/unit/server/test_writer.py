"""Frames are whole, and writes are few."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Sequence

import pytest
from aiohttp.http_websocket import WSMsgType
from msgspec import Raw

from turnwire.protocol.events import OutputTextDelta, ResponseCompleted
from turnwire.server.writer import Outbox, deflated_frame, sse_chunk, sse_frame, websocket_frame


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


async def test_a_quiet_line_waits_for_no_clock() -> None:
    """What a step of the loop makes leaves at its end in one write, if nothing left just before."""
    box, tap, _ = outbox()
    box.written_sec -= 1.0
    box.send([delta()])
    box.send([delta()])
    assert [] == tap.writes
    await asyncio.sleep(0)
    assert [2] == [len(parse(data)) for data in tap.writes]


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
    """The outbox is congested when much stays unsent; drain flushes first and clears it."""
    box, tap, gate = outbox()
    box.send([delta()], flush=True)
    before = (box.slow, box.congested)
    tap.unsent = 10_000_000
    box.send([delta()], flush=True)
    after = (box.slow, box.congested)
    box.send([delta()])
    await box.drain()
    assert ((False, False), (True, True)) == (before, after)
    assert (3, 1, False) == (len(tap.writes), gate.drains, box.congested)


async def test_a_client_that_catches_up_is_not_slow_any_more() -> None:
    """Slowness is looked at again, without another write."""
    box, tap, _ = outbox()
    tap.unsent = 50_000
    box.send([delta()], flush=True)
    slow = box.slow
    tap.unsent = 0
    assert (True, False) == (slow, box.slow)


async def test_a_client_that_takes_nothing_is_stalled() -> None:
    """Seconds count while bytes wait and none leaves; one that leaves starts them anew."""
    box, tap, _ = outbox()
    frame = len(websocket_frame(delta()))
    tap.unsent = frame
    box.send([delta()], flush=True)
    now = box.written_sec
    box.stalled_sec(now)
    waited = box.stalled_sec(now + 9)
    tap.unsent = frame - 1
    moved = box.stalled_sec(now + 10)
    tap.unsent = 0
    assert (9, 0, 0) == (round(waited), moved, box.stalled_sec(now + 20))


def test_a_deflated_frame_inflates_to_its_event() -> None:
    """Large messages are compressed by themselves, small ones sent as they are."""
    small, large = delta("a"), delta("x" * 5000)
    frame = deflated_frame(15)
    assert websocket_frame(small) == frame(small)
    data = frame(large)
    assert (0xC1, 126) == (data[0], data[1])
    inflated = zlib.decompressobj(-15).decompress(data[4:] + b"\x00\x00\xff\xff")
    assert parse(websocket_frame(large)) == [inflated]


class Shared:
    """A library's writer whose waiters share one future, as those of aiohttp do."""

    def __init__(self) -> None:
        self.room: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def drain(self) -> None:
        await self.room


async def test_one_that_waits_can_be_cancelled() -> None:
    """Whoever is cancelled while it waits for room leaves the others waiting, until there is."""
    shared = Shared()
    one = Outbox(Tap(), shared, websocket_frame)  # type: ignore[arg-type]
    waiting = [asyncio.create_task(one.drain()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait(waiting[1:2])
    later = asyncio.create_task(one.drain())
    await asyncio.sleep(0)
    assert [False, True, False, False] == [task.done() for task in (*waiting, later)]
    shared.room.set_result(None)
    await asyncio.gather(waiting[0], waiting[2], later)
    assert waiting[1].cancelled()
    assert not one.congested
