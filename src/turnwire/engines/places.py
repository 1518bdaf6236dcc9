"""Which slot of a server serves a prompt: the one that holds most of it.

A server that keeps the last prompt of each slot computes only what differs from it. `Places`
remembers what each slot holds and who put it there, and decides for each generation:

* the slot where the least is computed and lost; where none has anything of use, the one that
  served the same session before, an empty one, and at last the one that has been idle longest;
* whether the server may use what it has cached. A server knows no owners, so as soon as two
  have been seen it may do so only in a slot that is known to hold the same owner's tokens, and
  enough of them that the server keeps the slot instead of searching its other caches.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from msgspec import Struct

from turnwire.tokens import EMPTY, Tokens

__all__ = ["Choice", "Places"]

# llama-server searches its host memory for a better match where less than half of what a slot
# holds would be kept, or where what is kept is less than a tenth of the prompt.
_LEAST_KEPT = 0.5
_LEAST_FOUND = 0.1


class Choice(Struct, frozen=True):
    """Where a generation runs.

    Attributes:
        slot: Number of the slot.
        cached: Whether the server may use what it has cached.
    """

    slot: int
    cached: bool


class _Place:
    """What is known of one slot."""

    __slots__ = ("busy", "held", "num_held", "salt", "session", "used")

    def __init__(self) -> None:
        self.forget()
        self.busy = False
        self.used = 0  # when it was last given back, in generations

    def forget(self) -> None:
        """Nothing is known any more."""
        self.held: Tokens = EMPTY
        self.num_held = 0
        self.salt: str | None = None  # None: never used, or not by us
        self.session = ""


class Places:
    """The slots of one server, all free at first."""

    def __init__(self, num_slots: int) -> None:
        self._places = [_Place() for _ in range(num_slots)]
        self._owner: str | None = None
        self._divided = False
        self._now = 0

    def take(self, prompt: Tokens, *, salt: str, session: str) -> Choice:
        """Choose a slot and hold it; pair it with `give_back`.

        Raises:
            ValueError: none is free.
        """
        free = [place for place in self._places if not place.busy]
        if not free:
            raise ValueError("no slot is free")
        self._now += 1
        if self._owner is None:
            self._owner = salt
        self._divided = self._divided or self._owner != salt
        place, num_shared = self._best(free, prompt, salt, session)
        cached = not self._divided or (
            place.salt == salt
            and num_shared > _LEAST_FOUND * prompt.length
            and num_shared > _LEAST_KEPT * place.num_held
        )
        place.busy = True
        place.salt, place.session, place.held, place.num_held = salt, session, prompt, prompt.length
        return Choice(self._places.index(place), cached)

    def give_back(self, slot: int, num_sampled: int) -> None:
        """Free a slot.

        Args:
            slot: As `take` chose it.
            num_sampled: Ids that the server added to the prompt there.
        """
        place = self._places[slot]
        place.busy = False
        place.num_held += num_sampled
        place.used = self._now

    def forget(self) -> None:
        """The server was restarted: its slots are empty, whoever used them."""
        for place in self._places:
            place.forget()

    def _best(
        self, free: list[_Place], prompt: Tokens, salt: str, session: str
    ) -> tuple[_Place, int]:
        ours = [place for place in free if place.salt == salt]
        if session:
            # Nearly always the first one looked at is the right one.
            ours.sort(key=lambda place: place.session != session)
        best: tuple[_Place, int] | None = None
        least = prompt.length  # computed in an empty slot, where nothing is lost
        for place in ours:
            num_shared = prompt.num_shared(place.held)
            if 0 < num_shared == place.held.length:
                return place, num_shared
            cost = prompt.length + place.num_held - 2 * num_shared  # computed now, and lost
            if cost < least:
                best, least = (place, num_shared), cost
        if best is not None:
            return best
        if session and ours and ours[0].session == session:
            return ours[0], 0
        return min(free, key=lambda place: (place.salt is not None, place.used)), 0
