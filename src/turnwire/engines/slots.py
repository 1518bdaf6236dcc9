"""Who runs and who waits: a bounded number of places, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque

from turnwire.errors import EngineUnavailable

__all__ = ["Slots"]


class Slots:
    """Places to run in, and places to wait in. For one event loop.

    Attributes:
        num_running: Slots taken.
    """

    def __init__(self, num_slots: int, max_waiting: int) -> None:
        """Make free slots.

        Args:
            num_slots: Most that run at the same time, at least 1.
            max_waiting: Most that wait for a slot; further ones are refused.
        """
        self._num_slots = num_slots
        self._max_waiting = max_waiting
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._closed = False
        self.num_running = 0

    @property
    def num_waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    def check(self) -> None:
        """Raise what `acquire` would raise at once.

        Raises:
            EngineUnavailable: every slot and every waiting place is taken, or closed.
        """
        if self._closed:
            raise EngineUnavailable("the engine is closed")
        if self.num_running >= self._num_slots and self.num_waiting >= self._max_waiting:
            raise EngineUnavailable(
                f"the engine is full: {self.num_running} running, {self.num_waiting} waiting"
            )

    async def acquire(self) -> None:
        """Take a slot, waiting for it behind those who came before; pair it with `release`.

        Cancellation leaves the slot, or the place in the queue, to whoever is next.

        Raises:
            EngineUnavailable: as for `check`; also when closed while waiting.
        """
        self.check()
        if self.num_running < self._num_slots:
            self.num_running += 1
            return
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            granted = await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.result():
                self.release()  # it was granted in the same step in which we were cancelled
            raise
        if not granted:
            raise EngineUnavailable("the engine was closed")

    def release(self) -> None:
        """Give a slot back; the longest waiting has it from now on."""
        self.num_running -= 1
        self._fill()

    def resize(self, num_slots: int) -> None:
        """Have another number of slots; those that are taken beyond it are given back in time."""
        self._num_slots = num_slots
        self._fill()

    def _fill(self) -> None:
        """Give what is free to whoever has waited longest."""
        while self._waiting and self.num_running < self._num_slots:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                self.num_running += 1

    def close(self) -> None:
        """Refuse whoever waits or comes; slots that are taken are still to be released."""
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(False)
