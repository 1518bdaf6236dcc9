"""Conversations between their store and everybody who uses them.

Theory of operation. The store holds a conversation's items one by one. Items up to `covered` were
seen by a response, and are a context; those after it were added by hand since, and go in front of
the next response's input, as if they had come with it. The context is remembered with where the
conversation stood: as long as no item was deleted, the next response only asks the store where
the conversation stands now, and reads what was added. After a deletion the context is cut before
the item and goes on from there.

A response's turn is stored as the continuation of the conversation's last response, and the items
that it brings are appended in the same transaction. So a conversation can be continued by
`conversation` and by `previous_response_id` alike, and costs what is new.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from turnwire.context.chain import Context
from turnwire.context.recent import Recent
from turnwire.conversations.arrivals import admitted, given_ids
from turnwire.conversations.links import Placed, extend, pack, placed_of, repeats, unpack, without
from turnwire.conversations.locks import Locks
from turnwire.errors import InvalidRequest, ItemIdTaken, NotFound, SealError
from turnwire.history import LARGE_CHAIN_BYTES, History
from turnwire.ids import new_id
from turnwire.protocol.codec import encode_item
from turnwire.protocol.conversations import check_conversation_id
from turnwire.protocol.items import Item, ItemReference
from turnwire.protocol.requests import ConversationRef
from turnwire.store.base import StoredTurn
from turnwire.store.conversations import ConversationItem, ConversationStore, StoredConversation

__all__ = ["Conversations", "Talk"]


class _Known(Struct, frozen=True, eq=False):
    """A context in memory.

    Attributes:
        edition: Of the conversation it belongs to.
        position: The last item that it holds or has skipped.
        context: None if it holds nothing.
    """

    edition: int
    position: int
    context: Context | None


class Talk(Struct, frozen=True, eq=False):
    """A conversation as a response finds it.

    Attributes:
        base: Where it stands.
        context: What responses before have seen, or None.
        leading: What was added by hand since; goes before the response's input.
    """

    base: StoredConversation
    context: Context | None
    leading: tuple[Item, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that a response could answer."""
        return self.context is None and not self.leading

    def seen(self) -> Context | None:
        """Everything in the conversation, for looking things up in it.

        Raises:
            InvalidRequest: calls and outputs do not pair.
        """
        return extend(self.context, [Placed(item) for item in self.leading])


class Conversations:
    """Everything that is done with conversations.

    Attributes:
        store: Where they are kept.
        locks: Who is at which now.
    """

    def __init__(
        self,
        store: ConversationStore,
        history: History,
        *,
        max_known: int = 1024,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Hold nothing yet.

        Args:
            store: Where they are kept.
            history: Seals, opens, and finds what references lead to.
            max_known: Contexts in memory.
            now: Tells Unix seconds.
        """
        self.store: Final = store
        self.locks: Final = Locks()
        self._history: Final = history
        self._known: Final[Recent[_Known]] = Recent(
            max_known, context_of=lambda known: known.context
        )
        self._now: Final = now

    # -- by hand

    async def create(
        self, owner: str, items: Sequence[Item], metadata: Mapping[str, str]
    ) -> StoredConversation:
        """Begin a conversation.

        Raises:
            InvalidRequest: an item cannot be used; `param` says which.
            NotFound: an `item_reference` leads nowhere.
            StoreError: the store failed.
        """
        fresh = await self._by_hand(owner, None, items)
        made = StoredConversation(
            id=new_id("conv"),
            owner=owner,
            created_at=int(self._now()),
            metadata=msgspec.json.encode(metadata),
        )
        await self.store.add(made, [self._at_rest(owner, Placed(item)) for item in fresh])
        return made

    async def get(self, owner: str, conversation_id: str) -> StoredConversation:
        """Return a conversation.

        Raises:
            InvalidRequest: no conversation has such an id.
            NotFound: unknown, deleted or another owner's.
        """
        check_conversation_id(conversation_id, "conversation_id")
        found = await self.store.get(owner, conversation_id)
        if found is None:
            raise _not_found(conversation_id)
        return found

    async def set_metadata(
        self, owner: str, conversation_id: str, metadata: Mapping[str, str]
    ) -> StoredConversation:
        """Replace the metadata; return the conversation with it.

        Raises:
            InvalidRequest, NotFound: as `get`.
        """
        check_conversation_id(conversation_id, "conversation_id")
        encoded = msgspec.json.encode(metadata)
        if not await self.store.set_metadata(owner, conversation_id, encoded):
            raise _not_found(conversation_id)
        return await self.get(owner, conversation_id)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Remove a conversation and its items; the responses made in it stay.

        Raises:
            InvalidRequest, NotFound: as `get`.
            ConversationLocked: somebody is at it.
        """
        check_conversation_id(conversation_id, "conversation_id")
        with self.locks.exclusive(owner, conversation_id):
            self._known.drop(owner, conversation_id)
            if not await self.store.delete(owner, conversation_id):
                raise _not_found(conversation_id)

    async def add(self, owner: str, conversation_id: str, items: Sequence[Item]) -> list[Item]:
        """Append items; return them as they were kept, reasoning sealed.

        Raises:
            InvalidRequest, NotFound: as `create` and `get`.
            ConversationLocked: a response is being made in it.
        """
        await self.get(owner, conversation_id)
        with self.locks.shared(owner, conversation_id):
            fresh = await self._by_hand(owner, conversation_id, items)
            kept = [self._at_rest(owner, Placed(item)) for item in fresh]
            try:
                found = await self.store.append(owner, conversation_id, kept)
            except ItemIdTaken as error:
                place = [item.id for item in kept].index(error.item_id)
                raise InvalidRequest(
                    f"An item with id '{error.item_id}' is there already.",
                    param=f"items[{place}].id",
                ) from error
        if not found:
            raise _not_found(conversation_id)
        return [self._history.to_store(owner, item) for item in fresh]

    async def item(self, owner: str, conversation_id: str, item_id: str) -> ConversationItem:
        """Return one item.

        Raises:
            InvalidRequest, NotFound: as `get`, and if there is no such item.
        """
        await self.get(owner, conversation_id)
        found = await self.store.item(owner, conversation_id, item_id)
        if found is None:
            raise _no_item(item_id, conversation_id)
        return found

    async def items(
        self,
        owner: str,
        conversation_id: str,
        *,
        after: str | None,
        limit: int,
        descending: bool,
    ) -> list[ConversationItem]:
        """Return items in order.

        Args:
            after: Only those that follow this item in the chosen order.
            limit: At most so many.
            descending: Newest first.

        Raises:
            InvalidRequest: as `get`, or no item is called `after`.
            NotFound: as `get`.
        """
        await self.get(owner, conversation_id)
        position: int | None = None
        if after is not None:
            last = await self.store.item(owner, conversation_id, after)
            if last is None:
                raise InvalidRequest(
                    f"'after' names no item of this list: '{after}'.", param="after"
                )
            position = last.position
        found = await self.store.items(
            owner, conversation_id, after=position, limit=limit, descending=descending
        )
        if found is None:
            raise _not_found(conversation_id)
        return found

    async def delete_item(
        self, owner: str, conversation_id: str, item_id: str
    ) -> StoredConversation:
        """Remove an item; return the conversation without it.

        Raises:
            InvalidRequest, NotFound: as `item`.
            ConversationLocked: a response is being made in it.
        """
        await self.get(owner, conversation_id)
        with self.locks.shared(owner, conversation_id):
            if not await self.store.delete_item(owner, conversation_id, item_id):
                raise _no_item(item_id, conversation_id)
            left = await self.get(owner, conversation_id)
            self._cut(owner, left, item_id)
        return left

    def _cut(self, owner: str, left: StoredConversation, item_id: str) -> None:
        known = self._known.get(owner, left.id)
        if known is None:
            return
        context = known.context and without(known.context, item_id)
        # Somebody else may have deleted another item, of which the context knows nothing.
        if context is None or known.edition + 1 != left.edition:
            self._known.drop(owner, left.id)
        else:
            self._known.put(owner, left.id, _Known(left.edition, known.position, context))

    async def _by_hand(
        self, owner: str, conversation_id: str | None, items: Sequence[Item]
    ) -> list[Item]:
        """Items that a client adds, as the conversation will hold them."""
        elsewhere = await self._history.referred(owner, items)
        try:
            opened = self._history.open_items(owner, None, items, elsewhere)
        except (InvalidRequest, NotFound) as error:
            error.param = error.param and error.param.replace("input", "items", 1)
            raise
        taken: set[str] = set()
        if conversation_id is not None:
            taken = await self.store.taken(owner, conversation_id, given_ids(opened))
        return admitted(opened, taken, "items", renamed=_references(items))

    # -- for a response

    async def resume(self, owner: str, conversation: str | ConversationRef) -> Talk:
        """Find a conversation for a response.

        Raises:
            InvalidRequest: no conversation has such an id, or its calls and outputs do not pair
                any more.
            NotFound: unknown, deleted or another owner's.
            StoreError: the store failed.
        """
        conversation_id = self.id_of(conversation)
        base = await self.store.get(owner, conversation_id)
        if base is None:
            raise _not_found(conversation_id, "conversation")
        known = self._known.get(owner, conversation_id)
        if known is None or known.edition != base.edition:
            known = _Known(base.edition, 0, None)
        if known.position == base.length:
            return Talk(base, known.context, ())
        found = await self.store.items(owner, conversation_id, after=known.position)
        if found is None:
            raise _not_found(conversation_id, "conversation")
        covered = [one for one in found if one.position <= base.covered]
        added = [one for one in found if base.covered < one.position <= base.length]
        if known.position < base.covered:
            known = await self._catch_up(owner, base, known, covered)
        leading = [placed.item for placed in self._placed(owner, added)]
        return Talk(base, known.context, tuple(leading))

    async def _catch_up(
        self,
        owner: str,
        base: StoredConversation,
        known: _Known,
        covered: Sequence[ConversationItem],
    ) -> _Known:
        """Bring what is known up to the last response, from the store."""

        def restored() -> Context | None:
            return extend(known.context, self._placed(owner, covered))

        small = sum(len(one.body) for one in covered) < LARGE_CHAIN_BYTES
        context = restored() if small else await asyncio.to_thread(restored)
        if base.response is not None:
            if context is None:
                context = Context(None, [])  # everything was deleted before it
            context.stored_id = base.response
        caught_up = _Known(base.edition, base.covered, context)
        self._known.put(owner, base.id, caught_up)
        return caught_up

    @staticmethod
    def id_of(conversation: str | ConversationRef) -> str:
        """The id that a create names.

        Raises:
            InvalidRequest: no conversation has such an id.
        """
        if isinstance(conversation, str):
            return check_conversation_id(conversation, "conversation")
        return check_conversation_id(conversation.id, "conversation.id")

    async def admit(
        self, owner: str, talk: Talk, sent: Sequence[Item], opened: Sequence[Item]
    ) -> list[Item]:
        """Make a response's input ready to be appended: ids, statuses.

        Args:
            owner: Whose it is.
            talk: The conversation.
            sent: The input as it came.
            opened: The same, parallel, with references followed.

        Raises:
            InvalidRequest: an id cannot be used; `param` says which.
        """
        # Clients that repeat a call next to its output repeat its id as well; it is left out.
        again = repeats(talk.seen(), opened)
        fresh = [item for item, repeated in zip(opened, again, strict=True) if not repeated]
        asked = [item for item, repeated in zip(sent, again, strict=True) if not repeated]
        given = given_ids(fresh)
        taken = await self.store.taken(owner, talk.base.id, given) if given else set()
        return admitted(fresh, taken, "input", renamed=_references(asked))

    async def append(
        self,
        owner: str,
        talk: Talk,
        given: Context,
        after: Context,
        turn: StoredTurn,
        *,
        begun: bool = False,
    ) -> None:
        """Keep a response's turn, and append its input and output to the conversation.

        Args:
            owner: Whose it is.
            talk: The conversation as the response found it.
            given: The link of its input, what was added by hand included.
            after: The last link of its output; `given` itself if there is none.
            turn: The response's turn.
            begun: It was stored when it began, and is finished now.

        Raises:
            ConversationChanged: somebody else was faster; nothing was kept.
            ParentNotKept, StoreError: as `Store.put`.
        """
        base = talk.base
        leading = {item.id for item in talk.leading}
        brought = [Placed(item) for item in given.items if item.id not in leading]
        brought += [placed for link in after.since(given) for placed in placed_of(link)]
        kept = [self._at_rest(owner, placed) for placed in brought]
        self._known.drop(owner, base.id)
        if await self.store.append_turn(base, kept, turn, begun=begun):
            position = base.length + len(kept)
            self._known.put(owner, base.id, _Known(base.edition, position, after))

    # -- at rest and back

    def _at_rest(self, owner: str, placed: Placed) -> ConversationItem:
        item = self._history.to_store(owner, placed.item)
        if item.id is None:
            raise AssertionError("items get their ids when they are admitted")
        tokens = pack(placed)
        tokens = self._history.tokens_to_store(owner, [item], tokens) if tokens else tokens
        return ConversationItem(id=item.id, body=encode_item(item), tokens=tokens)

    def _placed(self, owner: str, items: Sequence[ConversationItem]) -> list[Placed]:
        bodies = b"[" + b",".join(one.body for one in items) + b"]"
        try:
            opened = self._history.from_store(owner, bodies)
            tokens = [self._history.tokens_from_store(owner, one.tokens) for one in items]
        except SealError as lost:
            raise InvalidRequest(
                "What is stored of this conversation was sealed with a key that this server no "
                "longer has; begin another one.",
                code="invalid_encrypted_content",
                param="conversation",
            ) from lost
        return [unpack(item, packed) for item, packed in zip(opened, tokens, strict=True)]


def _references(items: Sequence[Item]) -> set[int]:
    return {place for place, item in enumerate(items) if type(item) is ItemReference}


def _not_found(conversation_id: str, param: str | None = None) -> NotFound:
    return NotFound(f"Conversation with id '{conversation_id}' not found.", param=param)


def _no_item(item_id: str, conversation_id: str) -> NotFound:
    return NotFound(
        f"Item with id '{item_id}' not found in conversation with id '{conversation_id}'."
    )
