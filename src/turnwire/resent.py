"""Clients that send the whole conversation with every turn: what of it is known already?

Stateless clients (the AI SDK, opencode, most of HTTP) send everything again and add a little.
Reading such an input gives the longest known context that it begins with, and what comes behind
it. A turn then costs what is new, as with `previous_response_id`, and the engine sees the very
tokens it has sampled before.

Theory of operation, cheapest first. Bytes that were sent before are recognised as they are
(`KnownContexts.recall`) and not even decoded. What is left, or all of it, is decoded, opened and
hashed item by item, and the longest conversation of that digest is looked up. Whatever is found,
`parent` followed by `items` is the conversation that decoding everything would have given, up to
what no model is told (`context.identity`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from operator import is_
from typing import Final, Literal

from msgspec import Raw, Struct, structs

from turnwire.context.chain import Context, chars_of
from turnwire.context.identity import digest_of, trail
from turnwire.context.known import MIN_VERBATIM_BYTES, KnownContexts, Recalled, Verbatim
from turnwire.errors import WireError
from turnwire.history import LARGE_CHAIN_BYTES, History
from turnwire.protocol.codec import MAX_ITEMS, decode_items
from turnwire.protocol.compaction import take_trigger
from turnwire.protocol.items import (
    AdditionalTools,
    Compaction,
    CompactionTrigger,
    ConfigurationUpdate,
    CustomToolCall,
    FunctionCall,
    Item,
    ItemReference,
    Message,
    Reasoning,
)

__all__ = ["Check", "Outcome", "Resent", "Said"]

Outcome = Literal["hit", "partial", "miss", "first"]
"""hit: all that a model has said is known. partial: not all of it, because it was edited, comes
back in another form, or is known no more. miss: none. first: no model has said anything yet."""

Check = Callable[[Context | None, Sequence[Item]], None]
"""Raises if new items cannot be served behind a context; they are all there is if it is None."""

Nearby = Callable[[], Iterable[Context]]

PLACED: Final = (ItemReference, AdditionalTools, ConfigurationUpdate, Compaction, CompactionTrigger)
"""Items that mean something by their place, or by what was not decoded: the ids before them, the
paths that errors name."""

WHITESPACE: Final = b" \t\r\n"


class Said(Struct, frozen=True, eq=False):
    """A whole conversation, as a client sent it.

    Attributes:
        parent: What is known of it, or None.
        items: What comes behind, ready for a context.
        given: What was decoded for it, as the request spells it: the whole input, or, where
            nothing depends on places in it, what comes behind bytes that are known.
        outcome: How much was known.
        digest: Of all of it.
        num_new_chars: Of `items`.
        verbatim: The input, to be recognised when it comes again; None if it is small, refers to
            what is stored elsewhere, or ends with what is no part of the conversation.
        compact: Whether it ends with a `compaction_trigger`, which is not among the items.
    """

    parent: Context | None
    items: Sequence[Item]
    given: Sequence[Item]
    outcome: Outcome
    digest: bytes | None
    num_new_chars: int
    verbatim: Verbatim | None
    compact: bool = False


class Resent:
    """Reads whole conversations, and learns those that were served."""

    def __init__(self, known: KnownContexts, history: History) -> None:
        self.known: Final = known
        self._history: Final = history

    async def read(
        self, owner: str, raw: Raw, check: Check | None = None, nearby: Nearby = tuple
    ) -> Said:
        """Decode and open an input that is a conversation from its beginning.

        Args:
            owner: Whose it is; nobody else's conversations are looked at.
            raw: The field `input`.
            check: Whether items that were not seen before can be served.
            nearby: Gives other conversations that the client may refer to.

        Raises:
            InvalidRequest, NotFound: as decoding, opening and checking all of it.
            StoreError: the store failed.
        """
        data = b""
        if self.known.max_bytes and memoryview(raw).nbytes > MIN_VERBATIM_BYTES:
            data = bytes(raw)
        recalled = self.known.recall(owner, data) if data[:1] == b"[" else None
        if recalled is not None:
            try:
                said = await self._behind(owner, recalled, data, check)
            except WireError:
                said = None  # the same comes of reading all, and names the right places
            if said is not None:
                return said
        items, compact = take_trigger(decode_items(raw))
        stored = await self._history.referred(owner, items)
        opened = self._history.open_items(owner, None, items, stored, nearby)
        if check is not None:
            check(None, opened)
        refers = any(type(item) is ItemReference for item in items)
        verbatim = None if refers or compact else _verbatim(data, len(items))
        num_bytes = memoryview(raw).nbytes
        said = await self._known_part(owner, None, opened, items, num_bytes, verbatim)
        return structs.replace(said, compact=compact)

    def learn(self, owner: str, context: Context, said: Said | None = None) -> None:
        """Remember a context that was rendered, and all before it.

        Args:
            owner: Whose it is.
            context: The last link.
            said: What `read` gave, if `context` is the link of that input.
        """
        verbatim: Verbatim | None = None
        if said is not None and self.known.max_bytes:
            if _is_made_of(context, said):
                context.digest = said.digest
            # Otherwise a call was repeated, and the digest is the same; or it is something that
            # was made of the input, and the input does not stand for it.
            if said.digest is not None and digest_of(context) == said.digest:
                verbatim = said.verbatim
        self.known.put(owner, context, verbatim)

    async def _behind(
        self, owner: str, recalled: Recalled, data: bytes, check: Check | None
    ) -> Said | None:
        """What an input says behind bytes that are known; None if it has to be read whole."""
        tail = data[recalled.num_bytes :].lstrip(WHITESPACE)
        # The bytes before are known to end with an element, and the whole to be well-formed.
        rest = Raw(b"[" + tail[1:]) if tail[:1] == b"," else Raw(b"[" + tail)
        items = decode_items(rest)
        num_elements = recalled.num_elements + len(items)
        if num_elements > MAX_ITEMS or any(isinstance(item, PLACED) for item in items):
            return None
        opened = self._history.open_items(owner, recalled.context, items)
        if check is not None:
            check(recalled.context, opened)
        verbatim = _verbatim(data, num_elements)
        context = recalled.context
        return await self._known_part(owner, context, opened, items, len(tail), verbatim)

    async def _known_part(
        self,
        owner: str,
        context: Context | None,
        items: Sequence[Item],
        given: Sequence[Item],
        num_bytes: int,
        verbatim: Verbatim | None,
    ) -> Said:
        if not self.known.max_bytes:
            return Said(context, items, given, "first", None, num_bytes, None)
        if num_bytes < LARGE_CHAIN_BYTES:
            digests = trail(context, items)
        else:
            digests = await asyncio.to_thread(trail, context, items)
        parent, behind = context, items
        for count in range(len(items), 0, -1):
            found = self.known.find(owner, digests[count - 1])
            if found is not None:
                parent, behind = found, items[count:]
                break
        spoken = any(map(_is_spoken, behind))
        outcome: Outcome
        if parent is None:
            outcome = "miss" if spoken else "first"
        else:
            outcome = "partial" if spoken else "hit"
        last = context.digest if context is not None else None
        digest = digests[-1] if digests else last
        size = sum(map(chars_of, behind))
        return Said(parent, behind, given, outcome, digest, size, verbatim)


def _verbatim(data: bytes, num_elements: int) -> Verbatim | None:
    if data[-1:] != b"]":
        return None
    end = len(data) - 1
    while end and data[end - 1] in WHITESPACE:
        end -= 1
    return Verbatim(data[:end], num_elements) if end >= MIN_VERBATIM_BYTES else None


def _is_made_of(context: Context, said: Said) -> bool:
    """Whether a context's items are those that were said, without having to hash them again."""
    kept, given = context.items, said.items
    same = context.parent is said.parent and len(kept) == len(given)
    return same and all(map(is_, kept, given))


def _is_spoken(item: Item) -> bool:
    """Whether a model has said it."""
    if isinstance(item, Message):
        return item.role == "assistant"
    return isinstance(item, FunctionCall | CustomToolCall | Reasoning)
