"""Conversations go to the store and come back as they were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw, structs

from turnwire.context.chain import Context
from turnwire.context.recent import RecentContexts
from turnwire.errors import (
    InvalidRequest,
    NotFound,
    PreviousResponseNotFound,
    ResponseNotCompleted,
)
from turnwire.history import History
from turnwire.ids import item_id as output_id
from turnwire.ids import new_id
from turnwire.protocol.codec import decode_items, encode_item
from turnwire.protocol.items import (
    Compaction,
    FunctionCall,
    InputText,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Summary,
)
from turnwire.sealing import Sealer
from turnwire.store.base import Store, StoredTurn
from turnwire.store.memory import MemoryStore
from turnwire.store.sqlite import SqliteStore
from turnwire.tokens import TokenArray, token_array

KEY = Sealer.generate_key()


def history(store: Store | None = None) -> History:
    """A history with nothing in memory but its store."""
    return History(store or MemoryStore(100), Sealer([KEY]), RecentContexts())


def user(text: str) -> Message:
    """A message of the user."""
    return Message(role="user", content=(InputText(text=text),))


def assistant(text: str) -> Message:
    """A message of the model."""
    return Message(
        id=f"msg_{text}", status="completed", role="assistant", content=(OutputText(text=text),)
    )


def response(status: str = "completed") -> bytes:
    """A stored response object, as far as continuing looks at it."""
    return json.dumps({"status": status}).encode()


async def keep(
    into: History,
    response_id: str,
    parent: Context | None,
    given: Sequence[Item],
    output: Sequence[Item],
    *,
    sampled: Sequence[TokenArray | None] | None = None,
    status: str = "completed",
) -> Context:
    """Store one turn; return the context after it."""
    before = Context(parent, given)
    after = (
        Context(before, output, sampled=sampled, vocabulary="v" if sampled else "")
        if output
        else before
    )
    continuable = status in ("completed", "incomplete")
    answer = response(status)
    await into.keep("me", response_id, before, after, answer, 1, continuable=continuable)
    return after


def content(context: Context) -> list[tuple[Any, ...]]:
    """Items without their ids, as the model would see them."""
    found: list[tuple[Any, ...]] = []
    for item in context.all_items():
        if isinstance(item, Message):
            texts = [part.text for part in item.content if isinstance(part, InputText | OutputText)]
            found.append((item.role, *texts))
        elif isinstance(item, Reasoning):
            found.append(("reasoning", *[part.text for part in item.content or ()]))
        elif isinstance(item, FunctionCall):
            found.append(("call", item.call_id, item.arguments))
    return found


async def test_a_chain_comes_back_whole_with_its_sampled_ids() -> None:
    """Items, reasoning text and sampled ids survive a new process on the same store."""
    store = MemoryStore(100)
    thought = Reasoning(id="rs_1", summary=(), content=(ReasoningText(text="hm"),))
    one = await keep(
        history(store),
        "r1",
        None,
        [user("a")],
        [thought, assistant("b")],
        sampled=[token_array([1, 2]), None],
    )
    two = await keep(history(store), "r2", one, [user("c")], [assistant("d")])
    found = await history(store).find("me", "r2")
    assert content(two) == content(found)
    parent = found.parent
    assert parent is not None
    assert parent.parent is not None
    assert ([token_array([1, 2]), None], "v") == (
        list(parent.parent.sampled),
        parent.parent.vocabulary,
    )


def sampled_of(context: Context) -> list[tuple[str, TokenArray | None, list[TokenArray | None]]]:
    """What was sampled for each link, behind what, and in which vocabulary."""
    return [(link.vocabulary, link.opening, list(link.sampled)) for link in context.links()]


async def test_a_turn_that_is_stored_with_its_past_keeps_what_was_sampled_then() -> None:
    """A conversation of store:false that is sent again to be stored comes back token by token."""
    store = MemoryStore(100)
    one = Context(None, [user("a")])
    ids = [token_array([1, 2])]
    two = Context(one, [assistant("b")], sampled=ids, opening=token_array([9]), vocabulary="v")
    three = Context(two, [user("c"), assistant("d")])
    given = Context(three, [user("e")])
    await history(store).keep("me", "r1", given, given, response(), 1, with_past=True)
    found = await history(store).find("me", "r1")
    assert content(given) == content(found)
    assert sampled_of(given) == sampled_of(found)


async def test_reasoning_is_sealed_at_rest() -> None:
    """The store never sees the text of a thought, nor the ids that spell it."""
    store = MemoryStore(100)
    thought = Reasoning(id="rs_1", summary=(), content=(ReasoningText(text="secret thought"),))
    ids = token_array([70_001, 70_002, 70_003])
    await keep(
        history(store), "r1", None, [user("a"), thought], [thought, assistant("b")],
        sampled=[ids, ids],
    )  # fmt: skip
    turn = await store.get("me", "r1")
    assert turn is not None
    assert b"secret thought" not in turn.items + turn.output
    assert ids.tobytes() not in turn.tokens
    assert [ids, ids] == list((await history(store).find("me", "r1")).sampled)
    stranger = History(store, Sealer([Sealer.generate_key()]), RecentContexts())
    with pytest.raises(PreviousResponseNotFound, match="a key that this server no longer has"):
        await stranger.find("me", "r1")


async def test_items_of_a_stored_turn_have_ids() -> None:
    """What a client sent without ids gets them, by kind."""
    store = MemoryStore(100)
    await keep(history(store), "r1", None, [user("a")], [])
    turn = await store.get("me", "r1")
    assert turn is not None
    [item] = json.loads(turn.items)
    assert item["id"].startswith("msg_")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("failed", PreviousResponseNotFound),
        ("cancelled", PreviousResponseNotFound),
        ("queued", ResponseNotCompleted),
        ("in_progress", ResponseNotCompleted),
    ],
)
async def test_only_what_ended_well_is_continued(status: str, error: type[Exception]) -> None:
    """A failed or cancelled response is no parent, a running one is not yet."""
    kept = history()
    await keep(kept, "r1", None, [user("a")], [], status=status)
    with pytest.raises(error):
        await kept.find("me", "r1")


class Reads(MemoryStore):
    """Counts what is read of it."""

    num_reads = 0

    async def get(self, owner: str, response_id: str) -> StoredTurn | None:
        self.num_reads += 1
        return await super().get(owner, response_id)


async def test_a_recent_response_is_continued_without_reading() -> None:
    """The store is asked again once something was deleted, and then no more."""
    store = Reads()
    kept = history(store)
    one = await keep(kept, "r1", None, [user("a")], [assistant("b")])
    await keep(kept, "r2", None, [user("c")], [assistant("d")])
    assert (one, 0) == (await kept.find("me", "r1"), store.num_reads)
    await kept.delete("me", "r2")
    assert [one, one] == [await kept.find("me", "r1") for _ in range(2)]
    assert 1 == store.num_reads


async def test_what_another_process_deletes_is_not_continued(tmp_path: Path) -> None:
    """A response is remembered by each who kept or read it, and forgotten when any deletes it."""
    ours = await SqliteStore.open(tmp_path / "turns.db")
    theirs = await SqliteStore.open(tmp_path / "turns.db")
    here, there = history(ours), history(theirs)
    one = await keep(here, "r1", None, [user("a")], [assistant("b")])
    assert await there.find("me", "r1") is await there.find("me", "r1")
    assert one is await here.find("me", "r1")
    await there.delete("me", "r1")
    for each in (here, there):
        with pytest.raises(PreviousResponseNotFound):
            await each.find("me", "r1")
    await ours.aclose()
    await theirs.aclose()


async def test_begun_and_kept() -> None:
    """A response that was begun can be listed, and continued once it was kept."""
    store = MemoryStore(100)
    kept = history(store)
    one = await keep(kept, "r1", None, [user("a")], [assistant("b")])
    given = Context(one, [user("c")])
    await kept.begin("me", "r2", given, response("in_progress"), 1)
    assert response("in_progress") == await kept.get("me", "r2")
    before = await kept.input_items("me", "r2")
    assert 3 == len(before)
    with pytest.raises(ResponseNotCompleted):
        await kept.find("me", "r2")
    after = Context(given, [assistant("d")])
    await kept.keep("me", "r2", given, after, response(), 1, begun=True)
    assert before == await kept.input_items("me", "r2")
    assert after is await kept.find("me", "r2")
    assert content(after) == content(await history(store).find("me", "r2"))


async def test_deleted_while_it_ran() -> None:
    """What was deleted after it was begun stays deleted, and is no parent."""
    kept = history()
    given = Context(None, [user("a")])
    await kept.begin("me", "r1", given, response("in_progress"), 1)
    await kept.delete("me", "r1")
    await kept.keep("me", "r1", given, Context(given, [assistant("b")]), response(), 1, begun=True)
    with pytest.raises(PreviousResponseNotFound):
        await kept.find("me", "r1")


async def test_begun_upon_a_parent_that_is_gone() -> None:
    """If what it continues has left the store meanwhile, a begun response keeps everything."""
    store = MemoryStore(100, linger_sec=0.0)
    kept = history(store)
    one = await keep(kept, "r1", None, [user("a")], [assistant("b")])
    await kept.delete("me", "r1")
    given = Context(one, [user("c")])
    await kept.begin("me", "r2", given, response("in_progress"), 1)
    after = Context(given, [assistant("d")])
    await kept.keep("me", "r2", given, after, response(), 1, begun=True)
    assert content(after) == content(await history(store).find("me", "r2"))


class Abandoned(MemoryStore):
    """A store whose other process is gone."""

    async def abandoned(self) -> list[StoredTurn]:
        """All that runs."""
        return [self._turns[response_id] for response_id in sorted(self._running)]


async def test_recover() -> None:
    """What a process left running has failed; what it was asked can still be read."""
    store = Abandoned(100)
    kept = history(store)
    for name in ("r1", "r2"):
        await kept.begin("me", name, Context(None, [user("a")]), response("queued"), 1)
    assert [2, 0] == [await kept.recover(), await kept.recover()]
    for name in ("r1", "r2"):
        left = json.loads(await kept.get("me", name))
        assert ("failed", "server_error") == (left["status"], left["error"]["code"])
        assert 1 == len(await kept.input_items("me", name))


async def test_a_chain_with_unstored_turns_can_be_read_but_not_continued() -> None:
    """Content of store:false does not reach the store through a later turn."""
    store = MemoryStore(100)
    unstored = Context(Context(None, [user("private")]), [assistant("x")])
    one = await keep(history(store), "r1", unstored, [user("a")], [assistant("b")])
    await keep(history(store), "r2", one, [user("c")], [assistant("d")])
    assert response() == await history(store).get("me", "r1")
    for response_id in ("r1", "r2"):
        with pytest.raises(PreviousResponseNotFound):
            await history(store).find("me", response_id)
    for response_id in ("r1", "r2"):
        turn = await store.get("me", response_id)
        assert turn is not None
        assert b"private" not in turn.items + turn.output


async def test_a_deleted_response_is_gone_and_its_children_go_on() -> None:
    """Deleting removes the response; the chain behind a child stays."""
    kept = history()
    one = await keep(kept, "r1", None, [user("a")], [assistant("b")])
    two = await keep(kept, "r2", one, [user("c")], [assistant("d")])
    await kept.delete("me", "r1")
    with pytest.raises(NotFound):
        await kept.get("me", "r1")
    with pytest.raises(PreviousResponseNotFound):
        await kept.find("me", "r1")
    assert content(two) == content(await kept.find("me", "r2"))


async def test_a_parent_that_the_store_lost_is_kept_by_its_child() -> None:
    """A turn that continues what only memory remembers is stored with its whole past."""
    ids = [token_array([1, 2])]
    one = await keep(history(), "r1", None, [user("a")], [assistant("b")], sampled=ids)
    elsewhere = history()
    two = await keep(elsewhere, "r2", one, [user("c")], [assistant("d")], sampled=ids)
    fresh = History(elsewhere.store, Sealer([KEY]), RecentContexts())
    found = await fresh.find("me", "r2")
    assert content(two) == content(found)
    assert sampled_of(two) == sampled_of(found)


async def test_another_owner_sees_nothing() -> None:
    """Read, continue and delete answer as if the response did not exist."""
    kept = history()
    await keep(kept, "r1", None, [user("a")], [])
    with pytest.raises(PreviousResponseNotFound):
        await kept.find("you", "r1")
    with pytest.raises(NotFound):
        await kept.get("you", "r1")
    with pytest.raises(NotFound):
        await kept.delete("you", "r1")
    assert response() == await kept.get("me", "r1")


def test_sealed_reasoning_is_opened_for_its_owner_only() -> None:
    """A client's own `encrypted_content` opens; another owner's is refused by name."""
    kept = history()
    sealed = kept.seal("me", "hm")
    item = Reasoning(summary=(), encrypted_content=sealed)
    [opened] = kept.open_items("me", None, [item])
    assert isinstance(opened, Reasoning)
    assert (ReasoningText(text="hm"),) == opened.content
    with pytest.raises(InvalidRequest) as raised:
        kept.open_items("you", None, [user("a"), item])
    assert ("invalid_encrypted_content", "input[1].encrypted_content") == (
        raised.value.code,
        raised.value.param,
    )


def test_references_follow_the_conversation() -> None:
    """An item_reference stands for an item of the chain or of the same input."""
    kept = history()
    chain = Context(None, [assistant("b")])
    sent = decode_items(Raw(b'[{"type":"item_reference","id":"msg_b"}]'))
    assert [assistant("b")] == kept.open_items("me", chain, sent)
    with pytest.raises(NotFound, match="Item with id 'msg_x' not found"):
        kept.open_items("me", chain, [ItemReference(id="msg_x")])


def test_references_reach_nearby_conversations() -> None:
    """Where neither the input nor its own conversation has the item, others nearby may."""
    kept = history()
    own, other, last = (
        Context(None, [structs.replace(assistant(text), id=item_id)])
        for text, item_id in (("own", "msg_1"), ("other", "msg_1"), ("last", "msg_2"))
    )
    sent: list[Item] = [ItemReference(id="msg_1"), ItemReference(id="msg_2")]
    opened = kept.open_items("me", own, sent, nearby=lambda: [other, last])
    assert [*own.items, *last.items] == opened
    opened = kept.open_items("me", None, sent, nearby=lambda: [other, last])
    assert [*other.items, *last.items] == opened

    def never() -> list[Context]:
        raise AssertionError("nobody looks where nothing is referred to")

    assert [user("a")] == kept.open_items("me", own, [user("a")], nearby=never)


async def test_references_reach_stored_responses() -> None:
    """Without a conversation a reference finds what a stored response of its owner made."""
    kept = history()
    response_id = new_id("resp")
    made = structs.replace(assistant("b"), id=output_id("msg", response_id, 0))
    thought = Reasoning(
        id=output_id("rs", response_id, 1), summary=(), content=(ReasoningText(text="hm"),)
    )
    await keep(kept, response_id, None, [user("a")], [made, thought])
    sent: list[Item] = [user("a"), ItemReference(id=made.id), ItemReference(id=thought.id)]
    stored = await kept.referred("me", sent)
    assert [user("a"), made, thought] == kept.open_items("me", None, sent, stored)
    assert {} == await kept.referred("you", sent)
    await kept.delete("me", response_id)
    assert {} == await kept.referred("me", sent)


@pytest.mark.parametrize("id_", ["msg_x", output_id("msg", f"resp_{48 * '0'}", 0)])
async def test_references_may_lead_nowhere(id_: str) -> None:
    """A reference to what nobody made, or to what is not stored, finds nothing."""
    assert {} == await history().referred("me", [ItemReference(id=id_), user("a")])


async def test_what_went_in() -> None:
    """The input of a response is the conversation before it and its own, without its output."""
    store = MemoryStore(100)
    one = await keep(history(store), "r1", None, [user("a"), user("b")], [assistant("c")])
    await keep(history(store), "r2", one, [user("d")], [assistant("e")])
    listed = await history(store).input_items("me", "r2")
    assert ["a", "b", "c", "d"] == [
        part.text
        for _, item in listed
        if isinstance(item, Message)
        for part in item.content
        if isinstance(part, InputText | OutputText)
    ]
    assert [item.id for _, item in listed] == [item_id for item_id, _ in listed]
    assert listed == await history(store).input_items("me", "r2")
    with pytest.raises(NotFound):
        await history(store).input_items("you", "r2")


async def test_what_went_in_has_ids_of_its_own() -> None:
    """Of items with one id, later ones are listed under an id that follows from their place."""
    store = MemoryStore(100)
    odd = OpaqueItem(type="odd", raw=b'{"type":"odd","x":1}')
    twice: list[Item] = [assistant("a"), assistant("a"), odd]
    one = await keep(history(store), "r1", None, twice, [])
    await keep(history(store), "r2", one, twice, [])
    listed = await history(store).input_items("me", "r2")
    assert 6 == len({item_id for item_id, _ in listed})
    assert ("msg_a", assistant("a")) == listed[0]
    for item_id, item in listed:
        assert item_id == item.id
        assert item_id == json.loads(encode_item(item))["id"]
    assert listed == await history(store).input_items("me", "r2")


def compaction(into: History, owner: str = "me") -> Compaction:
    """A sealed compaction item, opened."""
    summary = Summary(
        text="secret summary",
        retained=(b"0123456789abcdef",),
        kept=(FunctionCall(id="fc_1", call_id="c", name="f", arguments="{}", async_=True),),
    )
    sealed = into.seal_summary(owner, summary, "sim")
    return Compaction(id="cmp_1", encrypted_content=sealed, opened=summary)


async def test_a_compaction_comes_back_opened() -> None:
    """It is sealed at rest, and an output may be several links of a context."""
    store = MemoryStore(100)
    item = compaction(history(store))
    given = Context(None, [user("a")])
    middle = Context(given, [item])
    after = Context(middle, [assistant("b")], sampled=[token_array([7])], vocabulary="v")
    await history(store).keep("me", "r1", given, after, response(), 1)
    turn = await store.get("me", "r1")
    assert turn is not None
    assert b"secret" not in turn.output
    found = await history(store).find("me", "r1")
    assert [item, assistant("b")] == found.all_items()[1:]
    assert sampled_of(after) == sampled_of(found)
    assert found.start is found.parent


def test_a_compaction_opens_for_its_owner() -> None:
    """Another's, one that was altered, and a sealed thought are refused by their place."""
    ours = history()
    item = structs.replace(compaction(ours), opened=None)
    assert [compaction(ours).opened] == [
        one.opened for one in ours.open_items("me", None, [item]) if isinstance(one, Compaction)
    ]
    thought = structs.replace(item, encrypted_content=ours.seal("me", "hm"))
    cut = structs.replace(item, encrypted_content=item.encrypted_content[:-4])
    for owner, bad in (("you", item), ("me", thought), ("me", cut)):
        with pytest.raises(InvalidRequest) as caught:
            ours.open_items(owner, None, [user("a"), bad])
        assert ("invalid_encrypted_content", "input[1].encrypted_content") == (
            caught.value.code,
            caught.value.param,
        )
