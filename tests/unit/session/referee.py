"""A connection's rules told a second time, without regard to speed, and a referee between both.

`Model` keeps lists and searches them; every rule is one short function with its section of
protocol.md. `Match` plays each move on the real `Connection` and on the model, and compares what
both want done, word for word, and what both believe afterwards. The state machine of the tests
and the fuzzer of connections drive it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw, Struct

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
from turnwire.session.steering import SteerState

__all__ = ["LANES", "OWED", "Ask", "Ending", "Match", "Model", "Told"]

LANES: Final = (None, "a", "b", "c", "d")
OWED: Final = (Raw(b'{"type":"function_call_output","call_id":"call_1"}'),)

Told = tuple[object, ...]
"""What an action says, without the ids that only the connection can choose."""


class Ending(Struct, frozen=True):
    """How a job ends.

    Attributes:
        begun: Its `response.created` was sent.
        remembered: It became its lane's latest before it ended.
        failed: It ended with an error.
        owing: The client owes tool results for it.
        num_bytes: What its entry in the cache weighs.
    """

    begun: bool = True
    remembered: bool = True
    failed: bool = False
    owing: bool = False
    num_bytes: int = 1

    def outcome(self) -> Outcome:
        """The same as the shell reports it."""
        return Outcome(
            failed=self.failed,
            continuable=self.remembered and not self.failed,
            owed=OWED if self.owing and self.remembered and not self.failed else (),
        )


class _Steer:
    """A steer that was accepted."""

    def __init__(self, target: str, text: str) -> None:
        self.target: Final = target
        self.text: Final = text
        self.num_bytes: Final = len(json.dumps(text))
        self.id = ""  # known when the connection has told it
        self.told_to_wait = False
        self.end: str | None = None


class Ask:
    """A create, or the successor of a steered response.

    Attributes:
        tag: Tells asks apart; a successor inherits it, with the settings.
        lane: Its lane.
        parent: The response it continues.
        texts: What its input says.
        arrival: Its place in the order of arrival; a successor has that of its origin.
        num_bytes: Size of its frame; a successor has none.
        id: Of its response, known once it runs.
        steers: Those that its input begins with.
    """

    def __init__(
        self,
        tag: str,
        lane: str | None,
        parent: str | None,
        texts: list[str],
        arrival: int,
        num_bytes: int = 0,
    ) -> None:
        self.tag: Final = tag
        self.lane: Final = lane
        self.parent: Final = parent
        self.texts = texts
        self.arrival: Final = arrival
        self.num_bytes: Final = num_bytes
        self.id = ""
        self.steers: list[_Steer] = []

    def __repr__(self) -> str:
        return f"Ask({self.tag}, {self.lane}, {self.id or 'waiting'})"


class Model:
    """What a connection must do."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits: Final = limits
        self.closed = self.draining = False
        self.num_asked = 0
        self.named: list[str] = []
        self.waiting: list[Ask] = []  # in the order in which each lane must run them
        self.running: list[Ask] = []
        # lane: (id, entry, bytes), the one remembered longest ago first
        self.latest: dict[str | None, tuple[str, str, int]] = {}
        self.steers: list[_Steer] = []  # accepted, in order of arrival
        self.over: list[Ask] = []

    # -- what may be asked of it; each returns what must be done, in order

    def create(
        self, tag: str, lane: str | None, parent: str | None, text: str, num_bytes: int
    ) -> list[Told]:
        if self.closed:
            return []
        self.num_asked += 1
        if self.draining:
            return [("error", "server_is_overloaded", lane)]
        full = len(self.waiting) >= self.limits.max_queued or (
            self.held_bytes() > 0 and self.held_bytes() + num_bytes > self.limits.max_held_bytes
        )
        if lane is not None and lane not in self.named:
            # "At most 32 distinct named ids per connection (default lane not counted)." 8.4
            if len(self.named) >= self.limits.max_lanes:
                return [("error", "websocket_stream_limit_reached", lane)]
            if not full:
                self.named.append(lane)
        if full:
            return [("error", "websocket_queue_full", lane)]
        self.waiting.append(Ask(tag, lane, parent, [text], self.num_asked, num_bytes))
        return self._start()

    def steer(self, target: str, text: str | None) -> list[Told]:
        """`text` is None for an input that is no user message."""
        if self.closed:
            return []
        if target not in [ask.id for ask in self.running]:
            known = self._is_latest(target)
            code = "response_already_completed" if known else "response_not_found"
            return [("refused", target, None, code)]
        if len(self._queued_for(target)) >= self.limits.max_steers:
            return [("refused", target, None, "too_many_pending_steers")]
        if text is None:
            return [("refused", target, None, "invalid_input")]
        steer = _Steer(target, text)
        if self.held_bytes() + steer.num_bytes > self.limits.max_held_bytes:
            return [("refused", target, None, "too_many_pending_steers")]
        self.steers.append(steer)
        return [("taken", target)]

    def cancel_id(self, response_id: str) -> list[Told]:
        return [("cancel", a.id, False) for a in self.running if a.id == response_id]

    def cancel_lane(self, lane: str | None) -> list[Told]:
        return [("cancel", ask.id, False) for ask in self.running if ask.lane == lane]

    def remember(self, ask: Ask, num_bytes: int) -> list[Told]:
        if self.closed:
            return []
        self.latest.pop(ask.lane, None)
        self.latest[ask.lane] = (ask.id, f"entry of {ask.id}", num_bytes)
        while (
            len(self.latest) > 1
            and sum(found[2] for found in self.latest.values()) > self.limits.max_cached_bytes
        ):
            del self.latest[next(iter(self.latest))]
        # Steers live as long as what they wait for is there to be continued. 9.1
        running = [other.id for other in self.running]
        queued = [steer for steer in self.steers if steer.end is None]
        targets = list(dict.fromkeys(steer.target for steer in queued))
        return [
            self._fail(steer, "response_not_active")
            for target in targets
            if target not in running and not self._is_latest(target)
            for steer in queued
            if steer.target == target
        ]

    def finish(self, ask: Ask, ending: Ending) -> list[Told]:
        if self.closed:
            return []
        self.running.remove(ask)
        self.over.append(ask)
        # "A same-lane continuation that fails with 4xx/5xx evicts the referenced id from the
        # connection cache; a cross-lane fork that fails keeps the parent." 8.5
        if ending.failed and ask.lane in self.latest and self.latest[ask.lane][0] == ask.parent:
            del self.latest[ask.lane]
        told: list[Told] = []
        if not ending.begun:
            # "Commit point = the successor's response.created." 9.1
            told += [self._fail(steer, "successor_creation_failed") for steer in ask.steers]
        queued = self._queued_for(ask.id)
        outcome = ending.outcome()
        if not outcome.continuable:
            told += [self._fail(steer, "successor_creation_failed") for steer in queued]
        elif outcome.owed:
            results_are_here = any(w.parent == ask.id and w.lane == ask.lane for w in self.waiting)
            if not results_are_here:
                for steer in queued:
                    steer.told_to_wait = True
                    told.append(("waits", ask.id, steer.id))
        elif queued and self.draining:
            told += [self._fail(steer, "successor_creation_failed") for steer in queued]
        elif queued:
            successor = Ask(ask.tag, ask.lane, ask.id, [], ask.arrival)
            self._join(successor, queued)
            # "The successor goes ahead of queued creates of its lane." 9.1
            self.waiting.insert(0, successor)
        return told + self._start()

    def drain(self) -> list[Told]:
        self.draining = True
        dropped, self.waiting = self.waiting, []
        # A successor never waits: it takes the place of the response that it follows.
        assert not any(ask.steers for ask in dropped)
        return [("error", "server_is_overloaded", ask.lane) for ask in dropped]

    def disconnect(self) -> list[Told]:
        if self.closed:
            return []
        self.closed = True
        told: list[Told] = [("cancel", ask.id, True) for ask in self.running]
        for steer in self.steers:
            steer.end = steer.end or "dropped"
        self.waiting, self.running, self.latest = [], [], {}
        return told

    # -- rules

    def held_bytes(self) -> int:
        """What the client has sent and what is not over: its creates, its steers."""
        asks = [*self.waiting, *self.running]
        steers = [steer for ask in asks for steer in ask.steers]
        steers += [steer for steer in self.steers if steer.end is None]
        return sum(ask.num_bytes for ask in asks) + sum(steer.num_bytes for steer in steers)

    def parent_entry(self, ask: Ask) -> str | None:
        """ "Own lane's cache, then the other lanes' caches." 8.5"""
        for lane in (ask.lane, *self.latest):
            if lane in self.latest and self.latest[lane][0] == ask.parent:
                return self.latest[lane][1]
        return None

    def _start(self) -> list[Told]:
        """Lanes are FIFO and run side by side; by arrival among lane heads. 8.4"""
        told: list[Told] = []
        while len(self.running) < self.limits.max_in_flight:
            heads: dict[str | None, Ask] = {}
            for ask in self.waiting:
                heads.setdefault(ask.lane, ask)
            for ask in self.running:
                heads.pop(ask.lane, None)
            if not heads:
                break
            ask = min(heads.values(), key=lambda head: head.arrival)
            self.waiting.remove(ask)
            # A response that runs still cannot be continued yet: its steers stay with it.
            if ask.parent is not None and ask.parent not in [other.id for other in self.running]:
                self._join(ask, self._queued_for(ask.parent))
            self.running.append(ask)
            told.append(("start", ask.tag, ask.lane, ask.parent, tuple(ask.texts)))
        return told

    def _join(self, ask: Ask, steers: Sequence[_Steer]) -> None:
        """ "Steers PREPENDED to its input", in order. 9.1"""
        ask.texts = [steer.text for steer in steers] + ask.texts
        ask.steers += steers
        for steer in steers:
            steer.end = "committed"

    def _is_latest(self, response_id: str) -> bool:
        return response_id in [found[0] for found in self.latest.values()]

    def _queued_for(self, target: str) -> list[_Steer]:
        return [steer for steer in self.steers if steer.target == target and steer.end is None]

    def _fail(self, steer: _Steer, code: str) -> Told:
        steer.end = "failed"
        return ("refused", steer.target, steer.id, code)


class Match:
    """One client, played against the connection and against the model.

    Attributes:
        connection: The real one.
        model: The other.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.connection: Final[Connection[str]] = Connection(limits)
        self.model: Final = Model(limits)
        self._jobs: Final[dict[str, Job]] = {}  # by response id
        self._num_frames = 0
        self._ended: Final[set[str]] = set()

    # -- what a client may do

    def create(self, lane: str | None, parent: str | None, *, bare: bool = False) -> None:
        """Ask for a response; `bare` leaves the input's list form for its string form."""
        tag = self._tag()
        text = f"input {tag}"
        message = {"role": "user", "content": text}
        frame: dict[str, Any] = {
            "type": "response.create",
            "input": text if bare else [message],
            "metadata": {"tag": tag},
        }
        if lane is not None:
            frame["stream_id"] = lane
        if parent is not None:
            frame["previous_response_id"] = parent
        expected = self.model.create(tag, lane, parent, text, len(json.dumps(frame)))
        self._compare(expected, self._receive(frame))

    def steer(self, target: str, *, valid: bool = True) -> None:
        """Send a message into a response."""
        text = f"steer {self._tag()}"
        given: object = text if valid else [{"role": "assistant", "content": text}]
        frame = {"type": "response.steer", "previous_response_id": target, "input": given}
        expected = self.model.steer(target, text if valid else None)
        self._compare(expected, self._receive(frame))

    def cancel(self, *, response_id: str | None = None, lane: str | None = None) -> None:
        """Ask for the end of a response, by its id, or else of what runs on a lane."""
        frame: dict[str, Any] = {"type": "response.cancel"}
        if lane is not None:
            frame["stream_id"] = lane
        if response_id is not None:
            frame["response_id"] = response_id
            expected = self.model.cancel_id(response_id)
        else:
            expected = self.model.cancel_lane(lane)
        self._compare(expected, self._receive(frame))

    def refused_frame(self, frame: bytes, code: str, lane: str | None) -> None:
        """Send a frame that is answered with an error and changes nothing."""
        expected: list[Told] = [] if self.model.closed else [("error", code, lane)]
        self._compare(expected, self.connection.receive(frame))

    def any_frame(self, frame: bytes) -> None:
        """Send bytes that ask for nothing that the model must know: only errors may come."""
        for action in self.connection.receive(frame):
            assert isinstance(action, Send | InjectRefused | SteerRefused), action
        self.check()

    # -- what its shell may report

    @property
    def running(self) -> list[Ask]:
        """What runs, the longest first."""
        return self.model.running

    def finish(self, ask: Ask, ending: Ending) -> None:
        """End a job the way the shell does: remembered first, then finished."""
        job = self._jobs[ask.id]
        if ending.remembered:
            entry, num_bytes = f"entry of {ask.id}", ending.num_bytes
            expected = self.model.remember(ask, num_bytes)
            self._compare(expected, self.connection.remember(job, entry, num_bytes))
        expected = self.model.finish(ask, ending)
        actual = self.connection.finished(job, ending.outcome(), begun=ending.begun)
        self._compare(expected, actual)

    def drain(self) -> None:
        """The server is about to close; the lanes may be told in any order."""
        expected = self.model.drain()
        actual = [self._tell(action) for action in self.connection.drain()]
        assert sorted(map(repr, expected)) == sorted(map(repr, actual))
        self.check()

    def disconnect(self) -> None:
        """The client goes away; afterwards everything may still be reported, to no effect."""
        left = list(self.running)
        expected = self.model.disconnect()
        actual = [self._tell(action) for action in self.connection.disconnect()]
        assert sorted(map(repr, expected)) == sorted(map(repr, actual))
        for ask in left:
            job = self._jobs[ask.id]
            assert [] == self.connection.remember(job, "late")
            assert [] == self.connection.finished(job, Outcome())
        assert [] == self.connection.disconnect()
        self.check()

    # -- what must hold

    def known_ids(self) -> list[str]:
        """Every response id that the client has seen, the oldest first."""
        return list(self._jobs)

    def check(self) -> None:
        """Both believe the same, and nothing is beyond its bound."""
        model, connection = self.model, self.connection
        limits = model.limits
        assert (model.closed, model.draining) == (connection.closed, connection.draining)
        assert model.held_bytes() == connection.held_bytes
        assert len(model.running) == connection.num_in_flight <= limits.max_in_flight
        assert len(model.waiting) == connection.num_queued
        assert connection.num_queued <= limits.max_queued + limits.max_in_flight
        lanes = [ask.lane for ask in model.running]
        assert len(lanes) == len(set(lanes))
        cache = connection.cache
        assert {lane: found[0] for lane, found in model.latest.items()} == {
            lane: cache.latest_id(lane) for lane in LANES if cache.latest_id(lane) is not None
        }
        assert len(model.latest) == len(cache)
        assert len(model.named) <= limits.max_lanes
        queued = [steer for steer in model.steers if steer.end is None]
        assert len(queued) == len(connection.steers)
        for target in {steer.target for steer in model.steers}:
            expected = [steer for steer in queued if steer.target == target]
            actual = connection.steers.of(target)
            assert len(actual) <= limits.max_steers
            assert [(s.id, s.told_to_wait) for s in expected] == [
                (s.id, s.state is SteerState.PENDING) for s in actual
            ]
        if model.closed:
            assert (0, 0, 0) == (connection.num_in_flight, connection.num_queued, len(cache))
            assert [] == queued

    # -- inner

    def _tag(self) -> str:
        self._num_frames += 1
        return str(self._num_frames)

    def _receive(self, frame: dict[str, Any]) -> list[Action]:
        return self.connection.receive(json.dumps(frame).encode())

    def _compare(self, expected: Sequence[Told], actions: Sequence[Action]) -> None:
        assert list(expected) == [self._tell(action) for action in actions]
        self.check()

    def _tell(self, action: Action) -> Told:
        match action:
            case Start(job):
                return self._started(job)
            case Cancel(job, gone):
                return ("cancel", job.response_id, gone)
            case Send(event):
                return ("error", event.error.code, event.stream_id or None)
            case SteerTaken(steer_id, target, job):
                assert job.response_id == target
                [steer] = [s for s in self.model.steers if not s.id]
                assert steer_id not in [s.id for s in self.model.steers]
                steer.id = steer_id
                return ("taken", target)
            case SteerWaits(steer_id, target, required, job):
                assert (OWED, target) == (required, job.response_id)
                return ("waits", target, steer_id)
            case SteerRefused(target, given, code, _, steer_id, _):
                if steer_id is not None:
                    assert steer_id not in self._ended, "a steer ended twice"
                    self._ended.add(steer_id)
                    [text] = [s.text for s in self.model.steers if s.id == steer_id]
                    assert text == json.loads(bytes(given))
                return ("refused", target, steer_id, code)
            case InjectRefused(response_id, _, code, _):
                return ("inject", response_id, code)

    def _started(self, job: Job) -> Told:
        assert job.response_id not in self._jobs, "an id was used twice"
        self._jobs[job.response_id] = job
        # Both start in the same order: this job is the first of the model's without an id.
        ask = next(ask for ask in self.model.running if not ask.id)
        ask.id = job.response_id
        assert self.model.parent_entry(ask) == self.connection.parent(job)
        request = job.request
        decoded = json.loads(bytes(request.input))
        texts = [decoded] if isinstance(decoded, str) else [item["content"] for item in decoded]
        tag = (request.metadata or {})["tag"]
        return ("start", tag, job.lane, request.previous_response_id, tuple(texts))
