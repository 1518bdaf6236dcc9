"""Tests of `turnwire.context.identity`."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from turnwire.context.chain import Context
from turnwire.context.identity import (
    MAX_UNHASHED_CHARS,
    ROOT,
    _essence,
    digest_of,
    follow,
    trail,
)
from turnwire.protocol.codec import decode_items
from turnwire.protocol.items import InputText, Item, ItemReference, Message

CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x": [1, 2]}'}
CUSTOM = {"type": "custom_tool_call", "call_id": "a", "name": "f", "input": '{"x": [1, 2]}'}
OUTPUT = {"type": "function_call_output", "call_id": "a", "output": "ok"}
CUSTOM_OUTPUT = {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"}
THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}]}
SUMMARY = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]}


def item(sent: dict[str, Any]) -> Item:
    """One item as a client sends it."""
    (decoded,) = decode_items(Raw(json.dumps([sent]).encode()))
    return decoded


def says(role: str, *content: Any, **fields: Any) -> dict[str, Any]:
    """A message."""
    only_text = len(content) == 1 and isinstance(content[0], str)
    return {"role": role, "content": content[0] if only_text else list(content), **fields}


def text(words: str, kind: str = "input_text", **fields: Any) -> dict[str, Any]:
    """A part of a message."""
    return {"type": kind, "text": words, **fields}


ADDED = {
    "type": "additional_tools",
    "role": "developer",
    "tools": [{"type": "custom", "name": "g"}],
}

FORMAT: dict[str, Any] = {
    "type": "configuration_update",
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
}

SAME = {
    "a string is one part": (says("user", "x"), says("user", text("x"))),
    "an answer as a string": (
        says("assistant", "x"),
        says(
            "assistant",
            text("x", "output_text", annotations=[{"type": "url_citation"}], logprobs=[]),
            id="msg_1",
            status="completed",
            type="message",
        ),
    ),
    "an answer as input text": (says("assistant", "x"), says("assistant", text("x"))),
    "a breakpoint": (
        says("user", text("x")),
        says("user", text("x", prompt_cache_breakpoint={"mode": "explicit"})),
    ),
    "a call's id and status": (CALL, {**CALL, "id": "fc_1", "status": "completed"}),
    "arguments printed again": (CALL, {**CALL, "arguments": '{"x":[1,2]}'}),
    "arguments escaped": (
        {**CALL, "arguments": '{"x": "gr\u00f6\u00dfe/ \\n"}'},
        {**CALL, "arguments": '{"x":"gr\\u00f6\\u00dfe\\/ \\u000a"}'},
    ),
    "an unknown item's id and spaces": (
        {"type": "web_search_call", "action": {"queries": ["a b"]}},
        {"type": "web_search_call", "id": "ws_1", "action": {"queries": ["a b"]}},
    ),
    "added tools' id and spaces": (
        ADDED,
        {"id": "at_1", **ADDED},
    ),
    "an update's id": (
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
        {"type": "configuration_update", "id": "cu_1", "reasoning": {"effort": "low"}},
    ),
    "an output's id": (OUTPUT, {**OUTPUT, "id": "fco_1", "status": "completed"}),
    "a thought's id": (THOUGHT, {**THOUGHT, "id": "rs_1"}),
    "a thought with its summary": (THOUGHT, {**THOUGHT, "summary": SUMMARY["summary"]}),
}
OTHER: dict[str, dict[str, Any]] = {
    "user": says("user", "x"),
    "assistant": says("assistant", "x"),
    "phase": says("assistant", "x", phase="commentary"),
    "words": says("user", "y"),
    "two parts": says("user", text("x"), text("x")),
    "no words": says("user", ""),
    "refusal": says("assistant", {"type": "refusal", "refusal": "x"}),
    "image": says("user", {"type": "input_image", "image_url": "x"}),
    "detailed image": says("user", {"type": "input_image", "image_url": "x", "detail": "low"}),
    "image by id": says("user", {"type": "input_image", "file_id": "x"}),
    "file": says("user", {"type": "input_file", "file_id": "x"}),
    "file's name": says("user", {"type": "input_file", "file_id": "x", "filename": "x"}),
    "call": CALL,
    "cut call": {**CALL, "status": "incomplete"},
    "async call": {**CALL, "async": True},
    "call's name": {**CALL, "name": "g"},
    "call's namespace": {**CALL, "namespace": "n"},
    "call_id": {**CALL, "call_id": "b"},
    "arguments": {**CALL, "arguments": '{"x": [1, 2.0]}'},
    "space in a string": {**CALL, "arguments": '{"x": "1 2"}'},
    "a number in other digits": {**CALL, "arguments": '{"x": [1, 2.00]}'},
    "half a character": {**CALL, "arguments": '{"x": "\\ud800"}'},
    "an escaped escape": {**CALL, "arguments": '{"x": "\\\\u0031 2"}'},
    "two spaces in a string": {**CALL, "arguments": '{"x": "1  2"}'},
    "arguments that are no JSON": {**CALL, "arguments": '{"x": [1, 2]'},
    "the same with a space": {**CALL, "arguments": '{"x": [1,  2]'},
    "custom call": CUSTOM,
    "input is no JSON": {**CUSTOM, "input": '{"x":[1,2]}'},
    "output": OUTPUT,
    "output's text": {**OUTPUT, "output": "no"},
    "output of parts": {**OUTPUT, "output": [text("ok")]},
    "output's name": {**OUTPUT, "name": "f"},
    "custom output": CUSTOM_OUTPUT,
    "thought": THOUGHT,
    "summary": SUMMARY,
    "sealed": {"type": "reasoning", "summary": [], "encrypted_content": "x"},
    "update": {"type": "configuration_update", "reasoning": {"effort": "low"}},
    "update to another": {"type": "configuration_update", "reasoning": {"effort": "high"}},
    "update of the format": {"type": "configuration_update", "text": {"format": {"type": "text"}}},
    "update to a schema": FORMAT,
    "update to a described schema": {
        "type": "configuration_update",
        "text": {"format": {**FORMAT["text"]["format"], "description": "d"}},
    },
    "added tool": ADDED,
    "another added tool": {**ADDED, "tools": [{"type": "custom", "name": "h"}]},
    "opaque": {"type": "web_search_call", "status": "completed"},
    "opaque in other bytes": {"type": "web_search_call", "status": "failed"},
}


@pytest.mark.parametrize("name", SAME)
def test_what_no_model_is_told_makes_no_difference(name: str) -> None:
    """Forms in which clients send an item back have one digest."""
    one, other = SAME[name]
    assert follow(ROOT, item(one)) == follow(ROOT, item(other))


def test_what_a_prompt_may_depend_on_makes_a_difference() -> None:
    """No two of these items have the same digest."""
    digests = {name: follow(ROOT, item(sent)) for name, sent in OTHER.items()}
    assert [] == [(a, b) for a, b in combinations(OTHER, 2) if digests[a] == digests[b]]


@given(st.lists(st.text(max_size=3), max_size=6), st.data())
def test_a_digest_does_not_depend_on_the_links(words: list[str], data: st.DataObject) -> None:
    """A chain and one long input of the same items have the same digest at every link's end."""
    items = [Message(role="user", content=(InputText(text=word),)) for word in words]
    expected = [ROOT, *trail(None, items)]
    context: Context | None = None
    place = 0
    while place < len(items):
        size = data.draw(st.integers(0, len(items) - place))
        context = Context(context, items[place : place + size])
        place += size
        if context.num_items:
            assert expected[place] == digest_of(context)
    assert len(set(expected)) == len(expected)


def test_a_repeated_call_adds_nothing() -> None:
    """As in a context, where a call that is known already is left out."""
    call, output, more = item(CALL), item(OUTPUT), item(says("user", "x"))
    context = Context(None, [call])
    assert [digest_of(context), digest_of(Context(context, [output]))] == trail(
        None, [call, output]
    )
    repeated = trail(context, [call, output, call, more])
    assert context.digest == repeated[0]
    assert repeated[1] == repeated[2]
    assert repeated[3] == digest_of(Context(context, [call, output, call, more]))


def test_a_long_unread_chain_is_not_read_for_it() -> None:
    """Hashing a conversation from the store would cost more than it is worth."""
    long = Message(role="user", content=(InputText(text="x" * MAX_UNHASHED_CHARS),))
    root = Context(None, [long])
    assert digest_of(root) is not None
    assert digest_of(Context(Context(None, [long]), [item(CALL)])) is None
    assert digest_of(Context(root, [item(CALL)])) is not None


def test_a_long_unread_chain_is_not_walked_to_its_root() -> None:
    """Every turn of a conversation that is too long to hash costs the same."""
    context = Context(None, [])
    for number in range(20):
        said = Message(role="user", content=(InputText(text=f"{number}" + "x" * 100_000),))
        context = Context(context, [said])
    seen: list[Context] = []

    class Watched(Context):
        """A link that notes who looks at what is before it."""

        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            if name == "parent":
                seen.append(self)
            return super().__getattribute__(name)

    for link in context.newest_first():
        link.__class__ = Watched
    seen.clear()
    assert digest_of(context) is None
    assert 0 < len(seen) <= 1 + MAX_UNHASHED_CHARS // 100_000


def test_an_essence_is_bytes_that_say_where_they_end() -> None:
    """Whatever texts a client chooses, the bytes that are hashed can be read in one way only."""
    for sent in OTHER.values():
        essence = _essence(item(sent))
        encoded = msgspec.msgpack.encode(essence)
        assert as_lists(essence) == msgspec.msgpack.decode(encoded)


def as_lists(essence: object) -> object:
    """Tuples as the lists that they are decoded to."""
    if isinstance(essence, tuple | list):
        return [as_lists(one) for one in essence]
    return essence


def test_a_reference_stands_for_nothing_by_itself() -> None:
    """It has to be followed before."""
    with pytest.raises(AssertionError, match="taken out"):
        follow(ROOT, ItemReference(id="msg_1"))
