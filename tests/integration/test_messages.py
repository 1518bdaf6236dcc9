"""Messages that decline, and messages with a phase, over every transport and back again."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from tests.integration.recorder import Transcript, check_response, essence
from tests.integration.wire import HttpConnection, Json, WebSocketConnection, read_sse

HELLO: Json = {"role": "user", "content": "Hello"}
MORE: Json = {"role": "user", "content": "More."}
REFUSING: Json = {"model": "sim", "input": [HELLO], "metadata": {"sim.refusal": "true"}}
TOOL: Json = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
}
PHASED: Json = {"model": "sim", "metadata": {"sim.phases": "true"}, "tools": [TOOL]}
SCHEMA: Json = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}


async def everywhere(
    http: HttpConnection, websocket: WebSocketConnection, fields: Json
) -> tuple[Json, Transcript]:
    """The response as JSON and as events; it is the same on each transport."""
    socket = Transcript(await websocket.create(**fields))
    stream = Transcript(read_sse((await http.create(stream=True, **fields)).chunks), sse=True)
    plain: Json = (await http.create(**fields)).json()
    check_response(plain)
    assert essence(plain) == essence(stream.response) == essence(socket.response)
    assert [event["type"] for event in stream.events] == [e["type"] for e in socket.events]
    return plain, stream


async def continuations_agree(http: HttpConnection, created: Json, fields: Json) -> None:
    """Going on by id is the same prompt as sending everything again."""
    going_on: Json = {"model": "sim", "tools": fields.get("tools", [])}
    outputs = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
        for item in created["output"]
        if item["type"] == "function_call"
    ]
    new = [*outputs, MORE]
    by_id = (await http.create(input=new, previous_response_id=created["id"], **going_on)).json()
    history = [*fields["input"], *created["output"], *new]
    resent = (await http.create(input=history, **going_on)).json()
    for response in (by_id, resent):
        check_response(response)
    assert by_id["usage"]["input_tokens"] == resent["usage"]["input_tokens"]
    assert essence(by_id) == essence(resent)


# -- refusals


@pytest.mark.parametrize(
    "fields", [{}, {"text": {"format": SCHEMA}}, {"top_logprobs": 2}], ids=["text", "json", "top"]
)
async def test_a_refusal(
    http: HttpConnection, websocket: WebSocketConnection, fields: Json
) -> None:
    """It is a part of a completed message, with events of its own."""
    plain, stream = await everywhere(http, websocket, {**REFUSING, **fields})
    (message,) = plain["output"]
    (part,) = message["content"]
    assert ("completed", "refusal") == (plain["status"], part["type"])
    words = (await http.create(model="sim", input=[HELLO])).json()["output"][0]["content"][0][
        "text"
    ]
    assert words == part["refusal"]
    kinds = {event["type"] for event in stream.events}
    assert {"response.refusal.delta", "response.refusal.done"} <= kinds
    assert not any(kind.startswith("response.output_text") for kind in kinds)


async def test_a_refusal_is_history(http: HttpConnection) -> None:
    """It is stored, listed, and read by the model like what else it said."""
    created = (await http.create(**REFUSING)).json()
    await continuations_agree(http, created, REFUSING)
    stored = (await http.request("GET", f"/v1/responses/{created['id']}")).json()
    assert created == stored
    following = (
        await http.create(model="sim", input=[MORE], previous_response_id=created["id"])
    ).json()
    listed = await http.request("GET", f"/v1/responses/{following['id']}/input_items?order=asc")
    assert created["output"][0] == listed.json()["data"][1]


async def test_a_refusal_that_is_cut(http: HttpConnection) -> None:
    """A budget that ends in it leaves an incomplete message with what there is."""
    fields = {**REFUSING, "max_output_tokens": 16}
    stream = Transcript(read_sse((await http.create(stream=True, **fields)).chunks), sse=True)
    assert ("incomplete", "incomplete") == (stream.status, stream.output[0]["status"])
    assert stream.output[0]["content"][0]["refusal"]


class Entry(BaseModel):
    """What the model was to answer."""

    name: str


async def test_the_official_client_sees_the_refusal(client: AsyncOpenAI) -> None:
    """Parsed there is no value but a refusal; streamed there are its events."""
    metadata = {"sim.refusal": "true"}
    parsed = await client.responses.parse(
        model="sim", input="Hello", text_format=Entry, metadata=metadata
    )
    assert parsed.output_parsed is None
    message = parsed.output[0]
    assert message.type == "message"
    assert message.content[0].type == "refusal"
    refused = ""
    async with client.responses.stream(
        model="sim", input="Hello", text_format=Entry, metadata=metadata
    ) as events:
        async for event in events:
            if event.type == "response.refusal.delta":
                refused += event.delta
        final = await events.get_final_response()
    assert message.content[0].refusal == refused
    assert final.output_parsed is None


# -- phases


async def test_commentary_before_a_call(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """What is said before calls is commentary; the answer after them is final."""
    first, stream = await everywhere(http, websocket, {**PHASED, "input": [HELLO]})
    said, call = first["output"]
    assert ("commentary", "function_call") == (said["phase"], call["type"])
    added = [e["item"] for e in stream.events if e["type"] == "response.output_item.added"]
    assert "phase" not in added[0]  # nobody knew yet
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}
    fields = {**PHASED, "input": [HELLO, said, call, output]}
    second, _ = await everywhere(http, websocket, fields)
    (answer,) = second["output"]
    assert "final_answer" == answer["phase"]


async def test_no_phase_unless_it_is_asked_for(http: HttpConnection) -> None:
    """The template has no phases: without the control there is no such key."""
    for tools in ([], [TOOL]):
        answer = await http.create(model="sim", input="Hello", tools=tools)
        assert b'"phase"' not in answer.body


async def test_phases_are_history(http: HttpConnection) -> None:
    """They are stored and listed with their messages, and change nothing for this model."""
    created = (await http.create(**PHASED, input=[HELLO])).json()
    await continuations_agree(http, created, {**PHASED, "input": [HELLO]})
    stored = (await http.request("GET", f"/v1/responses/{created['id']}")).json()
    assert created == stored
    output = {
        "type": "function_call_output",
        "call_id": created["output"][1]["call_id"],
        "output": "ok",
    }
    following = (
        await http.create(
            model="sim", input=[output], tools=[TOOL], previous_response_id=created["id"]
        )
    ).json()
    listed = await http.request("GET", f"/v1/responses/{following['id']}/input_items?order=asc")
    assert created["output"] == listed.json()["data"][1:3]


@pytest.mark.parametrize("phase", ["commentary", "final_answer", None])
async def test_a_client_s_phases_are_kept(http: HttpConnection, phase: str | None) -> None:
    """A phase that comes with a message stays with it, in lists and in conversations."""
    said: Json = {"role": "assistant", "content": "Well.", "phase": phase}
    created = (await http.create(model="sim", input=[HELLO, said, MORE])).json()
    listed = await http.request("GET", f"/v1/responses/{created['id']}/input_items?order=asc")
    begun = await http.request("POST", "/v1/conversations", {"items": [HELLO, said]})
    path = f"/v1/conversations/{begun.json()['id']}"
    await http.create(model="sim", input=[MORE], conversation=begun.json()["id"])
    in_conversation = await http.request("GET", f"{path}/items?order=asc")
    for items in (listed, in_conversation):
        item = items.json()["data"][1]
        assert "Well." == item["content"][0]["text"]
        assert ({"phase": phase} if phase else {}) == {
            name: value for name, value in item.items() if name == "phase"
        }


async def test_in_a_conversation(http: HttpConnection) -> None:
    """What a response appends has its phase; so has what it refused."""
    begun = (await http.request("POST", "/v1/conversations")).json()["id"]
    fields: Json = {
        "model": "sim",
        "input": [HELLO],
        "metadata": {"sim.phases": "true", "sim.refusal": "true"},
    }
    created = (await http.create(**fields, conversation=begun)).json()
    [item, _] = (await http.request("GET", f"/v1/conversations/{begun}/items")).json()["data"]
    assert created["output"] == [item]
    assert ("final_answer", "refusal") == (item["phase"], item["content"][0]["type"])


async def test_steering_while_a_message_ends(websocket: WebSocketConnection) -> None:
    """A steered response ends after the item it is at, phases or not."""
    await websocket.send_create(
        model="sim-slow",
        input=[HELLO],
        metadata={"sim.phases": "true", "sim.output_tokens": "10"},
    )
    created = await websocket.read_event()
    assert "response.created" == created["type"]
    await websocket.send_event(
        type="response.steer", previous_response_id=created["response"]["id"], input="Stop."
    )
    kinds: list[str] = []
    done = 0
    while done < 2:
        event = await websocket.read_event()
        kinds.append(event["type"])
        done += event["type"] in ("response.completed", "response.incomplete")
    assert "response.steer.accepted" in kinds
    assert 2 == kinds.count("response.output_item.done")


async def test_the_official_client_reads_phases(client: AsyncOpenAI) -> None:
    """Its types know the key, and its accumulator takes one that comes at the end."""
    asked = client.responses.stream(
        model="sim",
        input="Hello",
        metadata={"sim.phases": "true"},
        tools=[
            {
                "type": "function",
                "name": "look",
                "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
                "strict": True,
            }
        ],
    )
    async with asked as events:
        async for _ in events:
            pass
        final = await events.get_final_response()
    said, call = final.output
    assert said.type == "message"
    assert ("commentary", "function_call") == (said.phase, call.type)
