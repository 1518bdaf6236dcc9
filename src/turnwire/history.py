"""Conversations that outlive a connection: contexts to stored turns and back.

A stored turn holds what it added: its input items, its output items, and the token ids the
model sampled for them, so that a continuation from the store is token-exact too. Reasoning is
sealed at rest. A response whose conversation holds turns of store:false can be read but not
continued from the store: keeping its context would put on disk what must not be there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Raw, structs

from turnwire.context.chain import Context
from turnwire.context.packing import is_whole, pack, restored, with_past
from turnwire.context.recent import Kept, RecentContexts
from turnwire.errors import (
    InvalidRequest,
    NotFound,
    ParentNotKept,
    PreviousResponseNotFound,
    ResponseNotCompleted,
)
from turnwire.ids import new_id, response_of
from turnwire.protocol.codec import decode_items, encode_item
from turnwire.protocol.compaction import decode_summary, encode_summary
from turnwire.protocol.encoded import failed, outline
from turnwire.protocol.items import (
    AdditionalTools,
    Compaction,
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    Reasoning,
    ReasoningText,
    Summary,
)
from turnwire.sealing import SEALED, Sealer, SealError
from turnwire.store.base import Store, StoredTurn

__all__ = ["LARGE_CHAIN_BYTES", "History", "Put", "fresh_id", "with_id"]

CONTINUABLE: Final = ("completed", "incomplete")
INTERRUPTED: Final = "The server was stopped while it worked on this response; send it again."
ID_PREFIX: Final = {
    Message: "msg",
    FunctionCall: "fc",
    FunctionCallOutput: "fco",
    CustomToolCall: "ctc",
    CustomToolCallOutput: "ctco",
    Reasoning: "rs",
    AdditionalTools: "at",
    ConfigurationUpdate: "cu",
    Compaction: "cmp",
}


NOTHING_STORED: Final[Mapping[str, Item]] = MappingProxyType({})

Put = Callable[[StoredTurn], Awaitable[bool | None]]
"""Keeps a turn as `Store.put` does; False if, begun, it was deleted meanwhile."""

LARGE_CHAIN_BYTES: Final = 262_144
"""Decoding this much takes some milliseconds: a thread does it, other clients go on."""


class History:
    """Finds and keeps the conversations of stored responses."""

    def __init__(self, store: Store, sealer: Sealer, recent: RecentContexts) -> None:
        self.store: Final = store
        self.sealer: Final = sealer
        self.recent: Final = recent

    async def find(self, owner: str, response_id: str) -> Context:
        """Return the context that a stored response left.

        Raises:
            PreviousResponseNotFound: unknown, deleted, another owner's, failed, or its
                conversation was not stored as a whole.
            ResponseNotCompleted: it runs in the background.
            StoreError: the store failed.
        """
        known = self.recent.get(owner, response_id)
        epoch = self.store.epoch
        if known is not None and known.epoch == epoch:
            return known.context
        turn = await self.store.get(owner, response_id)
        if turn is None:
            raise PreviousResponseNotFound(response_id)
        about = outline(turn.response)
        if about.running:
            raise ResponseNotCompleted(response_id)
        if about.status not in CONTINUABLE:
            raise PreviousResponseNotFound(response_id)
        context = known.context if known is not None else await self._chain(owner, response_id)
        self.recent.put(owner, response_id, Kept(context, epoch))
        return context

    async def _chain(self, owner: str, response_id: str) -> Context:
        turns = await self.store.chain(owner, response_id)
        if turns is None:
            raise PreviousResponseNotFound(response_id)
        context: Context | None = None
        for one in turns:
            context = self._restore(owner, context, one, response_id)
        if context is None:
            raise AssertionError("a chain holds at least the turn it was asked for")
        return context

    async def begin(
        self,
        owner: str,
        response_id: str,
        given: Context,
        response: bytes,
        created_at: int,
        *,
        with_past: bool = False,
    ) -> None:
        """Store a response that begins to run; `keep` says later how it ended.

        Args:
            given: The link of its input.
            response: The response object as it begins.
            created_at: Unix seconds.
            with_past: As for `keep`.

        Raises:
            StoreError: it could not be stored.
        """
        turn = self._turn(owner, response_id, given, given, response, created_at, with_past)
        await self._put(self.store.begin, turn, given)

    async def keep(
        self,
        owner: str,
        response_id: str,
        given: Context,
        after: Context,
        response: bytes,
        created_at: int,
        *,
        put: Put | None = None,
        with_past: bool = False,
        begun: bool = False,
        continuable: bool = True,
    ) -> None:
        """Store a response with what it added; on return it can be read.

        Args:
            given: The link of the response's input.
            after: The last link of its output; `given` itself if there is none.
            response: The terminal response object.
            created_at: Unix seconds.
            put: Keeps the turn, instead of the store's own `put`.
            with_past: Everything before the response may be stored, and is stored with it if it
                is not stored as a turn already.
            begun: `begin` stored it already. If it was deleted since, it stays deleted.
            continuable: It completed, or was cut; it neither failed nor was cancelled.

        Raises:
            StoreError: it could not be kept.
        """
        epoch = self.store.epoch
        turn = self._turn(owner, response_id, given, after, response, created_at, with_past)
        if put is None:
            put = self.store.finish if begun else self.store.put
        if await self._put(put, turn, given) is False:
            return
        if _is_whole(given, with_past):
            # Otherwise only who holds `after` may go on from it: if that depended on what is
            # still in memory, it would work or not by chance.
            after.stored_id = response_id
            if continuable:
                self.recent.put(owner, response_id, Kept(after, epoch))

    async def recover(self) -> int:
        """Give an end to what other processes ran when they ended themselves.

        Returns:
            How many responses have failed by that.

        Raises:
            StoreError: the store failed; what is left can be recovered later.
        """
        count = 0
        for turn in await self.store.abandoned():
            response = failed(turn.response, "server_error", INTERRUPTED)
            count += await self.store.finish(structs.replace(turn, response=response))
        return count

    async def get(self, owner: str, response_id: str) -> bytes:
        """Return a stored response object as JSON.

        Raises:
            NotFound: unknown, deleted or another owner's.
        """
        return (await self.turn(owner, response_id)).response

    async def turn(self, owner: str, response_id: str) -> StoredTurn:
        """Return a stored response with what it added to its conversation.

        Raises:
            NotFound: unknown, deleted or another owner's.
        """
        turn = await self.store.get(owner, response_id)
        if turn is None:
            raise _not_found(response_id)
        return turn

    async def input_items(self, owner: str, response_id: str) -> list[tuple[str, Item]]:
        """Return what went into a stored response: the conversation before it, then its input.

        Returns:
            Oldest first, each with its id. Ids are unique in the list and the same at every
            call: an item that has none, or one that an earlier item has, gets one that follows
            from its place. Items are as they are at rest: reasoning is sealed.

        Raises:
            NotFound: unknown, deleted or another owner's.
            StoreError: the store failed.
        """
        turns = await self.store.chain(owner, response_id)
        if turns is None:
            raise _not_found(response_id)
        if sum(len(turn.items) + len(turn.output) for turn in turns) < LARGE_CHAIN_BYTES:
            return _input_of(turns)
        return await asyncio.to_thread(_input_of, turns)

    async def delete(self, owner: str, response_id: str) -> None:
        """Remove a stored response.

        Raises:
            NotFound: unknown, deleted already or another owner's.
        """
        self.recent.drop(owner, response_id)
        if not await self.store.delete(owner, response_id):
            raise _not_found(response_id)

    async def referred(self, owner: str, items: Sequence[Item]) -> dict[str, Item]:
        """Return the items of stored responses that an input refers to, by id.

        Clients that store (the AI SDK, unless told otherwise) resend a conversation as
        references, without `previous_response_id`. Those that lead nowhere are left out. Costs
        a read per response referred to, and nothing where there is no reference.

        Raises:
            StoreError: the store failed.
        """
        wanted = {item.id for item in items if type(item) is ItemReference}
        responses = dict.fromkeys(filter(None, (response_of(id_) for id_ in wanted if id_)))
        found: dict[str, Item] = {}
        for response_id in responses:
            turn = await self.store.get(owner, response_id)
            if turn is None:
                continue
            with suppress(SealError):
                made = self.from_store(owner, turn.output)
                found.update((item.id, item) for item in made if item.id in wanted and item.id)
        return found

    def open_items(
        self,
        owner: str,
        parent: Context | None,
        items: Sequence[Item],
        stored: Mapping[str, Item] = NOTHING_STORED,
        nearby: Callable[[], Iterable[Context]] = tuple,
    ) -> list[Item]:
        """Make a client's items ready for a context: open what is sealed, follow references.

        Args:
            stored: What `referred` found.
            nearby: Gives other conversations that the client may refer to.

        Raises:
            InvalidRequest: `invalid_encrypted_content`.
            NotFound: an `item_reference` to an item that neither these conversations nor
                `stored` hold.
        """
        opened: list[Item] = []
        known: dict[str, Item] | None = None  # where there is no reference, nobody looks
        for index, item in enumerate(items):
            if isinstance(item, Reasoning | Compaction):
                opened.append(self._open(owner, item, f"input[{index}].encrypted_content"))
            elif type(item) is ItemReference:
                if known is None:
                    known = _by_id(parent, nearby(), stored)
                    known.update((one.id, one) for one in reversed(opened) if one.id is not None)
                if item.id not in known:
                    raise NotFound(f"Item with id '{item.id}' not found.", param="input")
                opened.append(known[item.id])
            else:
                opened.append(item)
            if known is not None and item.id is not None:
                known.setdefault(item.id, opened[-1])
        return opened

    def seal(self, owner: str, text: str) -> str:
        """Seal reasoning text for this owner."""
        return self.sealer.seal(text.encode(), owner)

    def seal_summary(self, owner: str, summary: Summary, model: str) -> str:
        """Seal for this owner what a model wrote about a conversation."""
        return self.sealer.seal(encode_summary(summary, model), owner)

    # -- at rest and back

    def _turn(
        self,
        owner: str,
        response_id: str,
        given: Context,
        after: Context,
        response: bytes,
        created_at: int,
        with_past: bool,
    ) -> StoredTurn:
        before = given.parent
        alone = with_past and before is not None and before.stored_id is None
        brought = given.all_items() if alone else given.items
        made = after.since(given)
        output = [item for link in made for item in link.items]
        links = [*(given.links() if alone else [given]), *made]
        return StoredTurn(
            id=response_id,
            owner=owner,
            parent=before.stored_id if before is not None else None,
            created_at=created_at,
            response=response,
            items=self._at_rest(owner, brought),
            output=self._at_rest(owner, output),
            tokens=self.tokens_to_store(
                owner, [*brought, *output], pack(links, whole=_is_whole(given, with_past))
            ),
        )

    async def _put(self, put: Put, turn: StoredTurn, given: Context) -> bool | None:
        try:
            return await put(turn)
        except ParentNotKept:
            # The parent was deleted long ago and lives in memory only: this turn keeps it all.
            owner, brought = turn.owner, given.all_items()
            said = [*brought, *self.from_store(owner, turn.output)]
            packed = with_past(self.tokens_from_store(owner, turn.tokens), given.links()[:-1])
            tokens = self.tokens_to_store(owner, said, packed)
            items = self._at_rest(owner, brought)
            return await put(structs.replace(turn, parent=None, items=items, tokens=tokens))

    def _restore(
        self, owner: str, parent: Context | None, turn: StoredTurn, wanted: str
    ) -> Context:
        try:
            tokens = self.tokens_from_store(owner, turn.tokens)
            items, output = (self.from_store(owner, one) for one in (turn.items, turn.output))
        except SealError as lost:
            raise PreviousResponseNotFound(wanted, sealed=True) from lost
        if not is_whole(tokens):
            raise PreviousResponseNotFound(wanted)
        # A turn that was begun upon a parent that is gone holds its past too, and ended without.
        context = restored(parent, [*items, *output], tokens)
        context.stored_id = turn.id
        return context

    def from_store(self, owner: str, encoded: bytes) -> list[Item]:
        """Return the items of a JSON array as a context holds them: reasoning opened.

        Raises:
            SealError: a key of this server was lost.
        """
        items = decode_items(Raw(encoded))
        return [
            self._opened(owner, item) if isinstance(item, Reasoning | Compaction) else item
            for item in items
        ]

    def tokens_to_store(self, owner: str, items: Iterable[Item], packed: bytes) -> bytes:
        """Return what was sampled for these items as it is at rest.

        Whoever has the ids of a thought can spell it: they are sealed as its text is.
        """
        if any(isinstance(item, Reasoning) for item in items):
            return self.sealer.seal(packed, owner).encode()
        return packed

    def tokens_from_store(self, owner: str, kept: bytes) -> bytes:
        """Return what `tokens_to_store` was given.

        Raises:
            SealError: a key of this server was lost.
        """
        if not kept.startswith(SEALED):
            return kept
        try:
            return self.sealer.open(kept.decode(), owner)
        except UnicodeDecodeError as error:
            raise SealError("The tokens are not as they were sealed.") from error

    def _open(self, owner: str, item: Reasoning | Compaction, param: str) -> Item:
        try:
            return self._opened(owner, item)
        except SealError as error:
            what = "reasoning" if isinstance(item, Reasoning) else "compaction"
            raise InvalidRequest(
                f"The encrypted {what} content could not be opened: it was made for another "
                "account or with a key this server no longer has. Leave the item out.",
                code="invalid_encrypted_content",
                param=param,
            ) from error

    def _opened(self, owner: str, item: Reasoning | Compaction) -> Item:
        if isinstance(item, Reasoning) and (item.content or not item.encrypted_content):
            return item
        content = self.sealer.open(item.encrypted_content or "", owner)
        try:
            if isinstance(item, Compaction):
                return structs.replace(item, opened=decode_summary(content))
            text = content.decode()
        except ValueError as error:
            raise SealError("The text was sealed for another purpose.") from error
        return structs.replace(item, content=(ReasoningText(text=text),), encrypted_content=None)

    def _at_rest(self, owner: str, items: Iterable[Item]) -> bytes:
        return b"[" + b",".join(encode_item(self.to_store(owner, item)) for item in items) + b"]"

    def to_store(self, owner: str, item: Item) -> Item:
        """Return an item as it is at rest: reasoning sealed, and with an id where it can be."""
        if type(item) is Reasoning and item.content:
            text = "".join(part.text for part in item.content)
            item = structs.replace(item, content=None, encrypted_content=self.seal(owner, text))
        if item.id is None and not isinstance(item, OpaqueItem):
            item = with_id(item, fresh_id(item))
        return item


def _input_of(turns: Sequence[StoredTurn]) -> list[tuple[str, Item]]:
    found: dict[str, Item] = {}
    for turn in turns:
        output = turn.output if turn is not turns[-1] else b"[]"
        items = (*decode_items(Raw(turn.items)), *decode_items(Raw(output)))
        for place, item in enumerate(items):
            item_id = item.id
            if item_id is None or item_id in found:
                digest = hashlib.sha256(f"{turn.id}/{place}".encode()).hexdigest()
                item_id = f"{ID_PREFIX.get(type(item), 'item')}_{digest[:48]}"
                item = with_id(item, item_id)
            found[item_id] = item
    return list(found.items())


def fresh_id(item: Item) -> str:
    """An id for an item that has none."""
    return new_id(ID_PREFIX.get(type(item), "item"))


def with_id(item: Item, item_id: str) -> Item:
    """The item under this id, also in the JSON of one that is kept byte for byte."""
    if not isinstance(item, OpaqueItem | AdditionalTools):
        return structs.replace(item, id=item_id)
    fields = msgspec.json.decode(item.raw, type=dict[str, Raw])
    fields["id"] = Raw(msgspec.json.encode(item_id))
    return structs.replace(item, id=item_id, raw=msgspec.json.encode(fields))


def _is_whole(given: Context, with_past: bool) -> bool:
    """Whether everything before a turn is stored, or stored with it."""
    return with_past or given.parent is None or given.parent.stored_id is not None


def _by_id(
    parent: Context | None, nearby: Iterable[Context], stored: Mapping[str, Item]
) -> dict[str, Item]:
    """Every item that can be referred to, the conversation's own before the others."""
    found = dict(stored)
    for context in (*reversed([*nearby]), *([parent] if parent is not None else ())):
        found.update((item.id, item) for item in context.all_items() if item.id is not None)
    return found


def _not_found(response_id: str) -> NotFound:
    return NotFound(f"Response with id '{response_id}' not found.")
