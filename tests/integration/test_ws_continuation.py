"""What a socket remembers: forks, evictions, bounds, and what is not its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.recorder import Transcript, essence
from tests.integration.serving import ALICE, BOB, Serving, bearer
from tests.integration.sockets import Lanes, served, stalled, talking
from tests.integration.wire import (
    Json,
    WebSocketConnection,
    connect,
    open_websocket,
)

from turnwire.config import LimitsConfig

LONG = "Once upon a time there was a server. " * 40


def lane_of(name: str | None) -> Json:
    """The field that names a lane."""
    return {} if name is None else {"stream_id": name}


async def say(lanes: Lanes, lane: str | None, **fields: Any) -> Transcript:
    """One response on a lane."""
    await lanes.wire.send_create(**talking(8, **fields), **lane_of(lane))
    return await lanes.response(lane)


async def refusal(lanes: Lanes, lane: str | None, **fields: Any) -> tuple[str, str | None]:
    """Code and param of the error that a create on a lane is answered with."""
    await lanes.wire.send_create(**{**talking(8), **fields}, **lane_of(lane))
    (error,) = await lanes.take(lane)
    assert error["type"] == "error"
    return error["error"]["code"], error["error"]["param"]


GONE = ("previous_response_not_found", "previous_response_id")


async def test_forks_share_their_parent(server: Serving, websocket: WebSocketConnection) -> None:
    """Forks of a long conversation are rendered by appending, and their prefix is cached."""
    lanes = Lanes(websocket)
    parent = await say(lanes, "trunk", input=LONG)
    whole = parent.response["usage"]["total_tokens"]
    before = server.count("context_render_total", mode="append", reason="")
    texts = set()
    for number in range(4):
        fork = await say(lanes, f"fork-{number}", input=f"{number}", previous_response_id=parent.id)
        cached = fork.response["usage"]["input_tokens_details"]["cached_tokens"]
        assert whole - 32 < cached <= whole
        texts.add(fork.text)
    assert before + 4 == server.count("context_render_total", mode="append", reason="")
    assert len(texts) == 4
    # The trunk goes on from the same parent, as if nobody had forked it.
    trunk = await say(lanes, "trunk", input="1", previous_response_id=parent.id)
    assert trunk.text in texts


async def test_a_fork_is_bound_when_it_is_in_progress(
    server: Serving, websocket: WebSocketConnection
) -> None:
    """After a fork's in_progress its source may move on; before that it may come too late."""
    lanes = Lanes(websocket)
    parent = await say(lanes, "trunk", input="one")
    await websocket.send_create(**stalled(previous_response_id=parent.id), stream_id="fork")
    await lanes.until("fork", "response.in_progress")
    following = await say(lanes, "trunk", input="two", previous_response_id=parent.id)
    # The queue of the fork's lane: its parent is looked up when it starts, and then is gone.
    await websocket.send_create(**talking(8, previous_response_id=parent.id), stream_id="fork")
    await websocket.send_event(type="response.cancel", stream_id="fork")
    assert "cancelled" == (await lanes.response("fork")).status
    (late,) = await lanes.take("fork")
    assert GONE == (late["error"]["code"], late["error"]["param"])
    # A failed fork takes nothing from its source.
    assert (
        "completed"
        == (await say(lanes, "trunk", input="three", previous_response_id=following.id)).status
    )


FAILURES: dict[str, Json] = {
    "an unknown model": {"model": "nowhere"},
    "a call that is not open": {
        "input": [{"type": "function_call_output", "call_id": "call_0", "output": "x"}]
    },
    "an engine that fails": {"metadata": {"sim.fault": "error:3"}},
    "an engine that refuses": {"metadata": {"sim.fault": "reject"}},
}


@pytest.mark.parametrize("fields", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("forked", [False, True], ids=["same lane", "fork"])
async def test_eviction(websocket: WebSocketConnection, fields: Json, forked: bool) -> None:
    """A failed continuation on the parent's lane takes the parent with it, a fork's does not."""
    lanes = Lanes(websocket)
    parent = await say(lanes, "trunk", input="one")
    lane = "fork" if forked else "trunk"
    await websocket.send_create(
        **{**talking(8), **fields}, previous_response_id=parent.id, stream_id=lane
    )
    ended = (await lanes.take(lane))[-1]
    assert ended["type"] in ("error", "response.failed")
    fields = talking(8, previous_response_id=parent.id)
    await websocket.send_create(**fields, stream_id="trunk")
    after = (await lanes.take("trunk"))[-1]
    if forked:
        assert "response.completed" == after["type"]
    else:
        assert GONE == (after["error"]["code"], after["error"]["param"])
    assert "completed" == (await say(lanes, lane, input="anew")).status


async def test_incomplete_and_cancelled(websocket: WebSocketConnection) -> None:
    """An incomplete response is the latest; a cancelled one leaves the one before in place."""
    lanes = Lanes(websocket)
    one = await say(lanes, None, input="one", max_output_tokens=16, reasoning={"effort": "low"})
    assert "incomplete" == one.status
    await websocket.send_create(**stalled(previous_response_id=one.id))
    begun = await lanes.until(None, "response.in_progress")
    # As pipecat does: by id, then reading up to the terminal event, then from the one before.
    await websocket.send_event(type="response.cancel", response_id=begun["response"]["id"])
    assert "cancelled" == (await lanes.response(None)).status
    two = await say(lanes, None, input="two", previous_response_id=one.id)
    assert "completed" == two.status
    assert GONE == await refusal(lanes, None, previous_response_id=begun["response"]["id"])


async def test_ids_of_elsewhere(keyed_server: Serving) -> None:
    """Only what is stored can be continued on another socket, and only by its owner."""
    async with (
        open_websocket(keyed_server.url, bearer(ALICE)) as home,
        open_websocket(keyed_server.url, bearer(ALICE)) as other,
        open_websocket(keyed_server.url, bearer(BOB)) as stranger,
    ):
        mine, elsewhere, theirs = Lanes(home), Lanes(other), Lanes(stranger)
        unstored = await say(mine, "a", input="one")
        stored = await say(mine, "b", input="one", store=True)
        for lanes in (elsewhere, theirs):
            assert GONE == await refusal(lanes, None, previous_response_id=unstored.id)
        assert GONE == await refusal(theirs, None, previous_response_id=stored.id)
        there = await say(elsewhere, None, input="two", previous_response_id=stored.id)
        here = await say(mine, "a", input="two", previous_response_id=unstored.id)
        # The same conversation, and so the same answer, wherever it was kept.
        assert essence(there.response) == essence(here.response)
        assert "completed" == (await say(theirs, None, input="anything")).status


async def test_a_small_memory(tmp_path: Path) -> None:
    """Beyond the bound the lanes unused for longest lose their state, and only those."""
    limits = LimitsConfig(max_cached_bytes_per_connection=40_000)
    async with served(tmp_path, limits=limits) as server, open_websocket(server.url) as websocket:
        lanes = Lanes(websocket)
        kept = [await say(lanes, f"{number}", input=LONG) for number in range(4)]
        (one,) = server.server._sockets
        assert one.connection.cache.num_bytes <= 40_000
        for number in (0, 1):
            assert GONE == await refusal(lanes, f"{number}", previous_response_id=kept[number].id)
        latest = await say(lanes, "3", input="on", previous_response_id=kept[3].id)
        assert "completed" == latest.status


async def test_one_conversation_larger_than_the_memory(tmp_path: Path) -> None:
    """The lane in use keeps its latest response, however large that is."""
    limits = LimitsConfig(max_cached_bytes_per_connection=1)
    async with served(tmp_path, limits=limits) as server, open_websocket(server.url) as websocket:
        lanes = Lanes(websocket)
        parent = await say(lanes, None, input=LONG)
        for _ in range(3):
            parent = await say(lanes, None, input=LONG, previous_response_id=parent.id)
        async with connect(server.url) as http:
            page = (await http.request("GET", "/metrics")).body.decode()
        assert 'turnwire_context_render_total{mode="append",reason=""} 3.0' in page
