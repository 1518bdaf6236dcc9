"""WebSocket mode: the shell around `session.Connection`.

One task reads the socket and performs what the connection decides; every running response has
a task of its own in the same group; all of them send through one outbox. When either side ends
the connection, every task is gone before `run` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, cast

from aiohttp import WSCloseCode, WSMsgType, web

from turnwire.errors import ClientError, PayloadTooLarge, ServiceError, WireError
from turnwire.protocol.codec import error_event
from turnwire.server.auth import Caller
from turnwire.server.writer import Outbox, websocket_frame
from turnwire.session.actions import Action, Cancel, Job, Send, Start
from turnwire.session.connection import Connection, ConnectionLimits
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.logs import get_logger
from turnwire.telemetry.metrics import Metrics
from turnwire.turn import Order, Remembered, Turns

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
                    task, order = self._running[job]
                    order.cancelled = not gone
                    # Not at once: a task cancelled before its first step would never run, and
                    # never report that it is finished.
                    asyncio.get_running_loop().call_soon(task.cancel)

    def _order(self, job: Job) -> Order:
        connection = self.connection
        parent = connection.parent(job)
        latest = parent or connection.cache.latest(job.lane)
        return Order(
            request=job.request,
            response_id=job.response_id,
            owner=self._caller.owner,
            models=self._caller.models,
            transport="websocket",
            stream_id=job.lane,
            parent=parent.context if parent else None,
            tools=latest.tools if latest else None,
            remember=lambda entry: connection.remember(job, job.response_id, entry),
            clock=cast("StageClock", job.ticket),
        )

    async def _job(self, job: Job, order: Order) -> None:
        order.clock.mark("queue")
        failed = True
        try:
            ended = await self._turns.run(order, self._connect)
            failed = ended.error is not None
        except WireError as error:
            self._refuse(error, job.lane)
        except asyncio.CancelledError:
            if not order.cancelled:
                raise
            # Cancelled before it began to answer: there is no response to end.
            failed = False
            self._refuse(
                ClientError("The request was cancelled.", code="response_cancelled"), job.lane
            )
        except ConnectionError:
            pass  # the client is gone; the reader sees it too and ends the connection
        except Exception as error:
            log.error("turn_failed", response_id=job.response_id, exc_info=error)
            self._refuse(ServiceError("The server failed; its log says where."), job.lane)
        finally:
            del self._running[job]
            self._perform(self.connection.finished(job, failed=failed))
            if self._draining and not self._running and not self.connection.closed:
                await self._close()

    async def _connect(self) -> Outbox:
        return self._outbox

    def _refuse(self, error: WireError, lane: str | None) -> None:
        self._metrics.error(error.code)
        self._outbox.send([error_event(error, stream_id=lane)], flush=True)

    async def _close(self) -> None:
        self._outbox.flush()
        await self._ws.close(code=DRAINING, message=b"the server is restarting")
