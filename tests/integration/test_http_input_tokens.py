"""POST /v1/responses/input_tokens over real sockets: it says what creating will say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from tests.integration.serving import ALICE, BOB, Serving, bearer, config, serving
from tests.integration.wire import HttpConnection, Json, connect

PATH = "/v1/responses/input_tokens"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def count(wire: HttpConnection, body: Json, headers: dict[str, str] | None = None) -> int:
    """The number of tokens."""
    answer = await wire.request("POST", PATH, body, headers)
    assert 200 == answer.status, answer.body
    counted = answer.json()
    assert {"object", "input_tokens"} == set(counted)
    assert "response.input_tokens" == counted["object"]
    assert isinstance(counted["input_tokens"], int)
    return counted["input_tokens"]


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
MESSAGE = st.builds(
    lambda role, text: {"role": role, "content": text},
    st.sampled_from(["user", "assistant", "system", "developer"]),
    TEXT,
)
CALL = st.builds(
    lambda n, arguments, output: [
        {"type": "function_call", "call_id": f"call_{n}", "name": "f", "arguments": arguments},
        {"type": "function_call_output", "call_id": f"call_{n}", "output": output},
    ],
    st.uuids().map(str),
    TEXT,
    TEXT,
)
ITEMS = st.lists(st.one_of(MESSAGE.map(lambda one: [one]), CALL), min_size=1, max_size=4).map(
    lambda groups: [item for group in groups for item in group]
)
TOOL = st.builds(
    lambda name, text: {
        "type": "function",
        "name": name,
        "description": text,
        "parameters": SCHEMA,
    },
    st.sampled_from(["f", "g", "h"]),
    TEXT,
)
FORMAT = st.sampled_from(
    [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "name": "n", "schema": SCHEMA},
    ]
)
REQUEST = st.fixed_dictionaries(
    {"input": st.one_of(TEXT.filter(bool), ITEMS)},
    optional={
        "instructions": TEXT,
        "tools": st.lists(TOOL, max_size=3, unique_by=lambda tool: str(tool["name"])),
        "tool_choice": st.sampled_from(["auto", "none"]),
        "text": FORMAT.map(lambda chosen: {"format": chosen}),
        "reasoning": st.sampled_from([{"effort": "none"}, {"effort": "low"}, {}]),
        "parallel_tool_calls": st.booleans(),
        "truncation": st.just("disabled"),
    },
)


def test_it_is_what_creating_reports(tmp_path: Path) -> None:
    """For any request, first or continuing, the count equals `usage.input_tokens` of creating."""

    async def drive(turns: list[Json]) -> None:
        async with (
            serving(config(tmp_path), names=("sim",)) as server,
            connect(server.url) as wire,
        ):
            before: str | None = None
            for turn in turns:
                body = {"model": "sim", "max_output_tokens": 48, **turn}
                if before is not None:
                    body["previous_response_id"] = before
                counted = await count(wire, body)
                answer = await wire.create(**body)
                assert 200 == answer.status, answer.body
                response = answer.json()
                assert counted == response["usage"]["input_tokens"]
                assert counted == await count(wire, body)
                calls = [i for i in response["output"] if i["type"] == "function_call"]
                before = None if calls else response["id"]

    @settings(max_examples=25, deadline=None)
    @given(st.lists(REQUEST, min_size=1, max_size=3))
    def check(turns: list[Json]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(drive(turns))

    check()


async def test_it_runs_nothing(server: Serving, http: HttpConnection) -> None:
    """Counting is no response: it is not counted as one, and what only creating does is ignored."""

    def num_responses() -> float:
        return server.count("responses_total", status="completed", transport="http")

    body: Json = {"model": "sim", "input": "hi"}
    asked_for_more = {**body, "background": True, "context_management": [{"type": "compaction"}]}
    assert await count(http, asked_for_more) == await count(http, body)
    assert 0 == num_responses()
    await http.create(**body)
    assert 1 == num_responses()


async def test_what_is_too_long(http: HttpConnection) -> None:
    """A count is there to find out that something is too long: it is no error."""
    body: Json = {"model": "sim", "input": "word " * 400_000}
    assert 400 == (await http.create(**body)).status
    assert await count(http, body) >= 400_000


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": "x"}, "missing_required_parameter", "model"),
        ({"model": "sim"}, "missing_required_parameter", "input"),
        ({"model": "none", "input": "x"}, "model_not_found", "model"),
        ({"model": "sim", "input": 5}, "invalid_type", "input"),
        (
            {"model": "sim", "input": "x", "previous_response_id": "resp_x"},
            "previous_response_not_found",
            "previous_response_id",
        ),
        (
            {"model": "sim", "input": "x", "conversation": "1"},
            "invalid_value",
            "conversation",
        ),
        (
            {
                "model": "sim",
                "input": [
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
                ],
            },
            None,
            "input",
        ),
    ],
)
async def test_what_creating_refuses(
    http: HttpConnection, body: Json, code: str | None, param: str
) -> None:
    """A request that cannot be created cannot be counted, and for the same reason."""
    counted = await http.request("POST", PATH, body)
    assert 400 == counted.status
    assert counted.error() == (await http.create(**body)).error()
    assert param == counted.error()["param"]
    if code is not None:
        assert code == counted.error()["code"]


async def test_whose_conversation(keyed_server: Serving) -> None:
    """Another owner's response cannot be counted on, nor a model that the key may not use."""
    async with connect(keyed_server.url) as wire:
        first = (await wire.create(bearer(ALICE), model="sim", input="hi")).json()["id"]
        body: dict[str, Any] = {"model": "sim", "input": "x", "previous_response_id": first}
        assert await count(wire, body, bearer(ALICE)) > 0
        foreign = await wire.request("POST", PATH, body, bearer(BOB))
        assert "previous_response_not_found" == foreign.error()["code"]
        body = {"model": "sim-slow", "input": "x"}
        assert 403 == (await wire.request("POST", PATH, body, bearer(BOB))).status
        assert 401 == (await wire.request("POST", PATH, body)).status


async def test_the_official_client(client: AsyncOpenAI) -> None:
    """The official client's own call gives the count."""
    counted = await client.responses.input_tokens.count(model="sim", input="hi", instructions="x")
    response = await client.responses.create(model="sim", input="hi", instructions="x")
    assert response.usage is not None
    assert counted.input_tokens == response.usage.input_tokens
