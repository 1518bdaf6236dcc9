"""Tools and settings that a history brings with it, and references to what it holds."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from openai import AsyncOpenAI
from tests.integration.recorder import Transcript, essence
from tests.integration.serving import Serving
from tests.integration.wire import HttpConnection, Json, WebSocketConnection

USER: Final[Json] = {"role": "user", "content": "Go."}
SEALED: Final[Json] = {"include": ["reasoning.encrypted_content"]}
TALK: Final[Json] = {"model": "sim", "metadata": {"sim.output_tokens": "9"}}


def function(name: str) -> Json:
    """A function with one argument."""
    schema = {
        "type": "object",
        "properties": {"path": {"enum": ["a.py", "b.py"]}},
        "required": ["path"],
        "additionalProperties": False,
    }
    return {"type": "function", "name": name, "parameters": schema}


def adding(*tools: Json) -> Json:
    """An item that adds tools."""
    return {"type": "additional_tools", "role": "developer", "tools": list(tools)}


def update(**fields: Any) -> Json:
    """An item that changes settings."""
    return {"type": "configuration_update", **fields}


def named(name: str) -> Json:
    """A choice of one function."""
    return {"type": "function", "name": name}


def outputs(response: Json) -> list[Json]:
    """Answers to its calls."""
    return [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
        for item in response["output"]
        if item["type"] == "function_call"
    ]


class Talk:
    """One conversation in four ways: over a socket, HTTP and a conversation, and resent."""

    def __init__(self, http: HttpConnection, websocket: WebSocketConnection) -> None:
        self._http = http
        self._websocket = websocket
        self._last: dict[str, Json] = {}
        self._conversation: Json = {}
        self.history: list[Json] = []

    async def say(self, *items: Json, answer: bool = False, **settings: Any) -> Json:
        """Add items, in each way; all of them must be told the same. Returns one answer.

        Args:
            answer: Put outputs for the calls of the response before in front.
        """
        if not self._conversation:
            made = await self._http.request("POST", "/v1/conversations", {})
            self._conversation = {"conversation": made.json()["id"]}
        fields = {**TALK, **settings}
        new = {
            way: [*(outputs(last) if answer else []), *items] for way, last in self._last.items()
        }
        self.history += new.get("socket", list(items))
        parents = {way: {"previous_response_id": self._last[way]["id"]} for way in self._last}
        told: dict[str, Json] = {}
        for way in ("socket", "http", "conversation", "resent"):
            given = {"input": new.get(way, list(items)), **parents.get(way, {})}
            if way == "conversation":
                given = {"input": given["input"], **self._conversation}
            elif way == "resent":
                given = {"input": self.history, "store": False}
            if way == "socket":
                events = await self._websocket.create(**fields, **given)
                told[way] = Transcript(events).response
            else:
                answered = await self._http.create(**fields, **given)
                assert 200 == answered.status, answered.body
                told[way] = answered.json()
        first = told["socket"]
        for response in told.values():
            assert essence(first) == essence(response)
            assert first["usage"]["input_tokens"] == response["usage"]["input_tokens"]
            for name in ("tools", "tool_choice", "text", "reasoning"):
                assert first[name] == response[name]
        self._last = {way: told[way] for way in ("socket", "http", "conversation")}
        self.history += first["output"]
        return first


@pytest.fixture
def talk(http: HttpConnection, websocket: WebSocketConnection) -> Talk:
    """A conversation that has not begun."""
    return Talk(http, websocket)


def kinds(response: Json) -> list[str]:
    """The types of its output items."""
    return [item["type"] for item in response["output"]]


def called(response: Json) -> list[str]:
    """The names of what it calls."""
    return [item["name"] for item in response["output"] if "name" in item]


async def test_tools_in_the_middle_of_a_history(server: Serving, talk: Talk) -> None:
    """Tools that are added can be called and chosen from then on, beside the request's own."""
    own: Any = {"tools": [function("own")]}
    assert ["own"] == called(await talk.say(USER, **own))
    added = adding(function("late"), {"type": "web_search"})
    assert "message" in kinds(await talk.say(added, answer=True, **own))
    assert 4 == server.count("tools_left_out_total", type="web_search")
    chosen = await talk.say(USER, **own, tool_choice=named("late"))
    assert ["late"] == called(chosen)
    assert json.loads(chosen["output"][0]["arguments"])["path"] in ("a.py", "b.py")
    assert ["own"] == [tool["name"] for tool in chosen["tools"]]
    form = {"type": "grammar", "syntax": "lark", "definition": 'start: "+"+ "x"'}
    patch = {"type": "custom", "name": "patch", "format": form}
    await talk.say(adding(patch), answer=True, tool_choice="none")
    only = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "custom", "name": "patch"}],
    }
    last = await talk.say(USER, tool_choice=only)
    assert ["patch"] == called(last)
    assert set(last["output"][0]["input"]) == {"+", "x"}
    # The request's own tools went away once; else only what was new was rendered.
    assert 0 == server.count("context_render_total", mode="full", reason="preamble")
    assert server.count("context_render_total", mode="append", reason="") >= 3


async def test_added_tools_that_cannot_be(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """A name that is taken, a tool that means nothing and a choice before its time are refused."""
    late = adding(function("late"))
    wrong = {"type": "function", "name": "w", "parameters": {"type": "nothing"}}
    deep = {
        "type": "custom",
        "name": "c",
        "format": {"type": "grammar", "syntax": "lark", "definition": "x"},
    }
    for fields, param in (
        ({"input": [USER, late, late]}, "input[2].tools[0].name"),
        ({"input": [USER, late], "tools": [function("a"), function("late")]}, "tools[1].name"),
        ({"input": [USER, adding(function("a"), wrong)]}, "input[1].tools[1].parameters"),
        ({"input": [late, USER, adding(deep)]}, "input[2].tools[0].format.definition"),
        ({"input": [USER], "tool_choice": named("late")}, "tool_choice"),
        ({"input": [{**late, "role": "user"}]}, "input[0].role"),
        ({"input": [adding({"type": "function"})]}, "input[0].tools[0].name"),
    ):
        answer = await http.create(**TALK, **fields)
        event = await websocket.refused(**TALK, **fields)
        assert (400, param) == (answer.status, answer.error()["param"])
        assert (400, param) == (event["status"], event["error"]["param"])
    first = Transcript(
        await websocket.create(**TALK, input=[late, USER], tool_choice="none")
    ).response
    again = await websocket.refused(**TALK, input=[late], previous_response_id=first["id"])
    assert "input[0].tools[0].name" == again["error"]["param"]


async def test_a_history_changes_effort_and_format(talk: Talk) -> None:
    """An update holds until the next one and wins over the request, which shows what holds."""
    # What was thought comes back only sealed.
    low: Any = {"reasoning": {"effort": "low"}, **SEALED}
    assert ["reasoning", "message"] == kinds(await talk.say(USER, **low))
    off = await talk.say(update(reasoning={"effort": "none"}), USER, **low)
    assert (["message"], "none") == (kinds(off), off["reasoning"]["effort"])
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"],
              "additionalProperties": False}  # fmt: skip
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    await talk.say(update(text={"format": form}))
    shaped = await talk.say(USER, text={"format": {"type": "text"}, "verbosity": "low"}, **SEALED)
    assert json.loads(shaped["output"][-1]["content"][0]["text"])["n"] in (1, 2)
    assert ({**form, "description": None}, "low") == (
        shaped["text"]["format"],
        shaped["text"]["verbosity"],
    )
    plain = update(reasoning={"effort": "high"}, text={"format": {"type": "text"}})
    both = await talk.say(plain, **SEALED)
    assert (["reasoning", "message"], "high") == (kinds(both), both["reasoning"]["effort"])
    assert {"type": "text"} == both["text"]["format"]
    own = await talk.say(update(reasoning={}), USER, reasoning={"effort": "minimal"})
    assert "minimal" == own["reasoning"]["effort"]


async def test_an_update_costs_no_token(http: HttpConnection) -> None:
    """What changes settings is not in the prompt, which keeps its cached prefix."""
    plain = (await http.create(**TALK, input=[USER])).json()
    updated = (await http.create(**TALK, input=[update(reasoning={"effort": "none"}), USER])).json()
    assert plain["usage"]["input_tokens"] == updated["usage"]["input_tokens"]
    assert essence(plain) == essence(updated)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input[1]"),
        ({"reasoning": None, "text": None}, "input[1]"),
        ({"reasoning": {"effort": "much"}}, "input[1].reasoning.effort"),
        ({"text": {}}, "input[1].text.format"),
        ({"text": {"format": {"type": "xml"}}}, "input[1].text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "x"}}}},
         "input[1].text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": 5}}},
         "input[1].text.format.schema"),
    ],
)  # fmt: skip
async def test_updates_that_mean_nothing(
    http: HttpConnection, websocket: WebSocketConnection, fields: Json, param: str
) -> None:
    """An update that sets nothing, or what there is not, is a 400 at its place."""
    sent = [USER, update(**fields)]
    answer = await http.create(**TALK, input=sent)
    event = await websocket.refused(**TALK, input=sent)
    assert (400, param) == (answer.status, answer.error()["param"])
    assert (400, param) == (event["status"], event["error"]["param"])


async def test_the_official_client_sends_and_lists_them(client: AsyncOpenAI) -> None:
    """Both items go through the library's types, and come back listed with ids."""
    sent: Any = [USER, adding(function("late")), update(reasoning={"effort": "low"})]
    made = await client.responses.create(**TALK, input=sent)
    assert ["reasoning", "function_call"] == [item.type for item in made.output]
    assert made.reasoning is not None
    assert "low" == made.reasoning.effort
    listed = [item async for item in client.responses.input_items.list(made.id, order="asc")]
    assert ["message", "additional_tools", "configuration_update"] == [one.type for one in listed]
    assert ["msg_", "at_", "cu_"] == [
        (one.id or "")[: (one.id or "").index("_") + 1] for one in listed
    ]


@pytest.mark.parametrize("reference", [{"id": "ID"}, {"id": "ID", "type": None}])
async def test_a_reference_needs_its_id_only(
    http: HttpConnection, websocket: WebSocketConnection, reference: Json
) -> None:
    """An object with an id and nothing else is a reference, resolved or a 404."""
    first = Transcript(await websocket.create(**TALK, input=[USER], store=False)).response
    known = {**reference, "id": first["output"][0]["id"]}
    said = Transcript(
        await websocket.create(
            **TALK, input=[known, USER], previous_response_id=first["id"], store=False
        )
    ).response
    assert "completed" == said["status"]
    # Another lane, and no parent: the connection holds the item all the same.
    elsewhere = await websocket.create(**TALK, input=[USER, known], stream_id="other")
    assert "completed" == Transcript(elsewhere, stream_id="other").response["status"]
    unknown = {**reference, "id": "msg_0"}
    answer = await http.create(**TALK, input=[USER, unknown])
    assert (404, "not_found", "input") == (
        answer.status,
        answer.error()["code"],
        answer.error()["param"],
    )
    assert "Item with id 'msg_0' not found." == answer.error()["message"]
    event = await websocket.refused(**TALK, input=[unknown])
    assert (404, "input") == (event["status"], event["error"]["param"])


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "item_reference"}, "input[1].id"),
        ({"type": "item_reference", "id": None}, "input[1].id"),
        ({"type": "item_reference", "id": 5}, "input[1].id"),
        ({"id": "msg_0", "content": "x"}, "input[1].type"),
        ({"type": None}, "input[1].type"),
    ],
)
async def test_what_is_no_reference(http: HttpConnection, item: Json, param: str) -> None:
    """Without an id, or with more than that, it is a 400."""
    answer = await http.create(**TALK, input=[USER, item])
    assert (400, param) == (answer.status, answer.error()["param"])
