"""One WebSocket connection, without the socket: frames in, actions out.

The connection decodes frames, knows its lanes and their latest responses, and decides what may
start now. Its shell performs the actions and reports back: `remember` when a response became
continuable (before its terminal event is written), `finished` when its job is over.

Rules and their source, protocol.md section 8.4: one lane is strictly first in, first out;
different lanes run at the same time; at most 16 responses are in flight per connection, the
rest wait by order of arrival; at most 32 named lanes; a request error ends that request only.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

from msgspec import Struct

from turnwire.errors import InvalidRequest, TooManyRequests, WireError
from turnwire.ids import new_id
from turnwire.protocol.client_events import Cancel as CancelEvent
from turnwire.protocol.client_events import Create, Inject, Steer, Unknown
from turnwire.protocol.codec import FrameError, decode_frame, error_event
from turnwire.session.actions import Action, Cancel, Job, Send, Start
from turnwire.session.cache import ConnectionCache
from turnwire.session.lane import Lane, State

__all__ = ["Connection", "ConnectionLimits"]

T = TypeVar("T")


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one connection.

    Attributes:
        max_in_flight: Responses running at the same time, over all lanes (the service's 16).
        max_lanes: Distinct `stream_id`s over the connection's life (the service's 32).
        max_queued: Creates that wait; one more is refused with `websocket_queue_full`.
    """

    max_in_flight: int = 16
    max_lanes: int = 32
    max_queued: int = 256


class Connection(Generic[T]):
    """The state of one connection. `T` is what a continuation needs; opaque here.

    Attributes:
        limits: Its bounds.
        cache: Latest response of each lane.
        num_in_flight: Jobs started and not finished.
        num_queued: Jobs accepted and not started.
        closed: Whether `disconnect` was called.
    """

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits: Final = limits or ConnectionLimits()
        self.cache: Final[ConnectionCache[T]] = ConnectionCache()
        self.num_in_flight = 0
        self.num_queued = 0
        self.closed = False
        self._arrivals = 0
        self._lanes: dict[str | None, Lane[Job]] = {None: Lane(None)}
        # Lanes in WAITING, by the arrival of the request at their head.
        self._ready: deque[Lane[Job]] = deque()

    # -- what the shell reports

    def receive(self, frame: bytes | str, ticket: object = None) -> list[Action]:
        """Take one text frame; return what to do, in order.

        Args:
            frame: The frame as it came.
            ticket: Handed back on the job that the frame asks for, if it does.
        """
        try:
            event = decode_frame(frame)
        except FrameError as failure:
            return [self._refuse(failure.error, failure.stream_id)]
        match event:
            case Create(request, stream_id):
                self._arrivals += 1
                return self._submit(
                    Job(
                        lane=stream_id,
                        request=request,
                        response_id=new_id("resp"),
                        arrival=self._arrivals,
                        ticket=ticket,
                    )
                )
            case CancelEvent(response_id, stream_id):
                return self._cancel(response_id, stream_id)
            case Steer() | Inject():
                return [self._unknown_event(type(event).__name__.lower(), None)]
            case Unknown(kind, stream_id):
                return [self._unknown_event(kind, stream_id)]

    def parent(self, job: Job) -> T | None:
        """What the connection remembers of the response that a starting job continues."""
        parent_id = job.request.previous_response_id
        return self.cache.find(job.lane, parent_id) if parent_id is not None else None

    def remember(self, job: Job, response_id: str, entry: T) -> None:
        """A response became continuable: it is now its lane's latest."""
        if not self.closed:
            self.cache.remember(job.lane, response_id, entry)

    def finished(self, job: Job, *, failed: bool) -> list[Action]:
        """A job is over; return what may start now.

        Args:
            job: One that `Start` named and that was not reported before.
            failed: It ended with an error envelope or `response.failed` (not by cancelling).
        """
        if self.closed:
            return []
        self.num_in_flight -= 1
        parent_id = job.request.previous_response_id
        if failed and parent_id is not None:
            self.cache.evict(job.lane, parent_id)
        lane = self._lanes[job.lane]
        lane.finish()
        if lane.state is State.WAITING:
            self._enqueue(lane)
        return self._start_ready()

    def disconnect(self) -> list[Action]:
        """The socket is gone: cancel what runs, forget everything. Idempotent."""
        if self.closed:
            return []
        self.closed = True
        running = [lane.close() for lane in self._lanes.values()]
        self._ready.clear()
        self.cache.clear()
        self.num_in_flight = self.num_queued = 0
        return [Cancel(job, gone=True) for job in running if job is not None]

    # -- decisions

    def _submit(self, job: Job) -> list[Action]:
        lane = self._lanes.get(job.lane)
        if lane is None and len(self._lanes) > self.limits.max_lanes:
            limit = self.limits.max_lanes
            return [
                self._refuse(
                    InvalidRequest(
                        "This WebSocket connection has reached its maximum number of distinct "
                        f"stream IDs ({limit}). Use one it knows, or open another connection.",
                        code="websocket_stream_limit_reached",
                        param="stream_id",
                    ),
                    job.lane,
                )
            ]
        if self.num_queued >= self.limits.max_queued:
            return [
                self._refuse(
                    TooManyRequests(
                        f"{self.num_queued} requests wait on this connection already; "
                        "send more when some have ended.",
                        code="websocket_queue_full",
                    ),
                    job.lane,
                )
            ]
        if lane is None:
            lane = self._lanes[job.lane] = Lane(job.lane)
        was_idle = lane.state is State.IDLE
        lane.submit(job)
        self.num_queued += 1
        if was_idle:
            self._ready.append(lane)
        return self._start_ready()

    def _enqueue(self, lane: Lane[Job]) -> None:
        # By arrival of the head: a lane that was busy must not lose its place to later ones.
        head = lane.waiting[0].arrival
        position = len(self._ready)
        while position and self._ready[position - 1].waiting[0].arrival > head:
            position -= 1
        self._ready.insert(position, lane)

    def _start_ready(self) -> list[Action]:
        started: list[Action] = []
        while self._ready and self.num_in_flight < self.limits.max_in_flight:
            job = self._ready.popleft().start()
            self.num_queued -= 1
            self.num_in_flight += 1
            started.append(Start(job))
        return started

    def _cancel(self, response_id: str | None, stream_id: str | None) -> list[Action]:
        # [D] 8.2: a cancel for a response that is over already is ignored silently.
        if response_id is None:
            lane = self._lanes.get(stream_id)
            return [Cancel(lane.running)] if lane is not None and lane.running else []
        for lane in self._lanes.values():
            if lane.running is not None and lane.running.response_id == response_id:
                return [Cancel(lane.running)]
        return []

    def _unknown_event(self, kind: str, stream_id: str | None) -> Action:
        return self._refuse(
            InvalidRequest(
                f"Unknown event type {kind!r}; this server takes response.create and "
                "response.cancel.",
                code="unknown_event_type",
                param="type",
            ),
            stream_id,
        )

    def _refuse(self, error: WireError, stream_id: str | None) -> Action:
        return Send(error_event(error, stream_id=stream_id))
