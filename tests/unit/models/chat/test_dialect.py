"""What a refusal teaches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnwire.models.chat.dialect import Dialect
from turnwire.models.chat.options import MessageRules

Json = dict[str, Any]

FIRST = Dialect(rules=MessageRules())
FIELDS: Json = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "temperature": 0.5,
    "max_tokens": 64,
    "reasoning_effort": "minimal",
}
NAMED: Json = {"type": "function", "function": {"name": "run"}}


def extra(*path: str) -> str:
    """How FastAPI says that it does not know a field."""
    return json.dumps([{"type": "extra_forbidden", "loc": ["body", *path], "msg": "Extra inputs"}])


def without(*names: str, **others: Any) -> Json:
    """The fields but for some, and with others."""
    return {**{key: FIELDS[key] for key in FIELDS if key not in names}, **others}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            without("max_tokens", max_completion_tokens=64),
            id="openai-limit",
        ),
        pytest.param(
            extra("stream_options", "include_usage"), without("stream_options"), id="mistral-usage"
        ),
        pytest.param(
            "Extra inputs are not permitted, field: 'stream_options'",
            without("stream_options"),
            id="fireworks-usage",
        ),
        pytest.param(
            "Unsupported parameter: 'parallel_tool_calls' is not supported with this model.",
            without("parallel_tool_calls"),
            id="openai-parallel",
        ),
        pytest.param(
            '`tool_choice` must either be a named tool, "auto", or "none".',
            without(tool_choice=NAMED),
            id="vllm-choice",
        ),
        pytest.param(
            'invalid reasoning value: \'minimal\' (must be "high", "medium", "low", "max")',
            without(reasoning_effort="low"),
            id="ollama-effort",
        ),
        pytest.param(
            'think value "minimal" is not supported for this model',
            without(reasoning_effort="low"),
            id="ollama-thinking",
        ),
    ],
)
def test_what_is_refused_is_said_in_another_way(words: str, expected: Json) -> None:
    """In the words that servers really use, and nothing else changes."""
    learned = FIRST.after(FIELDS, "run", words)
    assert learned is not None
    assert expected == learned.put(FIELDS, "run")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "Unsupported value: 'temperature' does not support 0.5 with this model.",
        "max_tokens is too large: 64. This model supports at most 32 completion tokens.",
        "Invalid 'tools[0].function.name': string does not match pattern.",
        "model 'x' does not support tools",
    ],
    ids=["nothing", "temperature", "limit", "name", "tools"],
)
def test_what_is_the_clients_to_hear(words: str) -> None:
    """Nothing is tried where a client could tell it apart."""
    assert FIRST.after(FIELDS, "run", words) is None


def test_a_limit_has_two_names_and_no_third() -> None:
    """Whoever knows neither refuses for good."""
    fields = {"max_completion_tokens": 64}
    learned = FIRST.after(fields, None, extra("max_completion_tokens"))
    assert learned is not None
    assert {"max_tokens": 64} == learned.put(fields, None)
    assert learned.after(fields, None, extra("max_tokens")) is None


@pytest.mark.parametrize(
    ("only_tool", "forms"), [("run", ["required", NAMED, "any"]), (None, ["required", "any"])]
)
def test_choices_are_tried_in_turn(only_tool: str | None, forms: list[Any]) -> None:
    """What means the same, until none is left; a choice that is not required stays."""
    words = "Input should be 'auto', 'none' or something else, in tool_choice"
    dialect: Dialect | None = FIRST
    tried = []
    while dialect is not None:
        tried.append(dialect.put(FIELDS, only_tool)["tool_choice"])
        dialect = dialect.after(FIELDS, only_tool, words)
    assert forms == tried
    assert FIRST.after({"tool_choice": "none"}, only_tool, words) is None


@pytest.mark.parametrize(
    ("asked", "levels"),
    [
        ("minimal", ["minimal", "low", None]),
        ("max", ["max", "xhigh", "high", None]),
        ("high", ["high", None]),
        ("none", ["none", None]),
    ],
)
def test_efforts_are_tried_down(asked: str, levels: list[str | None]) -> None:
    """The next level that more servers know, and at last none; other levels are not touched."""
    fields = {"reasoning_effort": asked}
    dialect: Dialect | None = FIRST
    tried = []
    while dialect is not None:
        tried.append(dialect.put(fields, None).get("reasoning_effort"))
        last, dialect = dialect, dialect.after(fields, None, "does not support thinking")
    assert levels == tried
    assert {"reasoning_effort": "medium"} == last.put({"reasoning_effort": "medium"}, None)


SCHEMA: Json = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}},
    }
}
OBJECT: Json = {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize(
    "words",
    [
        "This response_format type is unavailable now",
        "response_format.type `json_schema` is unavailable now",
        "'json_schema' is not supported with this model",
    ],
)
def test_a_schema_that_no_field_can_hold(words: str) -> None:
    """It is told in words, and any object asked for; once."""
    learned = FIRST.after(SCHEMA, None, words)
    assert learned is not None
    assert OBJECT == learned.put(SCHEMA, None)
    told = learned.instructions("Be brief.", SCHEMA)
    assert told is not None
    assert told.startswith("Be brief.\n\nAnswer with JSON")
    assert told.endswith('{"type":"object","properties":{}}')
    assert (learned.instructions(None, SCHEMA) or "").startswith("Answer with JSON")
    assert learned.instructions(None, OBJECT) is None
    assert FIRST.instructions(None, SCHEMA) is None
    assert learned.after(SCHEMA, None, words) is None


def test_an_object_that_only_a_schema_asks_for() -> None:
    """As LM Studio wants it; a schema stays what it is."""
    learned = FIRST.after(OBJECT, None, "'response_format.type' must be 'json_schema' or 'text'")
    assert learned is not None
    asked = learned.put(OBJECT, None)["response_format"]
    assert ("json_schema", {"type": "object"}) == (asked["type"], asked["json_schema"]["schema"])
    assert SCHEMA == learned.put(SCHEMA, None)


def test_a_schema_that_is_wrong_is_the_clients_to_hear() -> None:
    """One bad schema does not make all others words."""
    words = "Invalid schema for response_format 'n': 'oneOf' is not allowed."
    assert FIRST.after(SCHEMA, None, words) is None


@pytest.mark.parametrize(
    ("words", "rules"),
    [
        (
            "Jinja Exception: System message must be at the beginning.",
            MessageRules(later_system_role="user"),
        ),
        ("Unexpected role 'system' after role 'user'", MessageRules(later_system_role="user")),
        (
            "Conversation roles must alternate user/assistant/user/assistant/...",
            MessageRules(later_system_role="user", alternates=True),
        ),
        (
            "The `reasoning_content` in the thinking mode must be passed back to the API.",
            MessageRules(reasoning_field="reasoning_content"),
        ),
        (
            "Tool call id was call_0fypS1hVX but must be a-z, A-Z, 0-9, with a length of 9.",
            MessageRules(short_ids=True),
        ),
    ],
    ids=["qwen", "mistral", "gemma", "deepseek", "mistral-ids"],
)
def test_servers_that_insist_on_how_messages_are_written(words: str, rules: MessageRules) -> None:
    """Messages are written as they want them; that is tried once."""
    learned = FIRST.after({}, None, words)
    assert learned is not None
    assert rules == learned.rules
    assert learned.after({}, None, words) is None
