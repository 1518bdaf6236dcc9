"""Single requests, as JSON, as an event stream and over WebSocket, and the limits of fields."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.integration.compliance.stage import Told
from tests.integration.compliance.suite import Limit, Request
from tests.integration.recorder import check_logprobs
from tests.integration.wire import Json

__all__ = ["LIMITS", "REQUESTS", "WEATHER", "said"]

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
CLOCK: Final[Json] = {"type": "function", "name": "clock"}
PERSON: Final[Json] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
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
LONG_ARGUMENT: Final[Json] = {
    **CLOCK,
    "parameters": {
        "type": "object",
        "properties": {"zone": {"type": "string", "minLength": 200}},
        "required": ["zone"],
    },
}


def said(role: str, content: Any, **more: Any) -> Json:
    """A message of the input."""
    return {"type": "message", "role": role, "content": content, **more}


def called(call_id: str) -> Json:
    """A call of the input."""
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": "weather",
        "arguments": '{"place":"Oslo"}',
    }


def returned(call_id: str, **more: Any) -> Json:
    """What a call of the input brought."""
    return {"type": "function_call_output", "call_id": call_id, "output": "Rain.", **more}


def allowed(names: list[str], **more: Any) -> Json:
    """A choice among tools."""
    tools = [{"type": "function", "name": name} for name in names]
    return {"type": "allowed_tools", "tools": tools, **more}


# --- checks ------------------------------------------------------------------------------------


def speaks(told: Told) -> None:
    """It is complete, and says something."""
    assert "completed" == told.response["status"]
    assert told.text


def calls(told: Told) -> None:
    """It calls the tool, with arguments that are JSON; the tool is echoed with all of its keys."""
    (call,) = [item for item in told.output if item["type"] == "function_call"]
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


def calls_the_clock(told: Told) -> None:
    """It calls the second tool only, and echoes both."""
    assert {"clock"} == {item["name"] for item in told.output}
    assert ["weather", "clock"] == [tool["name"] for tool in told.response["tools"]]


def calls_once(told: Told) -> None:
    """It makes one call."""
    assert ["function_call"] == told.types
    assert told.response["parallel_tool_calls"] is False


def thinks(told: Told) -> None:
    """A reasoning item goes before the message, and none of its text shows."""
    assert ["reasoning", "message"] == told.types
    thought = told.output[0]
    assert {"type", "id", "summary"} <= set(thought)
    assert "content" not in thought
    assert told.response["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert "low" == told.response["reasoning"]["effort"]


def sums_thoughts_up(told: Told) -> None:
    """The reasoning has a summary, and its content sealed."""
    thinks(told)
    assert told.output[0]["summary"][0]["text"]
    assert told.output[0]["encrypted_content"]


def has_phases(told: Told) -> None:
    """A message before a call is commentary."""
    assert ["message", "function_call"] == told.types
    assert "commentary" == told.output[0]["phase"]


def obeys(told: Told) -> None:
    """The text is JSON as the schema wants it, and the format is echoed."""
    speaks(told)
    person = json.loads(told.text)
    assert (str, int) == (type(person["name"]), type(person["age"]))
    assert PERSON == told.response["text"]["format"]["schema"]


def is_json(told: Told) -> None:
    """The text is a JSON object."""
    speaks(told)
    assert isinstance(json.loads(told.text), dict)


def scores(told: Told) -> None:
    """Every token has its logprob, its bytes and two alternatives."""
    speaks(told)
    (part,) = told.output[0]["content"]
    assert {2} == {len(one["top_logprobs"]) for one in part["logprobs"]}
    check_logprobs(part)


def counts(told: Told) -> None:
    """Usage is whole, and adds up."""
    speaks(told)
    usage = told.response["usage"]
    assert min(usage["input_tokens"], usage["output_tokens"]) > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 == usage["output_tokens_details"]["reasoning_tokens"]


def echoes(told: Told) -> None:
    """Every setting comes back as it was sent."""
    speaks(told)
    echoed = {name: told.response[name] for name in SETTINGS}
    assert {**SETTINGS, "text": {**SETTINGS["text"], "format": {"type": "text"}}} == echoed


def is_cut(told: Told) -> None:
    """At the limit of tokens it ends as incomplete, says why, and its last item alone is cut."""
    assert "incomplete" == told.response["status"]
    assert {"reason": "max_output_tokens"} == told.response["incomplete_details"]
    assert told.response["completed_at"] is None
    *before, last = [item["status"] for item in told.output]
    assert ["completed"] * len(before) == before
    assert "incomplete" == last


def is_cut_in_a_call(told: Told) -> None:
    """The item that is cut is the call."""
    is_cut(told)
    assert ["function_call"] == told.types


# --- the tables --------------------------------------------------------------------------------

REQUESTS: Final = (
    Request(
        "basic text",
        {"input": [said("user", "Say hello in three words.")]},
        speaks,
        "one message of the user is answered, completed, with every field of a response",
        ("basic-response", "streaming-response", "websocket-response"),
    ),
    Request(
        "system prompt",
        {"input": [said("system", "You are a pirate."), said("user", "Say hello.")]},
        speaks,
        "a system message in the input",
        ("system-prompt",),
    ),
    Request(
        "developer prompt",
        {"input": [said("developer", "You are a pirate."), said("user", "Say hello.")]},
        speaks,
        "a developer message in the input",
    ),
    Request(
        "tool calling",
        {"input": [said("user", "How is the weather in Oslo?")], "tools": [WEATHER]},
        calls,
        "a function is called; streamed, with added, delta, done and done events; the echo of "
        "the tool has all five keys",
        ("tool-calling",),
    ),
    Request(
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
        ("image-input",),
    ),
    Request(
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
        ("multi-turn",),
    ),
    Request(
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
                ),
                said("assistant", [{"type": "refusal", "refusal": "No."}]),
                said("user", "What is my name?", id=None, status=None),
            ]
        },
        speaks,
        "a history whose assistant messages are `output_text` and `refusal` parts, bare and in "
        "full; `id` and `status` may be null",
    ),
    Request(
        "phases of the history",
        {
            "input": [
                said("assistant", "Let me see.", phase="commentary"),
                said("assistant", "It is four.", phase="final_answer"),
                said("user", "Again, please."),
            ]
        },
        speaks,
        "a history whose assistant messages have a `phase`",
        ("assistant-phase",),
    ),
    Request(
        "phases of the output",
        {"input": "Hello.", "tools": [WEATHER], "metadata": {"sim.phases": "true"}},
        has_phases,
        "what is said before a call has the phase `commentary`",
        ("response-output-phase-schema",),
    ),
    Request(
        "tool history",
        {
            "input": [
                said("user", "How is the weather in Oslo?"),
                called("call_0"),
                returned("call_0"),
            ],
            "tools": [WEATHER],
            "tool_choice": "none",
        },
        speaks,
        "a history with a call and its output; `tool_choice` `none`",
    ),
    Request(
        "required call",
        {"input": "Hello.", "tools": [WEATHER], "tool_choice": "required"},
        calls,
        "`tool_choice` `required`",
    ),
    Request(
        "named call",
        {
            "input": "Hello.",
            "tools": [WEATHER, CLOCK],
            "tool_choice": {"type": "function", "name": "clock"},
        },
        calls_the_clock,
        "`tool_choice` names a function",
    ),
    Request(
        "allowed tools",
        {
            "input": "Hello.",
            "tools": [WEATHER, CLOCK],
            "tool_choice": allowed(["clock"], mode="required"),
            "metadata": {"sim.parallel_calls": "3"},
        },
        calls_the_clock,
        "`allowed_tools` limits what is called, while every tool is echoed",
    ),
    Request(
        "allowed tools without a mode",
        {"input": "Hello.", "tools": [WEATHER, CLOCK], "tool_choice": allowed(["clock"])},
        calls_the_clock,
        "`mode` may be absent",
    ),
    Request(
        "one call",
        {
            "input": "Hello.",
            "tools": [WEATHER],
            "parallel_tool_calls": False,
            "metadata": {"sim.parallel_calls": "3"},
        },
        calls_once,
        "`parallel_tool_calls: false`",
    ),
    Request(
        "reasoning",
        {"input": [said("user", "Think.")], "reasoning": {"effort": "low"}},
        thinks,
        "a reasoning item goes before the message, and its text does not show",
    ),
    Request(
        "reasoning with a summary",
        {
            "input": "Think.",
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
        },
        sums_thoughts_up,
        "`summary` and `reasoning.encrypted_content`",
    ),
    Request(
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
    Request(
        "JSON",
        {"input": "Somebody, as JSON.", "text": {"format": {"type": "json_object"}}},
        is_json,
        "`json_object` is a JSON object",
    ),
    Request(
        "log probabilities",
        {"input": "Hello.", "include": ["message.output_text.logprobs"], "top_logprobs": 2},
        scores,
        "every token with its `logprob`, `bytes` and alternatives",
    ),
    Request("usage", {"input": "Hello."}, counts, "usage is whole, and adds up; input a string"),
    Request(
        "echo", {"input": "Hello.", **SETTINGS}, echoes, "settings come back as they were sent"
    ),
    Request(
        "incomplete",
        {"input": "Go on.", "max_output_tokens": 16},
        is_cut,
        "at `max_output_tokens` the response and its last item are incomplete",
    ),
    Request(
        "incomplete call",
        {
            "input": "Go on.",
            "max_output_tokens": 16,
            "tools": [LONG_ARGUMENT],
            "tool_choice": "required",
        },
        is_cut_in_a_call,
        "the same in the middle of a call",
    ),
)


def _tools(number: int) -> Json:
    """A choice among so many tools."""
    return {"tools": [CLOCK], "tool_choice": allowed(["clock"] * number, mode="auto")}


LIMITS: Final = (
    Limit("max_output_tokens", "16 or more", {"max_output_tokens": 16}, {"max_output_tokens": 15}),
    Limit("max_tool_calls", "1 or more", {"max_tool_calls": 1}, {"max_tool_calls": 0}),
    Limit("top_logprobs", "0 to 20", {"top_logprobs": 20}, {"top_logprobs": 21}),
    Limit(
        "metadata",
        "at most 16 pairs",
        {"metadata": {str(n): "x" for n in range(16)}},
        {"metadata": {str(n): "x" for n in range(17)}},
    ),
    Limit("tool_choice.tools", "1 to 128 entries", _tools(128), _tools(129)),
    Limit(
        "tools[0].name",
        "of letters, digits, `_` and `-`",
        {"tools": [{**CLOCK, "name": "A-z_0"}]},
        {"tools": [{**CLOCK, "name": "a b"}]},
    ),
    Limit(
        "input[0].call_id",
        "1 to 64 characters",
        {"input": [called("c" * 64), returned("c" * 64)]},
        {"input": [called("c" * 65), returned("c" * 65)]},
    ),
    Limit("include[0]", "one of those there are", {"include": []}, {"include": ["everything"]}),
)
