"""Responses that run without anybody waiting for them (protocol.md section 12).

Each has a task of its own, which ends with the server and not with a connection. Its turn sends
events to a `Run`, which keeps them for readers and knows the response object as it is now. What
is stored is stored by the turn itself; here is only what lives in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from turnwire.config import BackgroundConfig
from turnwire.errors import ServiceError, WireError
from turnwire.history import History
from turnwire.order import Order
from turnwire.protocol.codec import encode_event, sse_prefix
from turnwire.protocol.encoded import failed
from turnwire.protocol.events import (
    TERMINAL_EVENTS,
    ErrorEvent,
    Event,
    ResponseCreated,
    ResponseInProgress,
)
from turnwire.server.workers import ALONE, Workers
from turnwire.session.replay import EventLog
from turnwire.session.retention import Retention
from turnwire.session.stage import Stage
from turnwire.telemetry.logs import get_logger
from turnwire.telemetry.metrics import Metrics
from turnwire.turn import Turns

__all__ = ["Background", "Run"]

log = get_logger()

STATES: Final = (ResponseCreated, ResponseInProgress, *TERMINAL_EVENTS)
"""Events with a response object that differs from the one before; `queued` has `created`'s."""


class Run:
    """One background response, its turn's `Sink`; the turn never waits for a reader.

    Attributes:
        response_id: Its id.
        order: What is done, while it runs; the request's input goes with it.
        log: Its events as SSE frames without `[DONE]`, or None if it was created without
            `stream`.
        response: The response object as it is now, encoded; empty until it is accepted.
        ended: The terminal event was sent: nothing more comes.
        stored: It is in the store too.
        task: Runs it.
        accepted: The response object as it began, or why it was refused.
    """

    congested: Final = False

    def __init__(self, order: Order, events: EventLog | None, held: Retention[Run]) -> None:
        self.response_id: Final = order.response_id
        self.order: Order | None = order
        self.log: Final = events
        self.response = b""
        self.ended = False
        self.stored: Final = order.request.store is not False
        self.accepted: Final[asyncio.Future[bytes]] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None]
        self._num_asked_bytes = _asked_bytes(order)
        self._held: Final = held
        self._readers: list[asyncio.Future[None]] = []

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        made = len(self.response) + (self.log.num_bytes if self.log is not None else 0)
        return self._num_asked_bytes + made

    @property
    def slow(self) -> bool:
        """Whether the log would rather have fewer and larger events."""
        return self.log is not None and self.log.crowded

    async def connect(self) -> Run:
        """This, as a turn wants to be given it."""
        return self

    def send(self, events: Sequence[Event | ErrorEvent], *, flush: bool = False) -> None:
        """Keep events, and wake who waits for them."""
        for event in events:
            if self.log is not None:
                self.log.append(sse_prefix(event) + encode_event(event) + b"\n\n")
            if isinstance(event, STATES):
                self.response = bytes(event.response)
                self.ended = isinstance(event, TERMINAL_EVENTS)
        self._held.resize(self.response_id, self.num_bytes)
        self._wake()
        if not self.accepted.done():
            self.accepted.set_result(self.response)

    async def drain(self) -> None:
        """Never full."""

    async def changed(self) -> None:
        """Wait until there are more events, or it has ended."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.append(news)
        try:
            await news
        finally:
            if news in self._readers:
                self._readers.remove(news)

    def let_go(self) -> None:
        """Drop what was asked: it is done, or never will be."""
        self.order = None
        self._num_asked_bytes = 0
        self._held.resize(self.response_id, self.num_bytes)

    def accept(self, refusal: WireError) -> bool:
        """Return whether it was accepted; if nobody was told yet, it is refused with this."""
        if not self.accepted.done():
            self.accepted.set_exception(refusal)
            self.accepted.exception()  # whoever asked may have left: then nobody is told
        return self.accepted.exception() is None

    def give_up(self, error: WireError) -> None:
        """End it without a terminal event: its turn is gone."""
        self.response = failed(self.response, error.code or "server_error", error.message)
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        readers, self._readers = self._readers, []
        for news in readers:
            if not news.done():
                news.set_result(None)


class Background:
    """All background responses of this process."""

    def __init__(
        self,
        turns: Turns,
        history: History,
        metrics: Metrics,
        config: BackgroundConfig,
        workers: Workers = ALONE,
    ) -> None:
        self._turns: Final = turns
        self._history: Final = history
        self._metrics: Final = metrics
        self._config: Final = config
        self._workers: Final = workers
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._held: Final = Retention[Run](
            max_running=config.max_running,
            max_bytes=config.max_bytes,
            keep_sec=config.keep_sec,
        )

    def new_id(self) -> str:
        """Return the id for a response that is about to begin here."""
        return self._workers.new_response_id()

    async def start(self, order: Order) -> Run:
        """Begin a response; it goes on whatever becomes of the caller.

        Returns:
            The run, accepted: it is queued or further, and stored if it is to be.

        Raises:
            WireError: it was refused before `response.created`.
        """
        config = self._config
        events = None
        if order.request.stream:
            events = EventLog(config.max_events, config.max_bytes_per_response)
        run = Run(order, events, self._held)
        self._held.admit(order.owner, order.response_id, run, run.num_bytes)
        run.task = asyncio.create_task(self._run(run, order), name=order.response_id)
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)
        await asyncio.shield(run.accepted)
        return run

    def find(self, owner: str, response_id: str) -> Run | None:
        """Return the response if it runs here, or ended here not long ago."""
        run = self._held.find(owner, response_id)
        return run if run is not None and run.response else None

    async def cancel(self, run: Run) -> None:
        """Stop a response unless its output is whole already; on return it has ended."""
        order = run.order
        if order is not None and order.emitter is not None:
            stoppable = order.emitter.stage in (Stage.QUEUED, Stage.STREAMING)
            if stoppable and not (order.cancelled or order.stopped_by):
                order.cancelled = True
                run.task.cancel()
        await asyncio.wait({run.task})

    def forget(self, run: Run) -> None:
        """Drop what memory holds of a response that has ended."""
        self._held.drop(run.response_id)

    async def recover(self) -> bool:
        """End what processes that are gone have left running; return whether there was any."""
        count = await self._history.recover()
        if count:
            self._metrics.background_abandoned.inc(count)
            log.warning("responses_abandoned", count=count)
        return count > 0

    def beat(self, now: float) -> None:
        """Forget what is old enough, by the loop's clock."""
        self._held.expire(now)

    def measure(self) -> None:
        """Tell the metrics how much is held."""
        self._metrics.background_held.set(len(self._held))
        self._metrics.background_held_bytes.set(self._held.num_bytes)

    async def aclose(self) -> None:
        """Cut off what still runs; what of it is stored counts as abandoned from now on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, run: Run, order: Order) -> None:
        refusal: WireError = ServiceError("The server failed; its log says where.")
        try:
            await self._turns.run(order, run.connect)
        except WireError as error:
            refusal = error
        except asyncio.CancelledError:
            # Where a turn can end as a response it does so itself. This one was stopped before
            # it began, or is cut off with the server.
            refusal = order.stopped_by or ServiceError("The server was stopped.")
        except Exception as error:
            log.error("turn_failed", response_id=order.response_id, exc_info=error)
        run.let_go()
        if run.accept(refusal):
            if not run.ended:
                run.give_up(refusal)
            now = asyncio.get_running_loop().time()
            self._held.end(order.response_id, now, expendable=run.stored)
        else:
            self._held.drop(order.response_id)


def _asked_bytes(order: Order) -> int:
    """Most of what a request holds."""
    request = order.request
    return memoryview(request.input).nbytes + memoryview(request.tools).nbytes
