"""What is special about conversations in memory; the rest is the contract's."""

from __future__ import annotations

from msgspec import structs
from tests.contracts.conversations import make_items

from turnwire.store.base import StoredTurn
from turnwire.store.conversations import StoredConversation
from turnwire.store.memory_conversations import MemoryConversations


def nowhere(turn: StoredTurn) -> None:
    """Keep no turn."""


def conversation(name: str) -> StoredConversation:
    return StoredConversation(id=f"conv_{name}", owner="ann", created_at=1)


async def kept(conversations: MemoryConversations, names: str) -> list[bool]:
    """Which of the conversations are still there."""
    return [await conversations.get("ann", f"conv_{name}") is not None for name in names]


async def test_the_one_changed_longest_ago_goes() -> None:
    """With too many conversations, the one that nothing was added to for longest makes room."""
    conversations = MemoryConversations(nowhere, nowhere, max_conversations=2)
    await conversations.add(conversation("a"), [])
    await conversations.add(conversation("b"), make_items("x"))
    await conversations.append("ann", "conv_a", make_items("y"))
    await conversations.add(conversation("c"), [])
    assert [True, False, True] == await kept(conversations, "abc")
    assert 1 == conversations.num_items


async def test_too_many_items() -> None:
    """Items are bounded over all conversations, and the one that grows is spared."""
    conversations = MemoryConversations(nowhere, nowhere, max_items=3)
    await conversations.add(conversation("a"), make_items("xy"))
    await conversations.add(conversation("b"), make_items("xy"))
    assert [False, True] == await kept(conversations, "ab")
    await conversations.append("ann", "conv_b", make_items("cdef"))
    assert [True] == await kept(conversations, "b")
    await conversations.delete_item("ann", "conv_b", "msg_c")
    assert 5 == conversations.num_items


async def test_where_a_new_one_stands_follows_from_its_items() -> None:
    """Numbers that come with a new conversation are not believed."""
    conversations = MemoryConversations(nowhere, nowhere)
    given = structs.replace(conversation("a"), length=9, edition=9, covered=9, response="r")
    await conversations.add(given, make_items("x"))
    expected = structs.replace(conversation("a"), length=1)
    assert expected == await conversations.get("ann", "conv_a")
