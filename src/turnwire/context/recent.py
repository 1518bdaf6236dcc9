"""Contexts of stored responses that were used a moment ago.

A client that continues stored responses over HTTP would otherwise have its whole conversation
read and rendered from the store at every turn. Bounded; a miss only costs time. Whether the
response still exists is the store's to say, so a caller asks there first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from turnwire.context.chain import Context

__all__ = ["RecentContexts"]


class RecentContexts:
    """The contexts used last, by owner and response id."""

    def __init__(self, max_contexts: int = 1024) -> None:
        self.max_contexts: Final = max_contexts
        self._known: OrderedDict[tuple[str, str], Context] = OrderedDict()

    def put(self, owner: str, response_id: str, context: Context) -> None:
        """Remember a context; the one unused for longest goes when there are too many."""
        self._known[owner, response_id] = context
        self._known.move_to_end((owner, response_id))
        if len(self._known) > self.max_contexts:
            self._known.popitem(last=False)

    def get(self, owner: str, response_id: str) -> Context | None:
        """The context, if it is still known."""
        context = self._known.get((owner, response_id))
        if context is not None:
            self._known.move_to_end((owner, response_id))
        return context

    def drop(self, owner: str, response_id: str) -> None:
        """Forget a context, because its response was deleted."""
        self._known.pop((owner, response_id), None)

    def __len__(self) -> int:
        return len(self._known)
