"""Places go round among connections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.session.fairness import FairGate


def test_one_request_does_not_wait_behind_sixteen() -> None:
    """Keys take turns, whoever came first and however many each has."""
    gate: FairGate[str, str] = FairGate(1)
    assert gate.enter("greedy", "g0")
    for number in range(1, 4):
        assert not gate.enter("greedy", f"g{number}")
    assert not gate.enter("modest", "m0")
    assert ["g1", "m0", "g2", "g3", None] == [gate.leave() for _ in range(5)]
    assert (0, 0) == (gate.num_inside, gate.num_waiting)


def test_who_gives_up_is_passed_over() -> None:
    """A waiter that withdrew gets no place; one that has a place cannot withdraw."""
    gate: FairGate[str, str] = FairGate(1)
    gate.enter("a", "a0")
    gate.enter("a", "a1")
    gate.enter("b", "b0")
    assert gate.withdraw("a", "a1")
    assert not gate.withdraw("a", "a0")
    assert "b0" == gate.leave()


def test_a_gate_has_a_place() -> None:
    """No places would mean nobody ever enters."""
    with pytest.raises(ValueError, match="at least one place"):
        FairGate(0)


@given(
    capacity=st.integers(1, 3),
    steps=st.lists(
        st.tuples(st.sampled_from(["enter", "leave", "withdraw"]), st.sampled_from("abc")),
        max_size=60,
    ),
)
def test_places_are_counted_and_keys_take_turns(
    capacity: int, steps: list[tuple[str, str]]
) -> None:
    """Never more inside than places, nobody lost, nobody waits while a place is free."""
    gate: FairGate[str, tuple[str, int]] = FairGate(capacity)
    inside: set[tuple[str, int]] = set()
    outside: list[tuple[str, int]] = []
    for number, (step, key) in enumerate(steps):
        waiter = (key, number)
        if step == "enter":
            if gate.enter(key, waiter):
                inside.add(waiter)
            else:
                outside.append(waiter)
        elif step == "leave" and inside:
            inside.pop()
            following = gate.leave()
            if following is not None:
                outside.remove(following)
                inside.add(following)
        elif step == "withdraw" and outside:
            gone = outside.pop(0)
            assert gate.withdraw(gone[0], gone)
        assert len(inside) == gate.num_inside <= capacity
        assert len(outside) == gate.num_waiting
        assert not outside or gate.num_inside == capacity
