"""WebSocket mode: the shell around `session.Connection`.

One task reads the socket and performs what the connection decides; every running response has
a task of its own in the same group; all of them send through one outbox. When either side ends
the connection, every task is gone before `run` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import UNSET, Raw
from msgspec.json import encode

from turnwire.context.pairing import OpenCall
from turnwire.errors import ClientError, PayloadTooLarge, ServiceError, WireError
from turnwire.protocol.codec import error_event
from turnwire.protocol.events import (
    Event,
    InjectError,
    InjectFailed,
    SteerError,
    SteerFailed,
    SteerRejected,
)
from turnwire.server.auth import Caller
from turnwire.server.writer import Outbox, websocket_frame
from turnwire.session.actions import (
    Action,
    Cancel,
    InjectRefused,
    Job,
    Outcome,
    Send,
    Start,
    SteerRefused,
    SteerTaken,
    SteerWaits,
)
from turnwire.session.connection import Connection, ConnectionLimits
from turnwire.session.emitter import Emitter, Stage
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.logs import get_logger
from turnwire.telemetry.metrics import Metrics
from turnwire.turn import Ended, Order, Remembered, Turns

__all__ = ["Socket", "UpgradeRequired"]

log = get_logger()

# Above the limit a client still gets a structured error, up to this much; then close 1009.
GRACE_BYTES: Final = 1_048_576
DRAINING: Final = WSCloseCode.SERVICE_RESTART  # 1012: clients reconnect


class UpgradeRequired(ClientError):
    """GET /v1/responses without an Upgrade header."""

    status = 426
    default_code = "upgrade_required"


class Socket:
    """One WebSocket connection.

    Attributes:
        connection: Its state and decisions.
    """

    def __init__(
        self,
        turns: Turns,
        caller: Caller,
        metrics: Metrics,
        limits: ConnectionLimits,
        max_message_bytes: int,
    ) -> None:
        self.connection: Final[Connection[Remembered]] = Connection(limits)
        self._turns: Final = turns
        self._caller: Final = caller
        self._metrics: Final = metrics
        self._max_message_bytes: Final = max_message_bytes
        self._ws: Final = web.WebSocketResponse(
            max_msg_size=max_message_bytes + GRACE_BYTES, compress=False, decode_text=False
        )
        self._running: Final[dict[Job, tuple[asyncio.Task[None], Order]]] = {}
        self._draining = False
        # Set in `run`, once the handshake is done.
        self._outbox: Outbox
        self._tasks: asyncio.TaskGroup

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        """Serve the connection until either side ends it; none of its tasks is left then.

        Raises:
            UpgradeRequired: the request is no WebSocket handshake.
        """
        if not self._ws.can_prepare(request).ok:
            raise UpgradeRequired(
                "GET /v1/responses is WebSocket mode: send an Upgrade, or POST to this path."
            )
        await self._ws.prepare(request)
        transport = request.transport
        if transport is None:
            return self._ws
        self._outbox = Outbox(transport, request.writer, websocket_frame)
        self._metrics.websocket_connections.inc()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    await self._read()
                finally:
                    self._perform(self.connection.disconnect())
        finally:
            self._metrics.websocket_connections.dec()
            self._metrics.websocket_closed(self._ws.close_code or 1006)
        return self._ws

    async def drain(self) -> None:
        """The server is going: close now if idle, else when the running responses have ended."""
        self._draining = True
        if not self._running:
            await self._close()

    async def _read(self) -> None:
        while True:
            message = await self._ws.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._receive(message.data)
                if self._outbox.congested:
                    # A client that sends and does not read must not fill our memory with errors.
                    await self._outbox.drain()
            else:
                return  # closed by either side, or a protocol error that closed it

    def _receive(self, data: bytes) -> None:
        self._metrics.received("websocket", len(data))
        if len(data) > self._max_message_bytes:
            self._refuse(
                PayloadTooLarge(
                    f"The message is larger than {self._max_message_bytes} bytes. Send less, or "
                    "raise server.max_message_bytes."
                ),
                None,
            )
            return
        clock = StageClock()
        actions = self.connection.receive(data, clock)
        clock.mark("parse")
        self._perform(actions)

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Send(event):
                    self._metrics.error(event.error.code)
                    self._outbox.send([event], flush=True)
                case Start(job):
                    order = self._order(job)
                    task = self._tasks.create_task(self._job(job, order), name=job.response_id)
                    self._running[job] = (task, order)
                case Cancel(job, gone):
                    # Not at once: a task cancelled before its first step would never run, and
                    # never report that it is finished.
                    asyncio.get_running_loop().call_soon(self._stop, *self._running[job], gone)
                case _:
                    self._outbox.send([self._steering_event(action)], flush=True)

    @staticmethod
    def _stop(task: asyncio.Task[None], order: Order, gone: bool) -> None:
        emitter = order.emitter
        if not gone and emitter is not None and emitter.stage is not Stage.STREAMING:
            return  # its output is whole: the cancel came too late
        order.cancelled = not gone
        task.cancel()

    def _steering_event(
        self, action: SteerTaken | SteerWaits | SteerRefused | InjectRefused
    ) -> Event:
        match action:
            case SteerTaken(steer_id, _, job):
                order = self._running[job][1]
                order.steered = True
                return self._emitter(job).steer_taken(steer_id)
            case SteerWaits(steer_id, _, required_input, job):
                return self._emitter(job).steer_waits(steer_id, required_input)
            case SteerRefused(target, given, code, message, steer_id, job):
                if job is not None and job.response_id == target:
                    return self._emitter(job).steer_refused(steer_id, given, code, message)
                return SteerFailed(
                    sequence_number=0,
                    stream_id=UNSET if job is None or job.lane is None else job.lane,
                    steer=SteerRejected(
                        id=UNSET if steer_id is None else steer_id,
                        previous_response_id=target,
                        input=given,
                    ),
                    error=SteerError(code=code, message=message),
                )
            case InjectRefused(response_id, given, code, message):
                return InjectFailed(
                    sequence_number=0,
                    response_id=response_id,
                    input=given,
                    error=InjectError(code=code, message=message),
                )

    def _emitter(self, job: Job) -> Emitter:
        emitter = self._running[job][1].emitter
        if emitter is None:
            raise AssertionError("a client learns a response's id when its emitter begins")
        return emitter

    def _order(self, job: Job) -> Order:
        connection = self.connection
        parent = connection.parent(job)
        latest = parent or connection.cache.latest(job.lane)
        # A successor has no frame of its own, and so no clock that began with one.
        clock = job.ticket if isinstance(job.ticket, StageClock) else StageClock()
        return Order(
            request=job.request,
            response_id=job.response_id,
            owner=self._caller.owner,
            models=self._caller.models,
            transport="websocket",
            stream_id=job.lane,
            parent=parent.context if parent else None,
            tools=latest.tools if latest else None,
            remember=lambda entry: self._perform(connection.remember(job, entry)),
            clock=clock,
        )

    async def _job(self, job: Job, order: Order) -> None:
        order.clock.mark("queue")
        outcome = Outcome(failed=True, continuable=False)
        try:
            ended = await self._turns.run(order, self._connect)
            outcome = self._outcome(job, ended)
        except WireError as error:
            self._refuse(error, job.lane)
        except asyncio.CancelledError:
            if not order.cancelled:
                raise
            # Cancelled before it began to answer: there is no response to end.
            outcome = Outcome(continuable=False)
            self._refuse(
                ClientError("The request was cancelled.", code="response_cancelled"), job.lane
            )
        except ConnectionError:
            pass  # the client is gone; the reader sees it too and ends the connection
        except Exception as error:
            log.error("turn_failed", response_id=job.response_id, exc_info=error)
            self._refuse(ServiceError("The server failed; its log says where."), job.lane)
        finally:
            self._perform(self.connection.finished(job, outcome))
            del self._running[job]
            if self._draining and not self._running and not self.connection.closed:
                await self._close()

    def _outcome(self, job: Job, ended: Ended) -> Outcome:
        if self.connection.cache.latest_id(job.lane) != job.response_id:
            return Outcome(failed=ended.error is not None, continuable=False)
        entry = self.connection.cache.latest(job.lane)
        calls = entry.context.open_calls.values() if entry else ()
        return Outcome(owed=tuple(_stub(call) for call in calls if not call.optional))

    async def _connect(self) -> Outbox:
        return self._outbox

    def _refuse(self, error: WireError, lane: str | None) -> None:
        self._metrics.error(error.code)
        self._outbox.send([error_event(error, stream_id=lane)], flush=True)

    async def _close(self) -> None:
        self._outbox.flush()
        await self._ws.close(code=DRAINING, message=b"the server is restarting")


def _stub(call: OpenCall) -> Raw:
    """What the client owes for a call, for `required_input` (protocol.md section 9.1)."""
    kind = f"{'function_call' if call.kind == 'function' else 'custom_tool_call'}_output"
    return Raw(encode({"type": kind, "call_id": call.call_id, "name": call.name}))
