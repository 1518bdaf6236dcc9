"""Padding of deltas: over HTTP, for whoever asks, and nowhere else."""

from __future__ import annotations

import json

import pytest
from openai import AsyncOpenAI
from tests.integration.recorder import Transcript, essence
from tests.integration.serving import Serving
from tests.integration.wire import HttpConnection, Json, WebSocketConnection, connect, read_sse

PADDED: Json = {"stream_options": {"include_obfuscation": True}}
TOOL: Json = {"type": "function", "name": "f", "parameters": {"type": "object"}}
FIELDS: Json = {
    "model": "sim",
    "input": "Hello",
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"sim.output_tokens": "300"},
}


@pytest.mark.parametrize(
    ("options", "padded"),
    [
        ({}, False),
        ({"stream_options": None}, False),
        ({"stream_options": {}}, False),
        ({"stream_options": {"include_obfuscation": False}}, False),
        (PADDED, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["text", "call"])
async def test_a_stream_is_padded_on_demand(
    http: HttpConnection, options: Json, padded: bool, tools: list[Json]
) -> None:
    """Deltas of texts, arguments and summaries are padded, all of them, and nothing else is."""
    answer = await http.create(stream=True, tools=tools, **FIELDS, **options)
    stream = Transcript(read_sse(answer.chunks), sse=True, padded=padded)
    plain = (await http.create(tools=tools, **FIELDS)).json()
    assert essence(plain) == essence(stream.response)
    assert b"obfuscation" not in (await http.create(tools=tools, **FIELDS, **options)).body


async def test_frames_are_of_few_sizes(http: HttpConnection) -> None:
    """A padded delta of up to 16 characters has the same size on the wire as any other."""
    answer = await http.create(stream=True, model="sim", input="Hello", **PADDED)
    sizes = set()
    for chunk in answer.chunks:
        if chunk.startswith(b"event: response.output_text.delta"):
            event = json.loads(chunk.split(b"\n")[1].removeprefix(b"data: "))
            if (
                len(event["delta"]) <= 16
                and event["delta"].isascii()
                and event["delta"] == (json.dumps(event["delta"])[1:-1])
            ):
                sizes.add(len(chunk) - len(str(event["sequence_number"])))
    assert 1 == len(sizes)


async def test_never_on_a_websocket(websocket: WebSocketConnection) -> None:
    """There the option is taken and changes nothing."""
    Transcript(await websocket.create(**FIELDS, **PADDED))


async def test_replays_are_padded_for_each_reader(server: Serving, http: HttpConnection) -> None:
    """What is kept has no padding: each reader says whether it wants some, and gets its own."""
    answer = await http.create(**FIELDS, **PADDED, stream=True, background=True)
    first = Transcript(read_sse(answer.chunks), background=True, padded=True)
    async with connect(server.url) as wire:
        for query, padded in (("", False), ("&include_obfuscation=true", True)):
            path = f"/v1/responses/{first.id}?stream=true{query}"
            again = Transcript(
                read_sse((await wire.request("GET", path)).chunks), background=True, padded=padded
            )
            assert first.response == again.response
            for one, other in zip(first.events, again.events, strict=True):
                without = [{**event, "obfuscation": None} for event in (one, other)]
                assert without[0] == without[1]
        middle = f"/v1/responses/{first.id}?stream=true&starting_after=20&include_obfuscation=true"
        tail = read_sse((await wire.request("GET", middle)).chunks)
    assert 21 == tail[0]["sequence_number"]
    deltas = [event for event in tail if event["type"] == "response.output_text.delta"]
    assert deltas
    assert {0} == {(len(event["delta"]) + len(event["obfuscation"])) % 16 for event in deltas}
    stored = await http.request("GET", f"/v1/responses/{first.id}?include_obfuscation=true")
    assert b"obfuscation" not in stored.body


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ("yes", "stream_options"),
        ([], "stream_options"),
        ({"include_obfuscation": "yes"}, "stream_options.include_obfuscation"),
        ({"include_obfuscation": 1}, "stream_options.include_obfuscation"),
    ],
    ids=str,
)
async def test_bad_types(http: HttpConnection, options: object, param: str) -> None:
    """A value of the wrong type is a 400 that names its place."""
    answer = await http.create(model="sim", input="Hello", stream=True, stream_options=options)
    error = answer.error()
    assert (400, param, "invalid_type") == (answer.status, error["param"], error["code"])


async def test_the_official_client(client: AsyncOpenAI) -> None:
    """Its events carry the padding, and its accumulator does not mind."""
    paddings = []
    stream = await client.responses.create(
        model="sim", input="Hello", stream=True, stream_options={"include_obfuscation": True}
    )
    text = ""
    async for event in stream:
        if event.type == "response.output_text.delta":
            text += event.delta
            paddings.append((event.model_extra or {}).get("obfuscation"))
    assert all(isinstance(padding, str) for padding in paddings)
    assert text == (await client.responses.create(model="sim", input="Hello")).output_text
