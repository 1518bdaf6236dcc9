"""Items get ids and statuses, and keep those that they have."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.conversations.arrivals import MAX_ITEM_ID_CHARS, admitted, given_ids
from turnwire.errors import InvalidRequest
from turnwire.protocol.items import InputText, Item, Message, OpaqueItem, Reasoning


def user(item_id: str | None = None) -> Message:
    return Message(id=item_id, role="user", content=(InputText(text="x"),))


NAMES = st.none() | st.sampled_from("abcd")


@given(st.lists(NAMES), st.frozensets(st.sampled_from("abcd")))
def test_ids_are_unique(names: list[str | None], taken: frozenset[str]) -> None:
    """Given ids are kept, missing ones made, and a clash is refused where it is."""
    given_names = [name for name in names if name is not None]
    clash = next(
        (
            place
            for place, name in enumerate(names)
            if name is not None and (name in taken or name in names[:place])
        ),
        None,
    )
    items = [user(name) for name in names]
    assert given_names == given_ids(items)
    if clash is not None:
        with pytest.raises(InvalidRequest) as raised:
            admitted(items, taken, "input")
        assert f"input[{clash}].id" == raised.value.param
        return
    found = admitted(items, taken, "input")
    ids = given_ids(found)
    assert len(names) == len(ids) == len(set(ids))
    assert not set(ids) & taken
    for name, item_id in zip(names, ids, strict=True):
        assert item_id == name or (name is None and item_id.startswith("msg_"))


def test_copies_get_another_id_where_theirs_is_taken() -> None:
    """A copy keeps its id if it can, and never takes another's."""
    items = [user("a"), user("a"), user("b"), user("c")]
    found = given_ids(admitted(items, {"b"}, "input", renamed={1, 2, 3}))
    assert ("a", "c") == (found[0], found[3])
    assert 4 == len(set(found))
    assert "b" not in found


@pytest.mark.parametrize("item_id", ["", "x" * (MAX_ITEM_ID_CHARS + 1), "a\x00", "\ud800", "a\n"])
def test_ids_that_cannot_be_used(item_id: str) -> None:
    """An id has to fit into a path and into every store."""
    with pytest.raises(InvalidRequest) as raised:
        admitted([user(), user(item_id)], (), "items")
    assert raised.value.param == "items[1].id"


def test_statuses() -> None:
    """A message without a status is completed; one that has a status keeps it."""
    cut = Message(id="a", status="incomplete", role="assistant", content=())
    found = admitted([user("b"), cut], (), "input")
    assert ["completed", "incomplete"] == [
        item.status for item in found if isinstance(item, Message)
    ]
    thought = Reasoning(id="r", summary=())
    assert [thought] == admitted([thought], (), "input")


def test_items_of_unknown_types() -> None:
    """An item that is kept byte for byte has its id in its bytes, too."""
    items: list[Item] = [OpaqueItem(type="x", raw=b'{"type":"x","id":null,"n":1.50}')]
    [found] = admitted(items, (), "input")
    assert isinstance(found, OpaqueItem)
    assert found.id is not None
    assert {"type": "x", "id": found.id, "n": 1.5} == json.loads(found.raw)
    assert b"1.50" in found.raw
