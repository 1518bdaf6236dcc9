"""One alone, or any number together, and nobody waits."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.conversations.locks import Locks
from turnwire.errors import ConversationLocked


def take(
    locks: Locks, how: str, who: tuple[str, str] = ("me", "conv_x")
) -> AbstractContextManager[None]:
    return locks.exclusive(*who) if how == "exclusive" else locks.shared(*who)


@pytest.mark.parametrize("second", ["exclusive", "shared"])
@pytest.mark.parametrize("first", ["exclusive", "shared"])
def test_two(first: str, second: str) -> None:
    """Only those who share are at a conversation together; who is refused changes nothing."""
    locks = Locks()
    together = first == second == "shared"
    with take(locks, first):
        if together:
            with take(locks, second):
                pass
        else:
            with pytest.raises(ConversationLocked, match="conv_x"), take(locks, second):
                pass
        assert 1 == len(locks)
    assert 0 == len(locks)
    with take(locks, second):
        pass


@pytest.mark.parametrize("other", [("you", "conv_x"), ("me", "conv_y")])
def test_others_are_not_in_the_way(other: tuple[str, str]) -> None:
    """Locks are by owner and conversation."""
    locks = Locks()
    with take(locks, "exclusive"), take(locks, "exclusive", other):
        assert 2 == len(locks)


@pytest.mark.parametrize("how", ["exclusive", "shared"])
def test_a_fault_inside(how: str) -> None:
    """Whatever happens inside, the conversation is free afterwards."""
    locks = Locks()
    with pytest.raises(ValueError, match="oops"), take(locks, how):
        raise ValueError("oops")
    assert 0 == len(locks)


@given(st.lists(st.sampled_from(["exclusive", "shared", "leave"])))
def test_any_sequence(steps: list[str]) -> None:
    """Against a plain model: a list of who is there."""
    locks = Locks()
    there: list[tuple[str, ExitStack]] = []
    for step in steps:
        if step == "leave":
            if there:
                there.pop(0)[1].close()
            continue
        free = not there if step == "exclusive" else all(how == "shared" for how, _ in there)
        stack = ExitStack()
        if free:
            stack.enter_context(take(locks, step))
            there.append((step, stack))
        else:
            with pytest.raises(ConversationLocked):
                stack.enter_context(take(locks, step))
        assert bool(there) == bool(len(locks))
