"""openai-python, every way it has to hold a conversation: two questions, with a tool.

Arguments: base address; `websocket`, `restart`, `refused`, `http`, `background` or `conversation`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from openai import AsyncOpenAI
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketLimits,
)
from websockets.exceptions import ConnectionClosed

Json = dict[str, Any]

QUESTIONS = ("Where is it warm?", "And where is it cold?")
LIMITS = ResponsesWebSocketLimits(
    max_lanes=2,
    max_events_per_lane=10_000,
    max_events=20_000,
    max_bytes_per_lane=2**24,
    max_bytes=2**25,
)
SETTINGS: Json = {
    "model": "sim",
    "instructions": "You know the weather.",
    "tools": [
        {
            "type": "function",
            "name": "weather",
            "description": "The weather in a city.",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": ["Lisbon", "Oslo", "Quito"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        }
    ],
}


async def converse(ask: Callable[[list[Json]], Awaitable[Any]]) -> Json:
    """Ask both questions; run the tool whenever it is called.

    Args:
        ask: Sends what is new in the conversation; returns the response.
    """
    answers, calls = [], []
    for question in QUESTIONS:
        new: list[Json] = [{"role": "user", "content": question}]
        while new:
            response = await ask(new)
            new = []
            for item in response.output:
                if item.type == "function_call":
                    calls.append(json.loads(item.arguments))
                    output = {"call_id": item.call_id, "output": "17 degrees"}
                    new.append({"type": "function_call_output", **output})
        answers.append(response.output_text)
    return {"answers": answers, "calls": calls}


async def over_websocket(client: AsyncOpenAI) -> Json:
    """Through the session that routes events to lanes; each request brings what is new."""
    async with (
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        lane = session.lane("weather")
        parent: str | None = None

        async def ask(new: list[Json]) -> Any:
            nonlocal parent
            create: Any = {"type": "response.create", "input": new, "store": False, **SETTINGS}
            if parent is not None:
                create["previous_response_id"] = parent
            await lane.send(create)
            response = await lane.get_final_response()
            parent = response.id
            return response

        return await converse(ask)


async def respond(connection: Any, **create: Any) -> Any:
    """One response on the default lane."""
    await connection.response.create(**create)
    async for event in connection:
        if event.type == "response.completed":
            return event.response
        if event.type in ("error", "response.failed", "response.incomplete"):
            return event
    raise AssertionError("the connection ended")


async def over_a_restart(client: AsyncOpenAI) -> Json:
    """Stored responses go on from where they were on a new connection, if the old one is lost."""
    connection = await client.responses.connect().enter()
    parent: str | None = None

    async def ask(new: list[Json]) -> Any:
        nonlocal connection, parent
        create = {"input": new, "previous_response_id": parent, **SETTINGS}
        try:
            response = await respond(connection, **create)
        except ConnectionClosed as closed:
            if closed.rcvd is None or closed.rcvd.code != 1012:
                raise
            connection = await client.responses.connect().enter()
            response = await respond(connection, **create)
        parent = response.id
        return response

    told = await converse(ask)
    await connection.close()
    return told


async def refused(client: AsyncOpenAI) -> Json:
    """A model that there is not is an error event, and the connection goes on."""
    async with client.responses.connect() as connection:
        refusal = await respond(connection, model="nobody", input="Hello")
        response = await respond(connection, model="sim", input="Hello")
    return {"error": refusal.to_dict(), "answer": response.output_text}


async def over_http(client: AsyncOpenAI) -> Json:
    """Through the stream helper, which accumulates what comes; all is sent every time."""
    responses: Any = client.responses
    history: list[Any] = []

    async def ask(new: list[Json]) -> Any:
        history.extend(new)
        async with responses.stream(input=history, store=False, **SETTINGS) as stream:
            async for event in stream:
                if event.type == "response.output_text.done":
                    assert event.text
            response = await stream.get_final_response()
        history.extend(item.to_dict(mode="json") for item in response.output)
        return response

    return await converse(ask)


async def in_background(client: AsyncOpenAI) -> Json:
    """Each response is left in the middle of its stream, and its stream resumed from there."""
    responses: Any = client.responses
    parent: str | None = None

    async def ask(new: list[Json]) -> Any:
        nonlocal parent
        begun = await responses.create(
            input=new, previous_response_id=parent, background=True, stream=True, **SETTINGS
        )
        seen = []
        async for event in begun:
            seen.append(event)
            if len(seen) == 4:
                break
        await begun.close()
        parent = seen[0].response.id
        rest = await responses.retrieve(
            parent, stream=True, starting_after=seen[-1].sequence_number
        )
        seen.extend([event async for event in rest])
        assert list(range(len(seen))) == [event.sequence_number for event in seen]
        assert seen[-1].response == await responses.retrieve(parent)
        return seen[-1].response

    return await converse(ask)


async def in_a_conversation(client: AsyncOpenAI) -> Json:
    """The server keeps the conversation; its items are what was said, and go with it."""
    responses: Any = client.responses
    conversation = await client.conversations.create(metadata={"about": "weather"})
    said = []

    async def ask(new: list[Json]) -> Any:
        response = await responses.create(input=new, conversation=conversation.id, **SETTINGS)
        assert response.conversation.id == conversation.id
        said.extend([*(item.get("type", "message") for item in new)])
        said.extend([item.type for item in response.output])
        return response

    told = await converse(ask)
    kept = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
    assert said == [item.type for item in kept], (said, kept)
    deleted = await client.conversations.delete(conversation.id)
    assert deleted.deleted
    return told


async def main(base_url: str, way: str) -> None:
    """Ask and print."""
    ways: dict[str, Callable[[AsyncOpenAI], Awaitable[Json]]] = {
        "websocket": over_websocket,
        "restart": over_a_restart,
        "refused": refused,
        "http": over_http,
        "background": in_background,
        "conversation": in_a_conversation,
    }
    async with AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        told = await ways[way](client)
    print(json.dumps(told))


asyncio.run(main(*sys.argv[1:]))
