"""Events to bytes on a socket, with few system calls.

One write per event would cost several times what the event itself costs. So the outbox writes
the first event of a response at once, joins what becomes ready within a millisecond, and writes
at once again at the terminal event or at 32 KB. Every frame stays one frame: a WebSocket
message, or one HTTP chunk holding one SSE frame.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp.abc import AbstractStreamWriter

from turnwire.protocol.codec import encode_event, sse_prefix
from turnwire.protocol.events import TERMINAL_EVENTS, ErrorEvent, Event

__all__ = ["Outbox", "sse_chunk", "sse_frame", "websocket_frame"]

FLUSH_BYTES: Final = 32_768
FLUSH_SEC: Final = 0.001
HIGH_WATER_BYTES: Final = 262_144
"""Unsent bytes in the transport above which a turn waits for its client."""

Frame = Callable[[Event | ErrorEvent], bytes]


def websocket_frame(event: Event | ErrorEvent) -> bytes:
    """One unmasked, final text frame (RFC 6455 section 5.2) holding the event."""
    payload = encode_event(event)
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def sse_frame(event: Event | ErrorEvent) -> bytes:
    """One SSE frame: `event:` and `data:` lines, then an empty line.

    The terminal event brings `[DONE]` with it, which Open Responses demands (protocol.md 7).
    """
    frame = sse_prefix(event) + encode_event(event) + b"\n\n"
    return frame + DONE if isinstance(event, TERMINAL_EVENTS) else frame


def sse_chunk(event: Event | ErrorEvent) -> bytes:
    """One HTTP/1.1 chunk that holds exactly one SSE frame; `[DONE]` is a chunk of its own."""
    frame = _chunk(sse_prefix(event) + encode_event(event) + b"\n\n")
    return frame + DONE_CHUNK if isinstance(event, TERMINAL_EVENTS) else frame


def _chunk(data: bytes) -> bytes:
    # RFC 9112 section 7.1
    return b"%x\r\n%b\r\n" % (len(data), data)


DONE: Final = b"data: [DONE]\n\n"
DONE_CHUNK: Final = _chunk(DONE)


class Outbox:
    """The sending side of one connection or one streamed answer; a turn's `Sink`.

    Writes go to the transport directly: the library's writer would make one system call of each.

    Attributes:
        num_bytes: Bytes handed to the transport so far.
    """

    __slots__ = (
        "_frame",
        "_frames",
        "_loop",
        "_size",
        "_timer",
        "_transport",
        "_writer",
        "num_bytes",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        writer: AbstractStreamWriter,
        frame: Frame,
    ) -> None:
        """Take over sending.

        Args:
            transport: Where bytes go.
            writer: The library's writer on the same transport, asked only to wait for room.
            frame: Turns an event into its bytes on this transport.
        """
        self._transport: Final = transport
        self._writer: Final = writer
        self._frame: Final = frame
        self._loop: Final = asyncio.get_running_loop()
        self._frames: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self.num_bytes = 0

    @property
    def congested(self) -> bool:
        """Whether so much is unsent that a turn should `drain` before it makes more."""
        return (
            self._size > FLUSH_BYTES or self._transport.get_write_buffer_size() > HIGH_WATER_BYTES
        )

    def send(self, events: Sequence[Event | ErrorEvent], *, flush: bool = False) -> None:
        """Queue events in order; write them now if `flush`, else within a millisecond."""
        frame, frames = self._frame, self._frames
        for event in events:
            data = frame(event)
            frames.append(data)
            self._size += len(data)
        if flush or self._size > FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_SEC, self.flush)

    def flush(self) -> None:
        """Write what is queued, in one call. After the client has gone it is dropped."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._frames:
            return
        data = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        if not self._transport.is_closing():
            self._transport.write(data)
            self.num_bytes += len(data)

    async def drain(self) -> None:
        """Wait until the transport has room again.

        Raises:
            ConnectionError: the client went away meanwhile.
        """
        self.flush()
        await self._writer.drain()
