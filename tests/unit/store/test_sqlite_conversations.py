"""Conversations in a file outlive the process; the rest is the contract's."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.contracts.conversations import make_items
from tests.contracts.store import make_turn

from turnwire.errors import ConversationChanged
from turnwire.store.conversations import StoredConversation
from turnwire.store.sqlite import SqliteStore

X = StoredConversation(id="conv_x", owner="ann", created_at=7)


async def test_reopened(tmp_path: Path) -> None:
    """Conversation, items and turn are there when the file is opened again."""
    store = await SqliteStore.open(tmp_path / "turns.db")
    await store.conversations.add(X, make_items("a"))
    base = await store.conversations.get("ann", "conv_x")
    assert base is not None
    await store.conversations.append_turn(base, make_items("b"), make_turn("t"))
    before = await store.conversations.get("ann", "conv_x")
    await store.aclose()
    store = await SqliteStore.open(tmp_path / "turns.db")
    assert before == await store.conversations.get("ann", "conv_x")
    items = await store.conversations.items("ann", "conv_x")
    assert items is not None
    assert ["msg_a", "msg_b"] == [item.id for item in items]
    assert make_turn("t") == await store.get("ann", "resp_t")
    await store.aclose()


async def test_two_processes(tmp_path: Path) -> None:
    """Of two that share the file and append to one conversation, one is told to begin anew."""
    one = await SqliteStore.open(tmp_path / "turns.db")
    other = await SqliteStore.open(tmp_path / "turns.db")
    await one.conversations.add(X, [])
    results = await asyncio.gather(
        one.conversations.append_turn(X, make_items("ab"), make_turn("t")),
        other.conversations.append_turn(X, make_items("cd"), make_turn("u")),
        return_exceptions=True,
    )
    assert {bool, ConversationChanged} == {type(result) for result in results}
    items = await other.conversations.items("ann", "conv_x")
    assert items == await one.conversations.items("ann", "conv_x")
    assert items is not None
    assert 2 == len(items)
    await one.aclose()
    await other.aclose()
