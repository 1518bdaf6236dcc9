"""Conversations that are summed up: by the endpoint, in a response, and when asked in the input."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import CompactedResponse
from tests.integration.agent import TOOLS
from tests.integration.recorder import Transcript, essence
from tests.integration.serving import ALICE, BOB, Serving, bearer, config, eventually, serving
from tests.integration.test_continuation import VIAS, Via, ask, outputs, resent, same, user
from tests.integration.wire import HttpConnection, Json, WebSocketConnection, connect, write_request

from turnwire.config import LimitsConfig
from turnwire.engines.sim import SimProfile
from turnwire.errors import ServiceError

PATH = "/v1/responses/compact"
MANAGED: Json = {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}
TRIGGER: Json = {"type": "compaction_trigger"}
LONG = "word " * 1200
CALL: Json = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}


async def compact(wire: HttpConnection, key: str | None = None, **fields: Any) -> Json:
    """Compact; the answer, which must be whole."""
    body = {"model": "sim", **fields}
    answer = await wire.request("POST", PATH, body, bearer(key) if key else None)
    made = answer.json()
    assert answer.status == 200, made
    # The official type takes assistant messages only; the service sends the user's as well.
    CompactedResponse.model_validate({**made, "output": made["output"][-1:]})
    assert {"id", "object", "created_at", "output", "usage"} == set(made)
    assert "response.compaction" == made["object"]
    assert made["id"].startswith("resp_")
    *messages, item = made["output"]
    assert {"id", "type", "encrypted_content"} == set(item)
    assert ("compaction", "cmp_") == (item["type"], item["id"][:4])
    for message in messages:
        assert ("user", "completed", "msg_") == (
            message["role"],
            message["status"],
            message["id"][:4],
        )
    return made


def texts(items: list[Json]) -> list[str]:
    """What the messages among items say."""
    return [p["text"] for item in items if item["type"] == "message" for p in item["content"]]


def kinds(response: Json) -> list[str]:
    """The types of a response's items."""
    return [item["type"] for item in response["output"]]


async def history(server: Serving, **fields: Any) -> list[Json]:
    """A conversation with a tool call in it, as a client would resend it."""
    first = user("one")
    one = await ask(server, "json", input=[first], tools=TOOLS, store=False, **fields)
    assert ["function_call"] == kinds(one)
    items = [first, *one["output"], *outputs(one)]
    two = await ask(server, "json", input=items, tools=TOOLS, store=False, **fields)
    return [*items, *two["output"], user("two")]


# -- the endpoint


@pytest.mark.parametrize("via", VIAS)
async def test_going_on_from_the_window(server: Serving, http: HttpConnection, via: Via) -> None:
    """The window that was handed out, and the whole history with its item, are seen alike."""
    items = await history(server)
    made = await compact(http, input=items)
    window = made["output"]
    assert ["one", "two"] == texts(window)
    new = user("three")
    one = await ask(server, via, input=[*window, new])
    same(await resent(server, [*items, window[-1], new]), one)
    same(await resent(server, [*items, *window, new]), one)
    alone = await resent(server, [window[-1], new])
    assert alone["usage"]["input_tokens"] < one["usage"]["input_tokens"]
    # It goes on like any conversation, and can be compacted again.
    two = await ask(server, via, input="four", previous_response_id=one["id"])
    whole = [*window, new, *one["output"], user("four")]
    same(await resent(server, whole), two)
    again = await compact(http, input=[*whole, *two["output"]])
    assert ["one", "two", "three", "four"] == texts(again["output"])
    three = await ask(server, via, input=[*again["output"], user("five")])
    same(await resent(server, [*whole, *two["output"], again["output"][-1], user("five")]), three)


async def test_what_it_costs(server: Serving, http: HttpConnection) -> None:
    """Usage is that of the summary; the model is asked with the whole conversation before it."""
    items = await history(server)
    counted = await http.request(
        "POST", "/v1/responses/input_tokens", {"model": "sim", "input": [*items, TRIGGER]}
    )
    made = await compact(http, input=items)
    assert counted.json()["input_tokens"] == made["usage"]["input_tokens"]
    assert 65 == made["usage"]["output_tokens"]
    assert 0 == made["usage"]["output_tokens_details"]["reasoning_tokens"]
    assert made["usage"] == (await compact(http, input=[*items, TRIGGER]))["usage"] | {
        "input_tokens_details": made["usage"]["input_tokens_details"]
    }


async def test_messages_are_normalised(server: Serving, http: HttpConnection) -> None:
    """Messages of the user come back with id, status and parts; everything else is folded."""
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    items: list[Json] = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": "plain", "id": "msg_mine"},
        {"role": "user", "content": [{"type": "input_text", "text": "parts"}, image]},
        {"role": "assistant", "content": "said"},
    ]
    *messages, item = (await compact(http, input=items))["output"]
    parts = [{"type": "input_text", "text": "parts"}, {**image, "detail": "auto"}]
    assert [[{"type": "input_text", "text": "plain"}], parts] == [
        message["content"] for message in messages
    ]
    assert "msg_mine" == messages[0]["id"]
    one = await ask(server, "json", input=[*messages, item, user("on")])
    same(await resent(server, [*items, item, user("on")]), one)


async def test_instructions_steer_the_summary(server: Serving, http: HttpConnection) -> None:
    """Another wish gives another summary; the wish itself is not seen behind it."""
    plain = await compact(http, input="one")
    steered = await compact(http, input="one", instructions="In one line.")
    assert plain["usage"]["input_tokens"] < steered["usage"]["input_tokens"]
    one = await resent(server, [*plain["output"], user("on")])
    two = await resent(server, [*steered["output"], user("on")])
    assert essence(one) != essence(two)
    again = await compact(http, input="one", instructions="In one line.")
    same(await resent(server, [*again["output"], user("on")]), two)


async def test_a_stored_chain(server: Serving, http: HttpConnection) -> None:
    """What `previous_response_id` brings is summed up too, and folded."""
    one = await ask(server, "json", input="one")
    made = await compact(http, input="two", previous_response_id=one["id"])
    assert ["two"] == texts(made["output"])
    same(
        await resent(server, [user("one"), *one["output"], *made["output"], user("three")]),
        await ask(server, "json", input=[*made["output"], user("three")]),
    )
    nothing_new = await compact(http, previous_response_id=one["id"])
    assert 1 == len(nothing_new["output"])


async def test_a_conversation_that_is_known(tmp_path: Path) -> None:
    """The window is the same whether the server met the conversation before or not."""
    async with serving(config(tmp_path, store="sqlite", limits=LimitsConfig())) as knowing:
        first = {**user("one"), "id": "msg_one"}
        one = await ask(knowing, "json", input=[first], store=False)
        items = [first, *one["output"], user("two")]
        async with connect(knowing.url) as wire:
            for given, said in (
                ([first], ["one"]),
                (items, ["one", "two"]),
                (items, ["one", "two"]),
            ):
                window = (await compact(wire, input=given))["output"]
                assert said == texts(window)
            again = await compact(wire, input=[*window, user("three")])
        assert ["one", "two", "three"] == texts(again["output"])
        going_on = await ask(knowing, "json", input=[*window, user("three")])
    async with serving(config(tmp_path, store="sqlite")) as server:
        same(await resent(server, [*items, window[-1], user("three")]), going_on)


async def test_it_is_no_response(http: HttpConnection) -> None:
    """Its id cannot be read, deleted or continued, and its item cannot be referred to."""
    made = await compact(http, input="one")
    for method in ("GET", "DELETE"):
        assert 404 == (await http.request(method, f"/v1/responses/{made['id']}")).status
    refused = await http.create(model="sim", input="two", previous_response_id=made["id"])
    assert "previous_response_not_found" == refused.error()["code"]
    reference = {"type": "item_reference", "id": made["output"][-1]["id"]}
    assert 404 == (await http.create(model="sim", input=[reference, user("x")])).status
    # The endpoint takes no other method, and is no response's id.
    assert 405 == (await http.request("GET", PATH)).status


REFUSED: list[tuple[Json, str | None, str | None]] = [
    ({"input": "x"}, "missing_required_parameter", "model"),
    ({"model": None, "input": "x"}, "invalid_type", "model"),
    ({"model": "none", "input": "x"}, "model_not_found", "model"),
    ({"model": "sim"}, "missing_required_parameter", "input"),
    ({"model": "sim", "input": []}, "missing_required_parameter", "input"),
    ({"model": "sim", "input": [TRIGGER]}, "missing_required_parameter", "input"),
    ({"model": "sim", "input": 5}, "invalid_type", "input"),
    ({"model": "sim", "input": "x", "instructions": 5}, "invalid_type", "instructions"),
    (
        {"model": "sim", "input": "x", "prompt_cache_key": "k" * 65},
        "string_above_max_length",
        "prompt_cache_key",
    ),
    (
        {"model": "sim", "input": "x", "previous_response_id": "resp_x"},
        "previous_response_not_found",
        "previous_response_id",
    ),
    ({"model": "sim", "input": [TRIGGER, user("x")]}, "invalid_value", "input[0]"),
    ({"model": "sim", "input": [user("x"), CALL]}, None, "input"),
    ({"model": "sim", "input": "word " * 140_000}, "context_length_exceeded", "input"),
    (
        {"model": "sim", "input": [{"type": "compaction", "encrypted_content": "x"}]},
        "invalid_encrypted_content",
        "input[0].encrypted_content",
    ),
]


@pytest.mark.parametrize(
    ("body", "code", "param"), REFUSED, ids=[f"{n} {row[2]}" for n, row in enumerate(REFUSED)]
)
async def test_what_it_refuses(
    server: Serving, http: HttpConnection, body: Json, code: str | None, param: str | None
) -> None:
    """A 400 in the protocol's shape names the field at fault; nothing goes on running."""
    answer = await http.request("POST", PATH, body)
    error = answer.error()
    assert (400, code, param) == (answer.status, error["code"], error["param"])
    assert 1 == server.count("responses_total", status="refused", transport="http") or code in (
        "missing_required_parameter",
        "invalid_type",
        "string_above_max_length",
    )
    await server.idle()


async def test_bodies_and_keys(keyed_server: Serving) -> None:
    """It asks for a key and for a model that the key may use, like any create."""
    async with connect(keyed_server.url) as wire:
        body: Json = {"model": "sim-slow", "input": "x"}
        assert 401 == (await wire.request("POST", PATH, body)).status
        assert 403 == (await wire.request("POST", PATH, body, bearer(BOB))).status
        assert 400 == (await wire.request("POST", PATH, b"{", bearer(BOB))).status
        assert 400 == (await wire.request("POST", PATH, b'{"model":"\xff"}', bearer(BOB))).status
        assert (await compact(wire, BOB, input="x"))["output"]


async def test_another_owner_cannot_open_it(keyed_server: Serving) -> None:
    """An item opens for the owner it was made for, here and in a conversation."""
    async with connect(keyed_server.url) as wire:
        window = (await compact(wire, ALICE, input="secret"))["output"]
        assert 200 == (await wire.create(bearer(ALICE), model="sim", input=window)).status
        answer = await wire.create(bearer(BOB), model="sim", input=window)
        error = answer.error()
        assert (400, "invalid_encrypted_content", "input[1].encrypted_content") == (
            answer.status,
            error["code"],
            error["param"],
        )
        added = await wire.request("POST", "/v1/conversations", {"items": window}, bearer(BOB))
        assert "items[1].encrypted_content" == added.error()["param"]


async def test_sealed_reasoning_is_no_summary(server: Serving, http: HttpConnection) -> None:
    """What was sealed for another purpose does not open as a compaction."""
    made = await ask(server, "json", input="x", store=False, reasoning={"effort": "low"})
    token = made["output"][0]["encrypted_content"]
    item = {"type": "compaction", "encrypted_content": token}
    answer = await http.create(model="sim", input=[item, user("x")])
    assert "invalid_encrypted_content" == answer.error()["code"]


async def test_a_client_that_leaves(server: Serving) -> None:
    """The engine stops when nobody waits for the summary any more."""
    async with connect(server.url) as wire:
        await wire.send(write_request("POST", PATH, b'{"model":"sim-slow","input":"x"}'))
        engine = server.engines["sim-slow"]
        await eventually(lambda: engine.num_running == 1)
        wire.reset()
        await server.idle()
    assert 1 == server.count("responses_total", status="aborted", transport="http")


async def test_a_server_that_stops(server: Serving, http: HttpConnection) -> None:
    """What cannot end in time fails with an error that says so; new ones are refused."""
    asked = asyncio.ensure_future(http.request("POST", PATH, {"model": "sim-slow", "input": "x"}))
    engine = server.engines["sim-slow"]
    await eventually(lambda: engine.num_running == 1)
    server.server._turns.running.stop_all(ServiceError("It ends."))
    answer = await asked
    assert (500, "It ends.") == (answer.status, answer.error()["message"])
    await server.idle()
    server.server._draining = True
    assert 503 == (await http.request("POST", PATH, {"model": "sim", "input": "x"})).status


async def test_the_official_client(client: AsyncOpenAI) -> None:
    """Compacting and going on, as the official client does it."""
    question: Any = {"role": "user", "content": "one"}
    one = await client.responses.create(model="sim", input=[question])
    said: Any = [item.to_dict() for item in one.output]
    said.insert(0, question)
    made = await client.responses.compact(model="sim", input=said)
    assert ["message", "compaction"] == [item.type for item in made.output]
    window: Any = [item.to_dict(warnings=False) for item in made.output]
    window.append({**question, "content": "two"})
    two = await client.responses.create(model="sim", input=window)
    assert two.output_text
    async with client.responses.stream(
        model="sim",
        input=LONG,
        context_management=[{"type": "compaction", "compact_threshold": 1000}],
    ) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert ["compaction", "message"] == [item.type for item in final.output]


# -- in a response


@pytest.mark.parametrize("via", VIAS)
async def test_at_the_start(server: Serving, via: Via) -> None:
    """A prompt above the threshold is compacted first, and the model goes on from the summary."""
    one = await ask(server, via, input=LONG, **MANAGED)
    assert ["compaction", "message"] == kinds(one)
    usage = one["usage"]
    plain = await resent(server, [user(LONG)])
    assert plain["usage"]["input_tokens"] == usage["input_tokens"]
    assert 2 * 65 == usage["output_tokens"]
    two = await ask(server, via, input="on", previous_response_id=one["id"], **MANAGED)
    assert ["message"] == kinds(two)
    assert two["usage"]["input_tokens"] < 250
    for items in ([user(LONG), *one["output"]], one["output"]):
        same(await resent(server, [*items, user("on")]), two)


@pytest.mark.parametrize("via", VIAS)
async def test_at_the_end(server: Serving, via: Via) -> None:
    """A threshold that is crossed by what was said: the item comes behind the message."""
    metadata = {"sim.output_tokens": "600"}
    one = await ask(server, via, input="word " * 600, metadata=metadata, **MANAGED)
    assert ["message", "compaction"] == kinds(one)
    assert one["usage"]["output_tokens"] == 2 * 601
    assert one["usage"]["input_tokens"] < 1000
    two = await ask(server, via, input="on", previous_response_id=one["id"])
    assert two["usage"]["input_tokens"] < 800
    for items in ([user("word " * 600), *one["output"]], one["output"][1:]):
        same(await resent(server, [*items, user("on")]), two)


async def test_again_from_the_cache(server: Serving) -> None:
    """What is cached is part of what was given, also where the summary was cached as well."""
    one = await ask(server, "json", input=LONG, **MANAGED)
    two = await ask(server, "json", input=LONG, **MANAGED)
    same(one, two)
    usage = two["usage"]
    cached = usage["input_tokens_details"]["cached_tokens"]
    assert (
        usage["input_tokens"] - 1 == cached > one["usage"]["input_tokens_details"]["cached_tokens"]
    )


async def test_below_the_threshold(server: Serving) -> None:
    """Nothing happens where there is nothing to do; by default at 80 % of the window."""
    for threshold in (2000, None):
        element = {"type": "compaction", "compact_threshold": threshold}
        one = await ask(server, "json", input=LONG, context_management=[element])
        assert ["message"] == kinds(one)
        same(await resent(server, [user(LONG)]), one)


async def test_the_default_threshold(tmp_path: Path) -> None:
    """Without a threshold a conversation is compacted at four fifths of the window."""
    profiles = {"small": SimProfile(window=2000)}
    managed = {"context_management": [{"type": "compaction"}], "model": "small"}
    async with serving(config(tmp_path), ("small",), profiles=profiles) as server:
        below = await ask(server, "json", input="word " * 1500, **managed)
        above = await ask(server, "json", input="word " * 1650, **managed)
    assert ["message"] == kinds(below)
    assert ["compaction", "message"] == kinds(above)


async def test_calls_are_not_parted_from_their_outputs(
    server: Serving, websocket: WebSocketConnection
) -> None:
    """A response that owes outputs is compacted when they are there, at the start of the next."""
    settings: Json = {"model": "sim", "store": False, "tools": TOOLS, **MANAGED}
    loops = {"metadata": {"sim.tool_calls": "9"}}
    one = Transcript(await websocket.create(input="word " * 860, **settings, **loops)).response
    assert ["function_call"] == kinds(one)
    assert one["usage"]["total_tokens"] > 1000 > one["usage"]["input_tokens"]
    two = Transcript(
        await websocket.create(
            input=outputs(one), previous_response_id=one["id"], **settings, **loops
        )
    ).response
    assert ["compaction", "function_call"] == kinds(two)
    three = Transcript(
        await websocket.create(
            input=outputs(two), previous_response_id=two["id"], **settings, **loops
        )
    ).response
    again = {"tools": TOOLS, **loops}
    same(await resent(server, [*two["output"], *outputs(two)], **again), three)
    whole = [user("word " * 860), *one["output"], *outputs(one), *two["output"], *outputs(two)]
    same(await resent(server, whole, **again), three)


async def test_a_late_output(server: Serving) -> None:
    """A call that may be answered at any time is kept, and answered behind the summary."""
    late = {**CALL, "async": True}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "late"}
    one = await ask(server, "json", input=[late, user(LONG)], **MANAGED)
    two = await ask(server, "json", input=[output, user("on")], previous_response_id=one["id"])
    for items in ([late, user(LONG), *one["output"]], one["output"]):
        same(await resent(server, [*items, output, user("on")]), two)


async def test_an_incomplete_response_ends_with_what_was_cut(server: Serving) -> None:
    """Where the output was cut nothing comes behind it."""
    one = await ask(
        server,
        "json",
        input="word " * 990,
        max_output_tokens=16,
        **MANAGED,
    )
    assert ("incomplete", ["message"]) == (one["status"], kinds(one))
    assert one["usage"]["total_tokens"] > 1000


async def test_a_summary_that_fails_at_the_end(server: Serving, http: HttpConnection) -> None:
    """The answer is there already: the response is whole, and the next one begins with it."""
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    short = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    fault = {"sim.fault": "error:30"}
    one = await ask(server, "json", input="word " * 990, text=short, metadata=fault, **MANAGED)
    assert ("completed", ["message"]) == (one["status"], kinds(one))
    assert one["usage"]["total_tokens"] > 1000
    two = await ask(server, "json", input="on", previous_response_id=one["id"], **MANAGED)
    assert ["compaction", "message"] == kinds(two)
    failed = await http.create(model="sim", input=LONG, metadata=fault, **MANAGED)
    assert (500, "server_error") == (failed.status, failed.error()["code"])
    await server.idle()


async def test_cancelled_while_it_sums_up(server: Serving, websocket: WebSocketConnection) -> None:
    """A response is cancelled in the middle of its summary like anywhere else."""
    await websocket.send_create(model="sim-slow", input=LONG, **MANAGED)
    events = [await websocket.read_event() for _ in range(3)]
    assert "response.output_item.added" == events[-1]["type"]
    await websocket.send_event(type="response.cancel", response_id=events[0]["response"]["id"])
    events.append(await websocket.read_event())
    assert "cancelled" == Transcript(events).status
    await server.idle()


async def test_it_cannot_be_steered(websocket: WebSocketConnection) -> None:
    """Section 9.1: not with automatic compaction."""
    await websocket.send_create(model="sim-slow", input="hi", **MANAGED)
    created = await websocket.read_event()
    await websocket.send_event(
        type="response.steer", previous_response_id=created["response"]["id"], input="no"
    )
    events = [await websocket.read_event()]
    while events[-1]["type"] != "response.steer.failed":
        events.append(await websocket.read_event())
    assert "steering_not_supported" == events[-1]["error"]["code"]


@pytest.mark.parametrize(
    ("management", "code", "param"),
    [
        ([], "array_below_min_length", "context_management"),
        ({}, "invalid_type", "context_management"),
        ([{"type": "compaction"}] * 2, "array_above_max_length", "context_management"),
        ([{}], "missing_required_parameter", "context_management[0].type"),
        ([{"type": "forget"}], "invalid_value", "context_management[0].type"),
        (
            [{"type": "compaction", "compact_threshold": 999}],
            "integer_below_min_value",
            "context_management[0].compact_threshold",
        ),
        (
            [{"type": "compaction", "compact_threshold": "many"}],
            "invalid_type",
            "context_management[0].compact_threshold",
        ),
    ],
)
async def test_wrong_values(
    http: HttpConnection, websocket: WebSocketConnection, management: Any, code: str, param: str
) -> None:
    """A wrong value is named with its path, on either transport."""
    fields: Json = {"model": "sim", "input": "x", "context_management": management}
    answer = await http.create(**fields)
    error = answer.error()
    assert (400, code, param) == (answer.status, error["code"], error["param"])
    event = await websocket.refused(**fields)
    assert (code, param) == (event["error"]["code"], event["error"]["param"])
    assert "completed" == Transcript(await websocket.create(model="sim", input="x")).status


# -- when asked in the input


@pytest.mark.parametrize("via", VIAS)
async def test_a_trigger(server: Serving, http: HttpConnection, via: Via) -> None:
    """The item is the whole response; a client goes on from it by id, in full or from it alone."""
    items = await history(server)
    asked: Json = {"model": "sim", "input": [*items, TRIGGER], "tools": TOOLS}
    counted = (await http.request("POST", "/v1/responses/input_tokens", asked)).json()
    one = await ask(server, via, **asked)
    assert ["compaction"] == kinds(one)
    assert counted["input_tokens"] == one["usage"]["input_tokens"]
    two = await ask(server, via, input="on", previous_response_id=one["id"])
    for before in ([*items, *one["output"]], one["output"]):
        same(await resent(server, [*before, user("on")]), two)
    # It is a request, and no part of the conversation.
    page = (await http.request("GET", f"/v1/responses/{two['id']}/input_items?limit=100")).json()
    assert "compaction_trigger" not in [item["type"] for item in page["data"]]
    assert "compaction" in [item["type"] for item in page["data"]]


async def test_a_trigger_on_a_socket(server: Serving, websocket: WebSocketConnection) -> None:
    """As Codex does it: the events say that it is compacting, and the new window is the input."""
    first = Transcript(await websocket.create(model="sim", input="one", store=False)).response
    events = await websocket.create(
        model="sim", input=[TRIGGER], store=False, previous_response_id=first["id"]
    )
    assert ["added", "compacting", "done"] == [
        event["type"].rpartition(".")[2] for event in events[2:-1]
    ]
    one = Transcript(events).response
    window = [*one["output"], user("two")]
    two = Transcript(await websocket.create(model="sim", input=window, store=False)).response
    same(await resent(server, [user("one"), *first["output"], *window]), two)


async def test_a_trigger_elsewhere(http: HttpConnection, websocket: WebSocketConnection) -> None:
    """It is the last item, once, and of an input that is answered."""
    message = "The 'compaction_trigger' item must be the final input item."
    for items, place in (
        ([TRIGGER, user("x")], 0),
        ([user("x"), TRIGGER, TRIGGER], 1),
    ):
        answer = await http.create(model="sim", input=items)
        error = answer.error()
        assert (400, message, f"input[{place}]") == (
            answer.status,
            error["message"],
            error["param"],
        )
    event = await websocket.refused(model="sim", input=[user("x"), TRIGGER], generate=False)
    assert ("invalid_value", "input") == (event["error"]["code"], event["error"]["param"])
    added = await http.request("POST", "/v1/conversations", {"items": [TRIGGER]})
    assert "items[0]" == added.error()["param"]
    owed = await http.create(model="sim", input=[user("x"), CALL, TRIGGER])
    assert "No tool output found" in owed.error()["message"]


# -- where it is kept


@pytest.mark.parametrize("via", VIAS)
async def test_a_restart(tmp_path: Path, via: Via) -> None:
    """After a restart a compacted chain goes on as if there had been none."""
    settings: Json = {"tools": TOOLS, "metadata": {"sim.tool_calls": "9"}}
    told = config(tmp_path, store="sqlite")
    async with serving(told) as before:
        one = await ask(before, via, input=LONG, **settings, **MANAGED)
        assert ["compaction", "function_call"] == kinds(one)
        expected = await ask(
            before, via, input=outputs(one), previous_response_id=one["id"], **settings
        )
    async with serving(told) as after:
        two = await ask(after, via, input=outputs(one), previous_response_id=one["id"], **settings)
        same(expected, two)
        reference = {"type": "item_reference", "id": one["output"][0]["id"]}
        same(
            await resent(after, [one["output"][0], user("on")]),
            await ask(after, via, input=[reference, user("on")]),
        )


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_in_a_conversation(tmp_path: Path, store: Any) -> None:
    """Compactions are items of a conversation like others, and what is before them stays there."""
    told = config(tmp_path, store=store)
    async with serving(told) as server, connect(server.url) as wire:
        made = (await wire.request("POST", "/v1/conversations", {})).json()
        talk = {"conversation": made["id"]}
        one = await ask(server, "json", input=LONG, **talk, **MANAGED)
        two = await ask(server, "websocket", input=[user("two"), TRIGGER], **talk)
        three = await ask(server, "sse", input="three", **talk)
        path = f"/v1/conversations/{made['id']}/items?order=asc&limit=100"
        listed = (await wire.request("GET", path)).json()["data"]
    assert ["message", "compaction", "message", "message", "compaction", "message", "message"] == [
        item["type"] for item in listed
    ]
    assert two["output"] == [listed[4]]
    if store == "sqlite":
        async with serving(told) as again:
            four = await ask(again, "json", input="four", **talk)
            whole = [*listed[4:], user("four")]
            same(await resent(again, whole), four)
            same(await resent(again, [user(LONG), *one["output"], user("two"), *whole]), four)
    assert three["usage"]["input_tokens"] < 250
