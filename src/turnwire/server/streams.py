"""Streamed HTTP answers while they last: never silent for long, and no client holds one for ever.

The same rules as for WebSocket connections (`session.watch`), as far as a stream has them. A plain
answer that is large can be held by its client too, and is looked after until it has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from aiohttp import HttpVersion11, web

from turnwire.server.writer import Frame, Outbox, sse_comment, sse_frame
from turnwire.session.watch import Due, Pulse, Watch

__all__ = ["Leaving", "Stream", "StreamedAnswer", "Streams", "is_chunked"]

LARGE_BYTES: Final = 65_536
"""Smaller answers are taken by the system at once, or hold little."""

STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # proxies must not hold events back
}


class Stream:
    """One streamed answer, from its head to the last byte that leaves."""

    def __init__(self, outbox: Outbox, watch: Watch, *, chunked: bool) -> None:
        """Look after an answer whose head was sent.

        Args:
            outbox: Where its events go.
            watch: When it is silent or stalled.
            chunked: Whether each frame is an HTTP chunk.
        """
        self._outbox: Final = outbox
        self._watch: Final = watch
        self._comment: Final = sse_comment(chunked=chunked)
        self._over = False

    def end(self) -> None:
        """Say nothing more: its last event was sent, or its client is gone."""
        self._over = True

    def beat(self, now: float) -> bool:
        """Do what is due; return whether it has to be looked after any longer.

        Args:
            now: The loop's clock.
        """
        outbox = self._outbox
        if self._over and not outbox.num_unsent:
            return False
        pulse = Pulse(
            age=0.0,
            unheard=0.0,
            unsaid=now - outbox.written_sec,
            stalled=outbox.stalled_sec(now),
            busy=not self._over,
            remembers=True,
        )
        match self._watch.due(pulse):
            case Due.CUT_OFF:
                outbox.abort()
                return False
            case Due.KEEP_ALIVE if not outbox.num_unsent:  # else the silence is the client's
                outbox.write(self._comment)
            case _:
                pass
        return True


class Leaving:
    """A plain answer, from the moment it is handed over until all of it has left."""

    def __init__(self, transport: asyncio.WriteTransport, watch: Watch) -> None:
        """Look after the answer that is about to be written here."""
        self._transport: Final = transport
        self._watch: Final = watch
        self._unsent = 0
        self._moved_sec = 0.0

    def beat(self, now: float) -> bool:
        """As `Stream.beat`."""
        unsent = self._transport.get_write_buffer_size()
        if not unsent or self._transport.is_closing():
            return False
        if unsent != self._unsent:
            self._unsent, self._moved_sec = unsent, now
        stalled = now - self._moved_sec
        pulse = Pulse(age=0.0, unheard=0.0, unsaid=0.0, stalled=stalled, busy=False, remembers=True)
        if self._watch.due(pulse) is Due.CUT_OFF:
            self._transport.abort()
            return False
        return True


class Streams:
    """All streamed answers of a server, and the large ones that are not."""

    def __init__(self, *, keepalive_sec: float, stalled_sec: float) -> None:
        """Watch by these times; 0 turns one off."""
        self._watch: Final = Watch(
            max_age_sec=0.0, idle_sec=0.0, keepalive_sec=keepalive_sec, stalled_sec=stalled_sec
        )
        self._live: Final[set[Stream | Leaving]] = set()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Stream | Leaving]:
        """Those of this moment; more may come and go meanwhile."""
        return iter(tuple(self._live))

    def watch(self, outbox: Outbox, *, chunked: bool) -> Stream:
        """Keep an answer alive until its `end`, and see then that it leaves or is cut off.

        Args:
            outbox: Where its events go; its head was sent.
            chunked: Whether each frame is an HTTP chunk.
        """
        stream = Stream(outbox, self._watch, chunked=chunked)
        self._live.add(stream)
        return stream

    def answer(self, request: web.Request, frame: Frame = sse_frame) -> StreamedAnswer:
        """A streamed answer to a request; nothing of it is sent yet.

        Args:
            request: The reader's.
            frame: Makes the bytes of an event, a chunk of them if the answer `is_chunked`.
        """
        return StreamedAnswer(self, request, frame)

    async def see_off(self, request: web.Request, response: web.StreamResponse) -> None:
        """Look after a plain answer that is about to be sent: a signal of the application."""
        body = response.body if isinstance(response, web.Response) else None
        transport = request.transport
        if isinstance(body, bytes) and len(body) > LARGE_BYTES and transport is not None:
            self._live.add(Leaving(transport, self._watch))

    def beat(self, stream: Stream | Leaving, now: float) -> None:
        """Look after one of them at this time of the loop's clock."""
        if not stream.beat(now):
            self._live.discard(stream)


def is_chunked(request: web.Request) -> bool:
    """Whether a streamed answer comes in HTTP chunks; if not, it ends with the connection."""
    return request.version >= HttpVersion11


class StreamedAnswer:
    """A streamed answer, as an async context: its head is sent on entering, its end on leaving.

    After a fault nothing is sent at the end: who saw that it began sees that it is not whole.

    Attributes:
        response: What the handler returns.
        chunked: Whether each frame has to be an HTTP chunk.
        outbox: Takes its events, once it was entered.
    """

    outbox: Outbox

    def __init__(self, streams: Streams, request: web.Request, frame: Frame) -> None:
        self.response: Final = web.StreamResponse(headers=STREAM_HEADERS)
        self.chunked: Final = is_chunked(request)
        self._streams: Final = streams
        self._request: Final = request
        self._frame: Final = frame
        self._stream: Stream

    async def __aenter__(self) -> Self:
        """Send the head.

        Raises:
            ConnectionError: the reader is gone.
        """
        request = self._request
        if not self.chunked:
            self.response.force_close()  # also where the client would keep it: this is the end
        await self.response.prepare(request)
        request.writer.send_headers()  # the library would wait for a first write of its own
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the reader is gone")
        self.outbox = Outbox(transport, request.writer, self._frame)
        self._stream = self._streams.watch(self.outbox, chunked=self.chunked)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.end()
        if fault is None:
            await self.response.write_eof()
