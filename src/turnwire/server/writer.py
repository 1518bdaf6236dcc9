"""Events to bytes on a socket, with few system calls.

One write per event would cost several times what the event itself costs. So the outbox joins what
becomes ready in one step of the loop, and writes at most once in a millisecond, but for the first
and the terminal event of a response and for 32 KB, which are written at once. A token that comes
alone, as from most models, waits for nothing. Every frame stays one frame: a WebSocket message, or
one HTTP chunk holding one SSE frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp.abc import AbstractStreamWriter

from turnwire.protocol.codec import encode_event, sse_prefix
from turnwire.protocol.events import TERMINAL_EVENTS, ErrorEvent, Event

__all__ = [
    "DONE",
    "Frame",
    "Outbox",
    "deflated_frame",
    "http_chunk",
    "sse_chunk",
    "sse_comment",
    "sse_frame",
    "websocket_frame",
]

FLUSH_BYTES: Final = 32_768
FLUSH_SEC: Final = 0.001
SLOW_BYTES: Final = 32_768
"""Unsent bytes above which a client counts as slow: its deltas are joined."""
HIGH_WATER_BYTES: Final = 262_144
"""Unsent bytes above which a turn, and with it its engine, waits for the client."""
NOT_SENT_BYTES: Final = 65_536
"""Bytes that the system takes from us ahead of the network. Unbounded it takes megabytes for a
client that does not read, and from a slow one so much at a time that it seems to have stalled."""

DEFLATED_TEXT: Final = 0xC1
"""`TEXT` with the first reserved bit set."""
DEFLATE_BYTES: Final = 1024
"""Smaller messages gain little from compression."""

Frame = Callable[[Event | ErrorEvent], bytes]


def websocket_frame(event: Event | ErrorEvent) -> bytes:
    """One unmasked, final text frame (RFC 6455 section 5.2) holding the event."""
    payload = encode_event(event)
    size = len(payload)
    return (HEADS[size] if size < NUM_HEADS else _head(TEXT, size)) + payload


def _head(first: int, size: int) -> bytes:
    """What stands in front of a payload of this size."""
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


TEXT: Final = 0x81
"""First byte of a text message in one frame."""
NUM_HEADS: Final = 1024
HEADS: Final = tuple(_head(TEXT, size) for size in range(NUM_HEADS))
"""Made beforehand: nearly every event is one of a few hundred bytes."""


def deflated_frame(window_bits: int) -> Frame:
    """Frames for a connection that agreed to permessage-deflate (RFC 7692).

    Each message is compressed by itself, which every negotiated parameter allows; small ones
    are sent as they are, which is allowed too.
    """

    def frame(event: Event | ErrorEvent) -> bytes:
        payload = encode_event(event)
        if len(payload) < DEFLATE_BYTES:
            return _head(TEXT, len(payload)) + payload
        deflate = zlib.compressobj(1, zlib.DEFLATED, -window_bits)
        packed = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
        # Section 7.2.1: the empty block at the end is left out; the first reserved bit is set.
        return _head(DEFLATED_TEXT, len(packed) - 4) + packed[:-4]

    return frame


def sse_frame(event: Event | ErrorEvent) -> bytes:
    """One SSE frame: `event:` and `data:` lines, then an empty line.

    The terminal event brings `[DONE]` with it, which Open Responses demands (protocol.md 7).
    """
    frame = sse_prefix(event) + encode_event(event) + b"\n\n"
    return frame + DONE if isinstance(event, TERMINAL_EVENTS) else frame


def sse_chunk(event: Event | ErrorEvent) -> bytes:
    """One HTTP/1.1 chunk that holds exactly one SSE frame; `[DONE]` is a chunk of its own."""
    frame = http_chunk(sse_prefix(event) + encode_event(event) + b"\n\n")
    return frame + DONE_CHUNK if isinstance(event, TERMINAL_EVENTS) else frame


def sse_comment(*, chunked: bool) -> bytes:
    """A line that says nothing, for proxies and clients that give up on silence (section 7)."""
    return http_chunk(KEEP_ALIVE) if chunked else KEEP_ALIVE


def http_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"
DONE_CHUNK: Final = http_chunk(DONE)


class Outbox:
    """The sending side of one connection or one streamed answer; a turn's `Sink`.

    Writes go to the transport directly: the library's writer would make one system call of each.

    Attributes:
        num_bytes: Bytes handed to the transport so far.
        written_sec: When the last of them were, by the loop's clock.
        congested: So much is unsent that a turn should `drain` before it makes more.
    """

    __slots__ = (
        "_drained",
        "_frame",
        "_frames",
        "_loop",
        "_moved_sec",
        "_size",
        "_slow",
        "_taken",
        "_timer",
        "_transport",
        "_writer",
        "congested",
        "num_bytes",
        "written_sec",
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
        self._timer: asyncio.Handle | None = None
        # Waits for room, on behalf of everyone who does.
        self._drained: asyncio.Task[None] | None = None
        self._slow = False
        # Bytes that had left the transport when that number last grew, and when that was.
        self._taken = 0
        self._moved_sec = self._loop.time()
        self.congested = False
        self.num_bytes = 0
        self.written_sec = self._moved_sec
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with contextlib.suppress(OSError):  # not a TCP socket
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)

    @property
    def slow(self) -> bool:
        """Whether the client is behind, so that fewer and larger events serve it better."""
        if self._slow:
            self._slow = self._transport.get_write_buffer_size() > SLOW_BYTES
        return self._slow

    @property
    def num_unsent(self) -> int:
        """Bytes handed to the transport that have not left it."""
        return self._transport.get_write_buffer_size()

    def stalled_sec(self, now: float) -> float:
        """Seconds for which the client has taken nothing of what is there for it.

        Exact to the distance of two calls: it is asked at every beat of the server's clock.
        """
        unsent = self.num_unsent
        taken = self.num_bytes - unsent
        if not unsent or taken != self._taken:
            self._taken = taken
            self._moved_sec = now
        return now - self._moved_sec

    def abort(self) -> None:
        """Drop the connection and all that is unsent; whoever waits in `drain` is woken."""
        self._transport.abort()

    def send(self, events: Sequence[Event | ErrorEvent], *, flush: bool = False) -> None:
        """Queue events in order; write them now if `flush`, else within a millisecond.

        Sooner if nothing was written in the last one: at the end of the loop's present step.
        """
        frame, frames = self._frame, self._frames
        for event in events:
            data = frame(event)
            frames.append(data)
            self._size += len(data)
        if flush or self._size > FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            left_sec = self.written_sec + FLUSH_SEC - self._loop.time()
            if left_sec > 0:
                self._timer = self._loop.call_later(left_sec, self.flush)
            else:
                self._timer = self._loop.call_soon(self.flush)

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
        self.write(data)

    def write(self, data: bytes) -> None:
        """Write bytes that are no event, framed already, ahead of what is queued."""
        if self._transport.is_closing():
            return
        self._transport.write(data)
        self.num_bytes += len(data)
        self.written_sec = self._loop.time()
        unsent = self._transport.get_write_buffer_size()
        self._slow = unsent > SLOW_BYTES
        self.congested = unsent > HIGH_WATER_BYTES

    async def drain(self) -> None:
        """Wait until the transport has room again.

        Any number of turns may wait, and each can be cancelled for itself.

        Raises:
            ConnectionError: the client went away meanwhile.
        """
        self.flush()
        if self._drained is None or self._drained.done():
            # The library has one future for all who wait: whoever is cancelled there cancels it
            # for the others, and for those that come later. So one task waits, and nobody cancels
            # that.
            self._drained = self._loop.create_task(self._writer.drain(), name="drained")
        await asyncio.shield(self._drained)
        self.congested = False
