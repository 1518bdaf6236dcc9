"""New messages into a running response: when they are read, in which order, and by what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent import TOOLS
from tests.integration.recorder import Transcript, essence
from tests.integration.serving import Serving, eventually
from tests.integration.sockets import Lanes, hold_the_store, plain, served, stalled, talking
from tests.integration.wire import TERMINAL, Json, WebSocketConnection, connect, open_websocket

from turnwire.engines.sim import SimProfile

# So slow that a steer sent at an event arrives before the next item does.
PACED = {"sim": SimProfile(tokens_per_sec=200.0)}
ADDED, DELTA = "response.output_item.added", "response.output_text.delta"
ACCEPTED, PENDING = "response.steer.accepted", "response.steer.pending"
FAILED = "response.steer.failed"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server whose model takes its time."""
    async with served(tmp_path, profiles=PACED) as running:
        yield running


async def steer(lanes: Lanes, response: str, given: Any) -> None:
    """Send a steer."""
    await lanes.wire.send_event(type="response.steer", previous_response_id=response, input=given)


def user(text: str) -> Json:
    """A message of the user."""
    return {"role": "user", "content": text}


async def begin(lanes: Lanes, at: str, **fields: Any) -> str:
    """Start a response and wait for an event of it; the response's id."""
    lane = fields.get("stream_id")
    await lanes.wire.send_create(**fields)
    created = await lanes.until(lane, "response.created")
    await lanes.until(lane, at)
    response_id = created["response"]["id"]
    assert isinstance(response_id, str)
    return response_id


async def continued(server: Serving, response: str, items: list[Json], **fields: Any) -> Json:
    """What an explicit continuation of a stored response gives."""
    async with connect(server.url) as http:
        answer = await http.create(input=items, previous_response_id=response, **fields)
        assert 200 == answer.status, answer.body
        return answer.json()


def same(one: Json, other: Json) -> None:
    """Both prompts had the same tokens: same size, and the same answer."""
    assert one["usage"]["input_tokens"] == other["usage"]["input_tokens"]
    assert essence(one) == essence(other)


STAGES: dict[str, tuple[str, Json, list[str]]] = {
    "reasoning": (ADDED, {"reasoning": {"effort": "low"}}, ["reasoning"]),
    "message": (DELTA, {}, ["message"]),
    "message after reasoning": (
        DELTA,
        {"reasoning": {"effort": "low", "summary": "auto"}},
        ["reasoning", "message"],
    ),
}


@pytest.mark.parametrize(("at", "settings", "kinds"), STAGES.values(), ids=STAGES)
async def test_the_item_is_finished_and_a_successor_follows(
    server: Serving,
    websocket: WebSocketConnection,
    at: str,
    settings: Json,
    kinds: list[str],
) -> None:
    """The running item is whole, the response incomplete, and its successor reads the steer."""
    lanes = Lanes(websocket)
    fields = {"model": "sim", "metadata": {"sim.output_tokens": "24"}, **settings}
    first = await begin(lanes, at, input="Tell me.", **fields)
    await steer(lanes, first, "Faster!")
    events = await lanes.take(None)
    assert 1 == types(events).count(ACCEPTED)
    steered = plain(events)
    assert ("incomplete", {"reason": "steered"}) == (
        steered.status,
        steered.response["incomplete_details"],
    )
    assert kinds == [item["type"] for item in steered.output]
    assert all(item.get("status", "completed") == "completed" for item in steered.output)
    successor = (await lanes.response(None)).response
    assert (first, "completed") == (successor["previous_response_id"], successor["status"])
    assert first != successor["id"]
    same(await continued(server, first, [user("Faster!")], **fields), successor)
    same(await continued(server, first, [user("Faster!")], store=False, **fields), successor)


def types(events: list[Json]) -> list[str]:
    """What events are."""
    return [event["type"] for event in events]


async def test_several_steers(server: Serving, websocket: WebSocketConnection) -> None:
    """Steers are read in the order they came, whatever their form; each is told apart."""
    lanes = Lanes(websocket)
    fields: Json = {"model": "sim", "metadata": {"sim.output_tokens": "32"}}
    first = await begin(lanes, DELTA, input="Tell me.", **fields)
    given: list[Any] = [
        "one",
        [user("two"), {"type": "message", **user("three")}],
        [{"role": "user", "content": [{"type": "input_text", "text": "four"}]}],
    ]
    for one in given:
        await steer(lanes, first, one)
    events = await lanes.take(None)
    assert "incomplete" == plain(events).status
    taken = [event["steer"] for event in events if event["type"] == ACCEPTED]
    assert [first] * 3 == [one["previous_response_id"] for one in taken]
    assert 3 == len({one["id"] for one in taken})
    assert all(one["id"].startswith("steer_") for one in taken)
    successor = (await lanes.response(None)).response
    messages = [user(text) for text in ("one", "two", "three", "four")]
    same(await continued(server, first, messages, **fields), successor)


async def test_during_parallel_calls(server: Serving, websocket: WebSocketConnection) -> None:
    """A steer between calls waits for the client's results, and is read before them."""
    lanes = Lanes(websocket)
    fields: Json = {
        "model": "sim",
        "tools": TOOLS,
        "metadata": {"sim.parallel_calls": "3", "sim.output_tokens": "16"},
    }
    first = await begin(
        lanes, "response.function_call_arguments.delta", input="Look around.", **fields
    )
    await steer(lanes, first, "Faster!")
    await steer(lanes, first, "Much faster!")
    events = await lanes.take(None)
    steered = plain(events)
    taken = [event["steer"]["id"] for event in events if event["type"] == ACCEPTED]
    (call,) = steered.calls
    stub = {"type": "function_call_output", "call_id": call["call_id"], "name": call["name"]}
    for number, steer_id in enumerate(taken):
        pending = await lanes.read()
        assert (PENDING, len(events) + number) == (pending["type"], pending["sequence_number"])
        assert {"id": steer_id, "previous_response_id": first} == pending["steer"]
        assert "waiting_for_required_input" == pending["reason"]
        assert [stub] == pending["required_input"]
    lanes.events.clear()
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "12 files"}
    await websocket.send_create(input=[output], previous_response_id=first, **fields)
    after = (await lanes.response(None)).response
    items = [user("Faster!"), user("Much faster!"), output]
    same(await continued(server, first, items, **fields), after)


async def test_results_that_are_there_already(websocket: WebSocketConnection) -> None:
    """If the create with the results waits in the lane, it takes the steer: nothing is pending."""
    lanes = Lanes(websocket)
    fields: Json = {"model": "sim", "tools": TOOLS, "metadata": {"sim.output_tokens": "16"}}
    first = await begin(lanes, ADDED, input="Look.", **fields)
    added = await lanes.until(None, ADDED)
    output = {
        "type": "function_call_output",
        "call_id": added["item"]["call_id"],
        "output": "12 files",
    }
    await websocket.send_create(input=[output], previous_response_id=first, **fields)
    await steer(lanes, first, "Faster!")
    assert ACCEPTED in types(await lanes.take(None))
    assert "response.created" == (await lanes.read())["type"]
    after = (await lanes.response(None)).response
    # More was read than the result alone: the prompt ends with a message of the user before it.
    assert (first, "completed") == (after["previous_response_id"], after["status"])
    assert PENDING not in [kind for _, kind in lanes.order]


async def test_on_a_lane(server: Serving, websocket: WebSocketConnection) -> None:
    """Everything about a steer is told on the lane of its target, whose queue it goes ahead of."""
    lanes = Lanes(websocket)
    fields = talking(24, store=True, stream_id="steered")
    first = await begin(lanes, DELTA, **fields)
    await websocket.send_create(**talking(8, input="next", stream_id="steered"))
    await websocket.send_create(**talking(8, stream_id="other"))
    await steer(lanes, first, "Faster!")
    steered = await lanes.response("steered")
    assert {"reason": "steered"} == steered.response["incomplete_details"]
    successor = await lanes.response("steered")
    assert first == successor.response["previous_response_id"]
    following = await lanes.response("steered")
    assert following.response["previous_response_id"] is None
    assert "completed" == (await lanes.response("other")).status


async def test_a_successor_is_steered(server: Serving, websocket: WebSocketConnection) -> None:
    """A successor is a response like any other, and can be steered in its turn."""
    lanes = Lanes(websocket)
    fields: Json = {"model": "sim", "metadata": {"sim.output_tokens": "24"}}
    first = await begin(lanes, DELTA, input="Tell me.", **fields)
    await steer(lanes, first, "one")
    await lanes.take(None)
    second = (await lanes.until(None, "response.created"))["response"]["id"]
    await lanes.until(None, DELTA)
    await steer(lanes, second, "two")
    assert "incomplete" == plain(await lanes.take(None)).status
    third = (await lanes.response(None)).response
    assert second == third["previous_response_id"]
    same(await continued(server, second, [user("two")], **fields), third)


INVALID: list[Any] = [
    None,
    7,
    [],
    {},
    [user("x"), {"role": "assistant", "content": "x"}],
    [{"role": "user", "content": "x", "status": "completed"}],
    [{"type": "function_call_output", "call_id": "c", "output": "x"}],
    ["x"],
]


@pytest.mark.parametrize("given", INVALID, ids=str)
async def test_invalid_steers(websocket: WebSocketConnection, given: Any) -> None:
    """What is no message of the user is handed back, and the response goes on as if unasked."""
    lanes = Lanes(websocket)
    first = await begin(lanes, DELTA, **talking(16))
    await steer(lanes, first, given)
    events = await lanes.take(None)
    (failed,) = [event for event in events if event["type"] == FAILED]
    assert "invalid_input" == failed["error"]["code"]
    assert {"previous_response_id": first, "input": given} == failed["steer"]
    numbers = [event["sequence_number"] for event in events]
    assert list(range(len(events))) == numbers
    kept = [event for event in events if event is not failed]
    renumbered = [{**event, "sequence_number": number} for number, event in enumerate(kept)]
    assert "completed" == Transcript(renumbered).status


async def test_steers_that_come_too_late(websocket: WebSocketConnection) -> None:
    """A response that is over is not steered: the answer says why, and nothing starts."""
    lanes = Lanes(websocket)
    await websocket.send_create(**talking(4, stream_id="a"))
    ended = await lanes.response("a")
    for target, code in ((ended.id, "response_already_completed"), ("resp_", "response_not_found")):
        await steer(lanes, target, "Faster!")
        failed = await lanes.read()
        assert (FAILED, code) == (failed["type"], failed["error"]["code"])
        assert {"previous_response_id": target, "input": "Faster!"} == failed["steer"]
    lanes.events.clear()
    await websocket.send_create(**talking(4, previous_response_id=ended.id))
    assert "completed" == (await lanes.response(None)).status


async def test_too_many_steers(websocket: WebSocketConnection) -> None:
    """The seventeenth steer of a response is handed back, and the sixteen before it are read."""
    lanes = Lanes(websocket)
    first = await begin(lanes, DELTA, **talking(64))
    for number in range(17):
        await steer(lanes, first, f"{number}")
    failed = await lanes.until(None, FAILED)
    assert ("too_many_pending_steers", "16") == (
        failed["error"]["code"],
        failed["steer"]["input"],
    )
    await lanes.take(None)
    successor = await lanes.response(None)
    assert (first, "completed") == (
        successor.response["previous_response_id"],
        successor.status,
    )


async def test_a_steered_response_that_fails(websocket: WebSocketConnection) -> None:
    """If the response comes to nothing its steers are handed back, in its numbering."""
    lanes = Lanes(websocket)
    first = await begin(lanes, "response.in_progress", **stalled(stream_id="a"))
    await steer(lanes, first, "Faster!")
    await lanes.until("a", ACCEPTED)
    await websocket.send_event(type="response.cancel", stream_id="a")
    events = await lanes.take("a")
    assert "cancelled" == plain(events, stream_id="a").status
    failed = await lanes.until("a", FAILED)
    assert (len(events), "successor_creation_failed") == (
        failed["sequence_number"],
        failed["error"]["code"],
    )
    assert "Faster!" == failed["steer"]["input"]


async def test_a_steer_while_the_end_is_stored(
    websocket: WebSocketConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said about a steer that comes behind a cancel is numbered as it is sent."""
    at_the_store, stored = hold_the_store(monkeypatch)
    lanes = Lanes(websocket)
    first = await begin(lanes, "response.in_progress", **stalled(store=True))
    await websocket.send_event(type="response.cancel", response_id=first)
    await at_the_store.wait()
    await steer(lanes, first, "Faster!")
    await lanes.until(None, ACCEPTED)
    stored.set()
    assert "cancelled" == plain(await lanes.take(None)).status
    failed = await lanes.until(None, FAILED)
    assert "successor_creation_failed" == failed["error"]["code"]


async def test_a_steer_from_another_socket(server: Serving, websocket: WebSocketConnection) -> None:
    """A response is steered only on the socket that it runs on."""
    lanes = Lanes(websocket)
    first = await begin(lanes, DELTA, **talking(48, store=True))
    async with open_websocket(server.url) as other:
        await steer(Lanes(other), first, "Faster!")
        failed = await other.read_event()
        assert "response_not_found" == failed["error"]["code"]
    assert "completed" == (await lanes.response(None)).status


async def test_a_client_that_leaves_what_it_steered(server: Serving) -> None:
    """Steers die with their socket: nothing runs on, nothing is left."""
    async with open_websocket(server.url) as websocket:
        lanes = Lanes(websocket)
        first = await begin(lanes, DELTA, **talking(200, store=True))
        await steer(lanes, first, "Faster!")
        await lanes.until(None, ACCEPTED)
        websocket.reset()
    await server.idle()
    await eventually(lambda: server.count("websocket_connections") == 0)
    assert 1 == server.count("responses_total", status="aborted", transport="websocket")
    async with connect(server.url) as http:
        assert 404 == (await http.request("GET", f"/v1/responses/{first}")).status


async def test_the_last_moment(websocket: WebSocketConnection) -> None:
    """Wherever in a response a steer arrives, it is read once or handed back, never lost."""
    lanes = Lanes(websocket)
    for number in range(12):
        await websocket.send_create(**talking(6))
        created = await lanes.until(None, "response.created")
        for _ in range(number):
            if any(event["type"] in TERMINAL for event in lanes.events[None]):
                break
            await lanes.read()
        first = created["response"]["id"]
        await steer(lanes, first, "Faster!")
        await lanes.until(None, *TERMINAL)
        while not {ACCEPTED, FAILED} & {event["type"] for event in lanes.events[None]}:
            await lanes.read()
        if ACCEPTED in types(lanes.events[None]):
            await lanes.take(None)
            assert first == (await lanes.response(None)).response["previous_response_id"]
        lanes.events.clear()
