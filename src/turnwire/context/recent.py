"""Contexts of stored responses that were used a moment ago.

A client that continues stored responses over HTTP would otherwise have its whole conversation
read and rendered from the store at every turn. Bounded; a miss only costs time. Whether the
response still exists is the store's to say: it does for sure in the epoch in which it was read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from msgspec import Struct

from turnwire.context.chain import Context
from turnwire.context.weights import Weights

__all__ = ["Kept", "Recent", "RecentContexts"]

T = TypeVar("T")

MAX_BYTES: Final = 268_435_456
"""Two thousand conversations of 64 KB of text; a few that fill the largest requests."""


class Recent(Generic[T]):
    """What was used last, by owner and id.

    Attributes:
        max_contexts: How many are held.
        max_bytes: What they hold together; the last one is held however large it is.
    """

    def __init__(
        self,
        max_contexts: int = 1024,
        max_bytes: int = MAX_BYTES,
        *,
        context_of: Callable[[T], Context | None],
    ) -> None:
        """Hold nothing yet.

        Args:
            max_contexts: How many to hold.
            max_bytes: What they may hold together.
            context_of: The context of what is put, which is most of what it holds.
        """
        self.max_contexts: Final = max_contexts
        self.max_bytes: Final = max_bytes
        self._context_of: Final = context_of
        self._weights: Final = Weights()
        self._known: OrderedDict[tuple[str, str], T] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        """About what is held."""
        return self._weights.num_bytes

    def put(self, owner: str, id_: str, known: T) -> None:
        """Remember something; what was unused for longest goes when there is too much."""
        context = self._context_of(known)
        if context is not None:
            self._weights.add(context)  # first: it may share all of what it replaces
        self.drop(owner, id_)
        self._known[owner, id_] = known
        while len(self._known) > self.max_contexts or (
            self._weights.num_bytes > self.max_bytes and len(self._known) > 1
        ):
            self._forget(self._known.popitem(last=False)[1])

    def get(self, owner: str, id_: str) -> T | None:
        """What was put, if it is still known."""
        known = self._known.get((owner, id_))
        if known is not None:
            self._known.move_to_end((owner, id_))
        return known

    def drop(self, owner: str, id_: str) -> None:
        """Forget it, because what it was made from was deleted."""
        known = self._known.pop((owner, id_), None)
        if known is not None:
            self._forget(known)

    def _forget(self, known: T) -> None:
        context = self._context_of(known)
        if context is not None:
            self._weights.remove(context)

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

    def __init__(self, max_contexts: int = 1024, max_bytes: int = MAX_BYTES) -> None:
        """Hold nothing yet; see `Recent`."""
        super().__init__(max_contexts, max_bytes, context_of=lambda kept: kept.context)
