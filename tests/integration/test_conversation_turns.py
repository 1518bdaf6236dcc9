"""Responses in conversations: what they see, what they leave behind, and who may at a time."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent import TOOLS
from tests.integration.recorder import Transcript, essence
from tests.integration.serving import Serving, config, eventually, serving
from tests.integration.test_continuation import VIAS, Via, ask, outputs, resent, same, user
from tests.integration.wire import (
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    open_websocket,
    read_sse,
)

SEALED = "include[]=reasoning.encrypted_content"
UNKNOWN = "conv_" + "0" * 48


async def begin(server: Serving, *items: Json) -> str:
    """The id of a new conversation."""
    async with connect(server.url) as wire:
        made = await wire.request("POST", "/v1/conversations", {"items": list(items)})
        assert made.status == 200, made.body
        conversation_id = made.json()["id"]
        assert isinstance(conversation_id, str)
        return conversation_id


async def held(server: Serving, conversation_id: str, include: str = SEALED) -> list[Json]:
    """All items of a conversation, oldest first."""
    found: list[Json] = []
    async with connect(server.url) as wire:
        while True:
            after = f"&after={found[-1]['id']}" if found else ""
            path = f"/v1/conversations/{conversation_id}/items?order=asc&limit=100&{include}{after}"
            page = (await wire.request("GET", path)).json()
            found += page["data"]
            if not page["has_more"]:
                return found


def plain(items: list[Json]) -> list[Json]:
    """Items by what they say, without what the server adds."""
    differ = ("id", "status", "encrypted_content")
    return [{name: value for name, value in item.items() if name not in differ} for item in items]


def message(text: str, role: str = "user") -> Json:
    """A message as a conversation lists it."""
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": role, "content": content}


@pytest.mark.parametrize("via", VIAS)
@pytest.mark.parametrize("as_object", [False, True])
async def test_a_loop_in_a_conversation(server: Serving, via: Via, as_object: bool) -> None:
    """Turn by turn the model sees what a full resend would show it, and so says the same."""
    settings: Json = {"tools": TOOLS, "reasoning": {"effort": "low"}, "instructions": "Do."}
    conversation_id = await begin(server)
    named: Any = {"id": conversation_id} if as_object else conversation_id
    given: list[Json] = [user("Hello")]
    for turn in range(4):
        before = await held(server, conversation_id)
        response = await ask(server, via, input=given, conversation=named, **settings)
        assert {"id": conversation_id} == response["conversation"]
        same(await resent(server, [*before, *given], **settings), response)
        after = await held(server, conversation_id)
        assert before == after[: len(before)]
        assert essence(response) == essence({"output": after[len(before) + len(given) :]})
        assert [item["id"] for item in response["output"]] == [
            item["id"] for item in after[len(before) + len(given) :]
        ]
        given = outputs(response) or [user(f"Go on, {turn}.")]


@pytest.mark.parametrize("via", VIAS)
async def test_a_turn_costs_what_is_new(server: Serving, via: Via) -> None:
    """While nobody changes it by hand, a conversation is extended and never rendered again."""
    conversation_id = await begin(server)
    first = await ask(server, via, input="word " * 400, conversation=conversation_id)
    rendered = server.count("rendered_tokens_total")
    appended = server.count("context_render_total", mode="append", reason="")
    second = await ask(server, via, input="more", conversation=conversation_id)
    assert appended + 1 == server.count("context_render_total", mode="append", reason="")
    assert server.count("rendered_tokens_total") - rendered < 20
    total = first["usage"]["total_tokens"]
    assert second["usage"]["input_tokens_details"]["cached_tokens"] > 0.9 * total


@pytest.mark.parametrize("via", VIAS)
async def test_a_restart(tmp_path: Path, via: Via) -> None:
    """After a restart a conversation goes on as if there had been none, token for token."""
    settings: Json = {
        "tools": TOOLS,
        "reasoning": {"effort": "low"},
        "metadata": {"sim.tool_calls": "3"},
    }
    told = config(tmp_path, store="sqlite")
    async with serving(told) as before:
        conversation_id = await begin(before, user("Hello"))
        twin_id = await begin(before, user("Hello"))
        one = await ask(before, via, conversation=conversation_id, **settings)
        twin = await ask(before, via, conversation=twin_id, **settings)
        assert essence(one) == essence(twin)
        expected = await ask(before, via, input=outputs(twin), conversation=twin_id, **settings)
        items = await held(before, conversation_id)
    async with serving(told) as after:
        assert items == await held(after, conversation_id)
        two = await ask(after, via, input=outputs(one), conversation=conversation_id, **settings)
        same(expected, two)
        three = await ask(
            after, via, input=outputs(two), previous_response_id=two["id"], **settings
        )
        four = await ask(after, via, input=outputs(two), conversation=conversation_id, **settings)
        same(three, four)


async def test_changes_by_hand(server: Serving, http: HttpConnection) -> None:
    """Items that were added or deleted by hand are there, or are not, at the next turn."""
    conversation_id = await begin(server, user("one"))
    path = f"/v1/conversations/{conversation_id}/items"
    await ask(server, "json", input="two", conversation=conversation_id)
    added = await http.request("POST", path, {"items": [user("three"), user("four")]})
    assert added.status == 200
    same(
        await resent(server, await held(server, conversation_id)),
        await ask(server, "json", conversation=conversation_id),
    )
    for place in (0, 2, -1):
        items = await held(server, conversation_id)
        gone = await http.request("DELETE", f"{path}/{items[place]['id']}")
        assert (gone.status, conversation_id) == (200, gone.json()["id"])
        del items[place]
        assert items == await held(server, conversation_id)
        response = await ask(server, "json", input="and?", conversation=conversation_id)
        same(await resent(server, [*items, user("and?")]), response)
        # Its turn is stored with what it saw, and so goes on without the conversation, too.
        on = await ask(server, "json", input="on", previous_response_id=response["id"])
        whole = [*await held(server, conversation_id), user("on")]
        same(await resent(server, whole), on)


@pytest.mark.parametrize("seed", range(4))
async def test_random_programs(server: Serving, http: HttpConnection, seed: int) -> None:
    """Whatever is done to a conversation, a turn in it sees what listing and resending shows."""
    dice = random.Random(seed)  # a test that repeats itself
    settings: Json = {"tools": TOOLS, "reasoning": {"effort": "low"}}
    conversation_id = await begin(server)
    path = f"/v1/conversations/{conversation_id}/items"
    owed: list[Json] = []
    for step in range(14):
        items = await held(server, conversation_id)
        what = dice.choice(["turn", "turn", "unstored", "add", "delete"])
        if what == "add" and not owed:
            given = [user(f"{step}.{n}") for n in range(dice.randint(1, 3))]
            assert (await http.request("POST", path, {"items": given})).status == 200
        elif what == "delete":
            loose = [item for item in items if item["type"] in ("message", "reasoning")]
            if loose:
                gone = await http.request("DELETE", f"{path}/{dice.choice(loose)['id']}")
                assert gone.status == 200
        elif what in ("turn", "unstored"):
            given = owed or [user(f"turn {step}")]
            stored = what == "turn"
            via = dice.choice(VIAS)
            made = await ask(
                server, via, input=given, conversation=conversation_id, store=stored, **settings
            )
            same(await resent(server, [*items, *given], **settings), made)
            assert (len(items) == len(await held(server, conversation_id))) != stored
            owed = outputs(made) if stored else owed


async def test_strings_become_messages(server: Serving) -> None:
    """What a response leaves behind has ids, statuses and parts."""
    conversation_id = await begin(server)
    made = await ask(server, "json", input="Hello", conversation=conversation_id)
    given, *said = await held(server, conversation_id)
    assert message("Hello") == plain([given])[0]
    assert given["id"].startswith("msg_")
    assert given["status"] == "completed"
    assert made["output"] == said


async def test_store_false_leaves_nothing(server: Serving, http: HttpConnection) -> None:
    """The conversation is read, and neither it nor the store learns of the response."""
    conversation_id = await begin(server, user("one"))
    before = await held(server, conversation_id)
    made = await ask(server, "json", input="two", conversation=conversation_id, store=False)
    same(await resent(server, [*before, user("two")]), made)
    assert before == await held(server, conversation_id)
    assert (await http.request("GET", f"/v1/responses/{made['id']}")).status == 404


@pytest.mark.parametrize("via", VIAS)
async def test_incomplete_is_appended(server: Serving, via: Via) -> None:
    """A response that hit its limit is part of the conversation, and is continued."""
    conversation_id = await begin(server)
    cut = await ask(server, via, input="Hello", conversation=conversation_id, max_output_tokens=16)
    assert cut["status"] == "incomplete"
    items = await held(server, conversation_id)
    assert cut["output"] == items[1:]
    on = await ask(server, via, input="more", conversation=conversation_id)
    same(await resent(server, [*items, user("more")]), on)


@pytest.mark.parametrize("via", VIAS)
async def test_failed_is_not_appended(
    server: Serving, http: HttpConnection, websocket: WebSocketConnection, via: Via
) -> None:
    """A response that failed leaves the conversation as it was, and free."""
    conversation_id = await begin(server, user("one"))
    before = await held(server, conversation_id)
    fields: Json = {
        "model": "sim",
        "input": "two",
        "conversation": conversation_id,
        "metadata": {"sim.fault": "error:3"},
    }
    if via == "websocket":
        assert Transcript(await websocket.create(**fields)).status == "failed"
    elif via == "sse":
        answer = await http.create(stream=True, **fields)
        assert Transcript(read_sse(answer.chunks), sse=True).status == "failed"
    else:
        assert (await http.create(**fields)).status == 500
    assert before == await held(server, conversation_id)
    await ask(server, via, input="two", conversation=conversation_id)


async def test_cancelled_is_not_appended(server: Serving, websocket: WebSocketConnection) -> None:
    """A response that the client cancelled leaves the conversation as it was, and free."""
    conversation_id = await begin(server, user("one"))
    before = await held(server, conversation_id)
    await websocket.send_create(model="sim-slow", input="two", conversation=conversation_id)
    events = [await websocket.read_event(), await websocket.read_event()]
    await websocket.send_event(type="response.cancel")
    events += await websocket.read_response()
    assert Transcript(events).status == "cancelled"
    assert before == await held(server, conversation_id)
    await ask(server, "json", input="two", conversation=conversation_id)


async def test_a_client_that_leaves(server: Serving) -> None:
    """A response whose client hung up leaves the conversation as it was, and free."""
    conversation_id = await begin(server, user("one"))
    before = await held(server, conversation_id)
    async with open_websocket(server.url) as socket:
        await socket.send_create(model="sim-slow", input="two", conversation=conversation_id)
        await socket.read_event()
        socket.reset()
    await server.idle()
    assert before == await held(server, conversation_id)
    await ask(server, "json", input="two", conversation=conversation_id)


async def test_one_response_at_a_time(
    server: Serving, http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """While a response is made in a conversation, others and changes are refused, reads are not."""
    conversation_id = await begin(server, user("one"))
    other_id = await begin(server)
    path = f"/v1/conversations/{conversation_id}"
    [item] = await held(server, conversation_id)
    slow: Json = {"model": "sim-slow", "input": "two", "conversation": conversation_id}
    await websocket.send_create(**slow)
    events = [await websocket.read_event()]
    refused = [
        await http.create(model="sim", input="three", conversation={"id": conversation_id}),
        await http.create(
            model="sim", input="three", conversation=conversation_id, stream=True, store=False
        ),
        await http.request("POST", f"{path}/items", {"items": [user("x")]}),
        await http.request("DELETE", f"{path}/items/{item['id']}"),
        await http.request("DELETE", path),
    ]
    for answer in refused:
        assert (409, "conversation_locked") == (answer.status, answer.error()["code"])
        assert answer.headers["x-should-retry"] == "false"
    await websocket.send_create(**slow, stream_id="b")
    while (event := await websocket.read_event()).get("stream_id") is None:
        events.append(event)
    assert (409, "conversation_locked") == (event["status"], event["error"]["code"])
    assert event["error"]["headers"] == {"x-should-retry": "false"}
    assert [item] == await held(server, conversation_id)
    assert (await http.request("GET", path)).status == 200
    assert (await http.request("POST", path, {"metadata": {}})).status == 200
    counted = {"model": "sim", "conversation": conversation_id}
    assert (await http.request("POST", "/v1/responses/input_tokens", counted)).status == 200
    await ask(server, "json", input="x", conversation=other_id)
    await websocket.send_event(type="response.cancel")
    events += await websocket.read_response()
    assert Transcript(events).status == "cancelled"
    await ask(server, "json", input="three", conversation=conversation_id)


async def test_creates_of_one_lane_follow_each_other(
    server: Serving, websocket: WebSocketConnection
) -> None:
    """Creates that a client sends at once on one lane are no conflict: each waits its turn."""
    conversation_id = await begin(server)
    for text in ("one", "two", "three"):
        await websocket.send_create(model="sim", input=text, conversation=conversation_id)
    for _ in range(3):
        assert Transcript(await websocket.read_response()).status == "completed"
    texts = [item["content"][0]["text"] for item in await held(server, conversation_id)]
    assert ["one", "two", "three"] == texts[::2]


async def test_free_with_the_terminal_event(
    server: Serving, http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """Who has read the terminal event may go on at once, on any connection."""
    conversation_id = await begin(server)
    for text in range(10):
        answer = await http.create(model="sim", input=f"{text}", conversation=conversation_id)
        assert answer.status == 200
        made = await websocket.create(model="sim", input="x", conversation=conversation_id)
        assert Transcript(made).status == "completed"
        answer = await http.create(
            model="sim", input="y", conversation=conversation_id, stream=True
        )
        assert answer.status == 200
    assert 60 == len(await held(server, conversation_id))


async def test_two_processes(tmp_path: Path) -> None:
    """Where two servers share the store, of two responses at once one fails, and says why."""
    told = config(tmp_path, store="sqlite")
    async with serving(told) as one, serving(told) as other:
        conversation_id = await begin(one, user("one"))
        async with open_websocket(one.url) as socket:
            fields: Json = {"conversation": conversation_id, "input": "two"}
            await socket.send_create(
                model="sim-slow", metadata={"sim.output_tokens": "30"}, **fields
            )
            events = [await socket.read_event()]
            faster = await ask(other, "json", **fields)
            events += await socket.read_response()
        late = Transcript(events)
        assert late.status == "failed"
        assert late.response["error"]["code"] == "server_error"
        assert "in use by another request" in late.response["error"]["message"]
        items = await held(one, conversation_id)
        assert faster["output"] == items[2:]
        on = await ask(one, "json", input="three", conversation=conversation_id)
        same(await resent(one, [*items, user("three")]), on)


@pytest.mark.parametrize("via", VIAS)
async def test_unknown(server: Serving, http: HttpConnection, via: Via) -> None:
    """A response in a conversation that is unknown or was deleted is refused."""
    deleted = await begin(server)
    assert (await http.request("DELETE", f"/v1/conversations/{deleted}")).status == 200
    for conversation_id in (UNKNOWN, deleted):
        fields: Json = {"model": "sim", "input": "x", "conversation": conversation_id}
        if via == "websocket":
            async with open_websocket(server.url) as socket:
                event = await socket.refused(**fields)
            assert (404, "not_found") == (event["status"], event["error"]["code"])
            continue
        answer = await http.create(stream=via == "sse", **fields)
        assert (404, "not_found") == (answer.status, answer.error()["code"])
        assert answer.error()["param"] == "conversation"


async def test_nothing_to_answer(server: Serving, http: HttpConnection) -> None:
    """An empty conversation and no input are nothing to answer; either is enough."""
    conversation_id = await begin(server)
    answer = await http.create(model="sim", conversation=conversation_id)
    assert (400, "missing_required_parameter") == (answer.status, answer.error()["code"])
    await ask(server, "json", input="x", conversation=conversation_id)
    await ask(server, "json", conversation=conversation_id)
    assert 3 == len(await held(server, conversation_id))


async def test_ids_of_input(server: Serving, http: HttpConnection) -> None:
    """Ids that the input brings are kept if they are free, and refused otherwise."""
    conversation_id = await begin(server)
    mine: Json = {**user("x"), "id": "msg_mine", "type": "message"}
    await ask(server, "json", input=[mine], conversation=conversation_id)
    assert (await held(server, conversation_id))[0]["id"] == "msg_mine"
    before = await held(server, conversation_id)
    answer = await http.create(model="sim", input=[user("y"), mine], conversation=conversation_id)
    assert (400, "input[1].id") == (answer.status, answer.error()["param"])
    assert before == await held(server, conversation_id)


async def test_references(server: Serving) -> None:
    """A reference to an item of the conversation repeats it, under an id of its own."""
    conversation_id = await begin(server, {**user("x"), "id": "msg_x", "type": "message"})
    reference = {"type": "item_reference", "id": "msg_x"}
    await ask(server, "json", input=[reference], conversation=conversation_id)
    first, second, _ = await held(server, conversation_id)
    assert plain([first]) == plain([second])
    assert first["id"] != second["id"]


async def test_a_repeated_call(server: Serving) -> None:
    """A client that sends the model's call again beside its output adds only the output."""
    conversation_id = await begin(server)
    settings: Json = {"tools": TOOLS, "tool_choice": "required"}
    one = await ask(server, "json", input="x", conversation=conversation_id, **settings)
    before = await held(server, conversation_id)
    given = [*one["output"], *outputs(one)]
    await ask(server, "json", input=given, conversation=conversation_id, tools=TOOLS)
    after = await held(server, conversation_id)
    kinds = [item["type"] for item in after[len(before) : len(before) + len(outputs(one))]]
    assert ["function_call_output"] * len(outputs(one)) == kinds


async def test_calls_and_outputs_that_do_not_pair(server: Serving, http: HttpConnection) -> None:
    """A call whose deletion left an output alone is named, when a response is to be made."""
    conversation_id = await begin(server)
    settings: Json = {"tools": TOOLS, "tool_choice": "required"}
    one = await ask(server, "json", input="x", conversation=conversation_id, **settings)
    await ask(server, "json", input=outputs(one), conversation=conversation_id, tools=TOOLS)
    path = f"/v1/conversations/{conversation_id}/items/{one['output'][0]['id']}"
    assert (await http.request("DELETE", path)).status == 200
    answer = await http.create(model="sim", input="y", conversation=conversation_id)
    assert (400, "conversation") == (answer.status, answer.error()["param"])
    assert one["output"][0]["call_id"] in answer.error()["message"]


async def test_counting(server: Serving, http: HttpConnection) -> None:
    """Counting in a conversation says what creating reports, and changes nothing."""
    conversation_id = await begin(server, user("one"))
    for _ in range(2):
        before = await held(server, conversation_id)
        fields: Json = {"model": "sim", "input": "two", "conversation": conversation_id}
        counted = (await http.request("POST", "/v1/responses/input_tokens", fields)).json()
        assert before == await held(server, conversation_id)
        made = (await http.create(**fields)).json()
        assert made["usage"]["input_tokens"] == counted["input_tokens"]


async def test_steers_are_refused(server: Serving, websocket: WebSocketConnection) -> None:
    """A response in a conversation cannot be steered, and says so."""
    conversation_id = await begin(server)
    await websocket.send_create(model="sim-slow", input="x", conversation=conversation_id)
    created = await websocket.read_event()
    await websocket.send_event(
        type="response.steer", previous_response_id=created["response"]["id"], input="y"
    )
    while (event := await websocket.read_event())["type"] != "response.steer.failed":
        assert event["type"] != "response.steer.accepted"
    assert event["error"]["code"] == "steering_not_supported"


async def test_input_items_of_a_response(server: Serving, http: HttpConnection) -> None:
    """What went into a response in a conversation is the conversation before it, and its own."""
    conversation_id = await begin(server, user("one"))
    for text in ("two", "three"):
        made = await ask(server, "json", input=text, conversation=conversation_id)
        items = await held(server, conversation_id)
        path = f"/v1/responses/{made['id']}/input_items?order=asc"
        listed = (await http.request("GET", path)).json()["data"]
        assert items[: -len(made["output"])] == listed


async def test_responses_outlive_their_conversation(server: Serving, http: HttpConnection) -> None:
    """Deleting a conversation takes its items; the responses made in it stay and go on."""
    conversation_id = await begin(server, user("one"))
    made = await ask(server, "json", input="two", conversation=conversation_id)
    items = await held(server, conversation_id)
    assert (await http.request("DELETE", f"/v1/conversations/{conversation_id}")).status == 200
    assert made == (await http.request("GET", f"/v1/responses/{made['id']}")).json()
    on = await ask(server, "json", input="three", previous_response_id=made["id"])
    same(await resent(server, [*items, user("three")]), on)


async def test_a_conversation_outlives_its_responses(server: Serving, http: HttpConnection) -> None:
    """Deleting a response takes nothing from the conversation that it was made in."""
    conversation_id = await begin(server)
    made = await ask(server, "json", input="one", conversation=conversation_id)
    items = await held(server, conversation_id)
    assert (await http.request("DELETE", f"/v1/responses/{made['id']}")).status == 200
    assert items == await held(server, conversation_id)
    on = await ask(server, "json", input="two", conversation=conversation_id)
    same(await resent(server, [*items, user("two")]), on)


async def test_a_warm_up(server: Serving, websocket: WebSocketConnection) -> None:
    """A warm-up leaves its input in the conversation, and what follows finds it warm."""
    conversation_id = await begin(server)
    warm = Transcript(
        await websocket.create(
            model="sim", input="word " * 300, conversation=conversation_id, generate=False
        )
    )
    assert 1 == len(await held(server, conversation_id))
    on = await ask(server, "json", conversation=conversation_id)
    cached = on["usage"]["input_tokens_details"]["cached_tokens"]
    assert cached >= 0.9 * warm.response["usage"]["input_tokens"]


async def test_many_conversations_at_once(server: Serving) -> None:
    """Conversations do not wait for each other, and do not mix."""

    async def talk(number: int) -> None:
        conversation_id = await begin(server)
        texts = [f"{number}.{turn}" for turn in range(4)]
        for text in texts:
            await ask(server, VIAS[number % 3], input=text, conversation=conversation_id)
        items = await held(server, conversation_id)
        assert texts == [item["content"][0]["text"] for item in items[::2]]

    await asyncio.gather(*map(talk, range(9)))
    await eventually(lambda: server.count("responses_in_flight") == 0)


async def test_nothing_readable_at_rest(tmp_path: Path) -> None:
    """What the model thought is in the file sealed, and opens when the conversation goes on."""
    told = config(tmp_path, store="sqlite")
    settings: Json = {"reasoning": {"effort": "low"}}
    async with serving(told) as server:
        conversation_id = await begin(server)
        await ask(server, "json", input="x", conversation=conversation_id, **settings)
        shown = await held(server, conversation_id, include="")
        sealed = await held(server, conversation_id)
        [thought] = [item for item in shown if item["type"] == "reasoning"]
        assert {"id", "type", "summary"} == set(thought)
        [kept] = [item for item in sealed if item["type"] == "reasoning"]
        assert kept["encrypted_content"]
        twin = await ask(
            server, "json", input="x", **settings, include=["reasoning.encrypted_content"]
        )
        opened = json.dumps(twin["output"][0])
        assert kept["encrypted_content"] not in opened  # each seal is its own
        same(
            await resent(server, [*sealed, user("y")], **settings),
            await ask(server, "json", input="y", conversation=conversation_id, **settings),
        )
