"""Few places at the engine, many who want one: connections take turns, not requests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.sockets import Lanes, served, talking
from tests.integration.wire import connect, open_websocket

from turnwire.engines.sim import SimProfile

DELTA = "response.output_text.delta"


@pytest.mark.parametrize("slots", [1, 2])
async def test_one_lane_against_sixteen(tmp_path: Path, slots: int) -> None:
    """A client with one question waits for a place or two, not for all sixteen of another."""
    profiles = {"sim": SimProfile(tokens_per_sec=1000.0, slots=slots)}
    async with (
        served(tmp_path, profiles=profiles) as server,
        open_websocket(server.url) as greedy,
        open_websocket(server.url) as modest,
    ):
        many, one = Lanes(greedy), Lanes(modest)
        for number in range(16):
            await greedy.send_create(**talking(24, stream_id=f"{number}"))
        for number in range(16):
            await many.until(f"{number}", "response.in_progress")
        await modest.send_create(**talking(24))

        async def all_of_the_greedy() -> None:
            for number in range(16):
                await many.take(f"{number}")

        def num_ended() -> float:
            return server.count("responses_total", status="completed", transport="websocket")

        taking = asyncio.create_task(all_of_the_greedy())
        await one.until(None, "response.in_progress")
        before = num_ended()  # however long the modest one took to arrive
        await one.until(None, DELTA)
        # Those that had a place when the modest one came, and what ended in the meantime.
        assert num_ended() - before <= 3 * slots
        assert "completed" == (await one.response(None)).status
        await taking
        assert 16 == sum(kind == "response.completed" for _, kind in many.order)


async def test_clients_take_turns(tmp_path: Path) -> None:
    """Three clients with eight questions each are served one by one in turn."""
    profiles = {"sim": SimProfile(slots=1)}
    async with (
        served(tmp_path, profiles=profiles) as server,
        open_websocket(server.url) as a,
        open_websocket(server.url) as b,
        open_websocket(server.url) as c,
    ):
        clients = [Lanes(wire) for wire in (a, b, c)]
        # The only place is taken until all have asked.
        await a.send_create(**talking(4, metadata={"sim.fault": "stall:3600"}, stream_id="first"))
        await clients[0].until("first", "response.in_progress")
        for client in clients:
            for number in range(8):
                await client.wire.send_create(**talking(4, stream_id=f"{number}"))
            await client.until("7", "response.in_progress")
        ends: list[int] = []

        async def take(index: int) -> None:
            for number in range(8):
                await clients[index].take(f"{number}")
                ends.append(index)

        async with asyncio.TaskGroup() as tasks:
            for index in range(3):
                tasks.create_task(take(index))
            await a.send_event(type="response.cancel", stream_id="first")
        for begin in range(0, 24, 3):
            assert {0, 1, 2} == set(ends[begin : begin + 3])


async def test_lanes_and_plain_requests(tmp_path: Path) -> None:
    """A plain HTTP request is a client like a connection, and is not behind all its lanes."""
    profiles = {"sim": SimProfile(tokens_per_sec=1000.0, slots=1)}
    async with (
        served(tmp_path, profiles=profiles) as server,
        open_websocket(server.url) as greedy,
        connect(server.url) as http,
    ):
        many = Lanes(greedy)
        for number in range(16):
            await greedy.send_create(**talking(24, stream_id=f"{number}"))
        for number in range(16):
            await many.until(f"{number}", "response.in_progress")
        asked = asyncio.create_task(http.create(**talking(24)))
        for number in range(16):
            await many.take(f"{number}")
            if asked.done():
                break
        assert 200 == (await asked).status
        assert number < 8
