"""Going on from a response: from the connection's memory, from the store, after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from tests.integration.agent import TOOLS
from tests.integration.recorder import Transcript, check_response, essence
from tests.integration.serving import Serving, config, serving
from tests.integration.wire import (
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    open_websocket,
    read_sse,
)

Via = Literal["json", "sse", "websocket"]
VIAS: list[Via] = ["json", "sse", "websocket"]


def user(text: str) -> Json:
    """A message of the user."""
    return {"role": "user", "content": text}


async def ask(server: Serving, via: Via, **fields: Any) -> Json:
    """One response over a connection of its own."""
    fields = {"model": "sim", **fields}
    if via == "websocket":
        async with open_websocket(server.url) as socket:
            return Transcript(await socket.create(**fields)).response
    async with connect(server.url) as wire:
        if via == "sse":
            answer = await wire.create(stream=True, **fields)
            return Transcript(read_sse(answer.chunks), sse=True).response
        answer = await wire.create(**fields)
        response = answer.json()
        assert answer.status == 200, response
        check_response(response)
        return response


def outputs(response: Json) -> list[Json]:
    """An answer to every call of a response."""
    return [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "ünïcode <|x|>"}
        for item in response["output"]
        if item["type"] == "function_call"
    ]


async def resent(server: Serving, items: list[Json], **fields: Any) -> Json:
    """The whole conversation at once: what every continuation is measured by."""
    return await ask(server, "json", input=items, store=False, **fields)


def same(one: Json, other: Json) -> None:
    """Both prompts had the same tokens: same size, and the same answer."""
    assert one["usage"]["input_tokens"] == other["usage"]["input_tokens"]
    assert essence(one) == essence(other)


def stripped(items: list[Json]) -> list[Json]:
    """Items without the ids that the server gave them, as some clients resend them."""
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


async def test_memory_of_a_connection(server: Serving, websocket: WebSocketConnection) -> None:
    """A chain of store:false goes on from the connection's memory, token for token."""
    items: list[Json] = [user("one")]
    latest = Transcript(await websocket.create(model="sim", input="one", store=False)).response
    for text in ("two", "three", "four"):
        items += [*stripped(latest["output"]), user(text)]
        latest = Transcript(
            await websocket.create(
                model="sim", input=text, store=False, previous_response_id=latest["id"]
            )
        ).response
        same(await resent(server, items), latest)


@pytest.mark.parametrize("via", VIAS)
@pytest.mark.parametrize("first", VIAS)
async def test_the_store(server: Serving, first: Via, via: Via) -> None:
    """A stored response is continued over any transport, whichever made it."""
    settings: Json = {"tools": TOOLS, "reasoning": {"effort": "low"}, "instructions": "Do."}
    one = await ask(server, first, input="Hello", **settings)
    two = await ask(server, via, input=outputs(one), previous_response_id=one["id"], **settings)
    # A client that resends needs its reasoning sealed: a twin of the first turn has it so.
    twin = await ask(server, "json", input="Hello", store=False, **settings)
    assert essence(one) == essence(twin)
    whole = [user("Hello"), *twin["output"], *outputs(twin)]
    same(await resent(server, whole, **settings), two)
    assert two["previous_response_id"] == one["id"]


@pytest.mark.parametrize("via", VIAS)
async def test_a_restart(tmp_path: Path, via: Via) -> None:
    """After a restart on the same data directory a chain goes on as if there had been none."""
    settings: Json = {
        "tools": TOOLS,
        "reasoning": {"effort": "low", "summary": "auto"},
        "metadata": {"sim.tool_calls": "3"},
    }
    told = config(tmp_path, store="sqlite")
    async with serving(told) as before:
        one = await ask(before, "websocket", input="Hello", **settings)
        two = await ask(before, via, input=outputs(one), previous_response_id=one["id"], **settings)
        expected = await ask(
            before, via, input=outputs(two), previous_response_id=two["id"], **settings
        )
    async with serving(told) as after:
        async with connect(after.url) as wire:
            assert two == (await wire.request("GET", f"/v1/responses/{two['id']}")).json()
        three = await ask(
            after, via, input=outputs(two), previous_response_id=two["id"], **settings
        )
        same(expected, three)
        assert three["output"][0]["type"] == "reasoning"


async def test_get_and_delete(http: HttpConnection) -> None:
    """A stored response can be read until it is deleted, and then neither read nor continued."""
    made = (await http.create(model="sim", input="Hello")).json()
    path = f"/v1/responses/{made['id']}"
    got = await http.request("GET", path)
    assert (got.status, made) == (200, got.json())
    deleted = await http.request("DELETE", path)
    assert deleted.status == 200
    assert deleted.json() == {"id": made["id"], "object": "response", "deleted": True}
    for method in ("GET", "DELETE"):
        gone = await http.request(method, path)
        assert gone.status == 404
        assert gone.error()["type"] == "invalid_request_error"
    child = await http.create(model="sim", input="More", previous_response_id=made["id"])
    assert (child.status, child.error()["code"]) == (400, "previous_response_not_found")


async def test_children_outlive_their_parent(server: Serving, http: HttpConnection) -> None:
    """A response whose parent was deleted keeps its context."""
    one = await ask(server, "json", input="one")
    two = await ask(server, "json", input="two", previous_response_id=one["id"])
    assert (await http.request("DELETE", f"/v1/responses/{one['id']}")).status == 200
    three = await ask(server, "json", input="three", previous_response_id=two["id"])
    whole = [user("one"), *one["output"], user("two"), *two["output"], user("three")]
    same(await resent(server, whole), three)


async def test_a_parent_deleted_under_a_socket(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """A deleted response that a socket still remembers never makes the server fail."""
    one = Transcript(await websocket.create(model="sim", input="one"))
    assert (await http.request("DELETE", f"/v1/responses/{one.id}")).status == 200
    await websocket.send_create(model="sim", input="two", previous_response_id=one.id)
    events = [await websocket.read_event()]
    while events[-1]["type"] not in ("response.completed", "error"):
        assert events[-1]["type"] != "response.failed", events[-1]
        events.append(await websocket.read_event())
    if events[-1]["type"] == "error":
        assert events[-1]["error"]["code"] == "previous_response_not_found"
    else:
        # Whoever was told of it may read it and go on from it.
        two = Transcript(events)
        got = await http.request("GET", f"/v1/responses/{two.id}")
        assert (got.status, two.response) == (200, got.json())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_readable_at_once(tmp_path: Path, kind: Literal["memory", "sqlite"]) -> None:
    """A response can be read, and continued elsewhere, the moment its terminal event is seen."""
    async with (
        serving(config(tmp_path, store=kind)) as server,
        open_websocket(server.url) as socket,
        open_websocket(server.url) as other,
        connect(server.url) as reader,
        connect(server.url) as streamer,
    ):
        parent: Json = {}
        for number in range(20):
            made = Transcript(await socket.create(model="sim", input=f"{number}", **parent))
            got = await reader.request("GET", f"/v1/responses/{made.id}")
            assert made.response == got.json()
            # Over HTTP and over another socket, not from the memory of the first.
            answer = await streamer.create(
                model="sim", input="More", stream=True, previous_response_id=made.id
            )
            one = Transcript(read_sse(answer.chunks), sse=True)
            two = Transcript(
                await other.create(model="sim", input="More", previous_response_id=made.id)
            )
            same(one.response, two.response)
            got = await reader.request("GET", f"/v1/responses/{one.id}")
            assert one.response == got.json()
            parent = {"previous_response_id": made.id}


@pytest.mark.parametrize("via", VIAS)
async def test_store_false_is_not_found(server: Serving, http: HttpConnection, via: Via) -> None:
    """A response of store:false cannot be read, deleted or continued from elsewhere."""
    made = await ask(server, via, input="Hello", store=False)
    assert made["store"] is False
    for method in ("GET", "DELETE"):
        answer = await http.request(method, f"/v1/responses/{made['id']}")
        assert (answer.status, answer.error()["type"]) == (404, "invalid_request_error")
    answer = await http.create(model="sim", input="More", previous_response_id=made["id"])
    assert (answer.status, answer.error()["code"]) == (400, "previous_response_not_found")
    async with open_websocket(server.url) as socket:
        event = await socket.refused(model="sim", input="More", previous_response_id=made["id"])
    assert (event["status"], event["error"]["code"]) == (400, "previous_response_not_found")


async def test_forks(server: Serving) -> None:
    """One parent has any number of children, and they do not see each other."""
    one = await ask(server, "websocket", input="one")
    for via in VIAS:
        for text in ("left", "right"):
            child = await ask(server, via, input=text, previous_response_id=one["id"])
            same(await resent(server, [user("one"), *one["output"], user(text)]), child)


async def test_a_fork_into_lanes(server: Serving, websocket: WebSocketConnection) -> None:
    """Lanes fork a store:false response of another lane, and then run side by side."""
    one = Transcript(await websocket.create(model="sim", input="one", store=False)).response
    lanes = {f"branch-{number}": f"way {number}" for number in range(8)}
    for lane, text in lanes.items():
        await websocket.send_create(
            model="sim", input=text, store=False, stream_id=lane, previous_response_id=one["id"]
        )
    events: dict[str, list[Json]] = {lane: [] for lane in lanes}
    while any(not e or e[-1]["type"] != "response.completed" for e in events.values()):
        event = await websocket.read_event()
        events[event["stream_id"]].append(event)
    for lane, text in lanes.items():
        branch = Transcript(events[lane], stream_id=lane).response
        same(await resent(server, [user("one"), *one["output"], user(text)]), branch)


async def test_one_lane_is_first_in_first_out(websocket: WebSocketConnection) -> None:
    """Requests sent together on one lane are answered one after the other, in order."""
    for number in range(5):
        await websocket.send_create(model="sim", input=f"{number}", metadata={"n": f"{number}"})
    for number in range(5):
        answered = Transcript(await websocket.read_response())
        assert {"n": f"{number}"} == answered.response["metadata"]


async def test_lanes_overlap(websocket: WebSocketConnection) -> None:
    """A lane that is busy does not hold up another."""
    await websocket.send_create(
        model="sim", input="slow", stream_id="slow", metadata={"sim.fault": "stall:60"}
    )
    opening = [await websocket.read_event() for _ in range(2)]
    assert ["slow", "slow"] == [event["stream_id"] for event in opening]
    quick = Transcript(await websocket.create(model="sim", input="quick"))
    assert quick.status == "completed"


@pytest.mark.parametrize("via", VIAS)
async def test_changed_settings(server: Serving, via: Via) -> None:
    """Tools and instructions are those of each request, never inherited."""
    first: Json = {"tools": TOOLS, "instructions": "Be quick."}
    one = await ask(server, "json", input="one", **first)
    whole = [user("one"), *one["output"], *outputs(one), user("two")]
    for settings in (
        first,
        {"tools": TOOLS},
        {"instructions": "Be slow."},
        {"tools": TOOLS[:1], "instructions": "Be quick."},
        {"tools": TOOLS, "instructions": "Be quick.", "tool_choice": "none"},
        {"tools": TOOLS, "instructions": "Be quick.", "reasoning": {"effort": "low"}},
        {},
    ):
        two = await ask(
            server,
            via,
            input=[*outputs(one), user("two")],
            previous_response_id=one["id"],
            **settings,
        )
        same(await resent(server, whole, **settings), two)
        assert two["instructions"] == settings.get("instructions")
        assert len(two["tools"]) == len(settings.get("tools", []))


async def test_changed_settings_in_memory(server: Serving, websocket: WebSocketConnection) -> None:
    """The same holds on one connection, where the turn before is remembered."""
    items: list[Json] = []
    parent: Json = {}
    changes: list[Json] = [
        {"tools": TOOLS, "instructions": "Be quick."},
        {"tools": TOOLS[1:], "instructions": "Be quick."},
        {"tools": TOOLS[1:], "instructions": "Be slow."},
        {"instructions": "Be slow.", "reasoning": {"effort": "low"}},
        {"instructions": "Be quick."},
        {},
        {"tools": TOOLS, "instructions": "Be quick."},
    ]
    for number, settings in enumerate(changes):
        new: list[Json] = [user(f"{number}")]
        if items:
            new = [*outputs({"output": items[-1:]}), *new]
        items += new
        turn = Transcript(
            await websocket.create(model="sim", input=new, store=False, **settings, **parent)
        ).response
        same(await resent(server, items, **settings), turn)
        items += turn["output"]
        parent = {"previous_response_id": turn["id"]}


@pytest.mark.parametrize("via", ["sse", "websocket"])
async def test_a_failed_response_cannot_be_continued(
    server: Serving, http: HttpConnection, websocket: WebSocketConnection, via: Via
) -> None:
    """A response that failed can be read, and is no parent, on its connection or on another."""
    fault = {"sim.fault": "error:3"}
    if via == "websocket":
        failed = Transcript(await websocket.create(model="sim", input="Hello", metadata=fault))
    else:
        answer = await http.create(model="sim", input="Hello", metadata=fault, stream=True)
        failed = Transcript(read_sse(answer.chunks), sse=True)
    kept = await http.request("GET", f"/v1/responses/{failed.id}")
    assert failed.response == kept.json()
    event = await websocket.refused(model="sim", input="More", previous_response_id=failed.id)
    assert event["error"]["code"] == "previous_response_not_found"
    refused = await http.create(model="sim", input="More", previous_response_id=failed.id)
    assert (refused.status, refused.error()["code"]) == (400, "previous_response_not_found")


async def test_an_incomplete_response_can_be_continued(
    server: Serving, websocket: WebSocketConnection
) -> None:
    """A response that ran out of budget is a parent like any other."""
    one = Transcript(
        await websocket.create(model="sim", input="one", store=False, max_output_tokens=16)
    ).response
    assert one["status"] == "incomplete"
    two = Transcript(
        await websocket.create(
            model="sim", input="two", store=False, previous_response_id=one["id"]
        )
    ).response
    same(await resent(server, [user("one"), *one["output"], user("two")]), two)


async def test_a_failed_continuation_evicts_its_parent(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """A continuation that fails on the same lane takes its store:false parent with it."""
    one = Transcript(await websocket.create(model="sim", input="one", store=False))
    await websocket.refused(model="nowhere", input="two", previous_response_id=one.id)
    event = await websocket.refused(model="sim", input="two", previous_response_id=one.id)
    assert event["error"]["code"] == "previous_response_not_found"


async def test_only_the_latest_is_remembered(websocket: WebSocketConnection) -> None:
    """A lane remembers its latest response; an older one of store:false is gone."""
    one = Transcript(await websocket.create(model="sim", input="one", store=False))
    await websocket.create(model="sim", input="two", store=False, previous_response_id=one.id)
    event = await websocket.refused(model="sim", input="three", previous_response_id=one.id)
    assert event["error"]["code"] == "previous_response_not_found"
    assert event["error"]["param"] == "previous_response_id"


async def test_a_stored_child_of_an_unstored_parent(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """It can be read; but its conversation is not on disk, so only its connection continues it."""
    one = Transcript(await websocket.create(model="sim", input="one", store=False))
    two = Transcript(await websocket.create(model="sim", input="two", previous_response_id=one.id))
    got = await http.request("GET", f"/v1/responses/{two.id}")
    assert two.response == got.json()
    refused = await http.create(model="sim", input="three", previous_response_id=two.id)
    assert (refused.status, refused.error()["code"]) == (400, "previous_response_not_found")
    three = Transcript(
        await websocket.create(model="sim", input="three", previous_response_id=two.id)
    )
    assert three.status == "completed"


async def test_repeated_calls_in_the_input(server: Serving, websocket: WebSocketConnection) -> None:
    """A call that is sent again beside its output, as livekit does, is the call it repeats."""
    one = Transcript(
        await websocket.create(model="sim", input="one", store=False, tools=TOOLS)
    ).response
    two = Transcript(
        await websocket.create(
            model="sim",
            input=[*one["output"], *outputs(one)],
            store=False,
            tools=TOOLS,
            previous_response_id=one["id"],
        )
    ).response
    whole = [user("one"), *one["output"], *outputs(one)]
    same(await resent(server, whole, tools=TOOLS), two)
