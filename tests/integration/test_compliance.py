"""What the compliance suite of Open Responses asks of a server, asked over each transport.

The suite (17 cases, 2026-04-24) sends requests and validates the answers against the schemas of
the specification. These are requests like its own, as a table, each over HTTP as JSON and as an
event stream and over WebSocket. All that is read here is judged anyway (`tests/judges`); what the
suite demands beyond that stands in the checks: above all, that none of it needs the leave that
the judges give to what is OpenAI's alone.

The table is also a page of the reference, docs/reference/compliance.md, which a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from msgspec import Struct
from tests.integration.recorder import Transcript
from tests.integration.serving import Serving
from tests.integration.wire import HttpConnection, Json, connect, open_websocket, read_sse
from tests.judges.schemas import open_responses

Transport = Literal["json", "sse", "websocket"]
TRANSPORTS: Final[tuple[Transport, ...]] = ("json", "sse", "websocket")
PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "compliance.md"

PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEATHER: Final[Json] = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a place.",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string", "description": "A city."}},
        "required": ["place"],
    },
}
PERSON: Final[Json] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def said(role: str, content: Any, **more: Any) -> Json:
    """A message of the input."""
    return {"type": "message", "role": role, "content": content, **more}


class Told(Struct):
    """What a server answered.

    Attributes:
        response: The response object.
        events: The events that led to it; none if it came as JSON.
    """

    response: Json
    events: list[Json]

    @property
    def types(self) -> list[str]:
        """The types of the output items."""
        return [item["type"] for item in self.response["output"]]

    @property
    def text(self) -> str:
        """What the messages say."""
        return "".join(
            part["text"]
            for item in self.response["output"]
            if item["type"] == "message"
            for part in item["content"]
        )


# --- checks ------------------------------------------------------------------------------------


def speaks(told: Told) -> None:
    """It is complete, and says something."""
    assert "completed" == told.response["status"]
    assert told.text


def calls(told: Told) -> None:
    """It calls the tool, with arguments that are JSON; the tool is echoed with all of its keys."""
    (call,) = [item for item in told.response["output"] if item["type"] == "function_call"]
    assert ("weather", "completed") == (call["name"], call["status"])
    assert isinstance(json.loads(call["arguments"])["place"], str)
    (tool,) = told.response["tools"]
    assert {"type", "name", "description", "parameters", "strict"} == set(tool)
    if told.events:
        of_call = [
            event["type"].removeprefix("response.")
            for event in told.events
            if event.get("item_id") == call["id"] or event.get("item", {}).get("id") == call["id"]
        ]
        first, *deltas, done, last = of_call
        assert ("output_item.added", "function_call_arguments.done", "output_item.done") == (
            *(first, done, last),
        )
        assert {"function_call_arguments.delta"} == set(deltas)


def thinks(told: Told) -> None:
    """A reasoning item goes before the message, and none of its text shows."""
    assert ["reasoning", "message"] == told.types
    thought = told.response["output"][0]
    assert {"type", "id", "summary"} <= set(thought)
    assert "content" not in thought
    assert told.response["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert "low" == told.response["reasoning"]["effort"]


def obeys(told: Told) -> None:
    """The text is JSON as the schema wants it, and the format is echoed."""
    speaks(told)
    person = json.loads(told.text)
    assert (str, int) == (type(person["name"]), type(person["age"]))
    assert PERSON == told.response["text"]["format"]["schema"]


def counts(told: Told) -> None:
    """Usage is whole, and adds up."""
    speaks(told)
    usage = told.response["usage"]
    assert min(usage["input_tokens"], usage["output_tokens"]) > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 == usage["input_tokens_details"]["cached_tokens"]
    assert 0 == usage["output_tokens_details"]["reasoning_tokens"]


def echoes(told: Told) -> None:
    """Every setting comes back as it was sent."""
    speaks(told)
    echoed = {name: told.response[name] for name in SETTINGS}
    assert {**SETTINGS, "text": {**SETTINGS["text"], "format": {"type": "text"}}} == echoed


def is_cut(told: Told) -> None:
    """At the limit of tokens it ends as incomplete, and says why."""
    assert "incomplete" == told.response["status"]
    assert {"reason": "max_output_tokens"} == told.response["incomplete_details"]
    assert "incomplete" == told.response["output"][-1]["status"]


SETTINGS: Final[Json] = {
    "temperature": 0.5,
    "top_p": 0.25,
    "presence_penalty": 1.0,
    "frequency_penalty": 0.5,
    "max_output_tokens": 500,
    "max_tool_calls": 3,
    "parallel_tool_calls": False,
    "truncation": "auto",
    "store": False,
    "instructions": "Be brief.",
    "metadata": {"a": "b"},
    "safety_identifier": "someone",
    "prompt_cache_key": "somewhere",
    "text": {"verbosity": "low"},
}


class Case(Struct, frozen=True):
    """One request that the suite makes, and what it wants to see.

    Attributes:
        name: What it is about.
        fields: Of the request; the model and `stream` are added.
        check: What must hold for the answer.
        asks: The same in a sentence, for the page.
    """

    name: str
    fields: Json
    check: Callable[[Told], None]
    asks: str


CASES: Final = (
    Case(
        "basic text",
        {"input": [said("user", "Say hello in three words.")]},
        speaks,
        "one message of the user is answered, completed, with every field of a response",
    ),
    Case(
        "system prompt",
        {"input": [said("system", "You are a pirate."), said("user", "Say hello.")]},
        speaks,
        "a system message in the input",
    ),
    Case(
        "developer prompt",
        {"input": [said("developer", "You are a pirate."), said("user", "Say hello.")]},
        speaks,
        "a developer message in the input",
    ),
    Case(
        "tool calling",
        {"input": [said("user", "How is the weather in Oslo?")], "tools": [WEATHER]},
        calls,
        "a function is called; streamed, with added, delta, done and done events; the echo of "
        "the tool has all five keys",
    ),
    Case(
        "image input",
        {
            "input": [
                said(
                    "user",
                    [
                        {"type": "input_text", "text": "What is this?"},
                        {"type": "input_image", "image_url": PIXEL},
                    ],
                )
            ]
        },
        speaks,
        "a message with text and an image as a data URL",
    ),
    Case(
        "multi-turn",
        {
            "input": [
                said("user", "My name is Alice."),
                said("assistant", "Hello Alice."),
                said("user", "What is my name?"),
            ]
        },
        speaks,
        "a history whose assistant message is a string",
    ),
    Case(
        "assistant history as parts",
        {
            "input": [
                said("user", "My name is Alice."),
                said("assistant", [{"type": "output_text", "text": "Hello Alice."}]),
                said(
                    "assistant",
                    [{"type": "output_text", "text": "Go on.", "annotations": []}],
                    id="msg_0",
                    status="completed",
                    phase="final_answer",
                ),
                said("user", "What is my name?", id=None, status=None),
            ]
        },
        speaks,
        "a history whose assistant messages are `output_text` parts, bare and in full",
    ),
    Case(
        "tool history",
        {
            "input": [
                said("user", "How is the weather in Oslo?"),
                {
                    "type": "function_call",
                    "call_id": "call_0",
                    "name": "weather",
                    "arguments": '{"place":"Oslo"}',
                },
                {"type": "function_call_output", "call_id": "call_0", "output": "Rain."},
            ],
            "tools": [WEATHER],
            "tool_choice": "none",
        },
        speaks,
        "a history with a call and its output",
    ),
    Case(
        "reasoning",
        {"input": [said("user", "Think.")], "reasoning": {"effort": "low"}},
        thinks,
        "a reasoning item goes before the message, and its text does not show",
    ),
    Case(
        "structured output",
        {
            "input": [said("user", "Somebody.")],
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "person",
                    "schema": PERSON,
                    "strict": True,
                }
            },
        },
        obeys,
        "`json_schema` is obeyed, and echoed",
    ),
    Case("usage", {"input": "Hello."}, counts, "usage is whole, and adds up; the input a string"),
    Case("echo", {"input": "Hello.", **SETTINGS}, echoes, "settings come back as they were sent"),
    Case(
        "incomplete",
        {"input": "Go on.", "max_output_tokens": 16},
        is_cut,
        "at `max_output_tokens` the response and its last item are incomplete",
    ),
)


async def tell(server: Serving, transport: Transport, **fields: Any) -> Told:
    """Create a response, and hold it against the specification without any leave."""
    if transport == "websocket":
        async with open_websocket(server.url) as socket:
            events = await socket.create(model="sim", **fields)
    else:
        async with connect(server.url) as wire:
            answer = await wire.create(model="sim", stream=transport == "sse", **fields)
        assert 200 == answer.status, answer.body
        if transport == "json":
            response = answer.json()
            assert [] == open_responses().complaints("Response", response)
            return Told(response, [])
        events = read_sse(answer.chunks)
    for event in events:
        assert [] == open_responses().event_complaints(event)
    return Told(Transcript(events, sse=transport == "sse").response, events)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_requests(server: Serving, case: Case, transport: Transport) -> None:
    """Each request of the table is answered as the suite wants it, over each transport."""
    case.check(await tell(server, transport, **case.fields))


# --- what takes more than one request ----------------------------------------------------------


async def refused_over_http(wire: HttpConnection, path: str, body: Json) -> tuple[int, Json]:
    """Status and error of a request that is refused."""
    answer = await wire.request("POST", path, body)
    return answer.status, answer.error()


async def one_after_the_other(server: Serving) -> None:
    """Two requests on one connection, the second not about the first, are both answered."""
    async with open_websocket(server.url) as socket:
        first = Transcript(await socket.create(model="sim", input="One."))
        second = Transcript(await socket.create(model="sim", input="Two."))
    assert first.id != second.id
    assert [None, None] == [one.response["previous_response_id"] for one in (first, second)]


async def no_store(server: Serving) -> None:
    """A response that is not stored is continued on its connection, with what is new."""
    async with open_websocket(server.url) as socket:
        first = Transcript(await socket.create(model="sim", input="I am Alice.", store=False))
        second = Transcript(
            await socket.create(
                model="sim", input="Who am I?", store=False, previous_response_id=first.id
            )
        )
    assert first.id == second.response["previous_response_id"]
    assert (
        second.response["usage"]["input_tokens"]
        > first.response["usage"]["input_tokens"] + first.response["usage"]["output_tokens"]
    )


async def stored(server: Serving) -> None:
    """A stored response is continued from another connection, and over HTTP."""
    async with open_websocket(server.url) as socket:
        first = Transcript(await socket.create(model="sim", input="I am Alice."))
    async with open_websocket(server.url) as socket:
        second = Transcript(
            await socket.create(model="sim", input="Who am I?", previous_response_id=first.id)
        )
    third = await tell(server, "json", input="And?", previous_response_id=second.id)
    assert second.id == third.response["previous_response_id"]


async def reconnect(server: Serving) -> None:
    """What was not stored is gone with its connection; the whole conversation goes on."""
    async with open_websocket(server.url) as socket:
        first = Transcript(await socket.create(model="sim", input="I am Alice.", store=False))
    async with open_websocket(server.url) as socket:
        refused = await socket.refused(
            model="sim", input="Who am I?", store=False, previous_response_id=first.id
        )
        assert [] == open_responses().complaints("WebSocketError", refused)
        assert (400, "previous_response_not_found") == (
            refused["status"],
            refused["error"]["code"],
        )
        history = [said("user", "I am Alice."), *first.output, said("user", "Who am I?")]
        resent = Transcript(await socket.create(model="sim", input=history, store=False))
    assert "completed" == resent.status


async def eviction(server: Serving) -> None:
    """A continuation that fails makes the connection forget its parent."""
    orphan = {"type": "function_call_output", "call_id": "call_unknown", "output": "x"}
    async with open_websocket(server.url) as socket:
        first = Transcript(await socket.create(model="sim", input="I am Alice.", store=False))
        later: Json = {"model": "sim", "store": False, "previous_response_id": first.id}
        wrong = await socket.refused(input=[orphan], **later)
        assert [] == open_responses().complaints("WebSocketError", wrong)
        assert (400, "input") == (wrong["status"], wrong["error"]["param"])
        gone = await socket.refused(input="Who am I?", **later)
        assert "previous_response_not_found" == gone["error"]["code"]
        again = Transcript(await socket.create(model="sim", input="I am Bob.", store=False))
    assert "completed" == again.status


async def unknown_parent(server: Serving) -> None:
    """A parent that nobody knows is refused in the shape of the specification."""
    async with open_websocket(server.url) as socket:
        refused = await socket.refused(model="sim", input="x", previous_response_id="resp_unknown")
    assert [] == open_responses().complaints("WebSocketError", refused)
    async with connect(server.url) as wire:
        body = {"model": "sim", "input": "x", "previous_response_id": "resp_unknown"}
        status, error = await refused_over_http(wire, "/v1/responses", body)
    assert (400, "previous_response_not_found", "previous_response_id") == (
        status,
        error["code"],
        error["param"],
    )
    assert (error["code"], error["param"]) == (refused["error"]["code"], refused["error"]["param"])


async def one_at_a_time(server: Serving) -> None:
    """Requests without lanes are answered one at a time, in their order."""
    async with open_websocket(server.url) as socket:
        for text in ("One.", "Two.", "Three."):
            await socket.send_create(model="sim", input=text, metadata={"n": text})
        answers = [Transcript(await socket.read_response()) for _ in range(3)]
    assert ["One.", "Two.", "Three."] == [one.response["metadata"]["n"] for one in answers]


async def transport_fields(server: Serving) -> None:
    """`background` cannot be asked for on a connection, which goes on."""
    async with open_websocket(server.url) as socket:
        refused = await socket.refused(model="sim", input="x", background=True)
        assert (400, "background") == (refused["status"], refused["error"]["param"])
        assert "completed" == Transcript(await socket.create(model="sim", input="x")).status


class Play(Struct, frozen=True):
    """Several requests, whose answers have to do with each other.

    Attributes:
        name: What it is about.
        play: Plays it.
        asks: What it wants to see, for the page.
    """

    name: str
    play: Callable[[Serving], Awaitable[None]]
    asks: str


PLAYS: Final = (
    Play("sequential", one_after_the_other, "several responses on one connection"),
    Play("in order", one_at_a_time, "requests sent at once are answered one at a time"),
    Play("continuation", stored, "a stored response is continued from anywhere"),
    Play("continuation with `store: false`", no_store, "from the connection's memory"),
    Play("reconnect", reconnect, "what was not stored is not found on a new connection"),
    Play("failed continuation", eviction, "it makes the connection forget the parent"),
    Play("unknown parent", unknown_parent, "refused with code and status, and over HTTP alike"),
    Play("fields of HTTP", transport_fields, "`background` is refused on a connection"),
)


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
async def test_plays(server: Serving, play: Play) -> None:
    """Each conversation of the table goes as the suite wants it."""
    await play.play(server)


# --- the page ----------------------------------------------------------------------------------


def rows(entries: Sequence[Case | Play]) -> list[str]:
    """The lines of a table of the page."""
    return [f"| {entry.name} | {entry.asks} |" for entry in entries]


def test_the_page() -> None:
    """The reference lists these cases, and no others."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    listed = [line for line in lines if line != "| case | asks that |"]
    assert rows((*CASES, *PLAYS)) == listed
