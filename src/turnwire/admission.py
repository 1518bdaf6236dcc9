"""Places at a model's engine, given out by turns of clients when all are taken.

The shell around `session.fairness`: here somebody waits. An engine of ours could queue requests
itself, but first come, first served lets one connection with sixteen lanes starve the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

from turnwire.models.registry import Offer
from turnwire.session.fairness import FairGate

__all__ = ["Hold", "Places", "Slots"]


class Places:
    """The places of one model."""

    def __init__(self, capacity: int) -> None:
        """Open so many places, at least one."""
        self._gate: Final[FairGate[Hashable, asyncio.Future[None]]] = FairGate(capacity)

    @property
    def num_waiting(self) -> int:
        """Turns that wait for a place."""
        return self._gate.num_waiting

    def hold(self, client: Hashable) -> Hold:
        """A place, as an async context manager; entering waits if all are taken.

        Args:
            client: Who wants it. Clients take turns, however many places each wants.
        """
        return Hold(self, client)

    async def enter(self, client: Hashable) -> None:
        """Take a place; `leave` gives it back."""
        if self._gate.try_enter():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gate.enter(client, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not self._gate.withdraw(client, waiter) and not waiter.cancelled():
                self.leave()  # the place came just before we left
            raise

    def leave(self) -> None:
        """Give a place back, to a waiter that is still there."""
        while (following := self._gate.leave()) is not None:
            if not following.done():
                following.set_result(None)
                return


class Hold:
    """A place for the length of an `async with` block."""

    __slots__ = ("_client", "_places")

    def __init__(self, places: Places, client: Hashable) -> None:
        self._places: Final = places
        self._client: Final = client

    async def __aenter__(self) -> None:
        await self._places.enter(self._client)

    async def __aexit__(self, *failure: object) -> None:
        self._places.leave()


class Slots:
    """The places of every model."""

    def __init__(self) -> None:
        self._places: Final[dict[str, Places]] = {}

    def of(self, offer: Offer) -> Places:
        """The places of a model: as many as its engine has slots, or fewer if so configured."""
        name = offer.model.name
        places = self._places.get(name)
        if places is None:
            places = self._places[name] = Places(offer.num_places)
        return places
