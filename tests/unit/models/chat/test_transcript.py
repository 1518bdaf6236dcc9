"""Items as chat messages: what is written, in which order, whatever the cuts."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from turnwire.context.chain import Context
from turnwire.errors import InvalidRequest
from turnwire.models.chat.options import MessageRules
from turnwire.models.chat.transcript import EMPTY_TRANSCRIPT, NO_OUTPUT_YET, Transcript
from turnwire.protocol.codec import decode_items

Json = dict[str, Any]
RULES = MessageRules()
ASYNC: Json = {"async": True}
CUT: Json = {"status": "incomplete"}


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


def system(text: str, role: str = "system") -> Json:
    return {"type": "message", "role": role, "content": text}


def said(text: str) -> Json:
    return {"type": "message", "role": "assistant", "content": text}


def calls(call_id: str, *, more: Json | None = None) -> Json:
    """A call; `more` are further fields of it."""
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": "run",
        "arguments": "{}",
        **(more or {}),
    }


def output(call_id: str, output: Any = "done") -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def thought(text: str) -> Json:
    return {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}],
    }


PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "original"}
FILE = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}


def link(parent: Context | None, sent: list[Json]) -> Context:
    return Context(parent, decode_items(Raw(json.dumps(sent).encode())))


def transcript(*links: list[Json], rules: MessageRules = RULES) -> Transcript:
    """The transcript of items that came in so many links."""
    context: Context | None = None
    written = EMPTY_TRANSCRIPT
    for sent in links:
        context = link(context, sent)
        written = written.extend(context.items, context.answers, rules)
    return written


def shown(
    *links: list[Json], instructions: str | None = None, rules: MessageRules = RULES
) -> list[Json]:
    """The messages as JSON."""
    pieces = transcript(*links, rules=rules).messages(instructions, rules)
    messages: list[Json] = json.loads(b"".join(pieces))
    return messages


def tool_calls(*call_ids: str) -> list[Json]:
    return [
        {"id": call_id, "type": "function", "function": {"name": "run", "arguments": "{}"}}
        for call_id in call_ids
    ]


def told(call_id: str, text: str = "done") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


ONE_CALL = {"role": "assistant", "content": None, "tool_calls": tool_calls("a")}
TWO_CALLS = {"role": "assistant", "content": None, "tool_calls": tool_calls("a", "b")}
HI = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param([user("hi")], [HI], id="a-message"),
        pytest.param(
            [{"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]}],
            [{"role": "user", "content": "one\ntwo"}],
            id="text-parts-are-a-string",
        ),
        pytest.param(
            [system("a"), system("b", "developer"), user("hi"), system("c", "developer")],
            [{"role": "system", "content": "a\n\nb"}, HI, {"role": "system", "content": "c"}],
            id="leading-system-messages-are-one",
        ),
        pytest.param(
            [user("hi"), said("one"), said("two")],
            [HI, {"role": "assistant", "content": "one\n\ntwo"}],
            id="assistant-items-in-a-row-are-one",
        ),
        pytest.param(
            [user("hi"), said("I run it."), calls("a"), calls("b"), output("b"), output("a")],
            [HI, {**TWO_CALLS, "content": "I run it."}, told("b"), told("a")],
            id="parallel-calls-are-one-message",
        ),
        pytest.param(
            [user("hi"), calls("a"), said("That runs."), output("a")],
            [HI, {**ONE_CALL, "content": "That runs."}, told("a")],
            id="text-behind-a-call-is-its-content",
        ),
        pytest.param(
            [user("hi"), calls("a"), output("a"), calls("b"), output("b")],
            [
                HI, ONE_CALL, told("a"), {**ONE_CALL, "tool_calls": tool_calls("b")}, told("b"),
            ],
            id="rounds-are-apart",
        ),
        pytest.param(
            [calls("a"), calls("b"), user("hi"), output("a"), system("s"), output("b")],
            [TWO_CALLS, told("a"), told("b"), HI, {"role": "system", "content": "s"}],
            id="what-is-between-waits-for-the-outputs",
        ),
        pytest.param(
            [calls("a", more=ASYNC), user("hi"), said("ok"), output("a")],
            [
                ONE_CALL,
                told("a", NO_OUTPUT_YET),
                HI,
                {"role": "assistant", "content": "ok"},
                {"role": "user", "content": "[output of run, a] done"},
            ],
            id="a-late-output-is-told",
        ),
        pytest.param(
            [calls("a", more=ASYNC), user("hi")],
            [ONE_CALL, told("a", NO_OUTPUT_YET), HI],
            id="an-open-call-gets-a-note",
        ),
        pytest.param(
            [user("hi"), calls("a", more=CUT), user("go on")],
            [HI, {"role": "user", "content": "go on"}],
            id="a-cut-call-is-left-out",
        ),
        pytest.param([user("hi"), thought("hm"), user("well?")],
            [HI, {"role": "user", "content": "well?"}], id="reasoning-is-dropped"),
        pytest.param(
            [user("hi"),
             {"type": "custom_tool_call", "call_id": "a", "name": "sql", "input": 'x"\n'},
             {"type": "custom_tool_call_output", "call_id": "a", "output": "0 rows"}],
            [
                HI,
                {"role": "assistant", "content": None, "tool_calls": [{
                    "id": "a", "type": "function",
                    "function": {"name": "sql", "arguments": '{"input":"x\\"\\n"}'}}]},
                told("a", "0 rows"),
            ],
            id="a-custom-call-is-a-function-with-one-string",
        ),
        pytest.param(
            [calls("a", more={"namespace": "mcp.git"}), output("a")],
            [
                {**ONE_CALL, "tool_calls": [{
                    "id": "a", "type": "function",
                    "function": {"name": "mcp__git__run", "arguments": "{}"}}]},
                told("a"),
            ],
            id="a-namespace-is-part-of-the-name",
        ),
        pytest.param(
            [user("hi"), {"type": "web_search_call", "id": "ws_1", "status": "completed"}],
            [HI, {"role": "system", "content":
                '[web_search_call] {"type":"web_search_call","status":"completed"}'}],
            id="an-unknown-item-is-text",
        ),
        pytest.param(
            [user("hi"), {"type": "message", "role": "assistant", "content": [
                {"type": "refusal", "refusal": "No."}]}],
            [HI, {"role": "assistant", "content": "No."}],
            id="a-refusal-is-what-was-said",
        ),
        pytest.param([user("hi"), said("")], [HI], id="nothing-said-is-no-message"),
    ],
)  # fmt: skip
def test_items_as_messages(sent: list[Json], expected: list[Json]) -> None:
    """Each shape of items has its shape in chat, in an order that chat takes."""
    assert expected == shown(sent)


def test_instructions_come_first() -> None:
    """Instructions and the system messages at the beginning are one message."""
    first = {"role": "developer", "content": "Be brief.\n\nYou are Bob."}
    rules = MessageRules(system_role="developer", later_system_role="user")
    messages = shown(
        [system("You are Bob."), user("hi"), system("Now French.")],
        instructions="Be brief.",
        rules=rules,
    )
    assert [first, HI, {"role": "user", "content": "Now French."}] == messages


def test_ids_of_nine_signs() -> None:
    """Calls and their outputs have the same, however long the client's are; others differ."""
    rules = MessageRules(short_ids=True)
    long = "call_" + 30 * "x"
    call, told_, owed = shown([calls(long), output(long), calls("a"), user("hi")], rules=rules)[:3]
    id_, other = call["tool_calls"][0]["id"], owed["tool_calls"][0]["id"]
    assert re.fullmatch("[a-zA-Z0-9]{9}", id_)
    assert id_ == told_["tool_call_id"] != other


def test_where_user_and_assistant_take_turns() -> None:
    """What the user says in a row is one message, also behind outputs, and with pictures."""
    rules = MessageRules(alternates=True, later_system_role="user", takes_images=True)
    look = {"type": "message", "role": "user", "content": [PICTURE]}
    messages = shown(
        [user('"a"\n'), system("b"), said("c"), user("d"), look, user("e"), calls("a")],
        [user("f"), output("a"), user("g")],
        rules=rules,
    )
    image = {"type": "image_url", "image_url": {"url": PICTURE["image_url"], "detail": "high"}}
    assert [
        {"role": "user", "content": '"a"\n\n\nb'},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": [
            {"type": "text", "text": "d"}, image, {"type": "text", "text": "e"}]},
        ONE_CALL,
        told("a"),
        {"role": "user", "content": "f\n\ng"},
    ] == messages  # fmt: skip


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_goes_back_where_it_is_wanted(field: Any) -> None:
    """It stands in the message of the text or the calls that it led to."""
    rules = MessageRules(reasoning_field=field)
    messages = shown(
        [user("hi"), thought("hm"), calls("a"), output("a"), thought("so"), said("ok")],
        rules=rules,
    )
    assert [HI, {**ONE_CALL, field: "hm"}, told("a")] == messages[:3]
    assert {"role": "assistant", field: "so", "content": "ok"} == messages[3]


def test_pictures_and_files_where_they_are_taken() -> None:
    """They are content parts; a picture in an output follows it in a user message."""
    rules = MessageRules(takes_images=True, takes_files=True)
    look = {"type": "input_text", "text": "look"}
    image = {
        "type": "image_url",
        "image_url": {"url": PICTURE["image_url"], "detail": "high"},
    }
    file = {
        "type": "file",
        "file": {"file_data": FILE["file_data"], "filename": FILE["filename"]},
    }
    asked = {"type": "message", "role": "user", "content": [look, PICTURE, FILE]}
    messages = shown([asked, calls("a"), calls("b"), output("a", [look, PICTURE]), output("b")],
                     rules=rules)  # fmt: skip
    assert [
        {"role": "user", "content": [{"type": "text", "text": "look"}, image, file]},
        TWO_CALLS,
        told("a", "look\n[image]"),
        told("b"),
        {"role": "user", "content": [image]},
    ] == messages


@pytest.mark.parametrize(
    ("part", "rules", "what"),
    [
        (PICTURE, RULES, "pictures"),
        (FILE, RULES, "files"),
        ({"type": "input_image", "file_id": "file_1"}, MessageRules(takes_images=True), "file_id"),
        ({"type": "input_file", "file_id": "file_1"}, MessageRules(takes_files=True), "file_id"),
    ],
    ids=["picture", "file", "picture-by-id", "file-by-id"],
)
def test_what_an_endpoint_does_not_take_is_refused(
    part: Json, rules: MessageRules, what: str
) -> None:
    """The error says what it is; nothing is sent without it."""
    asked = {"type": "message", "role": "user", "content": [part]}
    with pytest.raises(InvalidRequest, match=what) as raised:
        shown([asked], rules=rules)
    assert ("unsupported_value", "input") == (raised.value.code, raised.value.param)


ITEMS = st.sampled_from(
    [
        user("u"),
        system("s"),
        said("a"),
        said(""),
        thought("t"),
        {"type": "mcp_list_tools", "id": "m", "tools": []},
        "call",
        "async",
        "cut",
        "answer",
        "answer",
    ]
)


@given(
    st.lists(st.tuples(ITEMS, st.integers(0, 9)), max_size=14),
    st.sets(st.integers(0, 20)),
    st.sampled_from([None, "i"]),
    st.sampled_from(
        [
            RULES,
            MessageRules(reasoning_field="reasoning", later_system_role="user"),
            MessageRules(alternates=True, later_system_role="user"),
        ]
    ),
)
def test_the_cuts_do_not_matter(
    drawn: list[tuple[Any, int]], cuts: set[int], instructions: str | None, rules: MessageRules
) -> None:
    """The same items give the same bytes however they are cut into links; chat's order holds."""
    items: list[Json] = []
    waiting: list[str] = []
    for n, (item, which) in enumerate(drawn):
        if item == "answer":
            if waiting:
                items.append(output(waiting.pop(which % len(waiting)), f"o{n}"))
            continue
        if isinstance(item, str):
            waiting.append(f"c{n}")
            item = calls(f"c{n}", more={"call": {}, "async": ASYNC, "cut": CUT}[item])
        items.append(item)
    places = sorted({cut for cut in cuts if cut < len(items)} | {0, len(items)})
    links = [items[a:b] for a, b in itertools.pairwise(places)]
    whole = b"".join(transcript(items, rules=rules).messages(instructions, rules))
    assert whole == b"".join(transcript(*links, rules=rules).messages(instructions, rules))
    messages = json.loads(whole)
    check_order(messages)
    if rules.alternates:
        roles = [message["role"] for message in messages]
        assert ("user", "user") not in itertools.pairwise(roles)


def check_order(messages: list[Json]) -> None:
    """Every call is followed at once by exactly one output, and no output is without its call."""
    owed: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            owed.remove(message["tool_call_id"])
            continue
        assert [] == owed
        owed = [entry["id"] for entry in message.get("tool_calls", ())]
    assert [] == owed


def test_forks_do_not_disturb_each_other() -> None:
    """A transcript that two go on from stays as it is."""
    stem = transcript([user("hi"), calls("a")])
    before = stem.messages(None, RULES)
    for text in ("one", "two"):
        context = link(link(None, [user("hi"), calls("a")]), [output("a", text)])
        fork = stem.extend(context.items, context.answers, RULES)
        assert told("a", text) == json.loads(b"".join(fork.messages(None, RULES)))[-1]
    assert before == stem.messages(None, RULES)


def test_the_length_is_about_right() -> None:
    """`num_bytes` is the length of the messages, up to what stands around a few of them."""
    items = [system("s" * 100), user("u" * 1000), said("a" * 500), calls("a")]
    for more in ([], [user("h" * 700)], [output("a"), user("o" * 700)]):
        for rules in (RULES, MessageRules(alternates=True)):
            one = transcript([*items, *more], rules=rules)
            real = len(b"".join(one.messages("i" * 200, rules)))
            assert abs(real - one.num_bytes("i" * 200)) < 250
