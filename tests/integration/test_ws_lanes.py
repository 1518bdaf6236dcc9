"""Several conversations on one socket: order in a lane, none between lanes, and the bounds."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketAccumulator,
    ResponsesWebSocketError,
    ResponsesWebSocketLimits,
)
from openai.types.responses.responses_client_event_param import ResponsesClientEventParam
from tests.integration.serving import Serving, eventually
from tests.integration.sockets import Lanes, served, stalled, talking
from tests.integration.wire import TEXT, WebSocketConnection, frame, open_websocket

from turnwire.config import LimitsConfig


async def test_two_lanes_take_turns(websocket: WebSocketConnection) -> None:
    """Two answers of the same length come side by side, each whole and under its own name."""
    lanes = Lanes(websocket)
    for lane in ("a", "b"):
        await websocket.send_create(**talking(400, stream_id=lane))
    one, other = await lanes.response("a"), await lanes.response("b")
    assert one.text == other.text
    deltas = [lane for lane, kind in lanes.order if kind == "response.output_text.delta"]
    switches = sum(before != after for before, after in pairwise(deltas))
    assert switches > 10


async def test_named_and_default_lanes_share_a_socket(websocket: WebSocketConnection) -> None:
    """The default lane's events have no `stream_id` key; a named lane's all have theirs."""
    lanes = Lanes(websocket)
    await websocket.send_create(**talking(8))
    await websocket.send_create(**talking(8, stream_id="x" * 256))
    await websocket.send_create(**talking(8, stream_id="A-z_0.9"))
    for lane in (None, "x" * 256, "A-z_0.9"):
        assert "completed" == (await lanes.response(lane)).status


async def test_one_packet_of_many_creates(websocket: WebSocketConnection) -> None:
    """Creates that arrive in one packet are answered in order in a lane, by all lanes."""
    frames = b""
    for number in range(4):
        for lane in ("a", "b", "c"):
            fields = talking(8, stream_id=lane)
            fields["metadata"] = {**fields["metadata"], "n": f"{number}"}
            body = json.dumps({"type": "response.create", **fields}).encode()
            frames += frame(TEXT, body)
    await websocket.send(frames)
    lanes = Lanes(websocket)
    for number in range(4):
        for lane in ("a", "b", "c"):
            answered = await lanes.response(lane)
            assert f"{number}" == answered.response["metadata"]["n"]


async def test_a_lane_used_from_two_tasks(websocket: WebSocketConnection) -> None:
    """Whoever sends on a lane: one response ends before the next begins."""

    async def send(number: int) -> None:
        await websocket.send_create(**talking(32, stream_id="shared", user=f"{number}"))

    await asyncio.gather(*(send(number) for number in range(8)))
    lanes = Lanes(websocket)
    users = {(await lanes.response("shared")).response["user"] for _ in range(8)}
    assert {f"{number}" for number in range(8)} == users


async def test_the_seventeenth_waits(server: Serving, websocket: WebSocketConnection) -> None:
    """Of 17 creates on 17 lanes 16 run; the last begins when one of them has ended."""
    lanes = Lanes(websocket)
    for number in range(17):
        await websocket.send_create(**stalled(stream_id=f"{number}"))
    for number in range(16):
        await lanes.until(f"{number}", "response.in_progress")
    await websocket.send(frame(0x9, b"still there?"))
    assert (0xA, b"still there?") == await websocket.read_frame()
    assert 16 == server.count("responses_in_flight")
    assert "16" not in lanes.events
    await websocket.send_event(type="response.cancel", stream_id="3")
    assert "cancelled" == (await lanes.response("3")).status
    await lanes.until("16", "response.in_progress")
    assert 16 == server.count("responses_in_flight")


async def test_the_queue_is_by_arrival(tmp_path: Path) -> None:
    """With every place taken, what waits begins in the order it came, whatever its lane."""
    limits = LimitsConfig(max_in_flight_per_connection=1)
    async with served(tmp_path, limits=limits) as server, open_websocket(server.url) as websocket:
        lanes = Lanes(websocket)
        await websocket.send_create(**stalled(stream_id="a"))
        await lanes.until("a", "response.in_progress")
        for lane in ("a", "b", "a", "c"):
            await websocket.send_create(**talking(4, stream_id=lane))
        await websocket.send_event(type="response.cancel", stream_id="a")
        await lanes.take("a")
        lanes.order.clear()
        for lane in ("a", "b", "a", "c"):
            await lanes.take(lane)
        created = [lane for lane, kind in lanes.order if kind == "response.created"]
        assert ["a", "b", "a", "c"] == created


async def test_a_full_queue(tmp_path: Path) -> None:
    """A create beyond the queue is a 429 of its lane, and those before it are served."""
    limits = LimitsConfig(max_in_flight_per_connection=1, max_queued_per_connection=2)
    async with served(tmp_path, limits=limits) as server, open_websocket(server.url) as websocket:
        lanes = Lanes(websocket)
        await websocket.send_create(**stalled(stream_id="a"))
        await lanes.until("a", "response.in_progress")
        for lane in ("a", "b", "c"):
            await websocket.send_create(**talking(4, stream_id=lane))
        refused = await lanes.until("c", "error")
        assert (429, "websocket_queue_full") == (refused["status"], refused["error"]["code"])
        await websocket.send_event(type="response.cancel", stream_id="a")
        await lanes.take("a")
        for lane in ("a", "b"):
            assert "completed" == (await lanes.response(lane)).status


@pytest.mark.parametrize("lane", ["a/b", "a\n", "\u0660", "a\x00", [], {}, True, 1.5])
async def test_names_that_are_none(websocket: WebSocketConnection, lane: Any) -> None:
    """What cannot name a lane is refused on no lane, and counts as none."""
    refused = await websocket.refused(**talking(4), stream_id=lane)
    assert (400, "invalid_stream_id", "stream_id") == (
        refused["status"],
        refused["error"]["code"],
        refused["error"]["param"],
    )
    assert "stream_id" not in refused
    await websocket.send_create(**talking(4))
    assert "completed" == (await Lanes(websocket).response(None)).status


async def test_a_lane_counts_when_its_create_is_read(websocket: WebSocketConnection) -> None:
    """32 lanes are known for the socket's life; the default one is not among them."""
    lanes = Lanes(websocket)
    for number in range(32):
        await websocket.send_create(**talking(1, stream_id=f"lane-{number}"))
        await lanes.take(f"lane-{number}")
    await websocket.send_create(**talking(1, stream_id="lane-32"))
    refused = await lanes.until("lane-32", "error")
    assert "websocket_stream_limit_reached" == refused["error"]["code"]
    for lane in (None, "lane-0", "lane-31"):
        await websocket.send_create(**talking(4, **({} if lane is None else {"stream_id": lane})))
        assert "completed" == (await lanes.response(lane)).status


def create(**fields: Any) -> ResponsesClientEventParam:
    """A create as the official session takes it."""
    event: Any = {"type": "response.create", **fields}
    typed: ResponsesClientEventParam = event
    return typed


LIMITS = ResponsesWebSocketLimits(
    max_lanes=33,
    max_events_per_lane=10_000,
    max_events=100_000,
    max_bytes_per_lane=2**24,
    max_bytes=2**26,
)


async def test_the_official_session(server: Serving, client: AsyncOpenAI) -> None:
    """The official session runs eight conversations at once, each a chain of its own."""
    async with (
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):

        async def converse(number: int) -> list[str]:
            lane = session.lane(f"lane-{number}")
            said, parent = [], None
            for turn in range(3):
                settings = talking(8 + number, input=f"{number}.{turn}")
                settings["previous_response_id"] = parent
                await lane.send(create(**settings))
                response = await lane.get_final_response()
                assert "completed" == response.status
                said.append(response.output_text)
                parent = response.id
            return said

        answers = await asyncio.gather(*(converse(number) for number in range(8)))
        assert 8 == len({text for said in answers for text in said[:1]})
        assert 16 <= server.count("context_render_total", mode="append", reason="")


async def test_errors_reach_the_lane_of_the_official_session(client: AsyncOpenAI) -> None:
    """An error of one lane ends that lane's wait, and the other lane's answer is whole."""
    async with (
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        good, bad = session.lane("good"), session.lane("bad")
        await good.send(create(**talking(200)))
        await bad.send(create(**talking(8, previous_response_id="resp_none")))
        with pytest.raises(ResponsesWebSocketError) as caught:
            await bad.get_final_response()
        error: Any = caught.value.event
        assert "previous_response_not_found" == error.error.code
        assert "bad" == error.stream_id
        assert "completed" == (await good.get_final_response()).status


async def test_the_official_accumulator(client: AsyncOpenAI) -> None:
    """The official accumulator follows a lane to the response that the server sent."""
    async with (
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        lane = session.lane("followed")
        accumulator = ResponsesWebSocketAccumulator()
        await lane.send(create(**talking(40)))
        while True:
            event = await lane.recv()
            accumulator.add_event(event)
            if event.type == "response.completed":
                break
        assert event.response == accumulator.get_final_response()
        await eventually(lambda: not session._router.default.queue)
