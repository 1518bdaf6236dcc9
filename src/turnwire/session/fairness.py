"""Who gets the next free slot of an engine, when more want one than there are?

Every connection gets its turn before any gets a second: a connection that starts sixteen lanes
at once waits behind one that asks for a single answer. Decides only; whoever waits does so
outside.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["FairGate"]

K = TypeVar("K", bound=Hashable)
W = TypeVar("W")


class FairGate(Generic[K, W]):
    """Counts places; lets waiters in by turns of their keys.

    Attributes:
        capacity: Places there are.
        num_inside: Places that are taken.
    """

    __slots__ = ("_waiting", "capacity", "num_inside")

    def __init__(self, capacity: int) -> None:
        """Open a gate with so many places, at least one."""
        if capacity < 1:
            raise ValueError("a gate needs at least one place")
        self.capacity: Final = capacity
        self.num_inside = 0
        # The key whose turn is next comes first.
        self._waiting: OrderedDict[K, deque[W]] = OrderedDict()

    @property
    def num_waiting(self) -> int:
        """Waiters outside."""
        return sum(map(len, self._waiting.values()))

    def try_enter(self) -> bool:
        """Take a place if one is free; nobody waits while one is."""
        if self.num_inside < self.capacity:
            self.num_inside += 1
            return True
        return False

    def enter(self, key: K, waiter: W) -> bool:
        """Take a place now, or queue the waiter under its key; return whether it is inside."""
        if self.try_enter():
            return True
        self._waiting.setdefault(key, deque()).append(waiter)
        return False

    def leave(self) -> W | None:
        """Give a place back; return the waiter that has it now, if one was waiting."""
        if not self._waiting:
            self.num_inside -= 1
            return None
        key, queue = self._waiting.popitem(last=False)
        waiter = queue.popleft()
        if queue:
            self._waiting[key] = queue  # behind all other keys
        return waiter

    def withdraw(self, key: K, waiter: W) -> bool:
        """A waiter gave up; return whether it was still waiting (else it has a place)."""
        queue = self._waiting.get(key)
        if queue is None or waiter not in queue:
            return False
        queue.remove(waiter)
        if not queue:
            del self._waiting[key]
        return True
