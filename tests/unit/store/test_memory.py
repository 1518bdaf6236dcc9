from __future__ import annotations

import pytest
from tests.contracts.store import Clock, make_turn

from turnwire.errors import ParentNotKept
from turnwire.store.base import LINGER_SEC
from turnwire.store.memory import MemoryStore


async def test_oldest_response_goes_first() -> None:
    """When there is no room, the oldest response goes, whoever owns it."""
    store = MemoryStore(3)
    for name, owner in zip("abcd", ["ann", "bob", "ann", "bob"], strict=True):
        await store.put(make_turn(name, owner=owner))
    assert await store.get("ann", "resp_a") is None
    kept = [make_turn("b", owner="bob"), make_turn("c"), make_turn("d", owner="bob")]
    assert kept == [await store.get(turn.owner, turn.id) for turn in kept]


async def test_dropped_is_as_deleted() -> None:
    """A dropped response cannot be got, and those that continue it keep what it added."""
    store = MemoryStore(1)
    await store.put(make_turn("a"))
    await store.put(make_turn("b", "a"))
    await store.put(make_turn("c", "b"))
    assert [None, None] == [await store.chain("ann", f"resp_{name}") for name in "ab"]
    chain = await store.chain("ann", "resp_c")
    assert [b"", b"", make_turn("c").response] == [turn.response for turn in chain or ()]
    assert [make_turn(name).items for name in "abc"] == [turn.items for turn in chain or ()]


async def test_dropped_parent_lingers() -> None:
    """A turn whose parent was dropped while it was being generated keeps its past."""
    store = MemoryStore(1)
    await store.put(make_turn("a"))
    await store.put(make_turn("other"))
    await store.put(make_turn("b", "a"))
    chain = await store.chain("ann", "resp_b")
    assert ["resp_a", "resp_b"] == [turn.id for turn in chain or ()]


async def test_memory_is_bounded() -> None:
    """Beside the kept responses there are at most as many dropped ones, the latest."""
    store = MemoryStore(4, clock=Clock())
    for n in range(100):
        await store.put(make_turn(f"{n}"))
    assert 8 == store.num_held
    with pytest.raises(ParentNotKept):
        await store.put(make_turn("late", "91"))
    await store.put(make_turn("early", "92"))


async def test_nothing_is_left() -> None:
    """When all turns were deleted and have lingered, nothing of them is in memory."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    await store.put(make_turn("a"))
    await store.put(make_turn("b", "a"))
    await store.put(make_turn("c", "b"))
    await store.put(make_turn("d", "b"))
    for name in "abcd":
        await store.delete("ann", f"resp_{name}")
    assert 4 == store.num_held
    clock.now += LINGER_SEC
    assert not await store.delete("ann", "resp_a")
    assert 0 == store.num_held


def test_needs_room() -> None:
    """A store without room for one response is refused."""
    with pytest.raises(ValueError, match="max_turns"):
        MemoryStore(0)
