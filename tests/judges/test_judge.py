"""The judges take what is as it must be, and nothing else; every exception of theirs is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.judges import official
from tests.judges.exceptions import (
    BEYOND,
    EXTRAS,
    NEWER,
    NULLS,
    OPEN_RESPONSES,
    OPENAI,
    VALUES,
    Amendment,
)
from tests.judges.judge import (
    SocketJudge,
    StreamJudge,
    Wrong,
    judge_body,
    judge_event,
    judge_response,
)
from tests.judges.samples import ITEMS, STREAMS, USAGE, Json, message, response, text_part
from tests.judges.schemas import SPEC, Description, open_responses, openai, within

DESCRIPTIONS = {"openai-2.3.0.json": OPENAI, "openresponses-2026-04-24.json": OPEN_RESPONSES}

INPUT_ITEM: Json = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "user",
    "content": [{"type": "input_text", "text": "Hi"}],
}
EMPTY_PAGE: Json = {
    "object": "list",
    "data": [],
    "first_id": None,
    "last_id": None,
    "has_more": False,
}
PAGE: Json = {**EMPTY_PAGE, "data": [INPUT_ITEM], "first_id": "msg_1", "last_id": "msg_1"}
MODEL: Json = {"id": "m", "object": "model", "created": 1, "owned_by": "us"}
TOOL: Json = {"type": "function", "name": "f", "parameters": None, "strict": True}
JSON_SCHEMA: Json = {
    "format": {
        "type": "json_schema",
        "name": "n",
        "description": None,
        "schema": {"type": "object"},
        "strict": True,
    },
    "verbosity": "medium",
}

BODIES: dict[str, Json] = {
    "a response": response(output=[ITEMS["text"]]),
    "one that waits": response("queued", background=True),
    "one that failed": response("failed"),
    "one that was cancelled": response("cancelled", background=True),
    "one that was steered": response("incomplete", incomplete_details={"reason": "steered"}),
    "structured output": response(text=JSON_SCHEMA),
    "levels of effort": response(reasoning={"effort": "minimal", "summary": None}),
    "tools of all kinds": response(
        tools=[
            {**TOOL, "description": None, "made_up": 1},
            {"type": "custom", "name": "c"},
            {"type": "web_search"},
            {"type": "namespace", "name": "n", "description": "d", "tools": [{**TOOL}]},
        ],
        tool_choice={"type": "custom", "name": "c"},
        output=[ITEMS["custom call"], ITEMS["call"]],
    ),
    "some tools allowed": response(
        tool_choice={
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "c"}],
        },
    ),
    "an empty page": EMPTY_PAGE,
    "a page": PAGE,
    "an item": INPUT_ITEM,
    "a change of settings": {
        "type": "configuration_update",
        "id": "cu_1",
        "reasoning": {"effort": "low"},
    },
    "an item that a client made up in part": {"type": "shell_call", "id": "sh_1"},
    "an item of a kind that is new": {"type": "something_new", "id": "item_1", "value": [1]},
    "models": {"object": "list", "data": [MODEL]},
    "a model": MODEL,
    "a count": {"object": "response.input_tokens", "input_tokens": 3},
    "a compaction": {
        "id": "resp_1",
        "object": "response.compaction",
        "created_at": 1,
        "output": [INPUT_ITEM, ITEMS["compaction"]],
        "usage": USAGE,
    },
    "a conversation": {"id": "conv_1", "object": "conversation", "created_at": 1, "metadata": {}},
    "one that was deleted": {"id": "conv_1", "object": "conversation.deleted", "deleted": True},
    "an error": {"error": {"message": "No.", "type": "server_error", "param": None, "code": None}},
}
ENVELOPE: Json = {
    "type": "error",
    "status": 400,
    "sequence_number": 0,
    "stream_id": "a",
    "error": {"type": "invalid_request_error", "code": "c", "message": "No.", "param": None},
    "code": "c",
    "message": "No.",
    "param": None,
}
STEER: Json = {"id": "steer_1", "previous_response_id": "resp_1"}
ASIDE: list[Json] = [
    {"type": "response.steer.accepted", "sequence_number": 0, "steer": STEER},
    {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "steer": {"previous_response_id": "resp_1", "input": [{"role": "user", "content": "x"}]},
        "error": {"type": "invalid_request_error", "code": "invalid_input", "message": "No."},
    },
]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_right_bodies(body: Json) -> None:
    """What is as it must be passes."""
    judge_body(body)


def fields(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key in it."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from fields(inner, (*path, key))


def altered(value: Json, path: tuple[str | int, ...], change: Callable[[Any, Any], None]) -> Json:
    """The value with one place changed."""
    copy: Json = json.loads(json.dumps(value))
    place: Any = copy
    for step in path[:-1]:
        place = place[step]
    change(place, path[-1])
    return copy


# Fields of a response that may be left out or be anything: what is echoed is the client's.
FREE = {"metadata", "prompt_cache_key", "phase"}
FULL = response(output=[ITEMS["summary"], ITEMS["logprobs"], ITEMS["call"]], tools=[])


@given(path=st.sampled_from([path for path in fields(FULL) if path[0] not in FREE]))
def test_every_field_counts(path: tuple[str | int, ...]) -> None:
    """A response one of whose fields is of another type, or misspelt, is refused."""

    def replace(place: Any, key: Any) -> None:
        place[key] = {"what": "is this"}

    def misspell(place: Any, key: Any) -> None:
        place[f"{key}_"] = place.pop(key)

    with pytest.raises(Wrong):
        judge_response(altered(FULL, path, replace))
    if isinstance(path[-1], str):
        with pytest.raises(Wrong):
            judge_response(altered(FULL, path, misspell))


REQUIRED = sorted(set(FULL) - {"object"})


@pytest.mark.parametrize("name", REQUIRED)
def test_every_field_is_there(name: str) -> None:
    """A response that lacks a field is refused."""
    with pytest.raises(Wrong):
        judge_response({key: value for key, value in FULL.items() if key != name})


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (response(id="x"), "id: 'x'"),
        (response(completed_at=None), "completed_at: None in a response that is completed"),
        (response("in_progress", output=[ITEMS["text"]]), "output: not empty"),
        (response(usage=None), "usage: None"),
        (response("failed", error=None), "error: None"),
        (response(completed_at=1), "completed_at: before created_at"),
        (response(usage={**USAGE, "total_tokens": 1}), "usage.total_tokens"),
        (
            response(usage={**USAGE, "output_tokens_details": {"reasoning_tokens": 6}}),
            "usage.output_tokens_details",
        ),
        (response(output=[message(text_part("x"), status="incomplete")]), "status: incomplete"),
        (response(output=[{**ITEMS["call"], "id": "msg_1"}]), "id: 'msg_1' of a function_call"),
        (response(output=[{**ITEMS["call"], "arguments": "{"}]), "arguments: no JSON"),
        (response(output=[{**ITEMS["call"], "call_id": "x"}]), "call_id: 'x'"),
        ({**PAGE, "first_id": None}, "first_id and last_id"),
        ({**PAGE, "data": [{**INPUT_ITEM, "status": "done"}]}, "status"),
        ({**PAGE, "data": [{**INPUT_ITEM, "content": [{"type": "x"}]}]}, "(item 0)"),
        ({"error": {"message": "No."}}, "is a required property"),
        ({"object": "conversation", "id": "conv_1"}, "created_at"),
        ({"object": "response.input_tokens", "input_tokens": "3"}, "input_tokens"),
        ({"object": "response.input_tokens", "input_tokens": 3, "more": 1}, "more"),
    ],
)
def test_wrong_bodies(body: Json, complaint: str) -> None:
    """What no schema would find is found as well, and named."""
    with pytest.raises(Wrong) as refused:
        judge_body(body)
    assert complaint in "\n".join(refused.value.complaints)


@pytest.mark.parametrize("websocket", [False, True])
@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_right_events(events: list[Json], websocket: bool) -> None:
    """Each event of each stream passes, by the types of either transport."""
    for event in events:
        if event["type"] != "error":
            assert judge_event(event, websocket=websocket) is not None


@pytest.mark.parametrize("event", [ENVELOPE, *ASIDE], ids=lambda event: event["type"])
def test_right_events_of_sockets(event: Json) -> None:
    """So do those of WebSocket mode alone."""
    judge_event(event, websocket=True)


def test_events_that_are_none() -> None:
    """An event without a type, of an unknown one, or of the other transport is refused."""
    for event in ({}, {"type": 1}, {"type": "response.more"}, {"type": "response.cancelled"}):
        with pytest.raises(Wrong):
            judge_event(event, websocket=True)
    with pytest.raises(Wrong):
        judge_event(ASIDE[0], websocket=False)


# --- streams -----------------------------------------------------------------------------------


def sse(*events: Json, done: bool = True) -> bytes:
    """The bytes of an event stream."""
    frames = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]
    return b"".join([*frames, b"data: [DONE]\n\n" if done else b""])


WHOLE = b": keep-alive\n\n" + sse(*STREAMS["several items"])


@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=9))
def test_a_stream_in_pieces(cuts: list[int]) -> None:
    """Frames may be torn anywhere, and comments stand between them."""
    judge = StreamJudge()
    for start, end in pairwise([0, *sorted(cuts), len(WHOLE)]):
        judge.feed(WHOLE[start:end])
    with pytest.raises(AssertionError):
        judge.feed(b": more\n\n")


def test_a_stream_from_its_middle() -> None:
    """What is read again from the middle on, or from the end, is right; a gap is not."""
    events = STREAMS["background"]
    for start in range(1, len(events) + 1):
        StreamJudge().feed(sse(*events[start:]))
    with pytest.raises(Wrong, match="number 6, not 5"):
        StreamJudge().feed(sse(*events[4:5], *events[6:]))


TEXT = STREAMS["text"]


@pytest.mark.parametrize(
    "data",
    [
        sse(*TEXT[:-1]),
        sse(*TEXT) + sse(),
        sse(*TEXT).replace(b"\n", b"\r\n"),
        sse(*TEXT).replace(b"event: response.created", b"event: response.queued"),
        sse(*TEXT).replace(b"event: response.created\n", b""),
        sse(*TEXT).replace(b"event: response.created\n", b"id: 1\nevent: response.created\n"),
        sse({**TEXT[0], "response": response("queued", model=None)}),
        sse(TEXT[1]),
        sse(*TEXT[:3], TEXT[2]),
    ],
    ids=[
        "no end",
        "two ends",
        "carriage returns",
        "another name",
        "no name",
        "more than name and data",
        "a wrong event",
        "a wrong beginning",
        "a wrong order",
    ],
)
def test_wrong_streams(data: bytes) -> None:
    """A stream whose frames, events or order are wrong is refused."""
    judge = StreamJudge()
    with pytest.raises(AssertionError):
        judge.feed(data)


def test_a_stream_that_could_not_begin() -> None:
    """One error event, and the end."""
    error = {key: ENVELOPE[key] for key in ("type", "sequence_number", "error", "code", "message")}
    StreamJudge().feed(sse({**error, "param": None}))


def on(lane: str | None, event: Json) -> str:
    """The message that carries an event of a lane; another lane's response is another."""
    said = event
    if "response" in said and lane is not None:
        said = {**said, "response": {**said["response"], "id": f"resp_{lane}"}}
    return json.dumps(said if lane is None else {**said, "stream_id": lane})


def steer(target: str, number: int) -> str:
    """The message that says that a steer was accepted."""
    meant = {"id": "steer_1", "previous_response_id": target}
    return json.dumps({**ASIDE[0], "steer": meant, "sequence_number": number})


def test_lanes() -> None:
    """Each lane is judged by itself; errors are of no response; a steer counts with its own."""
    judge = SocketJudge()
    for one, two in zip(TEXT[:4], STREAMS["call"][:4], strict=True):
        judge.take(on(None, one))
        judge.take(on("b", two))
    judge.take(on("b", ENVELOPE))
    judge.take(steer("resp_b", 4))
    for event in STREAMS["call"][4:]:
        judge.take(on("b", {**event, "sequence_number": event["sequence_number"] + 1}))
    for event in TEXT[4:]:
        judge.take(on(None, event))
    judge.take(steer("resp_b", 8))  # was pending when it ended
    judge.take(steer("resp_b", 0))  # came after its end
    judge.take(steer("resp_unknown", 0))
    for event in TEXT:
        judge.take(on("b", event))


@pytest.mark.parametrize(
    "messages",
    [
        [on(None, TEXT[1])],
        [on(None, TEXT[0]), on("b", TEXT[1])],
        [on(None, TEXT[0]), on(None, TEXT[0])],
        [on(None, TEXT[0]), on(None, TEXT[2])],
        [on(None, TEXT[0]), steer("resp_1", 0)],
        [on(None, TEXT[0]), steer("resp_1", 2)],
        [steer("resp_1", 1)],
        [json.dumps({**TEXT[0], "stream_id": None})],
    ],
    ids=[
        "nothing runs",
        "nothing runs on this lane",
        "two at once on a lane",
        "a gap",
        "a steer that does not count",
        "a steer that counts too far",
        "a steer of nothing that counts",
        "a lane without a name",
    ],
)
def test_wrong_sockets(messages: list[str]) -> None:
    """What must not come here on a connection is refused."""
    judge = SocketJudge()
    for one in messages[:-1]:
        judge.take(one)
    with pytest.raises(Wrong):
        judge.take(messages[-1])


# --- exceptions --------------------------------------------------------------------------------


def samples() -> Iterator[tuple[str, Json]]:
    """Everything right in this file, and the schema that it is right by."""
    for body in BODIES.values():
        if body.get("object") == "response":
            yield "Response", body
        elif body.get("object") == "list" and not body["data"]:
            yield from (("ItemList", body), ("ConversationItemList", body))
    for events in STREAMS.values():
        for event in events:
            yield "StreamEvent", event
            if event["type"] == "error":
                yield "Error", event["error"]
            if event["type"] != "error":
                yield "WebSocketEvent", event
    yield "WebSocketEvent", ENVELOPE


def objects(description: Description) -> bool:
    """Whether a description finds fault with any of the samples."""
    for root, sample in samples():
        kept = within(sample) if root in open_responses().roots else sample
        known = sample.get("type") not in NEWER and root in description.roots
        if kept is None or not known:
            continue
        if root.endswith("Event"):
            if description.event_complaints(kept, root):
                return True
        elif description.complaints(root, kept):
            return True
    return False


@pytest.mark.parametrize(
    ("name", "amendment"),
    [(name, one) for name, amendments in DESCRIPTIONS.items() for one in amendments],
    ids=[f"{one.schema}: {one.source}" for ones in DESCRIPTIONS.values() for one in ones],
)
def test_every_amendment_is_needed(name: str, amendment: Amendment) -> None:
    """Without it, something that is right would be refused."""
    document = json.loads((SPEC / name).read_text(encoding="utf-8"))
    amendments = DESCRIPTIONS[name]
    assert not objects(Description(document, amendments))
    rest = [one for one in amendments if one != amendment]
    assert objects(Description(document, rest))


TABLES: dict[str, Mapping[Any, str]] = {"EXTRAS": EXTRAS, "NULLS": NULLS, "VALUES": VALUES}
ENTRIES = [(table, entry) for table, entries in TABLES.items() for entry in entries]


@pytest.mark.parametrize(("table", "entry"), ENTRIES, ids=lambda one: str(one))
def test_every_extra_is_needed(table: str, entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the official types would refuse something that is right."""
    known = TABLES[table]
    monkeypatch.setattr(official, table, {key: known[key] for key in known if key != entry})
    refused = 0
    for root, sample in samples():
        try:
            if root.endswith("Event"):
                official.read_event(root, sample)
            else:
                official.read(root, sample)
        except official.Misread:
            refused += 1
    assert refused


def test_what_is_beyond_open_responses() -> None:
    """None of it is in the unions of Open Responses, and OpenAI has all of it."""
    assert not BEYOND["event"] & open_responses().events()
    assert BEYOND["event"] <= openai().events()
    assert not NEWER & openai().events("WebSocketEvent")
    assert set(official.event_types("WebSocketEvent")) >= NEWER
    assert BEYOND["item"] <= openai().events("Item")
    assert {item["type"] for item in ITEMS.values()} - BEYOND["item"] == {
        "message",
        "reasoning",
        "function_call",
        "compaction",
    }
