"""What runs now, over all transports: how much of it there may be, and how to end it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from turnwire.errors import Overloaded, TooManyRequests, WireError
from turnwire.order import Order
from turnwire.telemetry.metrics import Metrics

__all__ = ["Entry", "Running"]


class Entry(Struct, eq=False):
    """One order that runs.

    Attributes:
        status: How it ended, as far as is known, for the metrics.
    """

    status: str = "refused"


class Running:
    """The orders that run, each in a task of its own.

    Attributes:
        max_in_flight: Orders that run at the same time; further ones are refused.
        max_in_flight_per_owner: Of those, of one owner; 0 for no such limit.
    """

    def __init__(self, metrics: Metrics, max_in_flight: int, max_in_flight_per_owner: int) -> None:
        self.max_in_flight: Final = max_in_flight
        self.max_in_flight_per_owner: Final = max_in_flight_per_owner
        self._metrics: Final = metrics
        self._num_of: Final[Counter[str]] = Counter()
        self._tasks: Final[dict[Order, asyncio.Task[object] | None]] = {}

    @contextmanager
    def enter(self, order: Order) -> Iterator[Entry]:
        """Run an order in the current task, for the length of a `with` block.

        Raises:
            Overloaded: the server has as much to do as it may.
            TooManyRequests: the owner has.
        """
        owner = order.owner
        self._admit(owner)
        self._num_of[owner] += 1
        self._tasks[order] = asyncio.current_task()
        self._metrics.responses_in_flight.inc()
        entry = Entry()
        try:
            yield entry
        finally:
            del self._tasks[order]
            self._num_of[owner] -= 1
            if not self._num_of[owner]:
                del self._num_of[owner]
            self._metrics.responses_in_flight.dec()
            self._metrics.response_ended(entry.status, order.transport)
            self._metrics.observe_turn(order.clock, order.transport)

    def _admit(self, owner: str) -> None:
        if len(self._tasks) >= self.max_in_flight:
            raise Overloaded(
                f"{len(self._tasks)} responses run already, the limit of this server.",
                retry_after_sec=1,
            )
        if 0 < self.max_in_flight_per_owner <= self._num_of[owner]:
            raise TooManyRequests(
                f"{self._num_of[owner]} of your responses run already, the limit for each "
                "account on this server. Wait until one has ended.",
                retry_after_sec=1,
            )

    def __len__(self) -> int:
        return len(self._tasks)

    def num_of(self, owner: str) -> int:
        """How many are of one owner."""
        return self._num_of.get(owner, 0)

    def orders(self) -> list[Order]:
        """The orders."""
        return list(self._tasks)

    def tasks(self) -> list[asyncio.Task[object]]:
        """The tasks that they run in."""
        return [task for task in self._tasks.values() if task is not None]

    def stop_all(self, error: WireError) -> None:
        """End them all, but for those that are ending; each tells its client this error."""
        for order, task in self._tasks.items():
            if task is not None and not order.is_ending:
                order.stopped_by = error
                task.cancel()
