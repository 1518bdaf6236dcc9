"""The same agent loop over WebSocket, SSE and JSON: the same conversation, token for token.

The simulated engine's output is a pure function of the prompt's token ids. So if a prompt that
was appended to and one that was rendered in full differ in a single token, what the model says
differs from there on.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response
from tests.integration.agent import TOOLS, Turn, asker, play
from tests.integration.serving import Serving
from tests.integration.wire import connect

NUM_CALLS = 20
SETTINGS: dict[str, dict[str, Any]] = {
    "calls": {},
    "reasoning": {
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "instructions": "Work in small steps.",
    },
    "parallel calls": {"metadata": {"sim.tool_calls": "5", "sim.parallel_calls": "3"}},
}


async def all_three(client: AsyncOpenAI, **settings: Any) -> dict[str, list[Turn]]:
    """The loop over each transport, with the tokens that were cached checked on the way."""
    played: dict[str, list[Turn]] = {}
    merged = {
        "model": "sim",
        "tools": TOOLS,
        "metadata": {"sim.tool_calls": str(NUM_CALLS)},
        **settings,
    }
    for kind in ("websocket", "sse", "json"):
        async with asker(kind, client, **merged) as conversation:
            played[kind] = await play(conversation, "Make the tests pass.", max_turns=NUM_CALLS + 2)
            # What a turn left behind is a prefix of the next one's prompt, to the block.
            assert all(cached > 0 for cached in conversation.cached[1:])
    return played


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_one_conversation(
    client: AsyncOpenAI, server: Serving, settings: dict[str, Any]
) -> None:
    """A tool loop is the same over a socket with new items only and over HTTP in full."""
    played = await all_three(client, **settings)
    turns = played["websocket"]
    assert turns == played["sse"]
    assert turns == played["json"]
    rounds = 5 if "metadata" in settings else NUM_CALLS
    assert rounds + 1 == len(turns)
    assert all(turn.calls for turn in turns[:-1])
    assert turns[-1].text
    if "metadata" in settings:
        assert [3] * rounds == [len(turn.calls) for turn in turns[:-1]]
    else:
        assert [1] * rounds == [len(turn.calls) for turn in turns[:-1]]
    if "reasoning" in settings:
        assert all(turn.num_reasoning > 0 for turn in turns)
    else:
        assert all(turn.num_reasoning == 0 for turn in turns)
    for name, arguments in (call for turn in turns for call in turn.calls):
        assert set(json.loads(arguments)) == (
            {"path"} if name == "read_file" else {"quick", "times"}
        )
    # Over the socket, every turn but the first was appended to what was there.
    assert rounds == server.count("context_render_total", mode="append", reason="")


async def test_the_metrics_page_shows_appends(client: AsyncOpenAI, server: Serving) -> None:
    """A continuation over WebSocket shows as mode="append" at /metrics."""
    async with asker(
        "websocket", client, model="sim", tools=TOOLS, metadata={"sim.tool_calls": "2"}
    ) as conversation:
        await play(conversation, "Go.", max_turns=9)
    async with connect(server.url) as wire:
        page = await wire.request("GET", "/metrics")
    lines = page.body.decode().splitlines()
    assert 'turnwire_context_render_total{mode="append",reason=""} 2.0' in lines
    assert 'turnwire_context_render_total{mode="full",reason="first"} 1.0' in lines


async def test_cached_tokens_are_all_but_the_new(client: AsyncOpenAI) -> None:
    """On a chain, the engine's prefix hit covers the turn before, rounded down to a block."""
    async with asker(
        "websocket", client, model="sim", tools=TOOLS, metadata={"sim.tool_calls": "6"}
    ) as conversation:
        turns = await play(conversation, "Go.", max_turns=9)
    block = 16
    for before, cached in zip(turns, conversation.cached[1:], strict=False):
        known = before.num_input + before.num_output
        assert known - 2 * block < cached <= known + block


async def test_the_official_accumulator(client: AsyncOpenAI) -> None:
    """The official client's stream helper builds the same response as the server sent."""
    responses: Any = client.responses
    async with responses.stream(
        model="sim",
        input="Hello",
        tools=TOOLS,
        reasoning={"effort": "low", "summary": "auto"},
        metadata={"sim.parallel_calls": "2"},
    ) as stream:
        types = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert types[-1] == "response.completed"
    kept = await client.responses.retrieve(final.id)
    assert isinstance(kept, Response)
    assert [item.type for item in kept.output] == [item.type for item in final.output]
    assert [item.to_dict() for item in kept.output if item.type == "reasoning"] == [
        item.to_dict() for item in final.output if item.type == "reasoning"
    ]
    assert kept.usage == final.usage
