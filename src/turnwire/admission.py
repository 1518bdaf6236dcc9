"""Places at a model's engine, given out by turns of clients when all are taken.

The shell around `session.fairness`: here somebody waits. An engine of ours could queue requests
itself, but first come, first served lets one connection with sixteen lanes starve the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final

from turnwire.models.base import Model
from turnwire.session.fairness import FairGate

__all__ = ["Places", "Slots"]


class Places:
    """The places of one model."""

    def __init__(self, capacity: int) -> None:
        """Open so many places, at least one."""
        self._gate: Final[FairGate[Hashable, asyncio.Future[None]]] = FairGate(capacity)

    @property
    def num_waiting(self) -> int:
        """Turns that wait for a place."""
        return self._gate.num_waiting

    @asynccontextmanager
    async def hold(self, client: Hashable) -> AsyncIterator[None]:
        """Hold a place; wait for one first if all are taken.

        Args:
            client: Who wants it. Clients take turns, however many places each wants.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._gate.enter(client, waiter):
            try:
                await waiter
            except asyncio.CancelledError:
                if not self._gate.withdraw(client, waiter) and not waiter.cancelled():
                    self._leave()  # the place came just before we left
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        while (following := self._gate.leave()) is not None:
            if not following.done():
                following.set_result(None)
                return


class Slots:
    """The places of every model."""

    def __init__(self) -> None:
        self._places: Final[dict[str, Places]] = {}

    def of(self, model: Model) -> Places:
        """The places of a model: as many as its engine has slots."""
        places = self._places.get(model.name)
        if places is None:
            places = self._places[model.name] = Places(model.num_slots)
        return places
