"""A lane runs its requests one at a time, in order."""

from __future__ import annotations

import pytest

from turnwire.errors import InvalidTransition
from turnwire.session.lane import TRANSITIONS, Lane, Move, State

REACH: dict[State, list[Move]] = {
    State.IDLE: [],
    State.WAITING: [Move.SUBMIT],
    State.RUNNING: [Move.SUBMIT, Move.START],
    State.CLOSED: [Move.CLOSE],
}


def apply(lane: Lane[str], move: Move, request: str = "x") -> None:
    """Perform a move by name."""
    match move:
        case Move.SUBMIT:
            lane.submit(request)
        case Move.START:
            lane.start()
        case Move.FINISH:
            lane.finish()
        case Move.DROP:
            lane.drop()
        case Move.CLOSE:
            lane.close()


@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("state", State)
def test_every_pair_is_decided(state: State, move: Move) -> None:
    """Each (state, move) pair is in the table, or is refused and changes nothing."""
    lane: Lane[str] = Lane("a")
    for step in REACH[state]:
        apply(lane, step)
    assert state is lane.state
    before = (lane.running, list(lane.waiting))
    if (state, move) in TRANSITIONS:
        apply(lane, move)
    else:
        with pytest.raises(InvalidTransition):
            apply(lane, move)
        assert (state, before) == (lane.state, (lane.running, list(lane.waiting)))


def test_requests_run_in_the_order_they_came() -> None:
    """First in is first out, one at a time."""
    lane: Lane[str] = Lane(None)
    for request in "abc":
        lane.submit(request)
    order = []
    while lane.state is State.WAITING:
        order.append(lane.start())
        lane.finish()
    assert ["a", "b", "c"] == order
    assert State.IDLE is lane.state


def test_closing_drops_what_waits_and_names_what_runs() -> None:
    """A closed lane hands back its running request and forgets the others."""
    lane: Lane[str] = Lane("a")
    lane.submit("a")
    lane.submit("b")
    lane.start()
    assert lane.close() == "a"
    assert (None, 0, State.CLOSED) == (lane.running, len(lane.waiting), lane.state)


def test_dropping_leaves_what_runs() -> None:
    """What waits is handed back; the running request finishes as before."""
    lane: Lane[str] = Lane("a")
    for request in "abc":
        lane.submit(request)
    lane.start()
    assert ["b", "c"] == lane.drop()
    assert ("a", State.RUNNING) == (lane.running, lane.state)
    lane.finish()
    assert State.IDLE is lane.state
