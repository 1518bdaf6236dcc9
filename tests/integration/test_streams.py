"""Every kind of stream there is, over WebSocket, SSE and as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct
from tests.integration.recorder import Transcript, check_response, essence
from tests.integration.serving import Serving
from tests.integration.wire import Answer, HttpConnection, Json, WebSocketConnection, read_sse

SCHEMA: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "size": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["file", "folder"]},
    },
    "required": ["name", "size", "kind"],
    "additionalProperties": False,
}
FUNCTION: Json = {"type": "function", "name": "look", "parameters": SCHEMA}
LETTERS: Json = {
    "type": "custom",
    "name": "spell",
    "format": {"type": "grammar", "syntax": "regex", "definition": "[a-f]{3,6}"},
}
FREE: Json = {"type": "custom", "name": "note"}


def obeys(text: str) -> None:
    """The text is JSON of SCHEMA."""
    value = json.loads(text)
    assert list(SCHEMA["properties"]) == list(value)
    assert isinstance(value["name"], str)
    assert len(value["name"]) <= 8
    assert type(value["size"]) is int
    assert 0 <= value["size"] <= 99
    assert value["kind"] in ("file", "folder")


def says(response: Json) -> None:
    """One message with text."""
    (message,) = response["output"]
    assert message["content"][0]["text"]


def thinks(response: Json) -> None:
    """Hidden reasoning, then a message."""
    reasoning, message = response["output"]
    assert (reasoning["type"], reasoning["summary"]) == ("reasoning", [])
    assert reasoning.get("encrypted_content") is None
    assert message["type"] == "message"
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


def summarises(response: Json) -> None:
    """Reasoning with a summary, then a message."""
    reasoning, message = response["output"]
    (part,) = reasoning["summary"]
    assert part["type"] == "summary_text"
    assert part["text"]
    assert message["type"] == "message"


def seals(response: Json) -> None:
    """Hidden reasoning that the client carries."""
    reasoning, _ = response["output"]
    assert reasoning["summary"] == []
    assert reasoning["encrypted_content"]


def calls_once(response: Json) -> None:
    """One function call, valid."""
    (call,) = response["output"]
    assert (call["type"], call["name"]) == ("function_call", "look")
    obeys(call["arguments"])


def calls_thrice(response: Json) -> None:
    """Three function calls, valid, each with an id of its own."""
    calls = response["output"]
    assert [("function_call", "look")] * 3 == [(call["type"], call["name"]) for call in calls]
    for call in calls:
        obeys(call["arguments"])
    assert len({call["call_id"] for call in calls}) == 3


def spells(response: Json) -> None:
    """One custom call, by its grammar."""
    (call,) = response["output"]
    assert (call["type"], call["name"]) == ("custom_tool_call", "spell")
    assert 3 <= len(call["input"]) <= 6
    assert set(call["input"]) <= set("abcdef")


def notes(response: Json) -> None:
    """One custom call of free text."""
    (call,) = response["output"]
    assert (call["type"], call["name"]) == ("custom_tool_call", "note")


def fits(response: Json) -> None:
    """One message that is JSON of SCHEMA."""
    (message,) = response["output"]
    obeys(message["content"][0]["text"])
    assert response["text"]["format"]["schema"] == SCHEMA


def is_object(response: Json) -> None:
    """One message that is a JSON object."""
    (message,) = response["output"]
    assert isinstance(json.loads(message["content"][0]["text"]), dict)


def cut_in(kind: str) -> Callable[[Json], None]:
    """The response was cut in an item of this kind, which is the last."""

    def check(response: Json) -> None:
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        item = response["output"][-1]
        assert item["type"] == kind
        if kind != "reasoning":
            assert item["status"] == "incomplete"
        assert response["usage"]["output_tokens"] <= 16

    return check


class Kind(Struct, frozen=True):
    """A request, and what its response is like."""

    fields: Json
    check: Callable[[Json], None]
    status: str = "completed"


KINDS = {
    "text": Kind({}, says),
    "a list as input": Kind({"input": [{"role": "user", "content": "Hello"}]}, says),
    "long text": Kind({"metadata": {"sim.output_tokens": "600"}}, says),
    "hidden reasoning": Kind({"reasoning": {"effort": "low"}}, thinks),
    "reasoning with a summary": Kind(
        {"reasoning": {"effort": "high", "summary": "auto"}}, summarises
    ),
    "reasoning to carry": Kind(
        {"reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]}, seals
    ),
    "one call": Kind({"tools": [FUNCTION]}, calls_once),
    "parallel calls": Kind(
        {"tools": [FUNCTION], "metadata": {"sim.parallel_calls": "3"}}, calls_thrice
    ),
    "parallel calls forbidden": Kind(
        {
            "tools": [FUNCTION],
            "metadata": {"sim.parallel_calls": "3"},
            "parallel_tool_calls": False,
        },
        calls_once,
    ),
    "calls forbidden": Kind({"tools": [FUNCTION], "tool_choice": "none"}, says),
    "a call demanded": Kind(
        {"tools": [FUNCTION, FREE], "tool_choice": {"type": "function", "name": "look"}}, calls_once
    ),
    "a custom tool": Kind({"tools": [LETTERS]}, spells),
    "a custom tool of free text": Kind({"tools": [FREE], "tool_choice": "required"}, notes),
    "json_schema": Kind(
        {"text": {"format": {"type": "json_schema", "name": "entry", "schema": SCHEMA}}}, fits
    ),
    "json_object": Kind({"text": {"format": {"type": "json_object"}}}, is_object),
    "cut in text": Kind({"max_output_tokens": 16}, cut_in("message"), "incomplete"),
    "cut in a call": Kind(
        {
            "tools": [
                {
                    "type": "function",
                    "name": "look",
                    "parameters": {
                        "type": "object",
                        "properties": {"key": {"type": "string", "minLength": 200}},
                        "required": ["key"],
                    },
                }
            ],
            "max_output_tokens": 16,
        },
        cut_in("function_call"),
        "incomplete",
    ),
}


def request(kind: Kind) -> Json:
    """The fields to send."""
    return {"model": "sim", "input": "Hello", **kind.fields}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_every_kind(http: HttpConnection, websocket: WebSocketConnection, kind: Kind) -> None:
    """Each kind of response is right on each transport, and the same on all of them."""
    fields = request(kind)
    socket = Transcript(await websocket.create(**fields))
    stream = Transcript(read_sse((await http.create(stream=True, **fields)).chunks), sse=True)
    answer = await http.create(**fields)
    assert answer.status == 200
    plain = answer.json()
    check_response(plain)
    for response in (socket.response, stream.response, plain):
        assert kind.status == response["status"]
        kind.check(response)
        assert type(response["created_at"]) is int
        assert type(response["completed_at"]) is (int if kind.status == "completed" else type(None))
    assert essence(socket.response) == essence(stream.response) == essence(plain)
    assert [e["type"] for e in socket.events] == [e["type"] for e in stream.events]


async def test_cut_in_reasoning(http: HttpConnection, websocket: WebSocketConnection) -> None:
    """A budget that ends inside the reasoning leaves the reasoning as the last item."""
    # How long the thoughts are depends on the prompt: one of these has more than 16 tokens.
    for number in range(20):
        fields: Json = {
            "model": "sim",
            "input": f"Number {number}",
            "reasoning": {"effort": "low", "summary": "auto"},
            "max_output_tokens": 16,
        }
        socket = Transcript(await websocket.create(**fields))
        stream = Transcript(read_sse((await http.create(stream=True, **fields)).chunks), sse=True)
        assert essence(socket.response) == essence(stream.response)
        assert socket.status == "incomplete"
        if [item["type"] for item in socket.output] == ["reasoning"]:
            break
    cut_in("reasoning")(socket.response)
    usage = socket.response["usage"]
    assert usage["output_tokens"] == usage["output_tokens_details"]["reasoning_tokens"] == 16


@pytest.mark.parametrize("after", [0, 5])
async def test_an_engine_that_fails(
    http: HttpConnection, websocket: WebSocketConnection, after: int
) -> None:
    """An engine's failure is response.failed, on SSE after an error event, and a 500 as JSON."""
    fields: Json = {
        "model": "sim",
        "input": "Hello",
        "metadata": {"sim.fault": f"error:{after}"},
    }
    socket = Transcript(await websocket.create(**fields))
    answer = await http.create(stream=True, **fields)
    assert answer.status == 200
    stream = Transcript(read_sse(answer.chunks), sse=True)
    assert "error" in [event["type"] for event in stream.events]
    for transcript in (socket, stream):
        assert transcript.status == "failed"
        assert transcript.response["error"]["code"] == "server_error"
        assert transcript.output == []
        assert (after > 0) == any(e["type"].endswith(".delta") for e in transcript.events)
    plain = await http.create(**fields)
    assert plain.status == 500
    error = plain.error()
    assert (error["type"], error["code"], error["param"]) == ("server_error", "server_error", None)
    assert error["message"] == socket.response["error"]["message"]


async def test_a_failure_keeps_what_was_finished(websocket: WebSocketConnection) -> None:
    """A failed response holds the items that were done, and not the one it failed in."""
    fields: Json = {
        "model": "sim",
        "input": "Hello",
        "reasoning": {"effort": "low", "summary": "auto"},
        "metadata": {"sim.fault": "error:40"},
    }
    transcript = Transcript(await websocket.create(**fields))
    assert transcript.status == "failed"
    assert ["reasoning"] == [item["type"] for item in transcript.output]


async def test_an_engine_that_refuses(http: HttpConnection, websocket: WebSocketConnection) -> None:
    """An engine that takes no request is a 503 with Retry-After, and an error event of 503."""
    fields: Json = {"model": "sim", "input": "Hello", "metadata": {"sim.fault": "reject"}}
    for stream in (False, True):
        answer: Answer = await http.create(stream=stream, **fields)
        assert answer.status == 503
        error = answer.error()
        assert error["type"] == "service_unavailable_error"
        assert error["code"] == "server_is_overloaded"
        assert int(answer.headers["retry-after"]) >= 1
    event = await websocket.refused(**fields)
    assert event["status"] == 503
    assert event["error"]["code"] == "server_is_overloaded"
    assert int(event["error"]["headers"]["retry-after"]) >= 1
    Transcript(await websocket.create(model="sim", input="Hello"))


@pytest.mark.parametrize(
    ("hints", "param"),
    [
        ({"sim.fault": "explode"}, "metadata.sim.fault"),
        ({"sim.output_tokens": "-1"}, "metadata.sim.output_tokens"),
        ({"sim.surprise": "1"}, "metadata.sim.surprise"),
    ],
)
async def test_a_malformed_hint(
    http: HttpConnection, websocket: WebSocketConnection, hints: dict[str, str], param: str
) -> None:
    """A hint that makes no sense is a 400 that names it."""
    answer = await http.create(model="sim", input="Hello", metadata=hints)
    assert (answer.status, answer.error()["param"]) == (400, param)
    event = await websocket.refused(model="sim", input="Hello", metadata=hints)
    assert (event["status"], event["error"]["param"]) == (400, param)


async def test_the_echo(http: HttpConnection) -> None:
    """What was asked for is echoed, with defaults filled in."""
    tool: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    answer = await http.create(
        model="sim",
        input="Hello",
        instructions="Be brief.",
        temperature=0.5,
        tools=[tool, {"type": "web_search"}],
        tool_choice="none",
        metadata={"a": "b"},
        user="u",
        prompt_cache_key="k",
        truncation="auto",
        max_output_tokens=99,
    )
    response = answer.json()
    assert response["tools"] == [
        {**tool, "description": None, "strict": True},
        {"type": "web_search"},
    ]
    expected = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": 1.0,
        "tool_choice": "none",
        "metadata": {"a": "b"},
        "user": "u",
        "prompt_cache_key": "k",
        "truncation": "auto",
        "max_output_tokens": 99,
        "store": True,
        "service_tier": "default",
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "reasoning": {"effort": None, "summary": None},
        "background": False,
    }
    assert expected == {name: response[name] for name in expected}


async def test_many_clients_at_once(server: Serving, websocket: WebSocketConnection) -> None:
    """Sixteen lanes on one socket answer like one after the other would."""
    for number in range(16):
        await websocket.send_create(
            model="sim", input=f"Question {number}", stream_id=f"lane.{number}"
        )
    events: dict[str, list[Json]] = {f"lane.{number}": [] for number in range(16)}
    open_lanes = set(events)
    while open_lanes:
        event = await websocket.read_event()
        events[event["stream_id"]].append(event)
        if event["type"] == "response.completed":
            open_lanes.remove(event["stream_id"])
    for number, (lane, given) in enumerate(events.items()):
        transcript = Transcript(given, stream_id=lane)
        alone = Transcript(await websocket.create(model="sim", input=f"Question {number}"))
        assert essence(alone.response) == essence(transcript.response)
    assert server.count("responses_in_flight") == 0
