"""What every store must do, ours or a user's: subclass both classes, say how to open yours.

`StoreContract` is a suite of facts; it needs the fixtures `store` and `clock`, where the store
was opened with that clock and with `LINGER_SEC`. `StoreMachine` runs random sequences of calls
against a model so plain that it is right by inspection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from turnwire.errors import ParentNotKept, StoreError
from turnwire.store.base import LINGER_SEC, Store, StoredTurn

__all__ = ["Clock", "StoreContract", "StoreMachine", "make_turn"]


class Clock:
    """Tells the time that a test has set, in Unix seconds."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_turn(name: str, parent: str | None = None, owner: str = "ann") -> StoredTurn:
    """A turn whose every field differs from every other turn's."""
    return StoredTurn(
        id=f"resp_{name}",
        owner=owner,
        parent=f"resp_{parent}" if parent is not None else None,
        created_at=1_700_000_000 + sum(name.encode()),
        response=f'{{"id":"resp_{name}"}}'.encode(),
        items=f'["in {name}"]'.encode(),
        output=f'["out {name}"]'.encode(),
        tokens=name.encode() + b"\x00\xff",
    )


def without_response(turn: StoredTurn) -> StoredTurn:
    """The turn as a chain shows it once its response was deleted."""
    return structs.replace(turn, response=b"")


async def put_line(store: Store, names: str) -> list[StoredTurn]:
    """Store one turn per letter, each continuing the one before."""
    turns = [
        make_turn(name, parent) for name, parent in zip(names, [None, *names[:-1]], strict=True)
    ]
    for turn in turns:
        await store.put(turn)
    return turns


class StoreContract:
    """One store at a time, call by call."""

    async def test_put_then_get(self, store: Store) -> None:
        """A turn comes back exactly as it was put."""
        turn = make_turn("a")
        await store.put(turn)
        assert turn == await store.get("ann", "resp_a")

    async def test_empty_tokens(self, store: Store) -> None:
        """A turn may come without tokens, and with an empty response."""
        turn = structs.replace(make_turn("a"), tokens=b"", response=b"")
        await store.put(turn)
        assert turn == await store.get("ann", "resp_a")
        assert [turn] == await store.chain("ann", "resp_a")

    async def test_large_turn(self, store: Store) -> None:
        """A turn of some megabytes comes back whole."""
        turn = structs.replace(make_turn("a"), items=b"0123456789abcdef" * 200_000)
        await store.put(turn)
        assert turn == await store.get("ann", "resp_a")

    @pytest.mark.parametrize(
        "response_id", ["resp_none", "", "resp_a\x00", "resp_\u20ac", "\ud800", "resp_' OR 1=1 --"]
    )
    async def test_unknown_id(self, store: Store, response_id: str) -> None:
        """Whatever id a client makes up, it is not found and breaks nothing."""
        await store.put(make_turn("a"))
        assert await store.get("ann", response_id) is None
        assert await store.chain("ann", response_id) is None
        assert not await store.delete("ann", response_id)

    async def test_other_owner(self, store: Store) -> None:
        """Another owner's turn can be neither read, nor continued, nor deleted."""
        turn = make_turn("a")
        await store.put(turn)
        assert await store.get("bob", "resp_a") is None
        assert await store.chain("bob", "resp_a") is None
        assert not await store.delete("bob", "resp_a")
        with pytest.raises(ParentNotKept):
            await store.put(make_turn("b", "a", owner="bob"))
        assert await store.get("bob", "resp_b") is None
        assert turn == await store.get("ann", "resp_a")

    @pytest.mark.parametrize("owner", ["ann", "bob"])
    async def test_taken_id(self, store: Store, owner: str) -> None:
        """An id is stored once: a second turn of that id is refused, the first one stays."""
        turn = make_turn("a")
        await store.put(turn)
        with pytest.raises(StoreError):
            await store.put(structs.replace(make_turn("a", owner=owner), items=b"[2]"))
        assert turn == await store.get("ann", "resp_a")

    async def test_unknown_parent(self, store: Store) -> None:
        """A turn that continues nothing known is refused, so that no past is ever cut short."""
        with pytest.raises(ParentNotKept):
            await store.put(make_turn("b", "a"))
        assert await store.get("ann", "resp_b") is None

    async def test_chain_in_order(self, store: Store) -> None:
        """A chain is the turn and all before it, oldest first, and nothing after it."""
        turns = await put_line(store, "zyxabc")
        assert turns[:5] == await store.chain("ann", "resp_b")

    async def test_forks(self, store: Store) -> None:
        """Turns that continue the same one share its past and do not see each other."""
        a, b = await put_line(store, "ab")
        left, right = make_turn("left", "b"), make_turn("right", "b")
        await asyncio.gather(store.put(left), store.put(right))
        assert [a, b, left] == await store.chain("ann", "resp_left")
        assert [a, b, right] == await store.chain("ann", "resp_right")

    async def test_delete(self, store: Store) -> None:
        """A deleted response is gone at once, and is deleted once."""
        await store.put(make_turn("a"))
        assert [True, False] == [await store.delete("ann", "resp_a") for _ in range(2)]
        assert await store.get("ann", "resp_a") is None
        assert await store.chain("ann", "resp_a") is None

    async def test_epoch(self, store: Store) -> None:
        """A deletion ends the epoch, a refused one and everything else need not."""
        await store.put(make_turn("a"))
        epoch = store.epoch
        assert epoch == store.epoch
        assert await store.get("ann", "resp_a") is not None
        assert await store.delete("ann", "resp_a")
        assert epoch != store.epoch

    async def test_delete_keeps_the_past_of_children(self, store: Store, clock: Clock) -> None:
        """Deleting a turn, however long ago, takes nothing from those that continue it."""
        a, b, c = await put_line(store, "abc")
        for response_id in ("resp_a", "resp_b"):
            assert await store.delete("ann", response_id)
            clock.now += 2 * LINGER_SEC
        await store.put(d := make_turn("d", "c"))
        past = [without_response(a), without_response(b), c]
        assert past == await store.chain("ann", "resp_c")
        assert [*past, d] == await store.chain("ann", "resp_d")

    async def test_parent_deleted_meanwhile(self, store: Store, clock: Clock) -> None:
        """A turn whose parent was deleted while it was being generated keeps its whole past."""
        a, b = await put_line(store, "ab")
        await store.delete("ann", "resp_b")
        await store.delete("ann", "resp_a")
        clock.now += LINGER_SEC - 1
        await store.put(c := make_turn("c", "b"))
        clock.now += LINGER_SEC
        past = [without_response(a), without_response(b)]
        assert [*past, c] == await store.chain("ann", "resp_c")

    async def test_parent_deleted_long_ago(self, store: Store, clock: Clock) -> None:
        """A deleted turn that nothing continues is forgotten, and its id is free."""
        await put_line(store, "ab")
        await store.delete("ann", "resp_a")
        await store.delete("ann", "resp_b")
        clock.now += LINGER_SEC
        with pytest.raises(ParentNotKept):
            await store.put(make_turn("c", "b"))
        again = make_turn("b", owner="bob")
        await store.put(again)
        assert [again] == await store.chain("bob", "resp_b")

    async def test_each_turn_lingers_for_itself(self, store: Store, clock: Clock) -> None:
        """A deleted turn is still continued in its time, though its own children have gone."""
        a, _ = await put_line(store, "ab")
        await store.delete("ann", "resp_b")
        clock.now += LINGER_SEC / 2
        await store.delete("ann", "resp_a")
        clock.now += LINGER_SEC / 2
        with pytest.raises(ParentNotKept):
            await store.put(make_turn("c", "b"))
        await store.put(d := make_turn("d", "a"))
        assert [without_response(a), d] == await store.chain("ann", "resp_d")

    async def test_deleted_id_is_taken_while_it_lingers(self, store: Store) -> None:
        """A turn that others may still continue keeps its id to itself."""
        await put_line(store, "a")
        await store.delete("ann", "resp_a")
        with pytest.raises(StoreError):
            await store.put(make_turn("a"))

    async def test_begin_then_finish(self, store: Store) -> None:
        """A turn that is begun is there as it began, and after `finish` as it ended."""
        await store.put(make_turn("a"))
        turn = make_turn("b", "a")
        begun = structs.replace(turn, response=b"{}", output=b"[]", tokens=b"")
        await store.begin(begun)
        assert begun == await store.get("ann", "resp_b")
        assert [make_turn("a"), begun] == await store.chain("ann", "resp_b")
        assert await store.finish(structs.replace(turn, items=b"[0]", parent=None, created_at=0))
        assert turn == await store.get("ann", "resp_b")
        assert [make_turn("a"), turn] == await store.chain("ann", "resp_b")

    async def test_only_what_runs_is_finished(self, store: Store) -> None:
        """A turn is finished once, by its owner, and only if it was begun."""
        turn = make_turn("a")
        await store.begin(turn)
        other = structs.replace(turn, output=b"[1]")
        assert not await store.finish(structs.replace(other, owner="bob"))
        assert [True, False] == [await store.finish(one) for one in (turn, other)]
        assert turn == await store.get("ann", "resp_a")
        await store.put(make_turn("whole"))
        for name in ("whole", "none"):
            assert not await store.finish(structs.replace(make_turn(name), output=b"[1]"))
        assert make_turn("whole") == await store.get("ann", "resp_whole")

    async def test_begin_is_refused_as_put_is(self, store: Store) -> None:
        """A turn whose id is taken, or whose parent is not there, is not begun."""
        await store.put(make_turn("a"))
        with pytest.raises(StoreError):
            await store.begin(make_turn("a"))
        with pytest.raises(ParentNotKept):
            await store.begin(make_turn("b", "nobody"))
        for name, parent in (("a", None), ("b", "nobody")):
            assert not await store.finish(make_turn(name, parent))

    async def test_deleted_while_it_runs(self, store: Store, clock: Clock) -> None:
        """A running turn that was deleted stays deleted, and its id is free in the end."""
        await store.begin(make_turn("a"))
        assert await store.delete("ann", "resp_a")
        assert not await store.finish(make_turn("a"))
        assert await store.get("ann", "resp_a") is None
        clock.now += LINGER_SEC
        await store.begin(make_turn("a"))
        assert await store.finish(make_turn("a"))

    async def test_parent_of_a_running_turn(self, store: Store, clock: Clock) -> None:
        """However long it runs, its past stays although the turns before it were deleted."""
        (a,) = await put_line(store, "a")
        await store.begin(b := make_turn("b", "a"))
        await store.delete("ann", "resp_a")
        clock.now += 2 * LINGER_SEC
        await store.put(make_turn("other"))
        assert await store.finish(b)
        assert [without_response(a), b] == await store.chain("ann", "resp_b")

    async def test_nothing_of_ours_is_abandoned(self, store: Store) -> None:
        """What this process runs is not abandoned, nor what was finished."""
        assert [] == list(await store.abandoned())
        await store.begin(make_turn("a"))
        await store.begin(make_turn("b"))
        await store.finish(make_turn("b"))
        assert [] == list(await store.abandoned())

    async def test_concurrent_puts(self, store: Store) -> None:
        """Of turns put at once, those that are refused do not harm the others."""
        await store.put(make_turn("taken"))
        names = [f"{n}" for n in range(30)]
        turns = [make_turn(name) for name in names]
        bad = [make_turn("taken"), make_turn("orphan", "nobody"), make_turn("7")]
        mixed = [*turns[:15], *bad, *turns[15:]]
        results = await asyncio.gather(*map(store.put, mixed), return_exceptions=True)
        # "7" was put twice: the first one stands.
        refused = [turn for turn, result in zip(mixed, results, strict=True) if result is not None]
        assert bad == refused
        assert turns == [await store.get("ann", turn.id) for turn in turns]

    async def test_errors_of_callers_are_their_own(self, store: Store) -> None:
        """Two callers refused for one reason get an error object each."""
        await store.put(make_turn("a"))
        first, second = await asyncio.gather(
            store.put(make_turn("a")), store.put(make_turn("a")), return_exceptions=True
        )
        assert (StoreError, StoreError) == (type(first), type(second))
        assert first is not second

    async def test_closed(self, store: Store) -> None:
        """A closed store refuses, and may be closed again."""
        await store.aclose()
        await store.aclose()
        for call in (
            store.put(make_turn("a")),
            store.get("ann", "resp_a"),
            store.chain("ann", "resp_a"),
            store.delete("ann", "resp_a"),
            store.begin(make_turn("a")),
            store.finish(make_turn("a")),
            store.abandoned(),
        ):
            with pytest.raises(StoreError):
                await call


NAMES = st.sampled_from("abcdefgh")
OWNERS = st.sampled_from(["ann", "bob"])


class StoreMachine(RuleBasedStateMachine):
    """A store and a model of it get the same calls and must give the same answers.

    The model never forgets what a turn added. It works out from the contract who is remembered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.store = self.runner.run(self.open_store())
        self.known: dict[str, StoredTurn] = {}  # id -> the last turn that was put under it
        self.deleted: dict[str, float] = {}  # id -> when
        self.running: set[str] = set()  # ids

    async def open_store(self) -> Store:
        """Open an empty store on `self.clock`, with LINGER_SEC."""
        raise NotImplementedError

    def teardown(self) -> None:
        self.runner.run(self.store.aclose())
        self.runner.close()

    def is_remembered(self, response_id: str) -> bool:
        """Live, or lingering, or continued by one that is remembered."""
        if response_id not in self.known:
            return False
        if self.deleted.get(response_id, self.clock.now) + LINGER_SEC > self.clock.now:
            return True
        return any(
            child.parent == response_id and self.is_remembered(child.id)
            for child in list(self.known.values())
        )

    def forget(self) -> None:
        """Free the ids of turns that nothing needs."""
        for response_id in [one for one in self.known if not self.is_remembered(one)]:
            del self.known[response_id]
            del self.deleted[response_id]

    def expect_get(self, owner: str, response_id: str) -> StoredTurn | None:
        turn = self.known.get(response_id)
        gone = turn is None or turn.owner != owner or response_id in self.deleted
        return None if gone else turn

    def expect_chain(self, owner: str, response_id: str) -> Sequence[StoredTurn] | None:
        turn = self.expect_get(owner, response_id)
        if turn is None:
            return None
        turns: list[StoredTurn] = []
        while turn is not None:
            turns.append(without_response(turn) if turn.id in self.deleted else turn)
            turn = self.known[turn.parent] if turn.parent is not None else None
        return turns[::-1]

    @rule(
        name=NAMES,
        parent=st.none() | NAMES,
        owner=OWNERS,
        salt=st.binary(max_size=3),
        running=st.booleans(),
    )
    def put(self, name: str, parent: str | None, owner: str, salt: bytes, running: bool) -> None:
        self.forget()
        put = self.store.begin if running else self.store.put
        turn = structs.replace(make_turn(name, parent, owner), items=salt)
        continued = self.known.get(turn.parent) if turn.parent is not None else None
        if turn.id in self.known:
            with pytest.raises(StoreError):
                self.runner.run(put(turn))
        elif turn.parent is not None and (continued is None or continued.owner != owner):
            with pytest.raises(ParentNotKept):
                self.runner.run(put(turn))
        else:
            self.runner.run(put(turn))
            self.known[turn.id] = turn
            if running:
                self.running.add(turn.id)

    @rule(name=NAMES, owner=OWNERS, salt=st.binary(max_size=3))
    def finish(self, name: str, owner: str, salt: bytes) -> None:
        self.forget()
        response_id = f"resp_{name}"
        begun = self.expect_get(owner, response_id)
        expected = begun is not None and response_id in self.running
        end = structs.replace(make_turn(name, owner=owner), output=salt)
        assert expected == self.runner.run(self.store.finish(end))
        if begun is not None and expected:
            self.running.discard(response_id)
            self.known[response_id] = structs.replace(begun, output=salt)

    @rule(name=NAMES, owner=OWNERS)
    def delete(self, name: str, owner: str) -> None:
        self.forget()
        response_id = f"resp_{name}"
        expected = self.expect_get(owner, response_id) is not None
        assert expected == self.runner.run(self.store.delete(owner, response_id))
        if expected:
            self.deleted[response_id] = self.clock.now
            self.running.discard(response_id)

    @rule(share=st.sampled_from([0.3, 1.0, 2.5]))
    def wait(self, share: float) -> None:
        self.clock.now += share * LINGER_SEC

    @invariant()
    def all_reads_agree(self) -> None:
        async def read_all() -> None:
            for name in "abcdefgh":
                for owner in ("ann", "bob"):
                    which = (owner, f"resp_{name}")
                    assert self.expect_get(*which) == await self.store.get(*which)
                    assert self.expect_chain(*which) == await self.store.chain(*which)

        self.runner.run(read_all())
