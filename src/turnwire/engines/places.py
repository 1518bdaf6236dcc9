"""Which slot of a server serves a prompt: the one that holds most of it.

A server that keeps the last prompt of each slot computes only what differs from it. `Places`
remembers what each slot holds and who put it there, and decides for each generation:

* the slot where the least is computed and lost; where none has anything of use, the one that
  served the same session before, an empty one, and at last the one that has been idle longest;
* whether the server may use what it has cached. A server knows no owners, so as soon as two
  have been seen it may do so only in a slot that is known to hold the same owner's tokens, and
  enough of them that the server keeps the slot instead of searching its other caches.

A prompt that continues another shares links with it, which is seen at once; one that was built
anew (a client that resends its history) is compared id by id, at the speed of memory.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from turnwire.tokens import EMPTY, TokenArray, Tokens, token_array

__all__ = ["Choice", "Places"]

# llama-server searches its host memory for a better match where less than half of what a slot
# holds would be kept, or where what is kept is less than a tenth of the prompt.
_LEAST_KEPT = 0.5
_LEAST_FOUND = 0.1


class Choice(Struct, frozen=True):
    """Where a generation runs.

    Attributes:
        slot: Number of the slot, or -1 for whichever the server finds.
        cached: Whether the server may use what it has cached.
    """

    slot: int
    cached: bool


class _Place:
    """What is known of one slot."""

    __slots__ = ("busy", "flat", "prompt", "salt", "sampled", "session", "used")

    def __init__(self) -> None:
        self.busy = False
        self.used = 0  # when it was last given back, in generations
        self.forget()

    def forget(self) -> None:
        """Nothing is known any more."""
        self.hold(EMPTY, None, "")

    def hold(self, prompt: Tokens, salt: str | None, session: str) -> None:
        """It is about to have this prompt; `salt` is None if it was never used, or not by us."""
        self.prompt, self.salt, self.session = prompt, salt, session
        self.sampled: TokenArray = token_array()
        self.flat: TokenArray | None = None  # prompt and output, once that was asked for

    @property
    def num_held(self) -> int:
        return self.prompt.length + len(self.sampled)

    def num_equal(self, ids: TokenArray) -> int:
        """How many leading ids of a prompt it holds."""
        if self.flat is None:
            self.flat = self.prompt.to_array() + self.sampled
        return _num_equal(self.flat, ids)


class Places:
    """The slots of one server, all free at first."""

    def __init__(self, num_slots: int) -> None:
        self._places = [_Place() for _ in range(num_slots)]
        self._owner: str | None = None
        self._divided = False
        self._now = 0

    def take(self, prompt: Tokens, *, salt: str, session: str) -> Choice:
        """Choose a slot and hold it; pair it with `give_back`.

        None is free where a server came back with fewer; then it has the request wait.
        """
        if self._owner is None:
            self._owner = salt
        self._divided = self._divided or self._owner != salt
        free = [place for place in self._places if not place.busy]
        if not free:
            return Choice(-1, cached=False)
        place, num_shared = _best(free, prompt, salt, session)
        cached = not self._divided or (
            place.salt == salt
            and num_shared > _LEAST_FOUND * prompt.length
            and num_shared > _LEAST_KEPT * place.num_held
        )
        place.busy = True
        place.hold(prompt, salt, session)
        return Choice(self._places.index(place), cached)

    def give_back(self, slot: int, sampled: Sequence[int]) -> None:
        """Free a slot.

        Args:
            slot: As `take` chose it.
            sampled: Ids that the server added to the prompt there.
        """
        if not 0 <= slot < len(self._places):
            return
        place = self._places[slot]
        place.busy = False
        place.sampled = token_array(sampled)
        self._now += 1
        place.used = self._now

    def forget(self, num_slots: int) -> None:
        """The server was restarted: so many slots are empty, whoever used them."""
        del self._places[num_slots:]
        for place in self._places:
            place.forget()
        self._places += [_Place() for _ in range(num_slots - len(self._places))]


def _best(free: list[_Place], prompt: Tokens, salt: str, session: str) -> tuple[_Place, int]:
    """The place to take, and how much of the prompt it holds."""
    ours = [place for place in free if place.salt == salt]
    # Nearly always the first one looked at is the right one.
    ours.sort(key=lambda place: place.session != session)
    for place in ours:
        num_shared = prompt.num_shared(place.prompt)
        if 0 < num_shared == place.prompt.length:
            return place, num_shared
    best: tuple[_Place, int] | None = None
    least = prompt.length  # what would be computed in an empty slot, where nothing is lost
    flat = prompt.to_array() if ours else token_array()
    for place in ours:
        num_shared = place.num_equal(flat)
        cost = prompt.length + place.num_held - 2 * num_shared  # computed now, and lost
        if cost < least:
            best, least = (place, num_shared), cost
    if best is not None:
        return best
    if session and ours and ours[0].session == session:
        return ours[0], 0
    return min(free, key=lambda place: (place.salt is not None, place.used)), 0


def _num_equal(one: TokenArray, other: TokenArray) -> int:
    """The length of the common prefix, by halving: comparing slices is comparing memory."""
    left, right = memoryview(one).cast("B"), memoryview(other).cast("B")
    low, high = 0, min(len(one), len(other))
    size = one.itemsize
    while low < high:
        middle = (low + high + 1) // 2
        if left[low * size : middle * size] == right[low * size : middle * size]:
            low = middle
        else:
            high = middle - 1
    return low
