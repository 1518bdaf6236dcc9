"""Links of a context at rest: how many items each has, and what was sampled for them.

The items themselves are kept beside it, as JSON. A context that is put together again has the same
links, so that the next turn sees the tokens that a process which never forgot would show.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from turnwire.context.chain import Context
from turnwire.protocol.items import Item
from turnwire.tokens import TokenArray

__all__ = ["is_whole", "pack", "packed", "restored", "unpacked", "with_past"]


class _Link(Struct, frozen=True, array_like=True):
    """A link.

    Attributes:
        num_items: Its items.
        vocabulary: Fingerprint of the tokenizer, or "".
        opening: The ids in front of what was sampled, 4 bytes each, or None.
        sampled: Per item the sampled ids, likewise; empty if there are none at all.
    """

    num_items: int
    vocabulary: str = ""
    opening: bytes | None = None
    sampled: Sequence[bytes | None] = ()


class _Links(Struct, frozen=True, array_like=True):
    """The links of a turn.

    Attributes:
        whole: Whether everything before the turn is stored too.
        links: In their order. Before there were links this was the vocabulary of the output.
        output: Per item of the output the sampled ids, from that time.
    """

    whole: bool
    links: list[_Link] | str
    output: list[bytes | None] = []


def pack(links: Iterable[Context], *, whole: bool) -> bytes:
    """What is to be kept of links beside their items.

    Args:
        links: In their order.
        whole: Whether everything before them is stored too.
    """
    return msgspec.msgpack.encode(_Links(whole, list(map(_link, links))))


def with_past(tokens: bytes, past: Iterable[Context]) -> bytes:
    """What `pack` made, with more links in front."""
    whole, links = _read(tokens)
    return msgspec.msgpack.encode(_Links(whole, [*map(_link, past), *links]))


def is_whole(tokens: bytes) -> bool:
    """The `whole` that `pack` was told."""
    return _read(tokens)[0]


def restored(parent: Context | None, items: Sequence[Item], tokens: bytes) -> Context:
    """Extend a context by links.

    Args:
        parent: What is before them.
        items: Their items. Of more than that the first are a link of their own.
        tokens: What `pack` made.

    Raises:
        InvalidRequest: as `Context`.
    """
    _, links = _read(tokens, len(items))
    num_before = len(items) - sum(link.num_items for link in links)
    if num_before:
        parent = Context(parent, items[:num_before])
    begin = num_before
    for link in links:
        end = begin + link.num_items
        parent = Context(
            parent,
            items[begin:end],
            sampled=[unpacked(ids) for ids in link.sampled] or None,
            opening=unpacked(link.opening),
            vocabulary=link.vocabulary,
        )
        begin = end
    if parent is None:
        raise AssertionError("a turn has the link of its input at least")
    return parent


def packed(ids: TokenArray | None) -> bytes | None:
    """Token ids as 4 bytes each; None stays None."""
    return ids.tobytes() if ids is not None else None


def unpacked(ids: bytes | None) -> TokenArray | None:
    """What `packed` made, as ids."""
    if ids is None:
        return None
    made: TokenArray = array("I")
    made.frombytes(ids)
    return made


def _link(link: Context) -> _Link:
    if not link.vocabulary:
        return _Link(len(link.items))
    sampled = [packed(ids) for ids in link.sampled]
    return _Link(len(link.items), link.vocabulary, packed(link.opening), sampled)


def _read(tokens: bytes, num_items: int = 0) -> tuple[bool, list[_Link]]:
    found = msgspec.msgpack.decode(tokens, type=_Links)
    if isinstance(found.links, list):
        return found.whole, found.links
    num_output = len(found.output)
    links = [_Link(num_items - num_output)]
    if num_output:
        links.append(_Link(num_output, found.links, None, found.output))
    return found.whole, links
