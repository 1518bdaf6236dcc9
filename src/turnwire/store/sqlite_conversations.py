"""Conversations in the SQLite file of a `SqliteStore`: the shell around `conversation_tables`.

Writes go through the store's queue, so that they share commits with its turns; reads run on its
threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from msgspec.json import encode

from turnwire.store.base import StoredTurn
from turnwire.store.conversation_tables import (
    CONVERSATION_SQL,
    ConversationWrite,
    DropConversation,
    DropItem,
    KeepConversation,
    KeepItems,
    KeepMetadata,
    to_conversation,
    to_item,
)
from turnwire.store.conversations import ConversationItem, StoredConversation

__all__ = ["SqliteConversations"]

Rows = Callable[[str, dict[str, object]], Awaitable[list[tuple[Any, ...]]]]
MAX_POSITION: Final = 2**63 - 1


class SqliteConversations:
    """A `ConversationStore` in a file; it lives and ends with the `SqliteStore` that made it.

    Args:
        write: Has a write committed; returns its outcome or raises it.
        rows: Runs a statement that reads.
    """

    def __init__(self, write: Callable[[ConversationWrite], Awaitable[bool]], rows: Rows) -> None:
        self._write: Final = write
        self._rows: Final = rows

    async def add(
        self, conversation: StoredConversation, items: Sequence[ConversationItem]
    ) -> None:
        """See `ConversationStore.add`."""
        await self._write(KeepConversation(conversation, items))

    async def get(self, owner: str, conversation_id: str) -> StoredConversation | None:
        """See `ConversationStore.get`."""
        which: dict[str, object] = {"owner": owner, "id": conversation_id}
        rows = await self._rows(CONVERSATION_SQL["find"], which)
        return to_conversation(rows[0][1:]) if rows else None

    async def set_metadata(self, owner: str, conversation_id: str, metadata: bytes) -> bool:
        """See `ConversationStore.set_metadata`."""
        if not _is_text(conversation_id):
            return False
        return await self._write(KeepMetadata(owner, conversation_id, metadata))

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """See `ConversationStore.delete`."""
        if not _is_text(conversation_id):
            return False
        return await self._write(DropConversation(owner, conversation_id))

    async def append(
        self, owner: str, conversation_id: str, items: Sequence[ConversationItem]
    ) -> bool:
        """See `ConversationStore.append`."""
        if not _is_text(conversation_id):
            return False
        return await self._write(KeepItems(owner, conversation_id, items))

    async def append_turn(
        self,
        base: StoredConversation,
        items: Sequence[ConversationItem],
        turn: StoredTurn,
        *,
        begun: bool = False,
    ) -> bool:
        """See `ConversationStore.append_turn`."""
        return await self._write(KeepItems(base.owner, base.id, items, base, turn, begun))

    async def items(
        self,
        owner: str,
        conversation_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> list[ConversationItem] | None:
        """See `ConversationStore.items`."""
        start = MAX_POSITION if descending else 0
        which: dict[str, object] = {
            "owner": owner,
            "id": conversation_id,
            "after": start if after is None else after,
            "limit": -1 if limit is None else limit,
        }
        name = "items_descending" if descending else "items_ascending"
        rows = await self._rows(CONVERSATION_SQL[name], which)
        if not rows:
            return None
        return [to_item(row) for row in rows if row[0] is not None]

    async def item(self, owner: str, conversation_id: str, item_id: str) -> ConversationItem | None:
        """See `ConversationStore.item`."""
        which: dict[str, object] = {"owner": owner, "id": conversation_id, "item": item_id}
        rows = await self._rows(CONVERSATION_SQL["item"], which)
        return to_item(rows[0]) if rows else None

    async def taken(self, owner: str, conversation_id: str, item_ids: Collection[str]) -> set[str]:
        """See `ConversationStore.taken`."""
        asked = encode([item_id for item_id in item_ids if _is_text(item_id)]).decode()
        which: dict[str, object] = {"owner": owner, "id": conversation_id, "items": asked}
        rows = await self._rows(CONVERSATION_SQL["taken"], which)
        # SQLite's JSON ends a text at its first NUL and then finds another id.
        return {row[0] for row in rows}.intersection(item_ids)

    async def delete_item(self, owner: str, conversation_id: str, item_id: str) -> bool:
        """See `ConversationStore.delete_item`."""
        if not (_is_text(conversation_id) and _is_text(item_id)):
            return False
        return await self._write(DropItem(owner, conversation_id, item_id))


def _is_text(given: str) -> bool:
    """Whether SQLite can hold it: not half of a surrogate pair, from a client's JSON."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True
