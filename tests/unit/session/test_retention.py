"""Background responses stay in memory while they run, and for a time after."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from turnwire.errors import Overloaded
from turnwire.session.retention import Retention

KEEP = 600.0


def retention(max_running: int = 10, max_bytes: int = 100) -> Retention[str]:
    return Retention(max_running=max_running, max_bytes=max_bytes, keep_sec=KEEP)


def test_found_by_its_owner() -> None:
    """What is held is found by its owner, running or ended, and by nobody else."""
    held = retention()
    held.admit("ann", "r1", "one")
    assert ("one", None, None) == (
        held.find("ann", "r1"),
        held.find("bob", "r1"),
        held.find("ann", "r2"),
    )
    held.end("r1", 0.0, expendable=True)
    assert ("one", None) == (held.find("ann", "r1"), held.find("bob", "r1"))


def test_ended_ones_stay_their_time() -> None:
    """An ended response is held for `keep_sec`, a running one for ever."""
    held = retention()
    for name in ("r1", "r2", "r3"):
        held.admit("ann", name, name)
    held.end("r2", 10.0, expendable=False)
    held.end("r1", 20.0, expendable=True)
    held.expire(KEEP + 9.9)
    assert 3 == len(held)
    held.expire(KEEP + 10.0)
    assert ["r1", None, "r3"] == [held.find("ann", name) for name in ("r1", "r2", "r3")]
    held.expire(10 * KEEP)
    assert [None, None, "r3"] == [held.find("ann", name) for name in ("r1", "r2", "r3")]


def test_too_many_run() -> None:
    """Above the number that may run a new one is refused, until one ends."""
    held = retention(max_running=1)
    held.admit("ann", "r1", "one")
    with pytest.raises(Overloaded, match="1 background responses run"):
        held.admit("bob", "r2", "two")
    held.end("r1", 0.0, expendable=False)
    held.admit("bob", "r2", "two")
    assert (1, 2) == (held.num_running, len(held))


def test_memory_is_made_by_what_can_be_read_elsewhere() -> None:
    """When memory is full, ended responses that are stored go first, oldest first."""
    held = retention()
    for name, size in (("r1", 40), ("r2", 40), ("r3", 40)):
        held.admit("ann", name, name)
        held.resize(name, size)
    held.end("r2", 0.0, expendable=False)
    held.end("r3", 1.0, expendable=True)
    held.end("r1", 2.0, expendable=True)
    held.admit("ann", "r4", "r4")
    assert ["r1", "r2", None, "r4"] == [held.find("ann", f"r{n}") for n in (1, 2, 3, 4)]
    assert 80 == held.num_bytes


def test_full_of_what_must_stay() -> None:
    """When memory is full of what runs and of what is held nowhere else, new ones are refused."""
    held = retention()
    held.admit("ann", "r1", "one")
    held.admit("ann", "r2", "two")
    held.resize("r1", 60)
    held.resize("r2", 60)
    held.end("r2", 0.0, expendable=False)
    with pytest.raises(Overloaded, match="memory") as caught:
        held.admit("ann", "r3", "three")
    assert caught.value.retry_after_sec == 5
    assert 2 == len(held)


def test_sizes_follow() -> None:
    """The sum is right whatever grows, shrinks or goes; what is not held has no size."""
    held = retention()
    held.admit("ann", "r1", "one")
    held.resize("r1", 70)
    held.resize("r1", 30)
    held.resize("r9", 99)
    assert 30 == held.num_bytes
    assert held.drop("r1")
    assert not held.drop("r1")
    assert (0, 0, 0) == (held.num_bytes, held.num_running, len(held))


NAMES = st.sampled_from("abcdef")


class RetentionMachine(RuleBasedStateMachine):
    """Random calls against a list of what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.held = retention(max_running=3, max_bytes=50)
        self.now = 0.0
        self.running: dict[str, int] = {}
        self.ended: list[tuple[str, int, float, bool]] = []

    def knows(self, name: str) -> bool:
        return name in self.running or any(name == one[0] for one in self.ended)

    def num_bytes(self) -> int:
        return sum(self.running.values()) + sum(one[1] for one in self.ended)

    @rule(name=NAMES)
    def admit(self, name: str) -> None:
        if self.knows(name):
            return  # ids are never used twice
        refused = len(self.running) == 3
        if not refused:
            while self.num_bytes() >= 50 and any(one[3] for one in self.ended):
                self.ended.remove(next(one for one in self.ended if one[3]))
            refused = self.num_bytes() >= 50
        if refused:
            with pytest.raises(Overloaded):
                self.held.admit("ann", name, name)
        else:
            self.held.admit("ann", name, name)
            self.running[name] = 0

    @precondition(lambda self: self.running)
    @rule(data=st.data(), size=st.integers(0, 40))
    def grow(self, data: st.DataObject, size: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        self.held.resize(name, size)
        self.running[name] = size

    @precondition(lambda self: self.running)
    @rule(data=st.data(), expendable=st.booleans())
    def end(self, data: st.DataObject, expendable: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        self.held.end(name, self.now, expendable=expendable)
        self.ended.append((name, self.running.pop(name), self.now, expendable))

    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        assert self.knows(name) is self.held.drop(name)
        self.running.pop(name, None)
        self.ended = [one for one in self.ended if one[0] != name]

    @rule(sec=st.sampled_from([1.0, 300.0, 601.0]))
    def wait(self, sec: float) -> None:
        self.now += sec
        self.held.expire(self.now)
        self.ended = [one for one in self.ended if one[2] + KEEP > self.now]

    @invariant()
    def agrees(self) -> None:
        for name in "abcdef":
            assert (name if self.knows(name) else None) == self.held.find("ann", name)
        assert self.num_bytes() == self.held.num_bytes
        assert len(self.running) == self.held.num_running
        assert len(self.running) + len(self.ended) == len(self.held)


TestRetentionMachine = RetentionMachine.TestCase
TestRetentionMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
