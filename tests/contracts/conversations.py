"""What every conversation store must do, ours or a user's.

`ConversationContract` is a suite of facts about `store.conversations`; `ConversationMachine`
plays random calls against a model so plain that it is right by inspection.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs
from tests.contracts.store import make_turn

from turnwire.errors import ConversationChanged, ItemIdTaken, ParentNotKept, StoreError
from turnwire.store.base import Store
from turnwire.store.conversations import (
    ConversationItem,
    ConversationStore,
    StoredConversation,
)

__all__ = ["BothStores", "ConversationContract", "ConversationMachine", "make_items"]


class BothStores(Store, Protocol):
    """Turns, and conversations beside them."""

    @property
    def conversations(self) -> ConversationStore: ...


def make_conversation(name: str = "x", owner: str = "ann") -> StoredConversation:
    """A conversation without items."""
    return StoredConversation(
        id=f"conv_{name}", owner=owner, created_at=1_700_000_000, metadata=b'{"k":"v"}'
    )


def make_items(names: str) -> list[ConversationItem]:
    """One item per letter, each different from every other."""
    return [
        ConversationItem(
            id=f"msg_{name}", body=f'"{name}"'.encode(), tokens=name.encode() + b"\x00\xff"
        )
        for name in names
    ]


def placed(names: str, start: int = 1) -> list[ConversationItem]:
    """The items as they are listed, from a position on."""
    return [
        structs.replace(item, position=position)
        for position, item in enumerate(make_items(names), start)
    ]


async def opened(store: BothStores, names: str = "") -> StoredConversation:
    """Keep Ann's conversation `x` with these items; return where it stands."""
    await store.conversations.add(make_conversation(), make_items(names))
    return await stands(store)


async def stands(store: BothStores) -> StoredConversation:
    """Where Ann's conversation `x` stands."""
    found = await store.conversations.get("ann", "conv_x")
    assert found is not None
    return found


class ConversationContract:
    """One store at a time, call by call; needs the fixture `store`, a `BothStores`."""

    async def test_a_new_conversation(self, store: BothStores) -> None:
        """A conversation comes back as it was kept, and stands at the end of its items."""
        assert structs.replace(make_conversation(), length=3) == await opened(store, "abc")
        assert placed("abc") == await store.conversations.items("ann", "conv_x")

    async def test_without_items(self, store: BothStores) -> None:
        """An empty conversation is one, and has an empty list."""
        assert make_conversation() == await opened(store)
        assert await store.conversations.items("ann", "conv_x") == []
        assert await store.conversations.items("ann", "conv_x", descending=True) == []

    @pytest.mark.parametrize("owner", ["ann", "bob"])
    async def test_taken_id(self, store: BothStores, owner: str) -> None:
        """A conversation's id is given once; the first one stays as it is."""
        await opened(store, "a")
        with pytest.raises(StoreError):
            await store.conversations.add(make_conversation(owner=owner), make_items("b"))
        assert placed("a") == await store.conversations.items("ann", "conv_x")

    async def test_a_new_one_with_an_item_twice(self, store: BothStores) -> None:
        """Nothing is kept of a conversation that gives an item's id twice."""
        with pytest.raises(ItemIdTaken) as raised:
            await store.conversations.add(make_conversation(), make_items("aba"))
        assert raised.value.item_id == "msg_a"
        assert await store.conversations.get("ann", "conv_x") is None

    @pytest.mark.parametrize(
        ("owner", "conversation_id"),
        [("bob", "conv_x"), ("ann", "conv_y"), ("ann", ""), ("ann", "\ud800"), ("ann", "conv_x\0")],
    )
    async def test_unknown(self, store: BothStores, owner: str, conversation_id: str) -> None:
        """What is unknown and what is another's are answered alike, and change nothing."""
        before = await opened(store, "a")
        which = (owner, conversation_id)
        conversations = store.conversations
        assert await conversations.get(*which) is None
        assert await conversations.items(*which) is None
        assert await conversations.items(*which, descending=True, limit=1) is None
        assert await conversations.item(*which, "msg_a") is None
        assert await conversations.taken(*which, ["msg_a"]) == set()
        assert not await conversations.set_metadata(*which, b"{}")
        assert not await conversations.append(*which, make_items("b"))
        assert not await conversations.delete_item(*which, "msg_a")
        assert not await conversations.delete(*which)
        assert before == await stands(store)
        assert placed("a") == await conversations.items("ann", "conv_x")

    @pytest.mark.parametrize("item_id", ["msg_b", "", "\ud800", "msg_a\0", "' OR 1=1 --"])
    async def test_unknown_item(self, store: BothStores, item_id: str) -> None:
        """Whatever item id a client makes up, it is not found and breaks nothing."""
        before = await opened(store, "a")
        conversations = store.conversations
        assert await conversations.item("ann", "conv_x", item_id) is None
        assert await conversations.taken("ann", "conv_x", [item_id]) == set()
        assert not await conversations.delete_item("ann", "conv_x", item_id)
        assert before == await stands(store)

    async def test_metadata(self, store: BothStores) -> None:
        """Metadata is replaced, and nothing else changes."""
        before = await opened(store, "a")
        assert await store.conversations.set_metadata("ann", "conv_x", b"{}")
        assert structs.replace(before, metadata=b"{}") == await stands(store)

    async def test_append(self, store: BothStores) -> None:
        """Items added by hand follow in order, and are not covered by a response."""
        await opened(store, "ab")
        assert await store.conversations.append("ann", "conv_x", make_items("cd"))
        assert placed("abcd") == await store.conversations.items("ann", "conv_x")
        found = await stands(store)
        assert (4, 0, None) == (found.length, found.covered, found.response)

    async def test_append_a_taken_id(self, store: BothStores) -> None:
        """Of items of which one has a taken id, none is added."""
        before = await opened(store, "ab")
        for names, taken in (("cb", "msg_b"), ("cdc", "msg_c")):
            with pytest.raises(ItemIdTaken) as raised:
                await store.conversations.append("ann", "conv_x", make_items(names))
            assert taken == raised.value.item_id
        assert before == await stands(store)
        assert placed("ab") == await store.conversations.items("ann", "conv_x")

    async def test_same_item_ids_in_two_conversations(self, store: BothStores) -> None:
        """Item ids are unique within a conversation, not among all."""
        await opened(store, "a")
        await store.conversations.add(make_conversation("y", "bob"), make_items("a"))
        assert await store.conversations.delete_item("ann", "conv_x", "msg_a")
        assert placed("a") == await store.conversations.items("bob", "conv_y")

    async def test_pages(self, store: BothStores) -> None:
        """Both orders, from any position on, up to a limit."""
        await opened(store, "abcde")
        items = store.conversations.items
        newest_first = placed("abcde")[::-1]
        assert placed("ab") == await items("ann", "conv_x", limit=2)
        assert placed("cd", 3) == await items("ann", "conv_x", after=2, limit=2)
        assert placed("e", 5) == await items("ann", "conv_x", after=4)
        assert await items("ann", "conv_x", after=5) == []
        assert newest_first[:2] == await items("ann", "conv_x", limit=2, descending=True)
        assert newest_first[3:] == await items("ann", "conv_x", after=3, descending=True)
        assert await items("ann", "conv_x", after=1, descending=True) == []

    async def test_item_and_taken(self, store: BothStores) -> None:
        """One item is found by its id, and of many ids those that are given."""
        await opened(store, "abc")
        assert placed("b", 2) == [await store.conversations.item("ann", "conv_x", "msg_b")]
        asked = ["msg_c", "msg_z", "msg_a", "msg_a"]
        assert {"msg_a", "msg_c"} == await store.conversations.taken("ann", "conv_x", asked)

    async def test_delete_item(self, store: BothStores) -> None:
        """A deleted item is gone; its position is not given again, its id may be."""
        await opened(store, "abc")
        deleted = [
            await store.conversations.delete_item("ann", "conv_x", "msg_c") for _ in range(2)
        ]
        assert [True, False] == deleted
        await store.conversations.append("ann", "conv_x", make_items("c"))
        listed = await store.conversations.items("ann", "conv_x")
        assert [*placed("ab"), *placed("c", 4)] == listed
        found = await stands(store)
        assert (1, 4) == (found.edition, found.length)

    async def test_delete(self, store: BothStores) -> None:
        """A deleted conversation takes its items with it, and its id is free."""
        await opened(store, "abc")
        assert [True, False] == [
            await store.conversations.delete("ann", "conv_x") for _ in range(2)
        ]
        assert await store.conversations.items("ann", "conv_x") is None
        assert await store.conversations.item("ann", "conv_x", "msg_a") is None
        await opened(store, "d")
        assert placed("d") == await store.conversations.items("ann", "conv_x")

    async def test_append_turn(self, store: BothStores) -> None:
        """A response's turn and what it brought are kept; the items before are covered."""
        base = await opened(store, "a")
        turn = make_turn("t")
        assert await store.conversations.append_turn(base, make_items("bc"), turn)
        assert turn == await store.get("ann", turn.id)
        assert placed("abc") == await store.conversations.items("ann", "conv_x")
        found = await stands(store)
        assert (3, 3, turn.id) == (found.length, found.covered, found.response)
        await store.conversations.append("ann", "conv_x", make_items("d"))
        found = await stands(store)
        assert (4, 3, turn.id) == (found.length, found.covered, found.response)
        await store.conversations.delete_item("ann", "conv_x", "msg_a")
        found = await stands(store)
        assert (1, 4, 3, None) == (found.edition, found.length, found.covered, found.response)

    async def test_append_a_turn_that_brought_nothing(self, store: BothStores) -> None:
        """A response without new items still covers what was there."""
        base = await opened(store, "a")
        assert await store.conversations.append_turn(base, [], make_turn("t"))
        found = await stands(store)
        assert (1, 1, "resp_t") == (found.length, found.covered, found.response)

    async def test_append_a_turn_that_was_begun(self, store: BothStores) -> None:
        """A turn that was begun is finished together with what it brought, or neither is."""
        base = await opened(store, "a")
        turn = make_turn("t")
        begun = structs.replace(turn, response=b"{}", output=b"[]", tokens=b"")
        await store.begin(begun)
        stale = structs.replace(base, length=9)
        with pytest.raises(ConversationChanged):
            await store.conversations.append_turn(stale, make_items("b"), turn, begun=True)
        assert begun == await store.get("ann", turn.id)
        assert await store.conversations.append_turn(base, make_items("b"), turn, begun=True)
        assert turn == await store.get("ann", turn.id)
        assert not await store.finish(turn)
        assert placed("ab") == await store.conversations.items("ann", "conv_x")
        assert turn.id == (await stands(store)).response

    async def test_append_a_turn_that_was_begun_and_deleted(self, store: BothStores) -> None:
        """If a begun turn was deleted meanwhile it stays so; what it brought is added."""
        base = await opened(store)
        await store.begin(make_turn("t"))
        await store.delete("ann", "resp_t")
        turn = make_turn("t")
        assert await store.conversations.append_turn(base, make_items("b"), turn, begun=True)
        assert await store.get("ann", "resp_t") is None
        assert placed("b") == await store.conversations.items("ann", "conv_x")

    async def test_changed_meanwhile(self, store: BothStores) -> None:
        """After an addition or a deletion by somebody else neither turn nor items are kept."""
        conversations = store.conversations
        base = await opened(store, "ab")
        await conversations.append("ann", "conv_x", make_items("c"))
        with pytest.raises(ConversationChanged):
            await conversations.append_turn(base, make_items("d"), make_turn("t"))
        base = await stands(store)
        await conversations.delete_item("ann", "conv_x", "msg_a")
        with pytest.raises(ConversationChanged):
            await conversations.append_turn(base, make_items("d"), make_turn("t"))
        assert await store.get("ann", "resp_t") is None
        listed = await conversations.items("ann", "conv_x")
        assert placed("bc", 2) == listed

    async def test_turn_and_items_or_neither(self, store: BothStores) -> None:
        """Whichever of the two is refused takes the other with it."""
        base = await opened(store, "a")
        conversations = store.conversations
        await store.put(make_turn("taken"))
        with pytest.raises(ItemIdTaken):
            await conversations.append_turn(base, make_items("ba"), make_turn("t"))
        with pytest.raises(ParentNotKept):
            await conversations.append_turn(base, make_items("b"), make_turn("t", "nobody"))
        with pytest.raises(StoreError):
            await conversations.append_turn(base, make_items("b"), make_turn("taken"))
        assert await store.get("ann", "resp_t") is None
        assert base == await stands(store)
        assert placed("a") == await conversations.items("ann", "conv_x")

    async def test_deleted_meanwhile(self, store: BothStores) -> None:
        """The turn for a conversation that was deleted is kept all the same."""
        base = await opened(store, "a")
        await store.conversations.delete("ann", "conv_x")
        turn = make_turn("t")
        assert not await store.conversations.append_turn(base, make_items("b"), turn)
        assert turn == await store.get("ann", turn.id)
        assert await store.conversations.get("ann", "conv_x") is None

    async def test_two_turns_at_once(self, store: BothStores) -> None:
        """Of two responses that began at the same point one is kept, whole, and one refused."""
        base = await opened(store)
        results = await asyncio.gather(
            store.conversations.append_turn(base, make_items("ab"), make_turn("t")),
            store.conversations.append_turn(base, make_items("cd"), make_turn("u")),
            return_exceptions=True,
        )
        assert [True, ConversationChanged] == [
            one if isinstance(one, bool) else type(one) for one in results
        ]
        assert placed("ab") == await store.conversations.items("ann", "conv_x")
        assert await store.get("ann", "resp_u") is None

    async def test_closed(self, store: BothStores) -> None:
        """Once the store is closed its conversations refuse."""
        base = await opened(store, "a")
        await store.aclose()
        conversations, which = store.conversations, ("ann", "conv_x")
        for call in (
            conversations.add(make_conversation("y"), []),
            conversations.get(*which),
            conversations.set_metadata(*which, b"{}"),
            conversations.append(*which, make_items("b")),
            conversations.append_turn(base, make_items("b"), make_turn("t")),
            conversations.items(*which),
            conversations.item(*which, "msg_a"),
            conversations.taken(*which, ["msg_a"]),
            conversations.delete_item(*which, "msg_a"),
            conversations.delete(*which),
        ):
            with pytest.raises(StoreError):
                await call


NAMES = st.text("abcdef", max_size=4)
OWNERS = st.sampled_from(["ann", "bob"])


class ConversationMachine(RuleBasedStateMachine):
    """A store and a model of it get the same calls and must give the same answers.

    The model is one list of items and the few numbers that the contract explains.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = self.runner.run(self.open_store())
        self.stands: StoredConversation | None = None
        self.items: list[ConversationItem] = []
        self.earlier: list[StoredConversation] = []
        self.turns = 0

    async def open_store(self) -> BothStores:
        """Open an empty store."""
        raise NotImplementedError

    def teardown(self) -> None:
        self.runner.run(self.store.aclose())
        self.runner.close()

    def grow(self, names: str) -> None:
        """Add items to the model."""
        assert self.stands is not None
        self.items += placed(names, self.stands.length + 1)
        self.stands = structs.replace(self.stands, length=self.stands.length + len(names))

    def clashes(self, names: str) -> bool:
        """Whether items of these names cannot be added."""
        given = {item.id for item in make_items(names)}
        return len(given) < len(names) or bool(given & {item.id for item in self.items})

    @rule(owner=OWNERS, names=NAMES)
    def add(self, owner: str, names: str) -> None:
        call = self.store.conversations.add(make_conversation(owner=owner), make_items(names))
        if self.stands is not None or len(set(names)) < len(names):
            with pytest.raises(StoreError):
                self.runner.run(call)
        else:
            self.runner.run(call)
            self.stands = make_conversation(owner=owner)
            self.grow(names)

    @rule(owner=OWNERS, names=NAMES)
    def append(self, owner: str, names: str) -> None:
        call = self.store.conversations.append(owner, "conv_x", make_items(names))
        if self.stands is None or self.stands.owner != owner:
            assert not self.runner.run(call)
        elif self.clashes(names):
            with pytest.raises(ItemIdTaken):
                self.runner.run(call)
        else:
            assert self.runner.run(call)
            self.grow(names)

    @rule(names=NAMES, back=st.integers(0, 2))
    def append_turn(self, names: str, back: int) -> None:
        if not self.earlier:
            return
        base = self.earlier[max(-1 - back, -len(self.earlier))]
        turn = make_turn(str(self.turns), owner=base.owner)
        self.turns += 1
        call = self.store.conversations.append_turn(base, make_items(names), turn)
        kept = True
        if self.stands is None or self.stands.owner != base.owner:
            assert not self.runner.run(call)
        elif (base.edition, base.length) != (self.stands.edition, self.stands.length):
            kept = False
            with pytest.raises(ConversationChanged):
                self.runner.run(call)
        elif self.clashes(names):
            kept = False
            with pytest.raises(ItemIdTaken):
                self.runner.run(call)
        else:
            assert self.runner.run(call)
            self.grow(names)
            length = self.stands.length
            self.stands = structs.replace(self.stands, response=turn.id, covered=length)
        found = self.runner.run(self.store.get(base.owner, turn.id))
        assert (turn if kept else None) == found

    @rule(owner=OWNERS, name=st.sampled_from("abcdef"))
    def delete_item(self, owner: str, name: str) -> None:
        left = [item for item in self.items if item.id != f"msg_{name}"]
        mine = self.stands is not None and self.stands.owner == owner
        expected = mine and len(left) < len(self.items)
        call = self.store.conversations.delete_item(owner, "conv_x", f"msg_{name}")
        assert expected == self.runner.run(call)
        if expected and self.stands is not None:
            self.items = left
            edition = self.stands.edition + 1
            self.stands = structs.replace(self.stands, edition=edition, response=None)

    @rule(owner=OWNERS)
    def delete(self, owner: str) -> None:
        expected = self.stands is not None and self.stands.owner == owner
        assert expected == self.runner.run(self.store.conversations.delete(owner, "conv_x"))
        if expected:
            self.stands, self.items = None, []

    @invariant()
    def all_reads_agree(self) -> None:
        async def read_all() -> None:
            for owner in ("ann", "bob"):
                which = (owner, "conv_x")
                mine = self.stands is not None and self.stands.owner == owner
                found = await self.store.conversations.get(*which)
                assert (self.stands if mine else None) == found
                listed = await self.store.conversations.items(*which)
                assert (self.items if mine else None) == listed
                newest = await self.store.conversations.items(*which, descending=True)
                assert (self.items[::-1] if mine else None) == newest

        self.runner.run(read_all())
        if self.stands is not None and self.stands not in self.earlier:
            self.earlier.append(self.stands)
