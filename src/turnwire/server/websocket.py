"""WebSocket mode: the shell around `session.Connection`.

One task reads the socket and performs what the connection decides; every running response has
a task of its own in the same group; all of them send through one outbox. When either side ends
the connection, every task is gone before `run` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import UNSET, Raw, Struct
from msgspec.json import encode

from turnwire.context.pairing import OpenCall
from turnwire.errors import (
    ClientError,
    InvalidRequest,
    PayloadTooLarge,
    ServiceError,
    UpgradeRequired,
    WireError,
)
from turnwire.order import Ended, Order, Remembered
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
from turnwire.server.writer import Outbox, deflated_frame, websocket_frame
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
from turnwire.session.emitter import Emitter
from turnwire.session.watch import Due, Pulse, Watch
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.logs import get_logger
from turnwire.telemetry.metrics import Metrics
from turnwire.turn import Turns

__all__ = ["Socket", "SocketSettings"]

log = get_logger()

# Above the limit a client still gets a structured error, up to this much; then close 1009.
GRACE_BYTES: Final = 1_048_576
# How long the terminal events of an expiring connection may take to be made.
ENDING_SEC: Final = 2.0
# How long a client may take to read the rest and to answer a close of ours.
GOODBYE_SEC: Final = 2.0
# How long what is unsent at the end of a connection may take to leave.
LINGER_SEC: Final = 2.0


class SocketSettings(Struct, frozen=True, kw_only=True):
    """What all connections of a server have in common.

    Attributes:
        limits: Bounds of one connection.
        watch: When it is old, idle, silent or stalled.
        max_message_bytes: Largest message from the client.
        ping_sec: Silence after which the client is pinged; 0 never.
        compression: Agree to permessage-deflate.
    """

    limits: ConnectionLimits = ConnectionLimits()
    watch: Watch = Watch()
    max_message_bytes: int = 33_554_432
    ping_sec: float = 40.0
    compression: bool = False


class Socket:
    """One WebSocket connection.

    Attributes:
        caller: Who opened it.
        connection: Its state and decisions.
        is_open: The handshake is done and the connection has not ended.
        task: Runs the connection, once `run` was called.
    """

    def __init__(
        self, turns: Turns, caller: Caller, metrics: Metrics, settings: SocketSettings
    ) -> None:
        self.caller: Final = caller
        self.connection: Final[Connection[Remembered]] = Connection(settings.limits)
        self.is_open = False
        self.task: asyncio.Task[object] | None = None
        self._turns: Final = turns
        self._metrics: Final = metrics
        self._settings: Final = settings
        self._ws: Final = web.WebSocketResponse(
            max_msg_size=settings.max_message_bytes + GRACE_BYTES,
            heartbeat=settings.ping_sec or None,
            compress=settings.compression,
            decode_text=False,
        )
        self._running: Final[dict[Job, tuple[asyncio.Task[None], Order]]] = {}
        # Of each running response: its next event's number, and when that last changed.
        self._spoken: Final[dict[Job, tuple[int, float]]] = {}
        self._closing: WSCloseCode | None = None
        self._hung_up = False
        # Set in `run`, once the handshake is done.
        self._outbox: Outbox
        self._tasks: asyncio.TaskGroup
        self._opened_sec = self._heard_sec = 0.0

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        """Serve the connection until either side ends it; none of its tasks is left then.

        Raises:
            UpgradeRequired: the request is no WebSocket handshake.
        """
        if not self._is_handshake(request):
            raise UpgradeRequired(
                "GET /v1/responses is WebSocket mode: send a handshake of RFC 6455, version 13, or "
                "POST to this path.",
            )
        self.task = asyncio.current_task()
        await self._ws.prepare(request)
        transport = request.transport
        if transport is None:
            return self._ws
        bits = self._ws.compress
        frame = deflated_frame(int(bits)) if bits else websocket_frame
        self._outbox = Outbox(transport, request.writer, frame)
        self._opened_sec = self._heard_sec = asyncio.get_running_loop().time()
        self._metrics.websocket_connections.inc()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self.is_open = True
                try:
                    await self._read()
                except asyncio.CancelledError:
                    if not self._hung_up or (self.task is not None and self.task.uncancel() > 0):
                        raise
                finally:
                    self.is_open = False
                    self._perform(self.connection.disconnect())
            if self._closing is not None:
                await self._say_goodbye(self._closing)
        except asyncio.CancelledError as gone:
            # Its past holds the group's last frame, which holds it: a circle through all that this
            # connection had, and only a collection, much later, would free that.
            raise gone.with_traceback(None) from None
        finally:
            self.task = None
            _untie(self._ws, request)
            self._metrics.websocket_connections.dec()
            self._metrics.websocket_closed(self._ws.close_code or 1006)
            if transport.get_write_buffer_size():
                # A transport that closes waits for its client to take the rest, which one that
                # does not read never will.
                asyncio.get_running_loop().call_later(LINGER_SEC, transport.abort)
        return self._ws

    def _is_handshake(self, request: web.Request) -> bool:
        try:
            return self._ws.can_prepare(request).ok
        except ValueError:
            return False  # the library stumbles over headers that are not ASCII

    def beat(self, now: float) -> None:
        """Do what is due: called by the server about once a second.

        Args:
            now: The loop's clock.
        """
        if not self.is_open:
            return
        outbox, connection = self._outbox, self.connection
        quiet = {job: self._quiet_sec(job, now) for job in self._running}
        pulse = Pulse(
            age=now - self._opened_sec,
            unheard=now - self._heard_sec,
            unsaid=max(quiet.values(), default=now - outbox.written_sec),
            stalled=outbox.stalled_sec(now),
            busy=connection.num_in_flight > 0,
            remembers=len(connection.cache) > 0,
        )
        match self._settings.watch.due(pulse):
            case Due.CUT_OFF:
                outbox.abort()
            case Due.EXPIRE if not connection.draining:
                self._tasks.create_task(self._expire(), name="expire")
            case Due.CLOSE_IDLE:
                self.close_soon(WSCloseCode.GOING_AWAY)
            case Due.KEEP_ALIVE:
                for job, (_, order) in self._running.items():
                    due = quiet[job] >= self._settings.watch.keepalive_sec
                    if due and order.emitter is not None:
                        outbox.send(order.emitter.keep_alive(), flush=True)
            case _:
                pass

    def _quiet_sec(self, job: Job, now: float) -> float:
        """How long a running response has said nothing; exact to the distance of two beats."""
        emitter = self._running[job][1].emitter
        number = 0 if emitter is None else emitter.sequence_number
        known = self._spoken.get(job)
        if known is None or known[0] != number:
            known = self._spoken[job] = (number, now)
        return now - known[1]

    def close_soon(self, code: WSCloseCode) -> None:
        """Take no more creates; close now if nothing runs, else when what runs has ended."""
        if self._closing is None and self.is_open:
            self._closing = code
            self._perform(self.connection.drain())
            if not self._running:
                self._hang_up()

    async def _expire(self) -> None:
        """End a connection that is too old: what runs fails, the client is told, then close."""
        error = InvalidRequest(
            "Responses websocket connection limit reached "
            f"({self._settings.watch.max_age_sec / 60:g} minutes). Create a new websocket "
            "connection to continue.",
            code="websocket_connection_limit_reached",
        )
        self._perform(self.connection.drain())
        jobs = [task for task, _ in self._running.values()]
        for task, order in self._running.values():
            if not order.is_ending:
                # A response fails with a code that responses have; the connection's comes last.
                order.stopped_by = ServiceError(error.message)
                task.cancel()
        if jobs:
            await asyncio.wait(jobs, timeout=ENDING_SEC)
        self._refuse(error, None)
        self._closing = WSCloseCode.GOING_AWAY
        self._hang_up()

    async def _read(self) -> None:
        while True:
            message = await self._ws.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._heard_sec = asyncio.get_running_loop().time()
                self._receive(message.data)
                if self._outbox.congested:
                    # A client that sends and does not read must not fill our memory with errors.
                    with suppress(ConnectionError):  # gone: the next receive says so
                        await self._outbox.drain()
            else:
                return  # closed by either side, or a protocol error that closed it

    def _receive(self, data: bytes) -> None:
        self._metrics.received("websocket", len(data))
        most = self._settings.max_message_bytes
        if len(data) > most:
            self._refuse(
                PayloadTooLarge(
                    f"The message is larger than {most} bytes. Send less, or raise "
                    "server.max_message_bytes."
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
        if not gone and order.is_ending:
            return  # the cancel came too late
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
            owner=self.caller.owner,
            models=self.caller.models,
            zero_data_retention=self.caller.zero_data_retention,
            transport="websocket",
            stream_id=job.lane,
            client=self,
            parent=parent.context if parent else None,
            nearby=lambda: [entry.context for entry in connection.cache.entries()],
            tools=latest.tools if latest else None,
            remember=lambda entry: self._remember(job, entry),
            clock=clock,
        )

    def _remember(self, job: Job, entry: Remembered) -> None:
        self._perform(self.connection.remember(job, entry, entry.num_bytes))

    async def _job(self, job: Job, order: Order) -> None:
        order.clock.mark("queue")
        outcome = Outcome(failed=True, continuable=False)
        try:
            ended = await self._turns.run(order, self._connect)
            outcome = self._outcome(job, ended)
        except WireError as error:
            self._refuse(error, job.lane)
        except asyncio.CancelledError:
            # Before it began to answer: there is no response to end.
            if order.cancelled:
                outcome = Outcome(continuable=False)
                cancelled = ClientError("The request was cancelled.", code="response_cancelled")
                self._refuse(cancelled, job.lane)
            elif order.stopped_by is not None:
                self._refuse(order.stopped_by, job.lane)
            else:
                raise
        except ConnectionError:
            pass  # the client is gone; the reader sees it too and ends the connection
        except Exception as error:
            log.error("turn_failed", response_id=job.response_id, exc_info=error)
            self._refuse(ServiceError("The server failed; its log says where."), job.lane)
        finally:
            begun = order.emitter is not None
            self._perform(self.connection.finished(job, outcome, begun=begun))
            del self._running[job]
            self._spoken.pop(job, None)
            if self._closing is not None and not self._running:
                self._hang_up()

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

    def _hang_up(self) -> None:
        """Stop reading, and so end the connection: with what `_closing` says."""
        if self.is_open and not self._hung_up and self.task is not None:
            self._hung_up = True
            self.task.cancel()

    async def _say_goodbye(self, code: WSCloseCode) -> None:
        """Close, and give the client time to read the rest and to answer.

        Nobody receives any more when this is called: otherwise the library would close the
        connection at once, and a client that is just sending would lose our last words.
        """
        self._outbox.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SEC):
                await self._ws.close(code=code, message=CLOSE_REASONS[code])


def _untie(ws: web.WebSocketResponse, request: web.Request) -> None:
    """Free a connection that is over, now.

    For its pings the library ties protocol, request and WebSocket into a circle, and hangs them on
    a timer. Where the client just vanished it leaves them so: until the next ping would be due,
    and then until the next full collection, which in a large process is minutes away.
    """
    protocol = request.protocol
    if hasattr(ws, "_cancel_heartbeat") and hasattr(protocol, "_data_received_cb"):
        ws._cancel_heartbeat()
        protocol._data_received_cb = None


CLOSE_REASONS: Final = {
    WSCloseCode.SERVICE_RESTART: b"the server is restarting",
    WSCloseCode.GOING_AWAY: b"the connection is old or idle; open a new one",
}


def _stub(call: OpenCall) -> Raw:
    """What the client owes for a call, for `required_input` (protocol.md section 9.1)."""
    kind = f"{'function_call' if call.kind == 'function' else 'custom_tool_call'}_output"
    return Raw(encode({"type": kind, "call_id": call.call_id, "name": call.name}))
