"""Items of a conversation to links of a context, and back.

A response leaves the ids that the model sampled with the items it brings, and with the first of
them the opening in front. When the conversation is read again they are put on the links, so that
the next turn sees the tokens that a process which never forgot would show. Where the cuts between
other links lie does not matter: "any partition of the items gives the same prompt"
(`rendering.base`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from turnwire.context.chain import Context
from turnwire.context.packing import packed, unpacked
from turnwire.errors import InvalidRequest
from turnwire.protocol.items import CustomToolCall, FunctionCall, Item
from turnwire.tokens import TokenArray

__all__ = ["Placed", "extend", "pack", "placed_of", "repeats", "unpack", "without"]


class _Sampled(Struct, frozen=True, array_like=True):
    """`ConversationItem.tokens`, unless it is empty.

    Attributes:
        vocabulary: Fingerprint of the tokenizer.
        ids: 4 bytes each, or None where there are none to keep.
        opening: In front of the first item of a response, likewise.
    """

    vocabulary: str
    ids: bytes | None
    opening: bytes | None = None


class Placed(Struct, frozen=True):
    """An item as a context holds it, with what was sampled for it.

    Attributes:
        item: The item; reasoning with its text.
        vocabulary: Fingerprint of the tokenizer that the ids belong to, or "".
        sampled: The ids as the model sampled them, or None.
        opening: The ids in front of the first item of a response, or None.
    """

    item: Item
    vocabulary: str = ""
    sampled: TokenArray | None = None
    opening: TokenArray | None = None


def pack(placed: Placed) -> bytes:
    """What the store keeps beside an item."""
    if not placed.vocabulary:
        return b""
    ids, opening = packed(placed.sampled), packed(placed.opening)
    return msgspec.msgpack.encode(_Sampled(placed.vocabulary, ids, opening))


def unpack(item: Item, tokens: bytes) -> Placed:
    """The item with what `pack` made."""
    if not tokens:
        return Placed(item)
    kept = msgspec.msgpack.decode(tokens, type=_Sampled)
    return Placed(item, kept.vocabulary, unpacked(kept.ids), unpacked(kept.opening))


def repeats(context: Context | None, items: Iterable[Item]) -> list[bool]:
    """Which items are calls that were made before: a call is made once (`context.pairing`)."""
    seen: set[str] = set()
    found = []
    for item in items:
        again = False
        if isinstance(item, FunctionCall | CustomToolCall):
            call_id = item.call_id
            again = call_id in seen or (context is not None and context.was_called(call_id))
            seen.add(call_id)
        found.append(again)
    return found


def extend(context: Context | None, items: Sequence[Placed]) -> Context | None:
    """Extend a context, which may be None for none, by items: a link for each response.

    What is between two responses is one link, too.

    Raises:
        InvalidRequest: calls and outputs do not pair, after additions or deletions by hand.
    """
    again = repeats(context, [placed.item for placed in items])
    fresh = [placed for placed, repeated in zip(items, again, strict=True) if not repeated]
    for together in _runs(fresh):
        try:
            context = Context(
                context,
                [placed.item for placed in together],
                sampled=[placed.sampled for placed in together],
                opening=together[0].opening,
                vocabulary=together[0].vocabulary,
            )
        except InvalidRequest as error:
            error.param = "conversation"
            raise
    return context


def _runs(items: Iterable[Placed]) -> list[list[Placed]]:
    runs: list[list[Placed]] = []
    for placed in items:
        if not runs or placed.opening is not None or placed.vocabulary != runs[-1][0].vocabulary:
            runs.append([])
        runs[-1].append(placed)
    return runs


def without(context: Context, item_id: str) -> Context | None:
    """The context without one item; links before it are shared, later ones are made anew.

    Returns:
        The context itself if it does not hold the item. None if the rest has to be put together
        from the store: nothing is left, the item is a call, or calls and outputs do not pair.
    """
    later: list[Context] = []
    for link in context.newest_first():
        place = next((n for n, item in enumerate(link.items) if item.id == item_id), None)
        if place is None:
            later.append(link)
            continue
        if isinstance(link.items[place], FunctionCall | CustomToolCall):
            return None  # the same call may follow, and was left out because of this one
        left = placed_of(link)
        del left[place]
        for one in reversed(later):
            left += placed_of(one)
        try:
            return extend(link.parent, left)
        except InvalidRequest:
            return None
    return context


def placed_of(link: Context) -> list[Placed]:
    """The items of a link, with what was sampled for them."""
    return [
        Placed(item, link.vocabulary, sampled, None if place else link.opening)
        for place, (item, sampled) in enumerate(zip(link.items, link.sampled, strict=True))
    ]
