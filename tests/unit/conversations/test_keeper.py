"""Conversations between store and responses, without a model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from turnwire.context.chain import Context
from turnwire.context.recent import RecentContexts
from turnwire.conversations.keeper import Conversations, Talk
from turnwire.errors import ConversationChanged, InvalidRequest, NotFound
from turnwire.history import History
from turnwire.protocol.items import (
    InputText,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)
from turnwire.protocol.requests import ConversationRef
from turnwire.sealing import Sealer
from turnwire.store.memory import MemoryStore
from turnwire.tokens import TokenArray, token_array

KEY = Sealer.generate_key()
COMPLETED = b'{"status":"completed"}'


class Reads(MemoryStore):
    """A store that counts how many conversation items were read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_read = 0
        inner = self.conversations.items

        async def items(*args: object, **kwargs: object) -> object:
            found = await inner(*args, **kwargs)  # type: ignore[arg-type]
            self.num_read += len(found or ())
            return found

        self.conversations.items = items  # type: ignore[method-assign, assignment]


class Process:
    """One process on a store: its history, its conversations, and responses by hand."""

    def __init__(self, store: MemoryStore) -> None:
        self.history = History(store, Sealer([KEY]), RecentContexts())
        self.conversations = Conversations(store.conversations, self.history, now=lambda: 7.9)
        self.num_responses = 0

    async def begin(self, *items: Item) -> str:
        made = await self.conversations.create("me", items, {})
        return made.id

    async def respond(
        self,
        conversation_id: str,
        sent: Sequence[Item],
        output: Sequence[Item] = (),
        sampled: Sequence[TokenArray | None] | None = None,
        talk: Talk | None = None,
    ) -> Talk:
        """A response to some input; returns what it was shown."""
        conversations = self.conversations
        talk = talk or await conversations.resume("me", conversation_id)
        items = await conversations.admit("me", talk, sent, sent)
        given = Context(talk.context, [*talk.leading, *items])
        after = given
        if output:
            after = Context(given, output, sampled=sampled, vocabulary="v" if sampled else "")
        response_id = f"resp_{id(self)}_{self.num_responses}"
        self.num_responses += 1
        found = talk

        async def put(turn: object) -> None:
            await conversations.append("me", found, given, after, turn)  # type: ignore[arg-type]

        await self.history.keep(
            "me", response_id, given, after, COMPLETED, 1, put=put, with_past=True
        )
        return talk


def user(text: str) -> Message:
    return Message(role="user", content=(InputText(text=text),))


def said(text: str) -> Message:
    return Message(id=f"msg_{text}", role="assistant", content=(OutputText(text=text),))


def texts(items: Sequence[Item]) -> list[str]:
    return [
        part.text
        for item in items
        if isinstance(item, Message)
        for part in item.content
        if isinstance(part, InputText | OutputText)
    ]


def shown(talk: Talk) -> list[str]:
    """All that a response would see before its own input."""
    context = talk.context.all_items() if talk.context is not None else []
    return texts([*context, *talk.leading])


async def test_a_conversation_grows_by_responses_and_by_hand() -> None:
    """A response sees what went before; what was added by hand leads its input."""
    one = Process(MemoryStore())
    conversation_id = await one.begin(user("a"))
    talk = await one.respond(conversation_id, [user("b")], [said("c")])
    assert (None, ["a"]) == (talk.context, texts(talk.leading))
    await one.conversations.add("me", conversation_id, [user("d")])
    talk = await one.conversations.resume("me", conversation_id)
    assert talk.context is not None
    assert (["a", "b", "c"], ["d"]) == (texts(talk.context.all_items()), texts(talk.leading))


async def test_unchanged_it_is_not_read_again() -> None:
    """While nobody else changes it, only what was added by hand is read."""
    store = Reads()
    one = Process(store)
    conversation_id = await one.begin()
    for number in range(5):
        await one.respond(conversation_id, [user(f"{number}")], [said(f"s{number}")])
    assert 0 == store.num_read
    await one.conversations.add("me", conversation_id, [user("by hand")])
    talk = await one.respond(conversation_id, [user("x")], [said("y")])
    assert (1, 11) == (store.num_read, len(shown(talk)))
    await one.conversations.resume("me", conversation_id)
    assert 1 == store.num_read


async def test_another_process_sees_the_same() -> None:
    """From the store alone comes the same context, sampled ids included, and it can go on."""
    store = MemoryStore()
    one, other = Process(store), Process(store)
    conversation_id = await one.begin(user("a"))
    await one.respond(
        conversation_id, [user("b")], [said("c"), said("d")], [token_array([1, 2]), None]
    )
    mine = (await one.conversations.resume("me", conversation_id)).context
    theirs = (await other.conversations.resume("me", conversation_id)).context
    assert mine is not None
    assert theirs is not None
    assert mine is not theirs
    assert mine.all_items() == theirs.all_items()
    sampled = [
        [
            (link.vocabulary if ids is not None else "", ids)
            for link in context.links()
            for ids in link.sampled
        ]
        for context in (mine, theirs)
    ]
    assert [("", None), ("", None), ("v", token_array([1, 2])), ("", None)] == sampled[0]
    assert sampled[0] == sampled[1]
    assert mine.stored_id == theirs.stored_id
    # By turns: each reads only what the other added.
    await other.respond(conversation_id, [user("e")], [said("f")])
    talk = await one.respond(conversation_id, [user("g")], [said("h")])
    assert ["a", "b", "c", "d", "e", "f"] == shown(talk)
    assert talk.context is not None
    assert mine in list(talk.context.newest_first())


async def test_a_faster_process_wins() -> None:
    """A response that began before another was appended is refused, and leaves nothing."""
    store = MemoryStore()
    one, other = Process(store), Process(store)
    conversation_id = await one.begin(user("a"))
    stale = await one.conversations.resume("me", conversation_id)
    await other.respond(conversation_id, [user("b")], [said("c")])
    with pytest.raises(ConversationChanged):
        await one.respond(conversation_id, [user("x")], [said("y")], talk=stale)
    talk = await one.conversations.resume("me", conversation_id)
    assert ["a", "b", "c"] == shown(talk)


async def test_deleted_items_are_not_shown() -> None:
    """An item that was deleted is gone from memory and store alike; links before it stay."""
    store = MemoryStore()
    one, other = Process(store), Process(store)
    conversation_id = await one.begin(user("a"))
    await one.respond(conversation_id, [user("b")], [said("c")])
    before = (await one.conversations.resume("me", conversation_id)).context
    await one.respond(conversation_id, [user("d")], [said("e")])
    [d] = [
        item.id
        for item in await one.conversations.items(
            "me", conversation_id, after=None, limit=99, descending=False
        )
        if b'"d"' in item.body
    ]
    await one.conversations.delete_item("me", conversation_id, d)
    for process in (one, other):
        talk = await process.conversations.resume("me", conversation_id)
        assert ["a", "b", "c", "e"] == shown(talk)
        assert talk.context is not None
        assert talk.context.stored_id is None
        assert (before in list(talk.context.newest_first())) == (process is one)
    await other.conversations.delete_item("me", conversation_id, "msg_c")
    assert ["a", "b", "e"] == shown(await one.conversations.resume("me", conversation_id))


async def test_two_deletions_of_which_one_is_seen() -> None:
    """A deletion by somebody else is not hidden by one's own."""
    store = MemoryStore()
    one, other = Process(store), Process(store)
    conversation_id = await one.begin()
    await one.respond(conversation_id, [user("a")], [said("b"), said("c")])
    await other.conversations.delete_item("me", conversation_id, "msg_b")
    await one.conversations.delete_item("me", conversation_id, "msg_c")
    assert ["a"] == shown(await one.conversations.resume("me", conversation_id))


async def test_responses_can_be_continued_by_their_id() -> None:
    """A response's turn goes on from the one before, or holds everything after a deletion."""
    store = MemoryStore()
    one = Process(store)
    conversation_id = await one.begin(user("a"))
    await one.respond(conversation_id, [user("b")], [said("c")])
    await one.respond(conversation_id, [user("d")], [said("e")])
    fresh = Process(store).history
    found = await fresh.find("me", f"resp_{id(one)}_1")
    assert ["a", "b", "c", "d", "e"] == texts(found.all_items())
    turn = await store.get("me", f"resp_{id(one)}_1")
    assert turn is not None
    assert (f"resp_{id(one)}_0", 1) == (turn.parent, turn.items.count(b'"text"'))
    await one.conversations.delete_item("me", conversation_id, "msg_c")
    await one.respond(conversation_id, [user("f")], [said("g")])
    turn = await store.get("me", f"resp_{id(one)}_2")
    assert turn is not None
    assert turn.parent is None
    found = await Process(store).history.find("me", turn.id)
    assert ["a", "b", "d", "e", "f", "g"] == texts(found.all_items())


async def test_a_response_that_brings_nothing() -> None:
    """Input and output may be empty; what was added by hand counts as seen."""
    store = MemoryStore()
    one, other = Process(store), Process(store)
    conversation_id = await one.begin(user("a"))
    await one.respond(conversation_id, [])
    for process in (one, other):
        talk = await process.conversations.resume("me", conversation_id)
        assert (["a"], ()) == (shown(talk), talk.leading)
    await one.respond(conversation_id, [])
    for process in (one, other):
        talk = await process.conversations.resume("me", conversation_id)
        assert (["a"], ()) == (shown(talk), talk.leading)


async def test_a_response_after_everything_was_deleted() -> None:
    """What a response left in an empty conversation is gone on from, in any process."""
    store = MemoryStore()
    one, other = Process(store), Process(store)
    conversation_id = await one.begin(structs.replace(user("a"), id="msg_a"))
    await one.conversations.delete_item("me", conversation_id, "msg_a")
    await one.respond(conversation_id, [])
    for process in (one, other):
        talk = await process.conversations.resume("me", conversation_id)
        assert talk.context is not None
        assert ([], f"resp_{id(one)}_0") == (shown(talk), talk.context.stored_id)


async def test_reasoning_is_sealed_at_rest() -> None:
    """The store never sees the text of a thought, by hand or by response; responses do."""
    store = MemoryStore()
    one = Process(store)
    thought = Reasoning(id="rs_1", summary=(), content=(ReasoningText(text="secret"),))
    conversation_id = await one.begin(thought)
    ids = token_array([70_001, 70_002, 70_003])
    again = structs.replace(thought, id="rs_2")
    await one.respond(conversation_id, [], [again, said("b")], sampled=[ids, ids])
    [added] = await one.conversations.add(
        "me", conversation_id, [structs.replace(thought, id="rs_3")]
    )
    assert isinstance(added, Reasoning)
    assert (None, True) == (added.content, added.encrypted_content is not None)
    items = await store.conversations.items("me", conversation_id)
    assert items is not None
    assert 4 == len(items)
    assert not any(b"secret" in item.body for item in items)
    said_by_model = [b'"assistant"' in item.body for item in items]
    assert said_by_model == [ids.tobytes() in item.tokens for item in items]
    talk = await Process(store).conversations.resume("me", conversation_id)
    seen = talk.seen()
    assert seen is not None
    assert [thought.content] * 3 == [
        item.content for item in seen.all_items() if isinstance(item, Reasoning)
    ]


async def test_a_deleted_conversation_is_forgotten() -> None:
    """Nothing of it stays in memory."""
    one = Process(MemoryStore())
    conversation_id = await one.begin(user("a"))
    await one.respond(conversation_id, [user("b")], [said("c")])
    await one.conversations.delete("me", conversation_id)
    with pytest.raises(NotFound):
        await one.conversations.resume("me", conversation_id)
    with pytest.raises(NotFound):
        await one.conversations.delete("me", conversation_id)


async def test_deleted_while_a_response_is_made_elsewhere() -> None:
    """The response is kept, and the conversation stays deleted."""
    store = MemoryStore()
    one, other = Process(store), Process(store)
    conversation_id = await one.begin(user("a"))
    talk = await one.conversations.resume("me", conversation_id)
    await other.conversations.delete("me", conversation_id)
    await one.respond(conversation_id, [user("b")], [said("c")], talk=talk)
    assert await store.get("me", f"resp_{id(one)}_0") is not None
    with pytest.raises(NotFound):
        await one.conversations.resume("me", conversation_id)


async def test_owners() -> None:
    """Another's conversation is not found, in memory or out of it."""
    one = Process(MemoryStore())
    conversation_id = await one.begin(user("a"))
    await one.respond(conversation_id, [user("b")], [said("c")])
    with pytest.raises(NotFound):
        await one.conversations.resume("you", conversation_id)


@pytest.mark.parametrize(
    ("conversation", "param"),
    [("x", "conversation"), (ConversationRef(id="x"), "conversation.id")],
)
def test_malformed_ids(conversation: str | ConversationRef, param: str) -> None:
    """An id that no conversation has is refused at the place where it was given."""
    with pytest.raises(InvalidRequest) as raised:
        Conversations.id_of(conversation)
    assert param == raised.value.param


async def test_a_new_conversation() -> None:
    """Its time is the server's, in whole seconds."""
    one = Process(MemoryStore())
    made = await one.conversations.create("me", [], {"k": "v"})
    assert made.id.startswith("conv_")
    assert (7, b'{"k":"v"}') == (made.created_at, made.metadata)
    assert made == await one.conversations.get("me", made.id)
