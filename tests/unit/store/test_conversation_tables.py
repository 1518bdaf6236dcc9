"""What a row means, and that a refused write leaves no trace within a shared commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from tests.contracts.conversations import make_items
from tests.contracts.store import make_turn

from turnwire.errors import ConversationChanged, ItemIdTaken, ParentNotKept
from turnwire.store.conversation_tables import (
    CONVERSATION_SQL,
    DropConversation,
    DropItem,
    KeepConversation,
    KeepItems,
    KeepMetadata,
    to_conversation,
    to_item,
)
from turnwire.store.conversations import ConversationItem, StoredConversation
from turnwire.store.database import Database

X = StoredConversation(id="conv_x", owner="ann", created_at=7)
WHICH = {"owner": "ann", "id": "conv_x"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "turns.db", num_readers=1, linger_sec=1.0)
    opened.commit([KeepConversation(X, make_items("a"))], 0.0)
    yield opened
    opened.close()


def stands(database: Database) -> StoredConversation:
    [row] = database.rows(CONVERSATION_SQL["find"], WHICH)
    return to_conversation(row[1:])


def listed(database: Database) -> list[ConversationItem]:
    rows = database.rows(CONVERSATION_SQL["items_ascending"], {**WHICH, "after": 0, "limit": -1})
    return [to_item(row) for row in rows]


def test_refused_writes_share_a_commit_with_good_ones(database: Database) -> None:
    """Each write is whole or not at all, and no write depends on its neighbours."""
    base = stands(database)
    committed = database.commit(
        [
            KeepItems("ann", "conv_x", make_items("ba")),
            KeepItems("ann", "conv_x", make_items("bc"), base, make_turn("t")),
            KeepItems("ann", "conv_x", make_items("d"), base, make_turn("late")),
            KeepItems("ann", "conv_x", make_items("e"), base, make_turn("orphan", "nobody")),
            KeepMetadata("ann", "conv_x", b'{"n":"1"}'),
            KeepMetadata("bob", "conv_x", b"{}"),
            DropItem("ann", "conv_x", "msg_z"),
            make_turn("other"),
        ],
        0.0,
    )
    taken, turn, late, orphan, *rest = committed.outcomes
    assert [ItemIdTaken, bool, ConversationChanged, ParentNotKept] == [
        type(one) for one in (taken, turn, late, orphan)
    ]
    assert [True, False, False, True] == rest
    assert ["msg_a", "msg_b", "msg_c"] == [item.id for item in listed(database)]
    expected = structs.replace(base, length=3, covered=3, response="resp_t", metadata=b'{"n":"1"}')
    assert expected == stands(database)
    assert [True, False, False, True] == [
        database.get("ann", f"resp_{name}") is not None for name in ("t", "late", "orphan", "other")
    ]


def test_a_dropped_conversation_leaves_no_items(database: Database) -> None:
    """The items of a conversation go with it."""
    assert [True] == database.commit([DropConversation("ann", "conv_x")], 0.0).outcomes
    count = "SELECT count(*) FROM conversation_item WHERE :id = :id"
    assert [(0,)] == database.rows(count, {"id": ""})
