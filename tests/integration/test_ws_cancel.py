"""`response.cancel`: by id, by lane, too early, too late; and what is free after it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent import TOOLS
from tests.integration.serving import Serving, eventually
from tests.integration.sockets import Lanes, served, stalled, talking
from tests.integration.wire import (
    PING,
    PONG,
    Json,
    WebSocketConnection,
    connect,
    frame,
    open_websocket,
)

from turnwire.engines.sim import SimProfile

SLOTS = 'turnwire_engine_slots{model="%s",state="%s"}'


async def slots(server: Serving, model: str, state: str) -> float:
    """What /metrics says of an engine's slots."""
    async with connect(server.url) as http:
        page = (await http.request("GET", "/metrics")).body.decode()
    (line,) = [line for line in page.splitlines() if line.startswith(SLOTS % (model, state))]
    return float(line.rpartition(" ")[2])


async def silent(websocket: WebSocketConnection) -> None:
    """The server has read everything so far, and has nothing to say about it."""
    await websocket.send(frame(PING, b"?"))
    assert (PONG, b"?") == await websocket.read_frame()


@pytest.mark.parametrize("how", ["id", "lane"])
@pytest.mark.parametrize("lane", [None, "a"])
@pytest.mark.parametrize("at", ["response.in_progress", "response.output_text.delta"])
async def test_a_running_response(
    server: Serving, websocket: WebSocketConnection, how: str, lane: str | None, at: str
) -> None:
    """It ends as cancelled with its slot free, and the lane goes on at once."""
    lanes = Lanes(websocket)
    named: Json = {} if lane is None else {"stream_id": lane}
    fields = stalled() if at == "response.in_progress" else talking(100_000)
    await websocket.send_create(**{**fields, "model": "sim-slow"}, **named)
    await lanes.until(lane, at)
    await eventually(lambda: server.engines["sim-slow"].num_running == 1)
    begun = await lanes.until(lane, "response.created")
    assert 1.0 == await slots(server, "sim-slow", "running")
    target = {"response_id": begun["response"]["id"]} if how == "id" else named
    await websocket.send_event(type="response.cancel", **target)
    cancelled = await lanes.response(lane)
    assert ("cancelled", [], None) == (
        cancelled.status,
        cancelled.output,
        cancelled.response["usage"],
    )
    # When the client hears of it the slot is free already.
    assert 0 == server.engines["sim-slow"].num_running
    assert 0.0 == await slots(server, "sim-slow", "running")
    assert "response.failed" == cancelled.events[-1]["type"]
    await websocket.send_create(**talking(4), **named)
    assert "completed" == (await lanes.response(lane)).status
    assert 1 == server.count("responses_total", status="cancelled", transport="websocket")


async def test_while_it_waits_for_a_slot(tmp_path: Path) -> None:
    """A response that waits for the engine is cancelled like one that has it."""
    profiles = {"sim": SimProfile(slots=1)}
    async with (
        served(tmp_path, profiles=profiles) as server,
        open_websocket(server.url) as websocket,
    ):
        lanes = Lanes(websocket)
        for lane in ("first", "second", "third"):
            await websocket.send_create(**stalled(stream_id=lane))
            await lanes.until(lane, "response.in_progress")
        await websocket.send_event(type="response.cancel", stream_id="second")
        assert "cancelled" == (await lanes.response("second")).status
        await websocket.send_event(type="response.cancel", stream_id="first")
        assert "cancelled" == (await lanes.response("first")).status
        await eventually(lambda: server.engines["sim"].num_running == 1)
        await websocket.send_event(type="response.cancel", stream_id="third")
        assert "cancelled" == (await lanes.response("third")).status
        await server.idle()


async def test_in_the_packet_of_its_create(websocket: WebSocketConnection) -> None:
    """A cancel right behind its create finds it, whatever that has come to."""
    lanes = Lanes(websocket)
    for size in (10, 200_000):  # the large input is rendered in a thread meanwhile
        await websocket.send_create(**{**talking(100_000), "input": "x " * size})
        await websocket.send_event(type="response.cancel")
        last = (await lanes.take(None))[-1]
        if last["type"] == "error":
            assert "response_cancelled" == last["error"]["code"]
        else:
            assert "cancelled" == last["response"]["status"]
    await websocket.send_create(**talking(4))
    assert "completed" == (await lanes.response(None)).status


async def test_too_late(websocket: WebSocketConnection) -> None:
    """A cancel of what is over, unknown or of an idle lane is not answered."""
    lanes = Lanes(websocket)
    await websocket.send_create(**talking(4, stream_id="a"))
    ended = await lanes.response("a")
    targets: list[dict[str, Any]] = [
        {"response_id": ended.id},
        {"response_id": "resp_none"},
        {"stream_id": "a"},
        {"stream_id": "never"},
        {},
    ]
    for target in targets:
        await websocket.send_event(type="response.cancel", **target)
    await silent(websocket)
    await websocket.send_create(**talking(4, previous_response_id=ended.id, stream_id="a"))
    assert "completed" == (await lanes.response("a")).status


async def test_one_of_many(server: Serving, websocket: WebSocketConnection) -> None:
    """Only the response that is named ends, and what waited behind it begins."""
    lanes = Lanes(websocket)
    for lane in ("a", "b"):
        await websocket.send_create(**stalled(stream_id=lane))
        await lanes.until(lane, "response.in_progress")
    await websocket.send_create(**talking(4, stream_id="a"))
    await websocket.send_event(type="response.cancel", stream_id="a")
    assert "cancelled" == (await lanes.response("a")).status
    assert "completed" == (await lanes.response("a")).status
    await silent(websocket)
    assert 1 == server.count("responses_in_flight")
    await websocket.send_event(type="response.cancel", stream_id="b")
    assert "cancelled" == (await lanes.response("b")).status


async def test_from_another_socket(server: Serving, websocket: WebSocketConnection) -> None:
    """A response is cancelled on its own socket only."""
    lanes = Lanes(websocket)
    await websocket.send_create(**{**talking(24, store=True), "model": "sim-slow"})
    begun = await lanes.until(None, "response.in_progress")
    async with open_websocket(server.url) as other:
        await other.send_event(type="response.cancel", response_id=begun["response"]["id"])
        await silent(other)
    assert "completed" == (await lanes.response(None)).status


async def test_at_any_moment(server: Serving, websocket: WebSocketConnection) -> None:
    """Wherever a cancel meets its response there is one terminal event, and the chain holds."""
    lanes = Lanes(websocket)
    await websocket.send_create(**talking(4))
    parent = (await lanes.response(None)).id
    for pause in range(25):
        await websocket.send_create(**talking(40, tools=TOOLS, previous_response_id=parent))
        for _ in range(pause):
            await asyncio.sleep(0)
        await websocket.send_event(type="response.cancel")
        ended = await lanes.response(None)
        if ended.status == "completed":
            parent = ended.id
            calls = [
                {"type": "function_call_output", "call_id": call["call_id"], "output": "x"}
                for call in ended.calls
            ]
            await websocket.send_create(
                **talking(4, previous_response_id=parent, input=calls or "on")
            )
            parent = (await lanes.response(None)).id
        else:
            assert "cancelled" == ended.status
    await silent(websocket)
    await server.idle()
