"""Tests of `turnwire.resent`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from tests.unit.models.test_token_model import (
    MODEL,
    STEP,
    TEXT,
    TOOL_SETS,
    items_of,
    message,
    play,
    settings_of,
    wire,
)
from tests.unit.models.test_token_model import said as told

from turnwire.context.chain import Context
from turnwire.context.known import KnownContexts
from turnwire.context.recent import RecentContexts
from turnwire.context.standing import NOTHING_STANDS, stand
from turnwire.errors import InvalidRequest, NotFound
from turnwire.history import History
from turnwire.ids import item_id as output_id
from turnwire.ids import new_id
from turnwire.models.base import Settings
from turnwire.protocol.codec import MAX_ITEMS, decode_items
from turnwire.protocol.items import FunctionCall, Item, Reasoning
from turnwire.protocol.tools import ToolChoice
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.resent import Resent, Said
from turnwire.sealing import Sealer
from turnwire.store.memory import MemoryStore
from turnwire.tokens import token_array

ROOM = 1 << 30
PAD = "x" * 3000
"""Enough to be remembered word for word."""


def memory(max_bytes: int = ROOM) -> tuple[Resent, History]:
    """A server's memory, with nothing in it."""
    history = History(MemoryStore(100), Sealer([Sealer.generate_key()]), RecentContexts())
    return Resent(KnownContexts(max_bytes), history), history


def raw(sent: list[dict[str, Any]], *, spaced: bool = False) -> Raw:
    """An input as one client or another prints it."""
    return Raw(json.dumps(sent, indent=1 if spaced else None).encode())


async def serve(
    resent: Resent, sent: list[dict[str, Any]], how: Settings | None = None
) -> tuple[Said, Context]:
    """One turn with everything in it; what was known of it, and the context after it."""
    said = await resent.read("me", raw(sent))
    prepared = MODEL.prepare(said.parent, said.items, how or Settings())
    resent.learn("me", prepared.context, said)
    _, _, after = await play(prepared)
    resent.learn("me", after)
    return said, after


def back(history: History, item: Item, owner: str = "me") -> dict[str, Any]:
    """An item as a client has it to send back: reasoning sealed."""
    return wire(history.to_store(owner, item) if isinstance(item, Reasoning) else item)


def reshaped(item: dict[str, Any], form: str) -> dict[str, Any]:
    """An item in one of the forms in which clients send it back; the prompt is the same."""
    item = dict(item)
    if form == "bare":
        item.pop("id", None)
        item.pop("status", None) if item.get("status") == "completed" else None
    elif form == "renamed":
        item["id"] = "item_of_the_client"
    elif form == "strings" and item.get("role") == "assistant":
        parts = item["content"]
        if not isinstance(parts, str) and [part["type"] for part in parts] == ["output_text"]:
            return {"role": "assistant", "content": parts[0]["text"]}
    elif form == "parts" and isinstance(item.get("content"), str):
        kind = "output_text" if item["role"] == "assistant" else "input_text"
        item["content"] = [{"type": kind, "text": item["content"]}]
    return item


def edited(item: dict[str, Any], *, new_role: bool) -> dict[str, Any]:
    """An item that a client changed, so that the prompt is another."""
    if new_role and item.get("role") in ("user", "system"):
        return {**item, "role": "developer"}
    for name in ("content", "output", "input"):
        if isinstance(item.get(name), str):
            return {**item, name: item[name] + "!"}
    if item.get("type") == "configuration_update":
        effort = (item.get("reasoning") or {}).get("effort")
        return {**item, "reasoning": {"effort": "low" if effort == "none" else "none"}}
    if item.get("type") == "function_call":
        return {**item, "status": "completed", "arguments": item["arguments"] + "!"}
    if item.get("role") == "assistant":
        return message("assistant", "!")
    return item


FORMS = st.sampled_from(["same", "same", "bare", "renamed", "strings", "parts"])
RESENT_STEP = st.fixed_dictionaries(
    {
        "step": STEP,
        "tools": st.sampled_from([*TOOL_SETS, None]),
        "form": FORMS,
        "spaced": st.booleans(),
        "owner": st.sampled_from(["me", "me", "me", "you"]),
        "edit": st.sampled_from([None, None, 0, 1, 2, 3, 4, 5]),
        "new_role": st.booleans(),
        "thoughtless": st.sampled_from([False, False, True]),
    }
)


def is_open(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls that wait for an answer."""
    answered = {item["call_id"] for item in sent if item.get("type", "").endswith("output")}
    return [
        item
        for item in sent
        if item.get("type", "").endswith("call")
        and item["call_id"] not in answered
        and item.get("status") != "incomplete"
    ]


async def converse(steps: list[dict[str, Any]], max_bytes: int, start: str) -> None:
    """Clients with memories of their own at one server, which send everything every time."""
    resent, history = memory(max_bytes)
    begin = [message("user", start)] if start else []
    nodes: dict[str, list[list[dict[str, Any]]]] = {"me": [begin], "you": [begin]}
    for drawn in steps:
        step, owner = drawn["step"], drawn["owner"]
        if drawn["tools"] is not None:
            step = {**step, "tools": drawn["tools"], "choice": "auto"}
        of = nodes[owner]
        sent = [dict(item) for item in of[-1 - min(step["back"], len(of) - 1)]]
        if drawn["thoughtless"]:
            sent = [item for item in sent if item.get("type") != "reasoning"]
        if drawn["edit"] is not None and sent:
            place = drawn["edit"] % len(sent)
            sent[place] = edited(sent[place], new_role=drawn["new_role"])
        for call, text in zip(is_open(sent), step["outputs"] * 2, strict=False):
            kind = f"{call['type']}_output"
            sent.append({"type": kind, "call_id": call["call_id"], "output": text})
        sent += step["messages"] or ([] if sent else [message("user", "go")])
        if step["added"] is not None:
            added = {"type": step["added"], "name": f"extra_{len(of)}"}
            sent.append({"type": "additional_tools", "role": "developer", "tools": [added]})
        if step["update"] is not None:
            sent.append({"type": "configuration_update", **step["update"]})
        given = raw([reshaped(item, drawn["form"]) for item in sent], spaced=drawn["spaced"])

        said = await resent.read(owner, given)
        everything = history.open_items(owner, None, decode_items(given))
        standing = stand(NOTHING_STANDS, everything)
        now = stand(said.parent.standing if said.parent else NOTHING_STANDS, said.items)
        assert list(standing.tools.offered) == list(now.tools.offered)
        assert (standing.effort, standing.text_format) == (now.effort, now.text_format)
        how = settings_of(step, now)
        prepared = MODEL.prepare(said.parent, said.items, how)
        resent.learn(owner, prepared.context, said)
        how = settings_of(step, standing)
        alone = MODEL.prepare(None, everything, how)
        assert alone.prompt.to_array() == prepared.prompt.to_array()
        assert alone.context.num_items == prepared.context.num_items
        assert alone.context.open_calls == prepared.context.open_calls
        if said.outcome == "miss":
            assert said.parent is None

        expected, _, _ = await play(alone)
        parts, output, after = await play(prepared)
        assert told(expected) == told(parts)
        resent.learn(owner, after)
        of.append(sent + [back(history, item, owner) for item in output])


@given(
    st.lists(RESENT_STEP, min_size=3, max_size=8),
    st.sampled_from([ROOM, ROOM, 30_000, 8_000, 0]),
    st.sampled_from(["", PAD]),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_known_changes_nothing_that_the_model_sees(
    steps: list[dict[str, Any]], max_bytes: int, start: str
) -> None:
    """Prompts and answers are those of reading everything: forks, edits, forms, owners, bounds."""
    asyncio.run(converse(steps, max_bytes, start))


@pytest.mark.parametrize("form", ["same", "bare", "renamed", "strings", "parts"])
@pytest.mark.parametrize("start", ["short", PAD])
async def test_a_conversation_is_known_in_every_form(form: str, start: str) -> None:
    """All but the new item is taken from the turn before, thoughts and calls included."""
    resent, history = memory()
    how = Settings(tools=TOOL_SETS[0], tool_choice=ToolChoice(mode="required"), effort="low")
    sent = [message("user", start)]
    for _ in range(4):
        said, after = await serve(resent, [reshaped(item, form) for item in sent], how)
        sent += [back(history, item) for item in after.items]
        sent += [
            {"type": "function_call_output", "call_id": item.call_id, "output": "ok"}
            for item in after.items
            if isinstance(item, FunctionCall)
        ]
    said = await resent.read("me", raw([reshaped(item, form) for item in sent]))
    assert ("hit", after, 1) == (said.outcome, said.parent, len(said.items))


async def test_known_bytes_are_not_decoded() -> None:
    """A context is found by the bytes before its end alone: nobody looks into them."""
    resent, history = memory()
    first = [message("user", PAD)]
    _, after = await serve(resent, first)
    sent = [*first, *(back(history, item) for item in after.items), message("user", "more")]
    data = bytes(raw(sent))
    recalled = resent.known.recall("me", data)
    assert recalled is not None
    assert after.parent is recalled.context
    assert (1, data[: recalled.num_bytes] + b"]") == (
        recalled.num_elements,
        bytes(raw(first)),
    )
    said = await resent.read("me", Raw(data))
    assert ("hit", after, 1) == (said.outcome, said.parent, len(said.items))


async def test_sampled_ids_stay() -> None:
    """The ids that a model sampled are its prompt's, where encoding its text gives others."""
    resent, _history = memory()
    prepared = MODEL.prepare(None, items_of([message("user", "hi")]), Settings())
    text = "unbelievable"
    letters = Tokenizer.shipped()
    spelt = token_array(token for letter in text for token in letters.encode(letter))
    assert spelt != letters.encode(text)
    answer = items_of([message("assistant", text)])
    after = Context(
        prepared.context, answer, sampled=[spelt], vocabulary=MODEL.renderer.fingerprint
    )
    resent.learn("me", after)
    sent = [message("user", "hi"), message("assistant", text), message("user", "why?")]
    said = await resent.read("me", raw(sent))
    assert after is said.parent
    known = MODEL.prepare(said.parent, said.items, Settings()).prompt.to_array()
    whole = MODEL.prepare(None, items_of(sent), Settings()).prompt.to_array()
    assert known != whole
    assert letters.decode(known) == letters.decode(whole)


async def test_arguments_that_were_printed_again_are_the_models_own() -> None:
    """Clients that parse arguments and print them again do not lose what the model sampled."""
    resent, _history = memory()
    call = {"type": "function_call", "call_id": "a", "name": "read_file"}
    output = {"type": "function_call_output", "call_id": "a", "output": "ok"}
    go = message("user", "go")
    prepared = MODEL.prepare(None, items_of([go]), Settings())
    after = Context(prepared.context, items_of([{**call, "arguments": '{"path": "a.py"}'}]))
    resent.learn("me", after)
    said = await resent.read("me", raw([go, {**call, "arguments": '{"path":"a.py"}'}, output]))
    assert ("hit", after) == (said.outcome, said.parent)
    said = await resent.read("me", raw([go, {**call, "arguments": '{"path":"b.py"}'}, output]))
    assert ("partial", prepared.context) == (said.outcome, said.parent)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, "hit"),
        ({"last": "edited"}, "hit"),
        ({"answer": "edited"}, "partial"),
        ({"first": "edited"}, "miss"),
    ],
)
async def test_how_much_is_known(change: dict[str, str], outcome: str) -> None:
    """An outcome says whether all that the model said, a part or nothing of it was known."""
    resent, _history = memory()
    first, after = await serve(resent, [message("user", "one")])
    assert ("first", None) == (first.outcome, first.parent)
    (answer,) = after.items
    words = wire(answer)["content"][0]["text"]
    said = await resent.read(
        "me",
        raw(
            [
                message("user", change.get("first", "one")),
                message("assistant", change.get("answer", words)),
                message("user", change.get("last", "two")),
            ]
        ),
    )
    assert outcome == said.outcome
    assert 3 == len(said.items) + (said.parent.num_items if said.parent else 0)


async def test_the_same_input_again_is_known_to_its_end() -> None:
    """A client that lost its connection asks again, and nothing is rendered again."""
    for start in ("short", PAD):
        resent, _ = memory()
        sent = [message("user", start), message("user", "two")]
        _, after = await serve(resent, sent)
        for _ in range(3):
            said, again = await serve(resent, sent)
            assert (after.parent, ()) == (said.parent, tuple(said.items))
            assert [wire(item)["content"] for item in after.items] == [
                wire(item)["content"] for item in again.items
            ]


@pytest.mark.parametrize("bad", [{"role": "nobody", "content": "x"}, {"type": "function_call"}])
async def test_an_error_has_its_place_in_the_whole_input(bad: dict[str, Any]) -> None:
    """Behind what was recognised, elements count on from it."""
    resent, history = memory()
    first = [message("user", PAD), message("user", "two")]
    _, after = await serve(resent, first)
    sent = [*first, *(back(history, item) for item in after.items), bad]
    with pytest.raises(InvalidRequest) as raised:
        await resent.read("me", raw(sent))
    assert str(raised.value.param).startswith("input[3].")
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "broken"}
    with pytest.raises(InvalidRequest) as raised:
        await resent.read("me", raw([*first, thought]))
    assert "input[2].encrypted_content" == raised.value.param


async def test_a_trigger_ends_what_is_said() -> None:
    """A compaction of a conversation that is known costs what is new, as any other turn of it."""
    resent, history = memory()
    first = [message("user", PAD)]
    _, after = await serve(resent, first)
    sent = [*first, *(back(history, item) for item in after.items)]
    trigger = {"type": "compaction_trigger"}
    said = await resent.read("me", raw([*sent, trigger]))
    assert ("hit", after, (), True) == (said.outcome, said.parent, tuple(said.items), said.compact)
    assert said.verbatim is None
    again = await resent.read("me", raw(sent))
    assert (after, False) == (again.parent, again.compact)
    with pytest.raises(InvalidRequest, match="final input item"):
        await resent.read("me", raw([*first, trigger, message("user", "more")]))


async def test_another_owners_thoughts_cannot_be_sent_back() -> None:
    """What one owner was given is not opened because it is known of him."""
    resent, history = memory()
    _, after = await serve(resent, [message("user", PAD)], Settings(effort="low"))
    sent = [message("user", PAD), *(back(history, item) for item in after.items)]
    await serve(resent, [*sent, message("user", "more")])
    with pytest.raises(InvalidRequest) as raised:
        await resent.read("you", raw([*sent, message("user", "more")]))
    assert "invalid_encrypted_content" == raised.value.code


async def test_a_reference_means_what_the_input_says() -> None:
    """An id is looked up in the input as it came, not in the one that is known for it."""
    resent, _ = memory()
    first = [{**message("user", PAD), "id": "msg_one"}, {**message("user", "b"), "id": "msg_b"}]
    await serve(resent, first)
    swapped = [{**first[0], "id": "msg_b"}, {**first[1], "id": "msg_one"}]
    for sent, words in ((first, "b"), (swapped, PAD)):
        said = await resent.read("me", raw([*sent, {"type": "item_reference", "id": "msg_b"}]))
        (copy,) = said.items
        assert [words] == [
            part["text"] for part in wire(copy)["content"] if said.parent is not None
        ]
    with pytest.raises(NotFound):
        await resent.read("me", raw([*first, {"type": "item_reference", "id": "msg_c"}]))


async def test_a_deleted_response_is_not_referred_to_from_memory() -> None:
    """An input with references is read whole every time: what they mean may be gone."""
    resent, history = memory()
    response_id = new_id("resp")
    answer = {**message("assistant", "yes"), "id": output_id("msg", response_id, 0)}
    prepared = Context(None, items_of([message("user", PAD)]))
    after = Context(prepared, items_of([answer]))
    await history.keep("me", response_id, prepared, after, b'{"status":"completed"}', 0)
    resent.learn("me", after)
    sent = [message("user", PAD), {"type": "item_reference", "id": answer["id"]}]
    for _ in range(2):
        said, _ = await serve(resent, [*sent, message("user", "more")])
        assert "hit" == said.outcome
    await history.delete("me", response_id)
    with pytest.raises(NotFound):
        await resent.read("me", raw([*sent, message("user", "more")]))


async def test_the_number_of_items_is_limited_in_all() -> None:
    """Elements that were recognised count too."""
    resent, _ = memory()
    many = [message("user", "")] * (MAX_ITEMS - 1)
    said = await resent.read("me", raw(many))
    context = Context(None, said.items)
    resent.learn("me", context, said)
    last = await resent.read("me", raw([*many, message("user", "a")]))
    assert context is last.parent
    with pytest.raises(InvalidRequest, match=str(MAX_ITEMS)) as raised:
        await resent.read("me", raw([*many, *[message("user", "a")] * 2]))
    assert "array_above_max_length" == raised.value.code


async def test_what_was_made_of_an_input_does_not_stand_for_it() -> None:
    """A context whose items are not those that were said is learnt as what it is."""
    resent, _ = memory()
    sent = [message("user", PAD), message("user", "two")]
    said = await resent.read("me", raw(sent))
    shorter = Context(None, said.items[1:])
    resent.learn("me", shorter, said)
    assert resent.known.recall("me", bytes(raw(sent))) is None
    again = await resent.read("me", raw(sent))
    assert again.parent is None
    known = await resent.read("me", raw(sent[1:]))
    assert shorter is known.parent


async def test_a_repeated_call_is_known_too() -> None:
    """A client that sends the model's call twice is understood, and its input recognised."""
    resent, history = memory()
    how = Settings(tools=TOOL_SETS[0], tool_choice=ToolChoice(mode="required"))
    _, after = await serve(resent, [message("user", PAD)], how)
    calls = [back(history, item) for item in after.items]
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}
        for call in calls
    ]
    sent = [message("user", PAD), *calls, *calls, *outputs]
    said, second = await serve(resent, sent)
    assert ("hit", after) == (said.outcome, said.parent)
    answers = [back(history, item) for item in second.items]
    said = await resent.read("me", raw([*sent, *answers, *calls, message("user", "more")]))
    assert second is said.parent


async def test_without_room_everything_is_read() -> None:
    """A bound of 0 turns it off."""
    resent, _ = memory(0)
    sent = [message("user", PAD)]
    await serve(resent, sent)
    said, _ = await serve(resent, [*sent, message("assistant", "x"), message("user", "y")])
    assert ("first", None, 3) == (said.outcome, said.parent, len(said.items))


@given(TEXT, st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_string_is_an_input(text: str, known: bool) -> None:
    """`input` may be a string, or nothing; a list with that message then goes on from it."""

    async def run() -> None:
        resent, _ = memory(ROOM if known else 0)
        said = await resent.read("me", Raw(json.dumps(text).encode()))
        context = Context(None, said.items)
        resent.learn("me", context, said)
        more = await resent.read("me", raw([message("user", text), message("user", "more")]))
        assert (context if known else None) is more.parent
        for nothing in (Raw(b""), Raw(b"null"), Raw(b"[]")):
            said = await resent.read("me", nothing)
            assert (None, ()) == (said.parent, tuple(said.items))

    asyncio.run(run())


async def test_what_cannot_be_served_is_refused_with_its_place() -> None:
    """Items that were not seen before are checked behind what is known, and then in the whole."""
    resent, _ = memory()
    sent = [message("user", PAD), message("user", "two")]
    await serve(resent, sent)
    seen: list[tuple[bool, int]] = []

    def check(context: Context | None, items: Sequence[Item]) -> None:
        seen.append((context is not None, len(items)))
        if len(items) != 1 + (context is None) * 2:
            raise AssertionError("behind what is known there is one")
        raise InvalidRequest("no", param=f"input[{len(items) - 1}]")

    with pytest.raises(InvalidRequest) as raised:
        await resent.read("me", raw([*sent, message("user", "three")]), check)
    assert [(True, 1), (False, 3)] == seen
    assert "input[2]" == raised.value.param
