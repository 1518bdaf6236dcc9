"""A connection decides what runs when, and answers what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.session.actions import Action, Cancel, Job, Send, Start
from turnwire.session.connection import Connection, ConnectionLimits


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
    [second] = started(connection.finished(first, failed=False))
    assert second.request.metadata == {"n": "2"}


def test_lanes_run_side_by_side_up_to_the_limit() -> None:
    """The request over the limit waits until a place is free."""
    connection: Connection[str] = Connection(ConnectionLimits(max_in_flight=2))
    [one] = started(connection.receive(create("a")))
    [_] = started(connection.receive(create("b")))
    assert [] == connection.receive(create("c"))
    assert ["c"] == [job.lane for job in started(connection.finished(one, failed=False))]


def test_waiting_lanes_start_by_the_arrival_of_their_heads() -> None:
    """A lane that was busy keeps the place its next request had when it arrived."""
    connection: Connection[str] = Connection(ConnectionLimits(max_in_flight=1))
    [one] = started(connection.receive(create("a")))
    connection.receive(create("a"))
    connection.receive(create("b"))
    [two] = started(connection.finished(one, failed=False))
    [three] = started(connection.finished(two, failed=False))
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
    connection.remember(job, "r1", "context")
    connection.finished(job, failed=False)
    [fork] = started(connection.receive(create("b", "r1")))
    assert connection.parent(fork) == "context"
    connection.finished(fork, failed=True)
    [again] = started(connection.receive(create("a", "r1")))
    assert connection.parent(again) == "context"
    connection.finished(again, failed=True)
    [last] = started(connection.receive(create("a", "r1")))
    assert connection.parent(last) is None


def test_cancel_stops_the_running_response_by_id_or_lane() -> None:
    """A cancel names a response or a lane; for one that is over it does nothing."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create("a")))
    by_id = json.dumps({"type": "response.cancel", "response_id": job.response_id}).encode()
    assert [Cancel(job)] == connection.receive(by_id)
    assert [Cancel(job)] == connection.receive(b'{"type":"response.cancel","stream_id":"a"}')
    assert [] == connection.receive(b'{"type":"response.cancel"}')
    connection.finished(job, failed=False)
    assert [] == connection.receive(by_id)


def test_disconnect_cancels_what_runs_and_forgets_the_rest() -> None:
    """After the socket is gone nothing starts any more."""
    connection: Connection[str] = Connection()
    [job] = started(connection.receive(create("a")))
    connection.receive(create("a"))
    assert [Cancel(job, gone=True)] == connection.disconnect()
    assert [] == connection.disconnect()
    assert [] == connection.finished(job, failed=True)
    assert (0, 0) == (connection.num_in_flight, connection.num_queued)


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
            note(connection.finished(running.pop(0), failed=False))
    while running:
        note(connection.finished(running.pop(0), failed=False))
    assert asked == ran
