"""Conversations in this process's memory: for tests, and for servers that keep nothing on disk.

Bounded: `max_conversations`, and `max_items` in all of them. When there is no room the
conversation that was changed longest ago goes, but never the one that is being changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Final

from msgspec import structs

from turnwire.errors import ConversationChanged, ItemIdTaken, StoreError
from turnwire.store.base import StoredTurn
from turnwire.store.conversations import ConversationItem, StoredConversation

__all__ = ["MAX_CONVERSATIONS", "MAX_CONVERSATION_ITEMS", "MemoryConversations"]

MAX_CONVERSATIONS: Final = 10_000
"""As many as responses."""

MAX_CONVERSATION_ITEMS: Final = 200_000
"""At some 2 KB an item (body, token ids) about 400 MB."""


class _Held:
    """One conversation and its items by id, oldest first."""

    __slots__ = ("conversation", "items")

    def __init__(self, conversation: StoredConversation) -> None:
        self.conversation = conversation
        self.items: dict[str, ConversationItem] = {}


class MemoryConversations:
    """A `ConversationStore` that forgets when the process ends.

    Its methods never wait, so each one is atomic.

    Args:
        keep: Keeps a turn beside the conversations, or raises.
        end: Gives a turn that was begun its end.
        max_conversations: Conversations kept, at least 1.
        max_items: Items kept in all of them.

    Attributes:
        num_items: Items in all of them now.
    """

    def __init__(
        self,
        keep: Callable[[StoredTurn], object],
        end: Callable[[StoredTurn], object],
        *,
        max_conversations: int = MAX_CONVERSATIONS,
        max_items: int = MAX_CONVERSATION_ITEMS,
    ) -> None:
        self.max_conversations: Final = max_conversations
        self.max_items: Final = max_items
        self.num_items = 0
        self._keep: Final = keep
        self._end: Final = end
        self._closed = False
        self._held: Final[dict[str, _Held]] = {}  # the one changed longest ago first

    def close(self) -> None:
        """Forget everything, and refuse from now on."""
        self._closed = True
        self._held.clear()
        self.num_items = 0

    async def add(
        self, conversation: StoredConversation, items: Sequence[ConversationItem]
    ) -> None:
        """See `ConversationStore.add`."""
        self._refuse_if_closed()
        if conversation.id in self._held:
            raise StoreError(f"The conversation {conversation.id!r} is stored already.")
        fresh = structs.replace(conversation, edition=0, length=0, response=None, covered=0)
        held = _Held(fresh)
        self._check_ids(held, items)
        self._held[conversation.id] = held
        self._extend(held, items)

    async def get(self, owner: str, conversation_id: str) -> StoredConversation | None:
        """See `ConversationStore.get`."""
        held = self._find(owner, conversation_id)
        return held.conversation if held is not None else None

    async def set_metadata(self, owner: str, conversation_id: str, metadata: bytes) -> bool:
        """See `ConversationStore.set_metadata`."""
        held = self._find(owner, conversation_id)
        if held is None:
            return False
        held.conversation = structs.replace(held.conversation, metadata=metadata)
        return True

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """See `ConversationStore.delete`."""
        held = self._find(owner, conversation_id)
        if held is None:
            return False
        self._drop(conversation_id)
        return True

    async def append(
        self, owner: str, conversation_id: str, items: Sequence[ConversationItem]
    ) -> bool:
        """See `ConversationStore.append`."""
        held = self._find(owner, conversation_id)
        if held is None:
            return False
        self._check_ids(held, items)
        self._extend(held, items)
        return True

    async def append_turn(
        self,
        base: StoredConversation,
        items: Sequence[ConversationItem],
        turn: StoredTurn,
        *,
        begun: bool = False,
    ) -> bool:
        """See `ConversationStore.append_turn`."""
        keep = self._end if begun else self._keep
        held = self._find(base.owner, base.id)
        if held is None:
            keep(turn)
            return False
        stands = held.conversation
        if (base.edition, base.length) != (stands.edition, stands.length):
            raise ConversationChanged(
                f"The conversation {base.id!r} was changed while a response was made for it."
            )
        self._check_ids(held, items)
        keep(turn)  # the last step that may refuse
        self._extend(held, items)
        held.conversation = structs.replace(
            held.conversation, response=turn.id, covered=held.conversation.length
        )
        return True

    async def items(
        self,
        owner: str,
        conversation_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> list[ConversationItem] | None:
        """See `ConversationStore.items`. O(those beyond `after`) ascending, too."""
        held = self._find(owner, conversation_id)
        if held is None:
            return None
        if descending:
            newest_first = reversed(held.items.values())
            beyond = (item for item in newest_first if after is None or item.position < after)
            return list(islice(beyond, limit))
        newer: list[ConversationItem] = []
        for item in reversed(held.items.values()):
            if after is not None and item.position <= after:
                break
            newer.append(item)
        newer.reverse()
        return newer[:limit]

    async def item(self, owner: str, conversation_id: str, item_id: str) -> ConversationItem | None:
        """See `ConversationStore.item`."""
        held = self._find(owner, conversation_id)
        return held.items.get(item_id) if held is not None else None

    async def taken(self, owner: str, conversation_id: str, item_ids: Collection[str]) -> set[str]:
        """See `ConversationStore.taken`."""
        held = self._find(owner, conversation_id)
        return set() if held is None else {one for one in item_ids if one in held.items}

    async def delete_item(self, owner: str, conversation_id: str, item_id: str) -> bool:
        """See `ConversationStore.delete_item`."""
        held = self._find(owner, conversation_id)
        if held is None or held.items.pop(item_id, None) is None:
            return False
        self.num_items -= 1
        stands = held.conversation
        held.conversation = structs.replace(stands, edition=stands.edition + 1, response=None)
        return True

    def _find(self, owner: str, conversation_id: str) -> _Held | None:
        self._refuse_if_closed()
        held = self._held.get(conversation_id)
        return held if held is not None and held.conversation.owner == owner else None

    def _check_ids(self, held: _Held, items: Sequence[ConversationItem]) -> None:
        seen: set[str] = set()
        for item in items:
            if item.id in seen or item.id in held.items:
                raise ItemIdTaken(item.id)
            seen.add(item.id)

    def _extend(self, held: _Held, items: Sequence[ConversationItem]) -> None:
        length = held.conversation.length
        for position, item in enumerate(items, start=length + 1):
            held.items[item.id] = structs.replace(item, position=position)
        held.conversation = structs.replace(held.conversation, length=length + len(items))
        self.num_items += len(items)
        changed = held.conversation.id
        self._held[changed] = self._held.pop(changed)
        while len(self._held) > 1 and (
            len(self._held) > self.max_conversations or self.num_items > self.max_items
        ):
            self._drop(next(iter(self._held)))

    def _drop(self, conversation_id: str) -> None:
        self.num_items -= len(self._held.pop(conversation_id).items)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreError("The store is closed.")
