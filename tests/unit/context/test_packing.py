"""Tests of `turnwire.context.packing`."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.context.chain import Context
from turnwire.context.packing import is_whole, pack, packed, restored, unpacked, with_past
from turnwire.protocol.items import InputText, Item, Message
from turnwire.tokens import TokenArray, token_array

IDS = st.none() | st.lists(st.integers(0, 2**32 - 1), max_size=3).map(token_array)
LINKS = st.lists(
    st.tuples(st.sampled_from(["", "v1", "v2"]), IDS, st.lists(IDS, max_size=3)),
    min_size=1,
    max_size=5,
)
Link = tuple[str, TokenArray | None, list[TokenArray | None]]


def user(text: str) -> Item:
    """A message."""
    return Message(role="user", content=(InputText(text=text),))


def chain(links: list[Link]) -> Context:
    """A context of these links."""
    context: Context | None = None
    for number, (vocabulary, opening, sampled) in enumerate(links):
        items = [user(f"{number} {place}") for place in range(len(sampled))]
        if vocabulary:
            context = Context(
                context, items, sampled=sampled, opening=opening, vocabulary=vocabulary
            )
        else:
            context = Context(context, items)
    assert context is not None
    return context


def plain(context: Context) -> list[object]:
    """All that is at rest."""
    return [(link.vocabulary, link.opening, link.sampled, link.items) for link in context.links()]


@given(LINKS, st.booleans(), st.data())
def test_a_context_comes_back_link_by_link(
    links: list[Link], whole: bool, data: st.DataObject
) -> None:
    """With what was sampled and what stood before it, in one piece or upon a parent."""
    context = chain(links)
    tokens = pack(context.links(), whole=whole)
    assert whole == is_whole(tokens)
    assert plain(context) == plain(restored(None, context.all_items(), tokens))
    cut = data.draw(st.integers(0, len(links) - 1))
    parent = context.links()[cut - 1] if cut else None
    late = context.links()[cut:]
    items = [item for link in late for item in link.items]
    rest = pack(late, whole=whole)
    assert plain(context) == plain(restored(parent, items, rest))
    assert tokens == with_past(rest, context.links()[:cut])


def test_items_that_no_link_claims_come_first() -> None:
    """A turn that was begun with its past and ended without it loses no item."""
    given_ = Context(Context(None, [user("a"), user("b")]), [user("c")])
    found = restored(None, given_.all_items(), pack([given_], whole=True))
    assert [2, 1] == [len(link.items) for link in found.links()]


@pytest.mark.parametrize("ids", [[], [b"\x01\x00\x00\x00"]])
def test_what_was_kept_before_there_were_links(ids: list[bytes]) -> None:
    """The vocabulary and the ids of the output."""
    tokens = msgspec.msgpack.encode([True, "v" if ids else "", ids])
    items = [user("a"), user("b"), *[user("c")] * len(ids)]
    found = restored(None, items, tokens)
    assert is_whole(tokens)
    expected: list[object] = [("", None, (None, None), tuple(items[:2]))]
    if ids:
        expected.append(("v", None, (token_array([1]),), tuple(items[2:])))
    assert expected == plain(found)


def test_ids_as_bytes() -> None:
    """Four bytes each; nothing stays nothing."""
    assert b"\x01\x00\x00\x00" == packed(token_array([1]))
    assert token_array([1]) == unpacked(b"\x01\x00\x00\x00")
    assert (None, None) == (packed(None), unpacked(None))
