"""Pings, keep-alives and ages: how what is quiet is told from what is dead."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from tests.integration.recorder import Transcript
from tests.integration.serving import eventually
from tests.integration.sockets import Lanes, open_narrow, plain, served, stalled, talking
from tests.integration.wire import PING, PONG, Json, frame, open_websocket

from turnwire.config import WebSocketConfig

OFF = WebSocketConfig(max_age_sec=0, idle_sec=0, ping_sec=0, keepalive_sec=0, stalled_sec=0)
AGED = "websocket_connection_limit_reached"


async def test_a_client_that_answers_pings(tmp_path: Path) -> None:
    """A quiet client is pinged again and again, and stays for as long as it answers."""
    async with (
        served(tmp_path, websocket=WebSocketConfig(ping_sec=0.1)) as server,
        open_websocket(server.url) as websocket,
    ):
        for _ in range(5):
            opcode, payload = await websocket.read_frame()
            assert PING == opcode
            await websocket.send(frame(PONG, payload))
        assert 1 == server.count("websocket_connections")
        await websocket.send_create(**talking(4))
        assert "completed" == (await Lanes(websocket).response(None)).status


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_a_client_that_does_not_answer_pings(
    tmp_path: Path, log: io.StringIO, busy: bool
) -> None:
    """A client that is pinged in vain is dropped, with all that runs for it."""
    async with (
        served(tmp_path, websocket=WebSocketConfig(ping_sec=0.1)) as server,
        open_websocket(server.url) as websocket,
    ):
        if busy:
            await websocket.send_create(**stalled())
            await eventually(lambda: server.engines["sim"].num_running == 1)
        assert await websocket.read_all() != b""
        await server.idle()
        await eventually(lambda: server.count("websocket_connections") == 0)
        assert 1 == server.count("websocket_closes_total", code="1006")
        assert busy == server.count("responses_total", status="aborted", transport="websocket")
    assert "" == log.getvalue()


async def test_a_dead_client_with_unread_bytes(tmp_path: Path) -> None:
    """One that is gone without a trace while it is sent to is dropped, whichever clock is first."""
    async with (
        served(tmp_path, websocket=WebSocketConfig(ping_sec=0.2, stalled_sec=0)) as server,
        open_narrow(server.url) as narrow,
    ):
        await narrow.create(**talking(60_000))
        await eventually(lambda: server.engines["sim"].num_running == 1)
        await server.idle()
        await eventually(lambda: server.count("websocket_connections") == 0)


async def test_a_quiet_response_is_kept_alive(tmp_path: Path) -> None:
    """While a response says nothing it repeats that it is in progress, in the numbering."""
    websocket = WebSocketConfig(keepalive_sec=0.1)
    fields: Json = talking(4, metadata={"sim.fault": "stall:1", "sim.output_tokens": "4"})
    async with served(tmp_path, websocket=websocket) as server:
        async with open_websocket(server.url) as wire:
            await wire.send_create(**fields)
            events = await wire.read_response()
            repeated = [event for event in events if event["type"] == "response.in_progress"]
            assert len(repeated) > 3
            assert "completed" == plain(events).status
            await wire.send_create(**talking(4, previous_response_id=plain(events).id))
            assert "completed" == Transcript(await wire.read_response()).status
        async with (
            AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client,
            client.responses.connect() as connection,
        ):
            await connection.response.create(**fields)
            seen = []
            async for event in connection:
                seen.append(event.type)
                if event.type == "response.completed":
                    break
            assert seen.count("response.in_progress") > 3


async def test_two_quiet_responses_are_kept_alive(tmp_path: Path) -> None:
    """Each lane that waits gets keep-alives of its own."""
    websocket = WebSocketConfig(keepalive_sec=0.1)
    async with (
        served(tmp_path, websocket=websocket) as server,
        open_websocket(server.url) as wire,
    ):
        for lane in ("a", "b"):
            await wire.send_create(**stalled(stream_id=lane))
        lanes = Lanes(wire)
        while min(len(lanes.events.get(lane, ())) for lane in ("a", "b")) < 5:
            await lanes.read()
        for lane in ("a", "b"):
            await wire.send_event(type="response.cancel", stream_id=lane)
            assert "cancelled" == (await lanes.response(lane)).status


async def test_a_quiet_response_beside_one_that_talks(tmp_path: Path) -> None:
    """What is said on another lane is no sign of life of the quiet one."""
    websocket = WebSocketConfig(keepalive_sec=0.1)
    async with (
        served(tmp_path, websocket=websocket) as server,
        open_websocket(server.url) as wire,
    ):
        lanes = Lanes(wire)
        await wire.send_create(**stalled(stream_id="quiet"))
        await wire.send_create(**talking(100_000, model="sim-slow", stream_id="talks"))
        while len(lanes.events.get("quiet", ())) < 6:
            await lanes.read()
        begun = [event["type"] for event in lanes.events["talks"]]
        assert begun.count("response.output_text.delta") > 10
        for lane in ("quiet", "talks"):
            await wire.send_event(type="response.cancel", stream_id=lane)
            assert "cancelled" == (await lanes.response(lane)).status


async def test_an_unused_connection(tmp_path: Path) -> None:
    """One that holds no conversation is closed in time; one that does, or is busy, is not."""
    async with (
        served(tmp_path, websocket=WebSocketConfig(idle_sec=0.3)) as server,
        open_websocket(server.url) as remembers,
        open_websocket(server.url) as busy,
        open_websocket(server.url) as unused,
        open_websocket(server.url) as errs,
    ):
        await remembers.send_create(**talking(4))
        ended = await Lanes(remembers).response(None)
        await busy.send_create(**stalled())
        await errs.refused(model="nowhere", input="x")
        assert 1001 == await unused.read_close()
        assert 1001 == await errs.read_close()
        for wire in (unused, errs):
            await wire.send(frame(0x8, (1001).to_bytes(2, "big")))
            assert await wire.at_end()
        await eventually(lambda: server.count("websocket_connections") == 2)
        assert 2 == server.count("websocket_closes_total", code="1001")
        assert 1 == server.count("responses_in_flight")
        await remembers.send_create(**talking(4, previous_response_id=ended.id))
        assert "completed" == (await Lanes(remembers).response(None)).status


async def test_an_old_connection(tmp_path: Path) -> None:
    """At its age: what runs fails, what waits is refused, the client is told, then 1001."""
    async with (
        served(tmp_path, websocket=WebSocketConfig(max_age_sec=0.5)) as server,
        open_websocket(server.url) as wire,
    ):
        lanes = Lanes(wire)
        for lane in ("a", "b"):
            await wire.send_create(**stalled(stream_id=lane))
        await wire.send_create(**stalled(stream_id="a", user="waits"))
        for lane in ("a", "b"):
            await lanes.until(lane, "response.in_progress")
        told = await lanes.until(None, "error")
        assert (400, AGED, None) == (
            told["status"],
            told["error"]["code"],
            told["error"]["param"],
        )
        for lane in ("a", "b"):
            failed = plain(
                [event for event in lanes.events[lane] if event["type"] != "error"],
                stream_id=lane,
            )
            assert ("failed", "server_error") == (failed.status, failed.response["error"]["code"])
        (waited,) = [event for event in lanes.events["a"] if event["type"] == "error"]
        assert 503 == waited["status"]
        # The last word is the connection's.
        assert (None, "error") == lanes.order[-1]
        assert 1001 == await wire.read_close()
        await wire.send(frame(0x8, (1001).to_bytes(2, "big")))
        assert await wire.at_end()
        await server.idle()
        async with open_websocket(server.url) as other:
            await other.send_create(**talking(4))
            assert "completed" == (await Lanes(other).response(None)).status


async def test_an_old_connection_that_sends(tmp_path: Path) -> None:
    """A client that is just sending when its connection ends hears the last words all the same."""
    async with (
        served(tmp_path, websocket=WebSocketConfig(max_age_sec=0.3)) as server,
        open_websocket(server.url) as wire,
    ):

        async def chatter() -> None:
            while True:
                await wire.send_event(type="response.cancel")
                await asyncio.sleep(0)

        chattering = asyncio.create_task(chatter())
        assert AGED == (await wire.read_error())["error"]["code"]
        assert 1001 == await wire.read_close()
        assert not chattering.done()
        chattering.cancel()
        await wire.send(frame(0x8, (1001).to_bytes(2, "big")))
        assert await wire.at_end()
        await eventually(lambda: server.count("websocket_closes_total", code="1001") == 1)


async def test_an_old_connection_that_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that takes nothing cannot outlive its connection's age."""
    monkeypatch.setattr("turnwire.server.websocket.GOODBYE_SEC", 0.2)
    monkeypatch.setattr("turnwire.server.websocket.LINGER_SEC", 0.2)
    websocket = WebSocketConfig(max_age_sec=0.3, stalled_sec=0)
    async with (
        served(tmp_path, websocket=websocket) as server,
        open_narrow(server.url) as narrow,
    ):
        await narrow.create(**talking(60_000))
        await eventually(lambda: server.engines["sim"].num_running == 1)
        await server.idle()
        await eventually(lambda: server.count("websocket_connections") == 0)


async def test_clocks_that_are_off(tmp_path: Path) -> None:
    """With every timer at 0 nothing happens by itself."""
    async with (
        served(tmp_path, websocket=OFF) as server,
        open_websocket(server.url) as quiet,
        open_websocket(server.url) as busy,
        open_narrow(server.url) as narrow,
    ):
        await busy.send_create(**stalled())
        await narrow.create(**talking(60_000))
        lanes = Lanes(busy)
        await lanes.until(None, "response.in_progress")
        await asyncio.sleep(0.3)  # some fifteen looks at every connection
        assert 3 == server.count("websocket_connections")
        for wire in (quiet, busy):
            await wire.send(frame(PING, b"?"))
            assert (PONG, b"?") == await wire.read_frame()
