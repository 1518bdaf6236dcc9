"""A background response's events to one reader, from anywhere, live to the end.

The reader is a cursor in the response's log: it can leave at any moment and come back with the
number of the last event it has. What it gets are the bytes that everyone gets, but for padding.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from turnwire.errors import InvalidRequest
from turnwire.server.background import Run
from turnwire.server.obfuscation import obfuscated_frame
from turnwire.server.streams import StreamedAnswer, Streams
from turnwire.server.writer import DONE, http_chunk
from turnwire.session.replay import EventLog, EventsDropped

__all__ = ["replay"]

BATCH_BYTES: Final = 65_536


async def replay(
    request: web.Request,
    run: Run,
    events: EventLog,
    after: int,
    streams: Streams,
    *,
    obfuscate: bool = False,
) -> web.StreamResponse:
    """Answer with the events that follow the one numbered `after`, until the response has ended.

    Args:
        request: The reader's.
        run: The response.
        events: Its log.
        after: -1 for all. If nothing follows, the stream has no event.
        streams: Look after the answer while it lasts.
        obfuscate: Pad its deltas, for this reader.

    Raises:
        InvalidRequest: the first of these events is not kept any more.
        ConnectionError: the reader is gone, or has fallen behind what is kept.
    """
    try:
        events.read(after, 0)
    except EventsDropped as dropped:
        raise InvalidRequest(
            f"The events before number {dropped.first} of this response are no longer kept. "
            "Start after a later one, or get the response without stream.",
            param="starting_after",
        ) from dropped
    async with streams.answer(request) as answer:
        await _copy(run, events, after, answer, obfuscate=obfuscate)
    return answer.response


async def _copy(
    run: Run, events: EventLog, after: int, answer: StreamedAnswer, *, obfuscate: bool
) -> None:
    """Write what is there and what comes, as fast as the reader takes it."""
    outbox = answer.outbox
    while True:
        try:
            frames = events.read(after, BATCH_BYTES)
        except EventsDropped:
            # It reads more slowly than events come and go. Half a stream must not look whole.
            outbox.abort()
            raise ConnectionAbortedError("the reader has fallen behind") from None
        after += len(frames)
        over = run.ended and after + 1 >= events.following
        if obfuscate:
            frames = list(map(obfuscated_frame, frames))
        if over:
            frames.append(DONE)
        if frames:
            outbox.write(b"".join(map(http_chunk, frames) if answer.chunked else frames))
        if over:
            return
        if outbox.congested:
            await outbox.drain()
        elif after + 1 >= events.following:
            await run.changed()
