"""Random clients against a connection, and random models against an emitter.

The rules are told a second time, plainly, in `referee`; here is who plays, and how often.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec import Raw
from tests.unit.session.referee import LANES, Ending, Match

from turnwire.errors import InvalidTransition, ServiceError
from turnwire.parts import (
    CallArguments,
    CallStarted,
    Finished,
    ItemFinished,
    Part,
    ReasoningDelta,
    TextDelta,
)
from turnwire.protocol.codec import echo, encode_event
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.session.connection import ConnectionLimits
from turnwire.session.emitter import Emitter
from turnwire.session.reasoning import ReasoningView
from turnwire.session.stage import TRANSITIONS, Stage, Step

BAD_FRAMES = [
    (b"", "invalid_json", None),
    (b"[]", "invalid_json", None),
    (b"\xff", "invalid_json", None),
    (b'{"type":"response.create","stream_id":"a b"}', "invalid_stream_id", None),
    (b'{"type":"response.create","stream_id":"a","store":1}', "invalid_type", "a"),
    (b'{"type":"response.create","background":true}', "unsupported_parameter", None),
    (b'{"type":"response.walk","stream_id":"b"}', "unknown_event_type", "b"),
    (b'{"type":"response.steer","input":"x"}', "missing_required_parameter", None),
    (b'{"stream_id":"c"}', "missing_required_parameter", "c"),
]
BEYOND = ("x", "y")
"""Lanes for the limit of lanes to refuse; the referee reads the caches of the others."""

ENDINGS = st.sampled_from(
    [
        Ending(),
        Ending(),
        Ending(owing=True),
        Ending(owing=True, num_bytes=3),
        Ending(remembered=False),  # cancelled
        Ending(remembered=False, failed=True),
        Ending(remembered=True, failed=True),  # failed while it said that it was done
        Ending(begun=False, remembered=False),  # cancelled before it began
        Ending(begun=False, remembered=False, failed=True),
    ]
)


class RandomClient(RuleBasedStateMachine):
    """Does what a client and a shell may do, in any order."""

    match: Match

    @initialize(
        max_in_flight=st.integers(1, 3),
        max_queued=st.integers(1, 6),
        max_steers=st.integers(1, 3),
        max_cached_bytes=st.integers(1, 5),
        max_held_bytes=st.sampled_from([200, 500, 10_000, 10_000]),
    )
    def connect(self, **limits: int) -> None:
        self.match = Match(
            ConnectionLimits(max_lanes=len(LANES) - 1, **limits),
        )

    def some_id(self, data: st.DataObject) -> str:
        """An id: mostly one of late, running ones included; sometimes an old or foreign one."""
        known = self.match.known_ids()
        return data.draw(st.sampled_from([*known[-4:], *known[:1], "resp_unknown"]), label="id")

    @rule(data=st.data(), lane=st.sampled_from(LANES), fresh=st.booleans(), bare=st.booleans())
    def create(self, data: st.DataObject, lane: str | None, fresh: bool, bare: bool) -> None:
        self.match.create(lane, None if fresh else self.some_id(data), bare=bare)

    @rule(lane=st.sampled_from(LANES))
    def continue_own_lane(self, lane: str | None) -> None:
        self.match.create(lane, self.match.connection.cache.latest_id(lane))

    @precondition(lambda self: len(self.match.model.named) == len(LANES) - 1)
    @rule(lane=st.sampled_from(BEYOND))
    def create_beyond_the_limit_of_lanes(self, lane: str) -> None:
        self.match.create(lane, None)

    @precondition(lambda self: self.match.running)
    @rule(data=st.data(), valid=st.booleans())
    def steer_what_runs(self, data: st.DataObject, valid: bool) -> None:
        ask = data.draw(st.sampled_from(self.match.running), label="running")
        self.match.steer(ask.id, valid=valid)

    @rule(data=st.data(), valid=st.booleans())
    def steer_anything(self, data: st.DataObject, valid: bool) -> None:
        self.match.steer(self.some_id(data), valid=valid)

    @rule(data=st.data())
    def cancel_by_id(self, data: st.DataObject) -> None:
        self.match.cancel(response_id=self.some_id(data))

    @rule(lane=st.sampled_from([*LANES, *BEYOND]))
    def cancel_by_lane(self, lane: str | None) -> None:
        self.match.cancel(lane=lane)

    @rule(bad=st.sampled_from(BAD_FRAMES))
    def send_a_bad_frame(self, bad: tuple[bytes, str, str | None]) -> None:
        self.match.refused_frame(*bad)

    @precondition(lambda self: self.match.running)
    @rule(data=st.data(), ending=ENDINGS)
    def end_a_job(self, data: st.DataObject, ending: Ending) -> None:
        ask = data.draw(st.sampled_from(self.match.running), label="running")
        self.match.finish(ask, ending)

    @precondition(lambda self: len(self.match.known_ids()) > 12)
    @rule()
    def hang_up(self) -> None:
        self.match.disconnect()

    @precondition(lambda self: len(self.match.known_ids()) > 8)
    @rule()
    def drain(self) -> None:
        self.match.drain()

    @invariant()
    def both_believe_the_same(self) -> None:
        if hasattr(self, "match"):
            self.match.check()

    def teardown(self) -> None:
        """Left alone, everything ends: each create was answered, each steer came to its end."""
        if not hasattr(self, "match"):
            return
        match = self.match
        while match.running:
            match.finish(match.running[0], Ending())
        assert [] == match.model.waiting
        match.disconnect()
        assert all(steer.end is not None for steer in match.model.steers)


TestRandomClient = RandomClient.TestCase
TestRandomClient.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)


def play(limits: ConnectionLimits | None = None) -> Match:
    """A match on ample limits."""
    return Match(limits or ConnectionLimits())


def test_a_fork_does_not_take_the_steers_of_a_response_that_still_runs() -> None:
    """It cannot continue that response yet; the successor reads the steer."""
    match = play()
    match.create("a", None)
    [first] = match.running
    match.steer(first.id)
    match.create("b", first.id)
    match.finish(match.running[1], Ending(begun=False, remembered=False, failed=True))
    match.finish(first, Ending())
    [successor] = match.running
    assert ["steer 2"] == successor.texts


def test_a_steer_comes_back_when_its_response_is_forgotten_for_another_lane() -> None:
    """What another lane remembers may take the room of the response that the steer waits for."""
    match = play(ConnectionLimits(max_cached_bytes=3))
    match.create("a", None)
    [first] = match.running
    match.steer(first.id)
    match.finish(first, Ending(owing=True, num_bytes=2))
    match.create("b", None)
    match.finish(match.running[0], Ending(num_bytes=2))
    assert ["failed"] == [steer.end for steer in match.model.steers]


def test_a_steer_after_the_drain_comes_back() -> None:
    """What runs may still be steered, but nothing follows it on this connection."""
    match = play()
    match.create("a", None)
    match.create("a", None)
    [first] = match.running
    match.drain()
    match.steer(first.id)
    match.finish(first, Ending())
    assert ["failed"] == [steer.end for steer in match.model.steers]
    assert [] == match.running


def test_steers_count_towards_what_a_connection_holds() -> None:
    """Sixteen large messages for each of sixteen responses would be more memory than creates."""
    match = play(ConnectionLimits(max_held_bytes=160))
    match.create("a", None)
    [first] = match.running
    for _ in range(8):
        match.steer(first.id)
    assert 0 < len(match.model.steers) < 8


@pytest.mark.parametrize("owing", [False, True])
def test_steers_come_back_when_the_request_they_joined_is_refused(owing: bool) -> None:
    """Until the next response is created they are not committed, and the client hears of it."""
    match = play()
    match.create("a", None)
    [first] = match.running
    match.steer(first.id)
    match.finish(first, Ending(owing=owing))
    if owing:
        match.create("a", first.id)
    [following] = match.running
    assert "steer 2" == following.texts[0]
    match.finish(following, Ending(begun=False, remembered=False, failed=True))
    assert ["failed"] == [steer.end for steer in match.model.steers]


def test_frames_after_the_end_do_nothing() -> None:
    """Nothing that is read after the connection is over starts anything, on any lane."""
    match = play()
    match.create("a", None)
    match.disconnect()
    for lane in LANES:
        match.create(lane, None)
    match.refused_frame(b"{", "invalid_json", None)


# -- the emitter

CALL = CallStarted(name="run", call_id="call_1")
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
NOTE = CallStarted(name="note", call_id="call_2", kind="custom")


def finished(reason: Any) -> Finished:
    """A last part."""
    return Finished(
        reason=reason,
        num_prompt_tokens=9,
        num_cached_tokens=4,
        num_output_tokens=3,
        num_reasoning_tokens=1,
    )


def fresh(view: ReasoningView | None = None) -> Emitter:
    """An emitter of a response that has not begun."""
    response = echo(
        CreateResponse(), EMPTY_TOOL_SET, ToolChoice(), id="resp_1", created_at=7, model="sim"
    )
    return Emitter(response, reasoning=view)


PERFORM = {
    Step.START: lambda e: e.start(),
    Step.QUEUE: lambda e: e.queue(),
    Step.BEGIN: lambda e: e.begin(),
    Step.PART: lambda e: e.feed(TextDelta("a")),
    Step.CLOSE: lambda e: e.close(finished("stop")),
    Step.ANNOUNCE: lambda e: e.announce(ServiceError("broken")),
    Step.SEAL: lambda e: e.seal(8),
    Step.COMPLETE: lambda e: e.complete(Raw(b"{}")),
    Step.FAIL: lambda e: e.fail("server_error", "broken"),
    Step.CANCEL: lambda e: e.cancel(),
}
REACH = {
    Stage.NEW: [],
    Stage.QUEUED: [Step.QUEUE],
    Stage.STREAMING: [Step.START],
    Stage.CLOSED: [Step.START, Step.CLOSE],
    Stage.ENDED: [Step.START, Step.FAIL],
}


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("stage", Stage)
def test_every_pair_is_decided(stage: Stage, step: Step) -> None:
    """Each (stage, step) pair is in the emitter's table, or is refused and changes nothing."""
    emitter = fresh()
    for before in REACH[stage]:
        PERFORM[before](emitter)
    assert stage is emitter.stage
    number = emitter.sequence_number
    if (stage, step) in TRANSITIONS:
        PERFORM[step](emitter)
        assert TRANSITIONS[stage, step] is emitter.stage
    else:
        with pytest.raises(InvalidTransition):
            PERFORM[step](emitter)
        assert (stage, number) == (emitter.stage, emitter.sequence_number)


class RandomModel(RuleBasedStateMachine):
    """Feeds an emitter whatever is legal, and steers, fails or cancels at any point."""

    @initialize(summary=st.booleans(), raw=st.booleans(), background=st.booleans())
    def begin(self, summary: bool, raw: bool, background: bool) -> None:
        self.emitter = fresh(ReasoningView(summary=summary, raw=raw, seal=str.upper))
        self.open: str | None = None
        self.events: list[Any] = []
        self.note(self.emitter.queue() if background else self.emitter.start())

    @precondition(lambda self: self.emitter.stage is Stage.QUEUED)
    @rule()
    def get_a_place(self) -> None:
        self.note(self.emitter.begin())

    def note(self, events: list[Any]) -> None:
        self.events += [json.loads(encode_event(event)) for event in events]

    def feed(self, part: Part) -> None:
        self.note(self.emitter.feed(part))

    def streaming(self) -> bool:
        return self.emitter.stage is Stage.STREAMING

    def running(self) -> bool:
        return self.emitter.stage in (Stage.STREAMING, Stage.CLOSED)

    @precondition(lambda self: self.streaming() and self.open in (None, "message"))
    @rule(text=st.text(min_size=1, max_size=4))
    def say(self, text: str) -> None:
        self.feed(TextDelta(text))
        self.open = "message"

    @precondition(lambda self: self.streaming() and self.open in (None, "reasoning"))
    @rule(text=st.text(min_size=1, max_size=4))
    def think(self, text: str) -> None:
        self.feed(ReasoningDelta(text))
        self.open = "reasoning"

    @precondition(lambda self: self.streaming() and self.open is None)
    @rule(call=st.sampled_from([CALL, NOTE]))
    def call(self, call: CallStarted) -> None:
        self.feed(call)
        self.open = "call"

    @precondition(lambda self: self.streaming() and self.open == "call")
    @rule(text=st.text(max_size=4))
    def argue(self, text: str) -> None:
        self.feed(CallArguments(text))

    @precondition(lambda self: self.streaming() and self.open is not None)
    @rule()
    def end_the_item(self) -> None:
        self.feed(ItemFinished())
        self.open = None

    @precondition(lambda self: self.streaming() and self.open is None)
    @rule()
    def stop_for_a_steer(self) -> None:
        self.feed(finished("steered"))

    @precondition(lambda self: self.streaming())
    @rule(reason=st.sampled_from(["stop", "max_output_tokens"]))
    def stop(self, reason: str) -> None:
        self.feed(finished(reason))
        self.open = None

    @rule(said=st.sampled_from(["accepted", "pending", "failed"]))
    def speak_of_a_steer(self, said: str) -> None:
        match said:
            case "accepted":
                self.note([self.emitter.steer_taken("steer_1")])
            case "pending":
                self.note([self.emitter.steer_waits("steer_1", [Raw(b"{}")])])
            case _:
                refused = self.emitter.steer_refused(None, Raw(b'"x"'), "invalid_input", "no")
                self.note([refused])

    @precondition(lambda self: self.emitter.stage is Stage.CLOSED)
    @rule()
    def complete(self) -> None:
        self.note([self.emitter.complete(self.emitter.seal(8))])

    @precondition(lambda self: self.running())
    @rule(announced=st.booleans())
    def fail(self, announced: bool) -> None:
        if announced:
            self.note([self.emitter.announce(ServiceError("broken"))])
        self.note([self.emitter.failed(self.emitter.fail("server_error", "broken"))])

    @precondition(lambda self: self.running())
    @rule()
    def cancel(self) -> None:
        self.note([self.emitter.failed(self.emitter.cancel())])

    @invariant()
    def numbers_have_no_gap(self) -> None:
        numbers = [event["sequence_number"] for event in self.events]
        assert list(range(len(numbers))) == numbers

    @invariant()
    def one_end_and_nothing_but_steers_behind_it(self) -> None:
        kinds = [event["type"] for event in self.events]
        ends = [number for number, kind in enumerate(kinds) if kind in TERMINAL]
        ended = self.emitter.stage is Stage.ENDED
        assert int(ended) == len(ends)
        if ended:
            assert all(kind.startswith("response.steer.") for kind in kinds[ends[0] + 1 :])

    @invariant()
    def items_open_one_after_the_other_under_ids_of_their_own(self) -> None:
        ids: list[str] = []
        open_id: str | None = None
        for event in self.events:
            if event["type"] == "response.output_item.added":
                assert open_id is None
                open_id = event["item"]["id"]
                assert open_id not in ids
                ids.append(open_id)
            elif "output_index" in event:
                assert open_id == event.get("item_id", event.get("item", {}).get("id"))
                assert len(ids) - 1 == event["output_index"]
            if event["type"] == "response.output_item.done":
                open_id = None

    @invariant()
    def the_end_holds_what_was_done(self) -> None:
        for event in self.events:
            if event["type"] in TERMINAL and event["response"]["status"] != "cancelled":
                assert event["response"]["output"] == [
                    done["item"]
                    for done in self.events
                    if done["type"] == "response.output_item.done"
                ]


TestRandomModel = RandomModel.TestCase
TestRandomModel.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
