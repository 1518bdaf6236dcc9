"""One WebSocket connection, without the socket: frames in, actions out.

The connection decodes frames, knows its lanes and their latest responses, and decides what may
start now. Its shell performs the actions and reports back: `remember` when a response became
continuable (before its terminal event is written), `finished` when its job is over.
Steering is decided here and in `steering`; the shell only numbers and sends what comes of it.

Rules and their source, protocol.md section 8.4: one lane is strictly first in, first out;
different lanes run at the same time; at most 16 responses are in flight per connection, the
rest wait by order of arrival; at most 32 named lanes; a request error ends that request only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from msgspec import Raw, Struct, structs

from turnwire.errors import InvalidRequest, Overloaded, TooManyRequests, WireError
from turnwire.ids import new_id
from turnwire.protocol.client_events import Cancel as CancelEvent
from turnwire.protocol.client_events import Create, Inject, Unknown
from turnwire.protocol.client_events import Steer as SteerEvent
from turnwire.protocol.codec import FrameError, decode_frame, error_event
from turnwire.protocol.requests import ABSENT
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
from turnwire.session.cache import ConnectionCache
from turnwire.session.lane import Lane, State
from turnwire.session.steering import InvalidSteer, Steer, SteerMove, Steers, merge_input

__all__ = ["Connection", "ConnectionLimits"]

T = TypeVar("T")


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one connection.

    Attributes:
        max_in_flight: Responses running at the same time, over all lanes (the service's 16).
        max_lanes: Distinct `stream_id`s over the connection's life (the service's 32).
        max_queued: Creates that wait; one more is refused with `websocket_queue_full`.
        max_held_bytes: Size of the creates that wait or run, and of the steers for them; a
            create that comes on top of others and would exceed it is refused with
            `websocket_queue_full` as well, a steer with `too_many_pending_steers`.
        max_steers: Steers that wait for one response.
        max_cached_bytes: Size of the contexts that can be continued, over all lanes.
    """

    max_in_flight: int = 16
    max_lanes: int = 32
    max_queued: int = 256
    max_held_bytes: int = 64 * 1024 * 1024
    max_steers: int = 16
    max_cached_bytes: int = 64 * 1024 * 1024


class Connection(Generic[T]):
    """The state of one connection. `T` is what a continuation needs; opaque here.

    Attributes:
        limits: Its bounds.
        cache: Latest response of each lane.
        steers: Steers that were accepted and not committed yet.
        num_in_flight: Jobs started and not finished.
        num_queued: Jobs accepted and not started.
        held_bytes: Size of the frames of both.
        draining: Whether `drain` was called.
        closed: Whether `disconnect` was called.
    """

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits: Final = limits or ConnectionLimits()
        self.cache: Final[ConnectionCache[T]] = ConnectionCache(self.limits.max_cached_bytes)
        self.steers: Final = Steers(self.limits.max_steers)
        self.num_in_flight = 0
        self.num_queued = 0
        self.held_bytes = 0
        self.draining = False
        self.closed = False
        self._arrivals = 0
        self._lanes: dict[str | None, Lane[Job]] = {None: Lane(None)}
        # Steers that a job's input begins with, until the job is over.
        self._joined: dict[Job, Sequence[Steer]] = {}
        # Lanes in WAITING, by the arrival of the request at their head.
        self._ready: deque[Lane[Job]] = deque()

    # -- what the shell reports

    def receive(self, frame: bytes | str, ticket: object = None) -> list[Action]:
        """Take one text frame; return what to do, in order: nothing once it is closed.

        Args:
            frame: The frame as it came.
            ticket: Handed back on the job that the frame asks for, if it does.
        """
        if self.closed:
            return []
        try:
            event = decode_frame(frame)
        except FrameError as failure:
            if failure.parent_id is not None:
                self.cache.evict(failure.stream_id, failure.parent_id)
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
                        num_bytes=len(frame),
                        ticket=ticket,
                    )
                )
            case CancelEvent(response_id, stream_id):
                return self._cancel(response_id, stream_id)
            case SteerEvent(response_id, given):
                return self._steer(response_id, given)
            case Inject(response_id, given):
                return [
                    InjectRefused(
                        response_id,
                        given,
                        "response_not_found",
                        "This server runs no response that takes injected input.",
                    )
                ]
            case Unknown(kind, stream_id):
                return [self._unknown_event(kind, stream_id)]

    def parent(self, job: Job) -> T | None:
        """What the connection remembers of the response that a starting job continues."""
        parent_id = job.request.previous_response_id
        return self.cache.find(job.lane, parent_id) if parent_id is not None else None

    def remember(self, job: Job, entry: T, num_bytes: int = 0) -> list[Action]:
        """A job's response became continuable: it is now its lane's latest.

        Steers that waited for a continuation of a response that it replaced, or whose memory it
        took, go back to the client.
        """
        if self.closed:
            return []
        self.cache.remember(job.lane, job.response_id, entry, num_bytes)
        return [
            action
            for target in self.steers.targets()
            if not self.cache.holds(target) and self._running(target) is None
            for action in self._fail_steers(
                target,
                "response_not_active",
                "The conversation went on without this steer; send it again.",
                job,
            )
        ]

    def finished(self, job: Job, outcome: Outcome, *, begun: bool = True) -> list[Action]:
        """A job is over; return what may start now.

        Args:
            job: One that `Start` named and that was not reported before.
            outcome: How it ended.
            begun: Whether its `response.created` was sent: "Commit point = the successor's
                response.created". Without it the steers in its input go back to the client.
        """
        if self.closed:
            return []
        self.num_in_flight -= 1
        self.held_bytes -= job.num_bytes
        parent_id = job.request.previous_response_id
        if outcome.failed and parent_id is not None:
            self.cache.evict(job.lane, parent_id)
        lane = self._lanes[job.lane]
        lane.finish()
        joined = self._release_joined(job)
        actions = [] if begun else self._hand_back(job, joined)
        actions += self._end_steers(job, lane, outcome)
        if lane.state is State.WAITING:
            self._enqueue(lane)
        return actions + self._start_ready()

    def drain(self) -> list[Action]:
        """The server is about to close: what runs may end, what waits or comes is refused."""
        self.draining = True
        self._ready.clear()
        self.num_queued = 0
        dropped = [
            job
            for lane in self._lanes.values()
            if lane.state is not State.CLOSED
            for job in lane.drop()
        ]
        # No steers among them: a successor starts as soon as what it follows has made room.
        self.held_bytes -= sum(job.num_bytes for job in dropped)
        return [self._refuse_draining(job.lane) for job in dropped]

    def disconnect(self) -> list[Action]:
        """The socket is gone: cancel what runs, forget everything. Idempotent."""
        if self.closed:
            return []
        self.closed = True
        running = [lane.close() for lane in self._lanes.values()]
        self._ready.clear()
        self.cache.clear()
        self.steers.clear()
        self._joined.clear()
        self.num_in_flight = self.num_queued = self.held_bytes = 0
        return [Cancel(job, gone=True) for job in running if job is not None]

    # -- decisions

    def _refuse_draining(self, lane: str | None) -> Action:
        return self._refuse(
            Overloaded(
                "This connection is about to be closed; open a new one and send it there.",
                retry_after_sec=1,
            ),
            lane,
        )

    def _submit(self, job: Job) -> list[Action]:
        if self.draining:
            return [self._refuse_draining(job.lane)]
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
        if self.num_queued >= self.limits.max_queued or (
            self.held_bytes and self.held_bytes + job.num_bytes > self.limits.max_held_bytes
        ):
            return [
                self._refuse(
                    TooManyRequests(
                        f"{self.num_queued} requests wait on this connection, {self.held_bytes} "
                        "bytes with those that run; send more when some have ended.",
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
        self.held_bytes += job.num_bytes
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
            self._join_steers(job)
            started.append(Start(job))
        return started

    # -- steering

    def _steer(self, target: str, given: Raw) -> list[Action]:
        job = self._running(target)
        if job is None:
            if self.cache.holds(target):
                message = "The response has ended; continue it with response.create."
                return [SteerRefused(target, given, "response_already_completed", message)]
            message = f"No response with id '{target}' runs on this connection."
            return [SteerRefused(target, given, "response_not_found", message)]
        if job.request.warm_up:
            message = "A warm-up says nothing and so cannot be steered; continue it."
            return [SteerRefused(target, given, "steering_not_supported", message, job=job)]
        if job.request.conversation is not None:
            message = "A response in a `conversation` cannot be steered; send the next create."
            return [SteerRefused(target, given, "steering_not_supported", message, job=job)]
        if job.request.context_management is not None:
            message = (
                "A response with automatic compaction cannot be steered; send the next create."
            )
            return [SteerRefused(target, given, "steering_not_supported", message, job=job)]
        if self.steers.is_full(target):
            most = self.steers.max_per_response
            message = f"{most} steers wait for this response already."
            return [SteerRefused(target, given, "too_many_pending_steers", message, job=job)]
        try:
            steer = Steer(target, given)
        except InvalidSteer:
            message = (
                "'input' must be a string, or a list of at least one user message with 'role', "
                "'content' and nothing else."
            )
            return [SteerRefused(target, given, "invalid_input", message, job=job)]
        if self.held_bytes + steer.num_bytes > self.limits.max_held_bytes:
            message = f"{self.held_bytes} bytes wait or run on this connection already."
            return [SteerRefused(target, given, "too_many_pending_steers", message, job=job)]
        self.held_bytes += steer.num_bytes
        self.steers.add(steer)
        return [SteerTaken(steer.id, target, job)]

    def _join_steers(self, job: Job) -> None:
        """Put the steers that wait for a continuation before the input of the one that starts."""
        parent_id = job.request.previous_response_id
        # A response that still runs cannot be continued: a fork that tries must not take them.
        if parent_id and self.steers.of(parent_id) and self._running(parent_id) is None:
            self._joined[job] = self.steers.of(parent_id)
            job.request.input = merge_input(self.steers.commit(parent_id), job.request.input)

    def _hand_back(self, job: Job, steers: Sequence[Steer]) -> list[Action]:
        """The request that steers were part of was refused: they are the client's again."""
        message = "The request that this steer was part of was refused."
        refused: list[Action] = []
        for steer in steers:
            steer.move(SteerMove.FAIL)
            refused.append(
                SteerRefused(
                    steer.target, steer.input, "successor_creation_failed", message, steer.id, job
                )
            )
        return refused

    def _release_joined(self, job: Job) -> Sequence[Steer]:
        steers = self._joined.pop(job, ())
        self.held_bytes -= sum(steer.num_bytes for steer in steers)
        return steers

    def _fail_steers(self, target: str, code: str, message: str, job: Job) -> list[Action]:
        """Hand back the steers that wait for one response."""
        refused: list[Action] = []
        for steer in self.steers.fail(target):
            self.held_bytes -= steer.num_bytes
            refused.append(SteerRefused(target, steer.input, code, message, steer.id, job))
        return refused

    def _running(self, response_id: str) -> Job | None:
        for lane in self._lanes.values():
            if lane.running is not None and lane.running.response_id == response_id:
                return lane.running
        return None

    def _end_steers(self, job: Job, lane: Lane[Job], outcome: Outcome) -> list[Action]:
        """Decide what becomes of the steers of a response that just ended."""
        response_id = job.response_id
        if not self.steers.of(response_id):
            return []
        if not outcome.continuable:
            message = "The response failed or was cancelled; there is nothing to continue."
            return self._fail_steers(response_id, "successor_creation_failed", message, job)
        if outcome.owed:
            if any(w.request.previous_response_id == response_id for w in lane.waiting):
                return []  # the create that brings the results is here already
            return [
                SteerWaits(steer.id, response_id, outcome.owed, job)
                for steer in self.steers.wait(response_id)
            ]
        steers = self.steers.of(response_id)
        if self.draining:
            message = "The connection is about to be closed; send it again on a new one."
            return self._fail_steers(response_id, "successor_creation_failed", message, job)
        successor = Job(
            lane=job.lane,
            request=structs.replace(
                job.request,
                input=merge_input(self.steers.commit(response_id), ABSENT),
                previous_response_id=response_id,
            ),
            response_id=new_id("resp"),
            arrival=job.arrival,
        )
        self._joined[successor] = steers
        lane.submit_first(successor)
        self.num_queued += 1
        return []

    def _cancel(self, response_id: str | None, stream_id: str | None) -> list[Action]:
        # [D] 8.2: a cancel for a response that is over already is ignored silently.
        if response_id is None:
            lane = self._lanes.get(stream_id)
            return [Cancel(lane.running)] if lane is not None and lane.running else []
        job = self._running(response_id)
        return [Cancel(job)] if job is not None else []

    def _unknown_event(self, kind: str, stream_id: str | None) -> Action:
        return self._refuse(
            InvalidRequest(
                f"Unknown event type {kind!r}; this server takes response.create, "
                "response.cancel and response.steer.",
                code="unknown_event_type",
                param="type",
            ),
            stream_id,
        )

    def _refuse(self, error: WireError, stream_id: str | None) -> Action:
        return Send(error_event(error, stream_id=stream_id))
