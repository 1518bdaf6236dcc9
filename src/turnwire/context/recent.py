"""Contexts of stored responses that were used a moment ago.

A client that continues stored responses over HTTP would otherwise have its whole conversation
read and rendered from the store at every turn. Bounded; a miss only costs time. Whether the
response still exists is the store's to say: it does for sure in the epoch in which it was read.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from msgspec import Struct

from turnwire.context.chain import Context

__all__ = ["Kept", "Recent", "RecentContexts"]

T = TypeVar("T")


class Recent(Generic[T]):
    """What was used last, by owner and id."""

    def __init__(self, max_contexts: int = 1024) -> None:
        self.max_contexts: Final = max_contexts
        self._known: OrderedDict[tuple[str, str], T] = OrderedDict()

    def put(self, owner: str, id_: str, known: T) -> None:
        """Remember something; what was unused for longest goes when there is too much."""
        self._known[owner, id_] = known
        self._known.move_to_end((owner, id_))
        if len(self._known) > self.max_contexts:
            self._known.popitem(last=False)

    def get(self, owner: str, id_: str) -> T | None:
        """What was put, if it is still known."""
        known = self._known.get((owner, id_))
        if known is not None:
            self._known.move_to_end((owner, id_))
        return known

    def drop(self, owner: str, id_: str) -> None:
        """Forget it, because what it was made from was deleted."""
        self._known.pop((owner, id_), None)

    def __len__(self) -> int:
        return len(self._known)


class Kept(Struct, frozen=True, eq=False):
    """The context of a stored response.

    Attributes:
        context: It, and all before it.
        epoch: Of the store (`Store.epoch`), read before the response was seen to be there.
    """

    context: Context
    epoch: bytes


class RecentContexts(Recent[Kept]):
    """The contexts of the responses used last."""
