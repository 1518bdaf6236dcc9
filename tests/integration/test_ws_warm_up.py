"""Preparing a conversation before there is a question: nothing is said, the next turn is warm."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.agent import TOOLS
from tests.integration.recorder import Transcript, essence
from tests.integration.serving import Serving
from tests.integration.sockets import Lanes
from tests.integration.wire import HttpConnection, Json, WebSocketConnection

SETTINGS: Json = {
    "model": "sim",
    "tools": TOOLS,
    "instructions": "Be quick. Be quiet. " * 30,
    "metadata": {"sim.output_tokens": "12"},
}
WARM: dict[str, Json] = {
    "generate": {"generate": False},
    "prewarm": {"prompt_cache_options": {"prewarm": True}},
    "both": {"generate": True, "prompt_cache_options": {"prewarm": True}},
}
OPENING = [{"role": "developer", "content": "The house rules. " * 30}]
BLOCK = 16  # tokens per block of the engine's cache


def check_silent(events: list[Json], lane: str | None = None) -> Transcript:
    """The three events of a warm-up, and nothing said."""
    warm = Transcript(events, stream_id=lane)
    assert ["response.created", "response.in_progress", "response.completed"] == [
        event["type"] for event in warm.events
    ]
    usage = warm.response["usage"]
    assert ([], 0) == (warm.output, usage["output_tokens"])
    assert usage["input_tokens"] > 0
    return warm


@pytest.mark.parametrize("how", WARM.values(), ids=WARM)
@pytest.mark.parametrize("lane", [None, "warm"])
async def test_a_warm_prefix(
    websocket: WebSocketConnection, http: HttpConnection, how: Json, lane: str | None
) -> None:
    """What goes on from a warm-up finds all of it cached, and answers as if there had been none."""
    lanes = Lanes(websocket)
    named: Json = {} if lane is None else {"stream_id": lane}
    await websocket.send_create(**SETTINGS, input=OPENING, store=False, **how, **named)
    warm = check_silent(await lanes.take(lane), lane)
    new = [{"role": "user", "content": "Now."}]
    await websocket.send_create(
        **SETTINGS, input=new, store=False, previous_response_id=warm.id, **named
    )
    turn = (await lanes.response(lane)).response
    details = turn["usage"]["input_tokens_details"]
    prepared = warm.response["usage"]["input_tokens"]
    assert prepared - BLOCK < details["cached_tokens"] <= prepared
    whole = (await http.create(**SETTINGS, input=[*OPENING, *new], store=False)).json()
    assert whole["usage"]["input_tokens"] == turn["usage"]["input_tokens"]
    assert essence(whole) == essence(turn)


@pytest.mark.parametrize("given", [{}, {"input": []}], ids=["absent", "empty"])
async def test_tools_and_instructions_alone(
    websocket: WebSocketConnection, given: dict[str, Any]
) -> None:
    """There need be no input: the preamble is prepared, and the first question finds it."""
    lanes = Lanes(websocket)
    await websocket.send_create(**SETTINGS, **given, store=False, generate=False)
    warm = check_silent(await lanes.take(None))
    await websocket.send_create(**SETTINGS, input="Now.", store=False, previous_response_id=warm.id)
    turn = (await lanes.response(None)).response
    cached = turn["usage"]["input_tokens_details"]["cached_tokens"]
    assert warm.response["usage"]["input_tokens"] - BLOCK < cached


async def test_settings_are_not_inherited(websocket: WebSocketConnection) -> None:
    """A turn without the warm-up's tools and instructions has none."""
    lanes = Lanes(websocket)
    await websocket.send_create(**SETTINGS, input=OPENING, store=False, generate=False)
    warm = check_silent(await lanes.take(None))
    await websocket.send_create(
        model="sim", input="Now.", store=False, previous_response_id=warm.id
    )
    turn = await lanes.response(None)
    assert ([], None) == (turn.response["tools"], turn.response["instructions"])
    assert [] == turn.calls


async def test_a_stored_warm_up(websocket: WebSocketConnection, http: HttpConnection) -> None:
    """With store:true a warm-up can be read, and continued by anyone of its owner."""
    lanes = Lanes(websocket)
    await websocket.send_create(**SETTINGS, input=OPENING, generate=False)
    warm = check_silent(await lanes.take(None))
    got = await http.request("GET", f"/v1/responses/{warm.id}")
    assert warm.response == got.json()
    answer = await http.create(**SETTINGS, input="Now.", previous_response_id=warm.id)
    cached = answer.json()["usage"]["input_tokens_details"]["cached_tokens"]
    assert warm.response["usage"]["input_tokens"] - BLOCK < cached


async def test_a_chain_of_warm_ups(
    server: Serving, websocket: WebSocketConnection, http: HttpConnection
) -> None:
    """Warm-ups may follow each other and turns; each adds its input, and only that is rendered."""
    lanes = Lanes(websocket)
    items: list[Json] = []
    parent: Json = {}
    for number in range(6):
        new = [{"role": "user", "content": f"Part {number}. " * 20}]
        warm_up = number % 3 != 2
        await websocket.send_create(
            **SETTINGS, input=new, store=False, generate=not warm_up, tool_choice="none", **parent
        )
        events = await lanes.take(None)
        turn = check_silent(events) if warm_up else Transcript(events)
        items += [*new, *turn.output]
        parent = {"previous_response_id": turn.id}
    whole = await http.create(**SETTINGS, input=items[:-1], store=False, tool_choice="none")
    assert essence(whole.json()) == essence(turn.response)
    assert 5 == server.count("context_render_total", mode="append", reason="")


async def test_a_warm_up_that_cannot_be(websocket: WebSocketConnection) -> None:
    """A warm-up is refused like a turn, and the socket goes on."""
    lanes = Lanes(websocket)
    for fields, code in (
        ({"model": "nowhere"}, "model_not_found"),
        ({"model": "sim", "previous_response_id": "resp_none"}, "previous_response_not_found"),
        ({"model": "sim", "generate": "no"}, "invalid_type"),
    ):
        await websocket.send_create(**{"generate": False, "input": "x", **fields})
        (error,) = await lanes.take(None)
        assert code == error["error"]["code"]
    await websocket.send_create(**SETTINGS, generate=False)
    check_silent(await lanes.take(None))
