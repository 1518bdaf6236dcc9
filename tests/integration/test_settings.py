"""Settings that are checked and echoed, and what they change."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI
from tests.integration.recorder import Transcript, check_response, essence
from tests.integration.wire import HttpConnection, Json, WebSocketConnection, read_sse

ASKED: Json = {"model": "sim", "input": "Hello"}
TOOL: Json = {"type": "function", "name": "f", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("presence_penalty", 2.1, "decimal_above_max_value"),
        ("presence_penalty", -2.1, "decimal_below_min_value"),
        ("frequency_penalty", 3, "decimal_above_max_value"),
        ("frequency_penalty", "high", "invalid_type"),
        ("max_tool_calls", 0, "integer_below_min_value"),
        ("max_tool_calls", "1", "invalid_type"),
    ],
)
async def test_bad_values(
    http: HttpConnection, websocket: WebSocketConnection, field: str, value: object, code: str
) -> None:
    """A value out of range is a 400 that names its field."""
    fields: Json = {**ASKED, field: value}
    answer = await http.create(**fields)
    error = answer.error()
    assert (400, field, code) == (answer.status, error["param"], error["code"])
    event = await websocket.refused(**fields)
    assert (field, code) == (event["error"]["param"], event["error"]["code"])


@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": 2.0, "frequency_penalty": -2.0},
        {"presence_penalty": -0.5},
        {"max_tool_calls": 1},
        {"text": {"verbosity": "high", "format": {"type": "text"}}},
    ],
    ids=str,
)
async def test_they_are_echoed(
    http: HttpConnection, websocket: WebSocketConnection, fields: Json
) -> None:
    """On every transport the response shows what was asked for."""
    socket = Transcript(await websocket.create(**ASKED, **fields)).response
    answer = await http.create(**ASKED, **fields, stream=True)
    stream = Transcript(read_sse(answer.chunks), sse=True).response
    plain = (await http.create(**ASKED, **fields)).json()
    for response in (socket, stream, plain):
        check_response(response)
        assert fields == {name: response[name] for name in fields}


async def test_max_tool_calls_is_for_hosted_tools(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """Three function calls in one response are not held to a cap of one."""
    fields: Json = {**ASKED, "tools": [TOOL], "metadata": {"sim.parallel_calls": "3"}}
    free = (await http.create(**fields)).json()
    capped = (await http.create(**fields, max_tool_calls=1)).json()
    on_socket = Transcript(await websocket.create(**fields, max_tool_calls=1)).response
    assert ["function_call"] * 3 == [item["type"] for item in capped["output"]]
    assert essence(free) == essence(capped) == essence(on_socket)
    assert 1 == capped["max_tool_calls"]


@pytest.mark.parametrize("context", ["auto", "current_turn", "all_turns"])
async def test_the_reasoning_context_that_holds_is_echoed(
    http: HttpConnection, context: str
) -> None:
    """Earlier reasoning stays in the prompt, whatever is asked for, and the response says so."""
    answer = await http.create(**ASKED, reasoning={"effort": "low", "context": context})
    assert "all_turns" == answer.json()["reasoning"]["context"]
    assert "context" not in (await http.create(**ASKED)).json()["reasoning"]


@pytest.mark.parametrize("name", ["summary", "generate_summary"])
async def test_a_summary_by_either_name(http: HttpConnection, name: str) -> None:
    """The deprecated name gives a summary too, echoed under the present one."""
    asked = {**ASKED, "reasoning": {"effort": "low", name: "concise"}}
    answer = (await http.create(**asked)).json()
    assert "concise" == answer["reasoning"]["summary"]
    assert answer["output"][0]["summary"][0]["text"]


@pytest.mark.parametrize(
    ("fields", "sealed"),
    [
        ({}, False),
        ({"store": False}, True),
        ({"include": ["reasoning.encrypted_content"]}, True),
    ],
    ids=str,
)
async def test_the_seal_is_final_when_the_item_is_done(
    websocket: WebSocketConnection, fields: Json, sealed: bool
) -> None:
    """`encrypted_content` comes with the finished item, where it comes at all."""
    stream = Transcript(
        await websocket.create(**ASKED, reasoning={"effort": "low", "summary": "auto"}, **fields)
    )
    added, done = (
        event["item"] for event in stream.events if event.get("item", {}).get("type") == "reasoning"
    )
    assert ([], False) == (added["summary"], "encrypted_content" in added)
    assert done["summary"]
    assert sealed == ("encrypted_content" in done)
    assert done == stream.output[0]


async def test_the_official_client(client: AsyncOpenAI) -> None:
    """It sends the settings under its own names and reads them back."""
    response = await client.responses.create(
        model="sim",
        input="Hello",
        max_tool_calls=2,
        reasoning={"effort": "low", "generate_summary": "detailed"},
        text={"verbosity": "low"},
        extra_body={"presence_penalty": 1.5, "frequency_penalty": -1},
    )
    assert 2 == response.max_tool_calls
    assert response.text is not None
    assert "low" == response.text.verbosity
    assert {"presence_penalty": 1.5, "frequency_penalty": -1.0}.items() <= (
        response.model_dump().items()
    )
