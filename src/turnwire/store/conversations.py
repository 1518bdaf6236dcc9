"""The seam for conversations: named lists of items that responses and people add to.

A conversation belongs to an owner and lives until it is deleted. Its items have positions, which
grow and are never given twice. Whoever reads it learns where it stands (`edition`, `length`), and
may append on the condition that it still stands there; what a response adds is kept together
with the response's turn, or neither is (protocol.md section 13).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from msgspec import Struct

from turnwire.store.base import StoredTurn

__all__ = ["ConversationItem", "ConversationStore", "StoredConversation"]


class StoredConversation(Struct, frozen=True, kw_only=True):
    """A conversation without its items.

    Attributes:
        id: The conversation's id.
        owner: Who may see it.
        created_at: Unix seconds.
        metadata: JSON object.
        edition: How many items were deleted from it.
        length: Position of the newest item that was ever added; 0 if there was none.
        response: The response that was appended last, unless an item was deleted since.
        covered: What `length` was when a response was appended last: items up to there are
            its context, those after it were added by hand.
    """

    id: str
    owner: str
    created_at: int
    metadata: bytes = b"{}"
    edition: int = 0
    length: int = 0
    response: str | None = None
    covered: int = 0


class ConversationItem(Struct, frozen=True, kw_only=True):
    """One item.

    Attributes:
        id: Unique in its conversation.
        body: The item as JSON, with its id; reasoning with its sealed text.
        tokens: What rendering it token-exactly needs; opaque here, may be empty.
        position: Its place; the store gives it, whatever was said when the item was added.
    """

    id: str
    body: bytes
    tokens: bytes = b""
    position: int = 0


class ConversationStore(Protocol):
    """Keeps conversations by owner. Contract suite: `tests/contracts/conversations.py`.

    Another owner's conversation behaves in every method like one that does not exist. Every
    method may raise StoreError, and does so once the store was closed. What a method changed is
    readable when it returns, and survives a kill of this process.
    """

    async def add(
        self, conversation: StoredConversation, items: Sequence[ConversationItem]
    ) -> None:
        """Keep a new conversation; where it stands follows from its items.

        Raises:
            StoreError: it could not be kept, its id is taken, or an item's is given twice.
        """
        ...

    async def get(self, owner: str, conversation_id: str) -> StoredConversation | None:
        """Return the conversation, or None if there is none."""
        ...

    async def set_metadata(self, owner: str, conversation_id: str, metadata: bytes) -> bool:
        """Replace the metadata; return whether there is such a conversation."""
        ...

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """Remove the conversation and its items; return whether there was one to remove."""
        ...

    async def append(
        self, owner: str, conversation_id: str, items: Sequence[ConversationItem]
    ) -> bool:
        """Add items that no response made; return whether there is such a conversation.

        Raises:
            ItemIdTaken: one of them has the id of another; none was added.
        """
        ...

    async def append_turn(
        self,
        base: StoredConversation,
        items: Sequence[ConversationItem],
        turn: StoredTurn,
        *,
        begun: bool = False,
    ) -> bool:
        """Keep a response's turn and add what it brought, both or neither.

        Args:
            base: The conversation as it was read when the response began.
            items: Input and output, in order; may be empty.
            turn: As for `Store.put`.
            begun: The turn was begun (`Store.begin`) and is finished here, as `Store.finish`
                does. If it was deleted meanwhile, its items are added all the same.

        Returns:
            Whether there still is such a conversation. If it was deleted meanwhile, the turn
            alone was kept, as if the deletion had come a moment later.

        Raises:
            ConversationChanged: it does not stand where `base` says.
            ParentNotKept, StoreError: as `Store.put`.
            ItemIdTaken: as `append`.
        """
        ...

    async def items(
        self,
        owner: str,
        conversation_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> list[ConversationItem] | None:
        """Return items in order of position; None as `get` does.

        Args:
            after: Only those that follow this position in the chosen order.
            limit: At most so many.
            descending: Newest first.
        """
        ...

    async def item(self, owner: str, conversation_id: str, item_id: str) -> ConversationItem | None:
        """Return one item, or None if there is no such item or conversation."""
        ...

    async def taken(self, owner: str, conversation_id: str, item_ids: Collection[str]) -> set[str]:
        """Return which of these ids items of the conversation have."""
        ...

    async def delete_item(self, owner: str, conversation_id: str, item_id: str) -> bool:
        """Remove an item; return whether there was one to remove."""
        ...
