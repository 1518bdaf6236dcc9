"""How much is served at once, what is prepared or changed on the way, and how a server ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs
from tests.integration.agent import TOOLS
from tests.integration.recorder import Transcript, essence
from tests.integration.serving import Serving, config, eventually, serving
from tests.integration.wire import (
    TERMINAL,
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    handshake,
    open_websocket,
    read_sse,
)

from turnwire.config import LimitsConfig

STALLED: Json = {"model": "sim", "input": "x", "metadata": {"sim.fault": "stall:3600"}}
QUICK: Json = {"model": "sim", "input": "x", "store": False}
HELD: Json = {
    "model": "sim",
    "input": "Tell me.",
    "reasoning": {"effort": "low", "summary": "auto"},
    "store": False,
}


@asynccontextmanager
async def limited(folder: Path, limits: LimitsConfig) -> AsyncIterator[Serving]:
    """A server with these limits."""
    async with serving(config(folder, limits=limits)) as server:
        yield server


async def stall(websocket: WebSocketConnection, lane: str) -> None:
    """Start a response on a lane that does not come to its first token."""
    await websocket.send_create(**STALLED, stream_id=lane)
    for kind in ("response.created", "response.in_progress"):
        event = await websocket.read_event()
        assert (kind, lane) == (event["type"], event["stream_id"])


async def test_responses_of_a_connection(tmp_path: Path) -> None:
    """Beyond so many responses in flight on one socket, the next waits until one has ended."""
    async with (
        limited(tmp_path, LimitsConfig(max_in_flight_per_connection=2)) as server,
        open_websocket(server.url) as websocket,
    ):
        await stall(websocket, "a")
        await stall(websocket, "b")
        await websocket.send_create(**QUICK, stream_id="c")
        await websocket.send_event(type="response.cancel", stream_id="a")
        ended = await websocket.read_event()
        assert ("a", "response.failed") == (ended["stream_id"], ended["type"])
        assert ended["response"]["status"] == "cancelled"
        third = Transcript(await websocket.read_response(), stream_id="c")
        assert third.status == "completed"
        assert server.count("responses_in_flight") == 1


async def test_the_queue_of_a_connection(tmp_path: Path) -> None:
    """One create more than may wait is refused, and those that wait are served."""
    async with (
        limited(tmp_path, LimitsConfig(max_queued_per_connection=2)) as server,
        open_websocket(server.url) as websocket,
    ):
        await stall(websocket, "a")
        for _ in range(2):
            await websocket.send_create(**QUICK, stream_id="a")
        event = await websocket.refused(**QUICK, stream_id="a")
        assert (429, "websocket_queue_full", "a") == (
            event["status"],
            event["error"]["code"],
            event["stream_id"],
        )
        await websocket.send_event(type="response.cancel", stream_id="a")
        assert (await websocket.read_event())["type"] == "response.failed"
        for _ in range(2):
            Transcript(await websocket.read_response(), stream_id="a")


async def test_connections(tmp_path: Path) -> None:
    """One handshake more than there may be sockets is a 429; a place that is freed is a place."""
    async with (
        limited(tmp_path, LimitsConfig(max_connections=1)) as server,
        connect(server.url) as late,
    ):
        async with open_websocket(server.url):
            await late.send(handshake())
            answer = await late.read_answer()
            assert (429, "websocket_connection_limit_reached") == (
                answer.status,
                answer.error()["code"],
            )
            assert int(answer.headers["retry-after"]) >= 1
        await eventually(lambda: server.count("websocket_connections") == 0)
        async with open_websocket(server.url) as websocket:
            Transcript(await websocket.create(**QUICK))


async def test_responses_of_a_server(tmp_path: Path) -> None:
    """One response more than may run at once is a 503, over each transport."""
    async with (
        limited(tmp_path, LimitsConfig(max_in_flight=1)) as server,
        open_websocket(server.url) as websocket,
        connect(server.url) as wire,
    ):
        await stall(websocket, "a")
        for stream in (False, True):
            answer = await wire.create(**QUICK, stream=stream)
            assert (503, "server_is_overloaded") == (answer.status, answer.error()["code"])
            assert int(answer.headers["retry-after"]) >= 1
        event = await websocket.refused(**QUICK)
        assert (503, "server_is_overloaded") == (event["status"], event["error"]["code"])
        await websocket.send_event(type="response.cancel", stream_id="a")
        assert (await websocket.read_event())["type"] == "response.failed"
        await server.idle()
        assert (await wire.create(**QUICK)).status == 200


async def test_a_prompt_beyond_the_window(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """A prompt that does not fit is a 400 that says so."""
    fields: Json = {**QUICK, "input": "one two three four " * 40_000}
    answer = await http.create(**fields)
    assert (400, "context_length_exceeded") == (answer.status, answer.error()["code"])
    event = await websocket.refused(**fields)
    assert (400, "context_length_exceeded") == (event["status"], event["error"]["code"])
    Transcript(await websocket.create(**QUICK))


async def test_a_warm_up(http: HttpConnection, websocket: WebSocketConnection) -> None:
    """generate:false prepares and says nothing; the turn that goes on from it finds it warm."""
    settings: Json = {"model": "sim", "store": False, "tools": TOOLS, "instructions": "Be quick."}
    opening = [{"role": "user", "content": "A long preamble. " * 40}]
    warm = Transcript(await websocket.create(**settings, input=opening, generate=False))
    assert ["response.created", "response.in_progress", "response.completed"] == [
        event["type"] for event in warm.events
    ]
    assert warm.output == []
    assert warm.response["usage"]["output_tokens"] == 0
    new = [{"role": "user", "content": "Now."}]
    turn = Transcript(await websocket.create(**settings, input=new, previous_response_id=warm.id))
    whole = (await http.create(**settings, input=[*opening, *new])).json()
    assert essence(whole) == essence(turn.response)
    usage = turn.response["usage"]
    assert usage["input_tokens"] == whole["usage"]["input_tokens"]
    prepared = warm.response["usage"]["input_tokens"]
    assert usage["input_tokens_details"]["cached_tokens"] > prepared - 32


def hold(server: Serving, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Keep the engine from its first token until the event is set."""
    gate = asyncio.Event()
    monkeypatch.setattr(server.engines["sim"], "_sleep", lambda delay_sec: gate.wait())
    return gate


async def test_a_steer(
    server: Serving,
    http: HttpConnection,
    websocket: WebSocketConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A steered response ends after its item; a successor of its own takes the new message."""
    gate = hold(server, monkeypatch)
    await websocket.send_create(**HELD)
    events = [await websocket.read_event() for _ in range(2)]
    first_id = events[0]["response"]["id"]
    await websocket.send_event(
        type="response.steer", previous_response_id=first_id, input="Faster!"
    )
    accepted = await websocket.read_event()
    assert accepted["type"] == "response.steer.accepted"
    assert accepted["steer"]["previous_response_id"] == first_id
    gate.set()
    events.append(accepted)
    while events[-1]["type"] not in TERMINAL:
        events.append(await websocket.read_event())
    steered = events[-1]["response"]
    assert ("incomplete", {"reason": "steered"}) == (
        steered["status"],
        steered["incomplete_details"],
    )
    assert ["reasoning"] == [item["type"] for item in steered["output"]]
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    successor = Transcript(await websocket.read_response()).response
    assert successor["previous_response_id"] == first_id
    assert successor["status"] == "completed"
    whole = [
        {"role": "user", "content": "Tell me."},
        *steered["output"],
        {"role": "user", "content": "Faster!"},
    ]
    resent = (await http.create(**{**HELD, "input": whole})).json()
    assert resent["usage"]["input_tokens"] == successor["usage"]["input_tokens"]
    assert essence(resent) == essence(successor)


@pytest.mark.parametrize("grace_sec", [0.0, 20.0], ids=["no grace", "grace"])
async def test_the_end_of_a_server(
    tmp_path: Path, grace_sec: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle sockets are told to come back; what runs ends well in time, or hears that it failed."""
    told = config(tmp_path)
    told = structs.replace(told, server=structs.replace(told.server, shutdown_grace_sec=grace_sec))
    async with AsyncExitStack() as clients:
        running = AsyncExitStack()
        server = await running.enter_async_context(serving(told))
        idle = await clients.enter_async_context(open_websocket(server.url))
        busy = await clients.enter_async_context(open_websocket(server.url))
        streaming = await clients.enter_async_context(connect(server.url))
        late = await clients.enter_async_context(connect(server.url))
        Transcript(await idle.create(**QUICK))
        gate = hold(server, monkeypatch)
        await busy.send_create(**HELD)
        opening = [await busy.read_event() for _ in range(2)]
        asked = asyncio.create_task(streaming.create(**HELD, stream=True))
        await eventually(lambda: server.count("responses_in_flight") == 2)
        ending = asyncio.create_task(running.aclose())
        assert await idle.read_close() == 1012
        if grace_sec:
            for answer in (await late.create(**QUICK), await late.request("GET", "/ready")):
                assert answer.status == 503
            assert (await late.request("GET", "/health")).status == 200
            gate.set()
        expected = "completed" if grace_sec else "failed"
        assert Transcript([*opening, *await busy.read_response()]).status == expected
        assert Transcript(read_sse((await asked).chunks), sse=True).status == expected
        assert await busy.read_close() == 1012
        for wire in (idle, busy):
            wire.close()
        await ending
        assert server.count("responses_in_flight") == 0
