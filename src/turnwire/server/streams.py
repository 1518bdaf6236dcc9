"""Streamed HTTP answers while they last: never silent for long, and no client holds one for ever.

The same rules as for WebSocket connections (`session.watch`), as far as a stream has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from turnwire.server.writer import Outbox, sse_comment
from turnwire.session.watch import Due, Pulse, Watch

__all__ = ["STREAM_HEADERS", "Stream", "Streams"]

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


class Streams:
    """All streamed answers of a server."""

    def __init__(self, *, keepalive_sec: float, stalled_sec: float) -> None:
        """Watch by these times; 0 turns one off."""
        self._watch: Final = Watch(
            max_age_sec=0.0, idle_sec=0.0, keepalive_sec=keepalive_sec, stalled_sec=stalled_sec
        )
        self._live: Final[set[Stream]] = set()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Stream]:
        """Those of this moment; more may come and go meanwhile."""
        return iter(tuple(self._live))

    @contextmanager
    def watched(self, outbox: Outbox, *, chunked: bool) -> Iterator[None]:
        """Keep an answer alive in this context, and see afterwards that it leaves or is cut off.

        Args:
            outbox: Where its events go; its head was sent.
            chunked: Whether each frame is an HTTP chunk.
        """
        stream = Stream(outbox, self._watch, chunked=chunked)
        self._live.add(stream)
        try:
            yield
        finally:
            stream.end()

    def beat(self, stream: Stream, now: float) -> None:
        """Look after one of them at this time of the loop's clock."""
        if not stream.beat(now):
            self._live.discard(stream)
