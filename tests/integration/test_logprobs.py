"""Log probabilities over every transport, and what is shown of them later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from tests.integration.recorder import Transcript, check_logprobs, check_response, essence
from tests.integration.serving import Serving
from tests.integration.wire import HttpConnection, Json, WebSocketConnection, connect, read_sse

LOGPROBS = "message.output_text.logprobs"
ASKED: Json = {"model": "sim", "input": "Hello", "include": [LOGPROBS], "top_logprobs": 3}


def part_of(response: Json) -> Json:
    """The text of the only message."""
    (part,) = response["output"][-1]["content"]
    assert isinstance(part, dict)
    return part


@pytest.mark.parametrize(
    ("fields", "num_top"),
    [
        ({"include": [LOGPROBS]}, 0),
        ({"include": [LOGPROBS], "top_logprobs": 20}, 20),
        ({"top_logprobs": 2}, 2),
        ({"top_logprobs": 0}, None),
        ({}, None),
        ({"include": [LOGPROBS], "reasoning": {"effort": "low", "summary": "auto"}}, 0),
        ({"top_logprobs": 1, "text": {"format": {"type": "json_object"}}}, 1),
        ({"top_logprobs": 1, "max_output_tokens": 16}, 1),
    ],
    ids=str,
)
async def test_every_transport(
    http: HttpConnection, websocket: WebSocketConnection, fields: Json, num_top: int | None
) -> None:
    """Each token of a text is scored where that was asked for, the same on each transport."""
    asked = {"model": "sim", "input": "Hello", **fields}
    socket = Transcript(await websocket.create(**asked))
    stream = Transcript(read_sse((await http.create(stream=True, **asked)).chunks), sse=True)
    plain = (await http.create(**asked)).json()
    check_response(plain)
    assert essence(plain) == essence(stream.response) == essence(socket.response)
    logprobs = part_of(plain)["logprobs"]
    assert bool(logprobs) == (num_top is not None)
    assert all(len(one["top_logprobs"]) == num_top for one in logprobs)
    assert fields.get("top_logprobs", 0) == plain["top_logprobs"]


async def test_half_characters_are_scored(http: HttpConnection) -> None:
    """A token that is no whole character shows U+FFFD and its true bytes."""
    fields = {**ASKED, "metadata": {"sim.output_tokens": "2000"}}
    part = part_of((await http.create(**fields)).json())
    check_logprobs(part)
    halves = [one for one in part["logprobs"] if "\ufffd" in one["token"]]
    assert halves
    assert "\ufffd" not in part["text"]


async def test_calls_have_none(http: HttpConnection) -> None:
    """Arguments are not scored, and a request for scores does not harm them."""
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    answer = (await http.create(**ASKED, tools=[tool], tool_choice="required")).json()
    assert ["function_call"] == [item["type"] for item in answer["output"]]
    assert "logprobs" not in answer["output"][0]


async def test_they_are_kept_and_shown_on_demand(http: HttpConnection) -> None:
    """Reading a response or its items shows them where `include` names them, and only there."""
    created = (await http.create(**ASKED)).json()
    path = f"/v1/responses/{created['id']}"
    bare = (await http.request("GET", path)).json()
    check_response(bare)
    assert [] == part_of(bare)["logprobs"]
    assert created == (await http.request("GET", f"{path}?include[]={LOGPROBS}")).json()
    part_of(created)["logprobs"], whole = [], part_of(created)["logprobs"]
    assert created == bare
    following = (
        await http.create(model="sim", input="And?", previous_response_id=created["id"])
    ).json()
    items = f"/v1/responses/{following['id']}/input_items?order=asc"
    for query, expected in (("", []), (f"&include={LOGPROBS}", whole)):
        listed = (await http.request("GET", items + query)).json()["data"]
        assert expected == listed[1]["content"][0]["logprobs"]


async def test_in_a_conversation(http: HttpConnection) -> None:
    """What a response appends keeps them, and shows them where `include` names them."""
    path = "/v1/conversations/" + (await http.request("POST", "/v1/conversations")).json()["id"]
    created = (await http.create(**ASKED, conversation=path.rpartition("/")[2])).json()
    expected = part_of(created)["logprobs"]
    for query, shown in (("", []), (f"?include={LOGPROBS}", expected)):
        [newest, _] = (await http.request("GET", f"{path}/items{query}")).json()["data"]
        assert shown == newest["content"][0]["logprobs"]


@pytest.mark.parametrize("store", [True, False])
async def test_in_the_background(server: Serving, http: HttpConnection, store: bool) -> None:
    """Polling follows the same rule, whether it is answered from the store or from memory."""
    begun = (await http.create(**ASKED, background=True, store=store)).json()
    path = f"/v1/responses/{begun['id']}"
    async with asyncio.timeout(20):
        bare = begun
        while bare["status"] in ("queued", "in_progress"):
            bare = (await http.request("GET", path)).json()
    assert [] == part_of(bare)["logprobs"]
    scored = (await http.request("GET", f"{path}?include={LOGPROBS}")).json()
    assert part_of(scored)["logprobs"]
    check_response(scored)
    await server.idle()


async def test_a_client_may_send_them_back(http: HttpConnection) -> None:
    """A history with log probabilities is the same prompt as one without."""
    created = (await http.create(**ASKED)).json()
    history = [{"role": "user", "content": "Hello"}, *created["output"], {**USER}]
    resent = (await http.create(model="sim", input=history)).json()
    continued = (
        await http.create(model="sim", input=[USER], previous_response_id=created["id"])
    ).json()
    assert essence(resent) == essence(continued)
    assert resent["usage"]["input_tokens"] == continued["usage"]["input_tokens"]


USER: Json = {"role": "user", "content": "More."}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (21, "integer_above_max_value"),
        (-1, "integer_below_min_value"),
        ("many", "invalid_type"),
        (1.5, "invalid_type"),
    ],
)
async def test_bad_values(
    http: HttpConnection, websocket: WebSocketConnection, value: object, code: str
) -> None:
    """`top_logprobs` is 0 to 20."""
    fields: Json = {"model": "sim", "input": "Hello", "top_logprobs": value}
    answer = await http.create(**fields)
    error = answer.error()
    assert (400, "top_logprobs", code) == (answer.status, error["param"], error["code"])
    assert code == (await websocket.refused(**fields))["error"]["code"]


class Entry(BaseModel):
    """What the model is to answer."""

    name: str
    size: int


async def test_the_official_client(client: AsyncOpenAI) -> None:
    """Its types take them: plain, parsed and streamed."""
    asked: Any = {"model": "sim", "input": "Hello", "include": [LOGPROBS], "top_logprobs": 2}
    plain = await client.responses.create(**asked)
    message = plain.output[0]
    assert message.type == "message"
    text = message.content[0]
    assert text.type == "output_text"
    assert text.logprobs is not None
    assert text.text == b"".join(bytes(one.bytes) for one in text.logprobs).decode()
    assert {2} == {len(one.top_logprobs) for one in text.logprobs}

    parsed = await client.responses.parse(text_format=Entry, **asked)
    assert isinstance(parsed.output_parsed, Entry)
    said = parsed.output[0]
    assert said.type == "message"
    assert said.content[0].type == "output_text"
    assert said.content[0].logprobs

    num_scored = 0
    async with client.responses.stream(**asked) as events:
        async for event in events:
            if event.type == "response.output_text.delta":
                num_scored += len(event.logprobs)
        final = await events.get_final_response()
    assert final.output_text == plain.output_text
    assert len(text.logprobs) == num_scored


async def test_a_long_answer_has_all_of_them(server: Serving) -> None:
    """Several megabytes of scores reach their reader, each with its token, in order."""
    fields = {**ASKED, "top_logprobs": 20, "metadata": {"sim.output_tokens": "3000"}}
    async with connect(server.url) as wire:
        answer = await wire.create(stream=True, **fields)
    stream = Transcript(read_sse(answer.chunks), sse=True)
    assert 3000 == len(part_of(stream.response)["logprobs"])
