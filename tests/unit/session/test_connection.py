"""A connection decides what runs when, and answers what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

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

DONE = Outcome()
FAILED = Outcome(failed=True, continuable=False)
OWING = Outcome(owed=(Raw(b'{"call_id":"call_1"}'),))


def create(lane: str | None = None, parent: str | None = None, **fields: Any) -> bytes:
    """A `response.create` frame."""
    frame: dict[str, Any] = {"type": "response.create", "model": "sim", "input": "hi", **fields}
    if lane is not None:
        frame["stream_id"] = lane
    if parent is not None:
        frame["previous_response_id"] = parent
    return json.dumps(frame).encode()


def started(actions: list[Action]) -> list[Job]:
    """The jobs that these actions start."""
    return [action.job for action in actions if isinstance(action, Start)]


def refused(actions: list[Action]) -> list[tuple[str | None, object]]:
    """(code, stream_id) of the errors that these actions send."""
    return [
        (action.event.error.code, action.event.stream_id or None)
        for action in actions
        if isinstance(action, Send)
    ]


def test_one_lane_runs_one_request_at_a_time() -> None:
    """The second create of a lane starts when the first is finished."""
    connection: Connection[str] = Connection()
    [first] = started(connection.receive(create(metadata={"n": "1"})))
    assert [] == connection.receive(create(metadata={"n": "2"}))
    assert (1, 1) == (connection.num_in_flight, connection.num_queued)
    [second] = started(connection.finished(first, DONE))
    assert second.request.metadata == {"n": "2"}


def test_lanes_run_side_by_side_up_to_the_limit() -> None:
    """The request over the limit waits until a place is free."""
    connection: Connection[str] = Connection(ConnectionLimits(max_in_flight=2))
    [one] = started(connection.receive(create("a")))
    [_] = started(connection.receive(create("b")))
    assert [] == connection.receive(create("c"))
    assert ["c"] == [job.lane for job in started(connection.finished(one, DONE))]


def test_waiting_lanes_start_by_the_arrival_of_their_heads() -> None:
    """A lane that was busy keeps the place its next request had when it arrived."""
    connection: Connection[str] = Connection(ConnectionLimits(max_in_flight=1))
    [one] = started(connection.receive(create("a")))
    connection.receive(create("a"))
    connection.receive(create("b"))
    [two] = started(connection.finished(one, DONE))
    [three] = started(connection.finished(two, DONE))
    assert ["a", "b"] == [two.lane, three.lane]


def test_the_lane_limit_names_the_lane_and_known_lanes_go_on() -> None:
    """Distinct names are counted over the connection's life; the default lane is not."""
    connection: Connection[str] = Connection(ConnectionLimits(max_lanes=1))
    connection.receive(create("a"))
    assert [("websocket_stream_limit_reached", "b")] == refused(connection.receive(create("b")))
    assert [None] == [job.lane for job in started(connection.receive(create()))]
    assert [] == refused(connection.receive(create("a")))


def test_a_full_queue_is_answered() -> None:
    """One create too many gets `websocket_queue_full`, the others stay queued."""
    connection: Connection[str] = Connection(ConnectionLimits(max_queued=1))
    connection.receive(create())
    connection.receive(create())
    assert [("websocket_queue_full", None)] == refused(connection.receive(create()))
    assert 1 == connection.num_queued


def test_what_waits_is_bounded_by_its_size_too() -> None:
    """Few large creates fill the queue as well; one alone is always taken."""
    large = create(metadata={"n": "x" * 400})
    connection: Connection[str] = Connection(ConnectionLimits(max_held_bytes=2 * len(large)))
    [job] = started(connection.receive(large))
    connection.receive(large)
    assert [("websocket_queue_full", None)] == refused(connection.receive(large))
    assert 2 * len(large) == connection.held_bytes
    [following] = started(connection.finished(job, DONE))
    connection.finished(following, DONE)
    assert 0 == connection.held_bytes
    small: Connection[str] = Connection(ConnectionLimits(max_held_bytes=1))
    assert 1 == len(started(small.receive(large)))


@pytest.mark.parametrize(
    ("frame", "code", "lane"),
    [
        pytest.param(b"{", "invalid_json", None, id="not JSON"),
        pytest.param(b"[]", "invalid_json", None, id="not an object"),
        pytest.param(b'{"type":"response.walk"}', "unknown_event_type", None, id="unknown"),
        pytest.param(
            b'{"type":"response.walk","stream_id":"a"}', "unknown_event_type", "a", id="on a lane"
        ),
        pytest.param(create(""), "invalid_stream_id", None, id="empty lane"),
        pytest.param(create("a b"), "invalid_stream_id", None, id="bad lane"),
        pytest.param(create("a", temperature=3), "decimal_above_max_value", "a", id="range"),
    ],
)
def test_a_bad_frame_is_answered_and_nothing_else_happens(
    frame: bytes, code: str, lane: str | None
) -> None:
    """The error has its code and lane; the connection takes the next request."""
    connection: Connection[str] = Connection()
    assert [(code, lane)] == refused(connection.receive(frame))
    assert 1 == len(started(connection.receive(create())))


def test_a_failed_continuation_evicts_its_parent_only_on_its_own_lane() -> None:
    """A fork that fails leaves the parent to the lane it belongs to."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create("a")))
    connection.remember(job, "context")
    connection.finished(job, DONE)
    [fork] = started(connection.receive(create("b", job.response_id)))
    assert connection.parent(fork) == "context"
    connection.finished(fork, FAILED)
    [again] = started(connection.receive(create("a", job.response_id)))
    assert connection.parent(again) == "context"
    connection.finished(again, FAILED)
    [last] = started(connection.receive(create("a", job.response_id)))
    assert connection.parent(last) is None


@pytest.mark.parametrize("wrong", [{"temperature": 7}, {"background": True}, {"input": 5}])
def test_a_continuation_that_cannot_be_read_evicts_its_parent_too(wrong: dict[str, Any]) -> None:
    """Whatever a continuation of the own lane fails by, its parent is gone afterwards."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create("a")))
    connection.remember(job, "context")
    connection.finished(job, DONE)
    elsewhere = connection.receive(create("b", job.response_id, **wrong))
    for other in started(elsewhere):
        connection.finished(other, FAILED)
    assert connection.cache.holds(job.response_id)
    here = connection.receive(create("a", job.response_id, **wrong))
    for own in started(here):
        connection.finished(own, FAILED)
    assert not connection.cache.holds(job.response_id)


def test_cancel_stops_the_running_response_by_id_or_lane() -> None:
    """A cancel names a response or a lane; for one that is over it does nothing."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create("a")))
    by_id = json.dumps({"type": "response.cancel", "response_id": job.response_id}).encode()
    assert [Cancel(job)] == connection.receive(by_id)
    assert [Cancel(job)] == connection.receive(b'{"type":"response.cancel","stream_id":"a"}')
    assert [] == connection.receive(b'{"type":"response.cancel"}')
    connection.finished(job, DONE)
    assert [] == connection.receive(by_id)


def test_disconnect_cancels_what_runs_and_forgets_the_rest() -> None:
    """After the socket is gone nothing starts any more."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create("a")))
    connection.receive(create("a"))
    assert [Cancel(job, gone=True)] == connection.disconnect()
    assert [] == connection.disconnect()
    assert [] == connection.finished(job, FAILED)
    assert (0, 0) == (connection.num_in_flight, connection.num_queued)


def steer(target: str, given: object = "turn left") -> bytes:
    """A `response.steer` frame."""
    frame = {"type": "response.steer", "previous_response_id": target, "input": given}
    return json.dumps(frame).encode()


def texts(job: Job) -> list[object]:
    """Contents of a job's input messages."""
    decoded = json.loads(bytes(job.request.input))
    return [decoded] if isinstance(decoded, str) else [item["content"] for item in decoded]


def test_a_steered_response_gets_a_successor_before_what_waits() -> None:
    """Same lane, same settings, the steers as input in order, the steered id as parent."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create("a", instructions="brief")))
    connection.receive(create("a", metadata={"n": "later"}))
    [taken] = connection.receive(steer(job.response_id, "one"))
    assert isinstance(taken, SteerTaken)
    assert (job, job.response_id) == (taken.job, taken.target)
    connection.receive(steer(job.response_id, [{"role": "user", "content": "two"}]))
    connection.remember(job, "context")
    [successor] = started(connection.finished(job, DONE))
    assert ["one", "two"] == texts(successor)
    assert ("a", job.response_id, "brief") == (
        successor.lane,
        successor.request.previous_response_id,
        successor.request.instructions,
    )
    assert connection.parent(successor) == "context"
    [later] = started(connection.finished(successor, DONE))
    assert later.request.metadata == {"n": "later"}
    assert 0 == len(connection.steers)


def test_a_steer_waits_for_tool_results_and_goes_before_them() -> None:
    """The client hears once what it owes; its create gets the steer in front of its input."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create()))
    connection.receive(steer(job.response_id, "one"))
    connection.remember(job, "context")
    [waits] = connection.finished(job, OWING)
    assert isinstance(waits, SteerWaits)
    assert (job.response_id, OWING.owed) == (waits.target, waits.required_input)
    [following] = started(connection.receive(create(parent=job.response_id)))
    assert ["one", "hi"] == texts(following)
    assert 0 == len(connection.steers)


def test_pending_is_left_out_when_the_results_are_here_already() -> None:
    """A create that continues the response may come before it ended."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create()))
    connection.receive(steer(job.response_id, "one"))
    connection.receive(create(parent=job.response_id))
    connection.remember(job, "context")
    [following] = started(connection.finished(job, OWING))
    assert ["one", "hi"] == texts(following)


@pytest.mark.parametrize("outcome", [FAILED, Outcome(continuable=False)])
def test_a_steer_of_a_failed_response_is_handed_back(outcome: Outcome) -> None:
    """The client gets its input back, with the steer's id."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create()))
    connection.receive(steer(job.response_id, "one"))
    [back] = connection.finished(job, outcome)
    assert isinstance(back, SteerRefused)
    assert ("successor_creation_failed", b'"one"') == (back.code, bytes(back.input))
    assert back.steer_id


def test_a_waiting_steer_is_handed_back_when_the_lane_moves_on() -> None:
    """A response that does not continue the steered one ends the wait."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create()))
    connection.receive(steer(job.response_id, "one"))
    connection.remember(job, "context")
    connection.finished(job, OWING)
    [fresh] = started(connection.receive(create()))
    [back] = connection.remember(fresh, "other")
    assert isinstance(back, SteerRefused)
    assert "response_not_active" == back.code


def test_steers_are_refused_by_their_reason() -> None:
    """Unknown, over, too many and unusable steers each have their code; none changes anything."""
    connection: Connection[str] = Connection(ConnectionLimits(max_steers=1))

    def code(frame: bytes) -> str:
        [action] = connection.receive(frame)
        assert isinstance(action, SteerRefused)
        return action.code

    assert "response_not_found" == code(steer("resp_x"))
    [job] = started(connection.receive(create()))
    for wrong in ([], [{"role": "assistant", "content": "x"}], 3, [{"role": "user"}], None):
        assert "invalid_input" == code(steer(job.response_id, wrong))
    assert "invalid_input" == code(
        steer(job.response_id, [{"role": "user", "content": "x", "id": "msg_1"}])
    )
    connection.receive(steer(job.response_id))
    assert "too_many_pending_steers" == code(steer(job.response_id))
    connection.steers.fail(job.response_id)
    connection.remember(job, "context")
    connection.finished(job, DONE)
    assert "response_already_completed" == code(steer(job.response_id))


def test_draining_refuses_what_waits_and_what_comes() -> None:
    """What runs ends in peace; every other create is told where to go, on its lane."""
    connection: Connection[str] = Connection(ConnectionLimits(max_in_flight=1))
    [job] = started(connection.receive(create("a")))
    connection.receive(create("a"))
    connection.receive(create("b"))
    overloaded = "server_is_overloaded"
    assert [(overloaded, "a"), (overloaded, "b")] == refused(connection.drain())
    assert [(overloaded, "c")] == refused(connection.receive(create("c")))
    connection.receive(steer(job.response_id, "one"))
    connection.remember(job, "context")
    [back] = connection.finished(job, DONE)
    assert isinstance(back, SteerRefused)
    assert (0, 0) == (connection.num_in_flight, connection.num_queued)


def test_a_warm_up_cannot_be_steered() -> None:
    """It has no output to interrupt, and a successor of its kind would never answer."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create(generate=False)))
    [action] = connection.receive(steer(job.response_id))
    assert isinstance(action, SteerRefused)
    assert "steering_not_supported" == action.code


def test_automatic_compaction_cannot_be_steered() -> None:
    """Section 9.1: "not with automatic compaction"."""
    connection: Connection[str] = Connection()
    managed = create(context_management=[{"type": "compaction"}])
    [job] = started(connection.receive(managed))
    [action] = connection.receive(steer(job.response_id))
    assert isinstance(action, SteerRefused)
    assert "steering_not_supported" == action.code


def test_an_inject_is_answered() -> None:
    """No response here waits for injected input; the client gets it back."""
    connection: Connection[str] = Connection()
    frame = {"type": "response.inject", "response_id": "resp_x", "input": []}
    [action] = connection.receive(json.dumps(frame).encode())
    assert isinstance(action, InjectRefused)
    assert ("response_not_found", b"[]") == (action.code, bytes(action.input))


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.booleans()), max_size=40))
def test_nothing_is_lost_and_lanes_stay_in_order(steps: list[tuple[str | None, bool]]) -> None:
    """Whatever the order of arrivals and endings, every create runs once, in its lane's order."""
    connection: Connection[int] = Connection(ConnectionLimits(max_in_flight=2))
    running: list[Job] = []
    asked: dict[str | None, list[str]] = {}
    ran: dict[str | None, list[str]] = {}

    def note(actions: list[Action]) -> None:
        for job in started(actions):
            assert job.lane not in [other.lane for other in running]
            running.append(job)
            ran.setdefault(job.lane, []).append((job.request.metadata or {})["n"])
        assert len(running) <= 2

    for number, (lane, finish) in enumerate(steps):
        note(connection.receive(create(lane, metadata={"n": str(number)})))
        asked.setdefault(lane, []).append(str(number))
        if finish and running:
            note(connection.finished(running.pop(0), DONE))
    while running:
        note(connection.finished(running.pop(0), DONE))
    assert asked == ran
