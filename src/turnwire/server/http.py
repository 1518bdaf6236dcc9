"""Creating responses over HTTP, as JSON and as SSE."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web

from turnwire.ids import new_id
from turnwire.order import Order
from turnwire.protocol.codec import decode_create
from turnwire.protocol.events import ErrorEvent, Event
from turnwire.server.answers import json_answer
from turnwire.server.auth import Authenticator
from turnwire.server.background import Background
from turnwire.server.bodies import Bodies
from turnwire.server.obfuscation import obfuscated
from turnwire.server.rates import rate_headers
from turnwire.server.replay import replay
from turnwire.server.streams import Streams, is_chunked
from turnwire.server.writer import Frame, Outbox, sse_chunk, sse_frame
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.metrics import Metrics
from turnwire.turn import Turns

__all__ = ["OWNER", "CreatingApi"]


OWNER: Final = web.RequestKey("owner", str)
"""Whose response a request asks for, once that is known."""


class _Nowhere:
    """The sink of a plain JSON answer: only the terminal object counts."""

    slow = False
    congested = False

    def send(self, events: Sequence[Event | ErrorEvent], *, flush: bool = False) -> None:
        """Drop the events."""

    async def drain(self) -> None:
        """Never full."""


async def _nowhere() -> _Nowhere:
    """A turn's sink for a plain JSON answer."""
    return _Nowhere()


class CreatingApi:
    """The handler. Errors are raised; `faults.fault_middleware` answers them."""

    def __init__(
        self,
        turns: Turns,
        authenticator: Authenticator,
        metrics: Metrics,
        bodies: Bodies,
        streams: Streams,
        background: Background,
    ) -> None:
        self._turns: Final = turns
        self._authenticator: Final = authenticator
        self._metrics: Final = metrics
        self._bodies: Final = bodies
        self._streams: Final = streams
        self._background: Final = background

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/responses."""
        caller = self._authenticator.caller(request.headers)
        request[OWNER] = caller.owner
        body = await self._bodies.read(request)
        self._metrics.received("http", len(body))
        clock = StageClock()  # a slow upload is the client's time, not the turn's
        asked = decode_create(body)
        clock.mark("parse")
        order = Order(
            request=asked,
            response_id=self._background.new_id() if asked.background else new_id("resp"),
            owner=caller.owner,
            client=caller.owner,
            models=caller.models,
            zero_data_retention=caller.zero_data_retention,
            transport="background" if asked.background else "sse" if asked.stream else "http",
            clock=clock,
        )
        if asked.background:
            return await self._begin(request, order)
        if asked.stream:
            return await self._stream(request, order)
        ended = await self._turns.run(order, _nowhere)
        if ended.error is not None:
            raise ended.error
        return json_answer(bytes(ended.response))

    async def _begin(self, request: web.Request, order: Order) -> web.StreamResponse:
        run = await self._background.start(order)
        if run.log is not None:
            padded = order.request.obfuscated
            return await replay(request, run, run.log, -1, self._streams, obfuscate=padded)
        return json_answer(run.accepted.result())  # queued, however far it has come since

    async def _stream(self, request: web.Request, order: Order) -> web.StreamResponse:
        frame: Frame = sse_chunk if is_chunked(request) else sse_frame
        if order.request.obfuscated:
            frame = obfuscated(frame)
        answer = self._streams.answer(request, frame)
        async with AsyncExitStack() as stack:

            async def connect() -> Outbox:
                # Only now: until the turn has passed its checks, a refusal is plain HTTP.
                return (await stack.enter_async_context(answer)).outbox

            await self._turns.run(order, connect)
        return answer.response

    async def tell_rates(self, request: web.Request, response: web.StreamResponse) -> None:
        """Put the owner's limit on an answer that is about to be sent."""
        owner = request.get(OWNER)
        if owner is not None:
            running = self._turns.running
            limit = running.max_in_flight_per_owner
            response.headers.update(rate_headers(limit, running.num_of(owner)))
