"""The response object as it begins."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from openai.types.responses import Response as SdkResponse

from turnwire.errors import InvalidJson, InvalidRequest, WireError
from turnwire.protocol.echo import echo
from turnwire.protocol.event_codec import encode_response
from turnwire.protocol.request_codec import decode_create
from turnwire.protocol.tool_codec import decode_tool_choice, decode_tools

DEFAULTS: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 5,
    "completed_at": None,
    "status": "in_progress",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": "resolved",
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "auto",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "truncation": "disabled",
    "usage": None,
    "user": None,
    "metadata": {},
}


def echoed(body: bytes) -> Any:
    """The JSON of the response that a body begins."""
    request = decode_create(body)
    tools = decode_tools(request.tools)
    choice = decode_tool_choice(request.tool_choice, tools)
    response = echo(request, tools, choice, id="resp_1", created_at=5, model="resolved")
    encoded = encode_response(response)
    assert b"\n" not in encoded
    return msgspec.json.decode(encoded) if len(encoded) < 5_000 else {}


def test_defaults() -> None:
    """A request that says nothing is echoed with the defaults of section 2."""
    assert DEFAULTS == echoed(b'{"model":"asked"}')


SCHEMA: dict[str, Any] = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
FUNCTION: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ({"temperature": 0, "top_p": 0, "presence_penalty": 1, "frequency_penalty": -1}, {}),
        ({"store": False, "background": True, "parallel_tool_calls": False}, {}),
        ({"instructions": "", "user": "u", "safety_identifier": "s"}, {}),
        ({"max_output_tokens": 20, "max_tool_calls": 3, "top_logprobs": 2}, {}),
        ({"truncation": "auto", "previous_response_id": "resp_0"}, {}),
        ({"metadata": {"a": "b"}, "prompt_cache_key": "k"}, {}),
        ({"prompt_cache_retention": "24h"}, {}),
        ({"prompt_cache_retention": "in-memory"}, {"prompt_cache_retention": "in_memory"}),
        ({"service_tier": "flex"}, {"service_tier": "auto"}),
        ({"conversation": {"id": "conv_1"}}, {}),
        ({"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}}),
        ({"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "low", "summary": None}}),
        (
            {"reasoning": {"generate_summary": "concise", "context": "auto", "mode": "pro"}},
            {
                "reasoning": {
                    "effort": None,
                    "summary": "concise",
                    "context": "all_turns",
                    "mode": "pro",
                }
            },
        ),
        (
            {"prompt_cache_options": {"prewarm": True}},
            {"prompt_cache_options": {"mode": "implicit", "ttl": "30m"}},
        ),
        (
            {"prompt_cache_options": {"mode": "explicit", "comparison_response_id": "resp_0"}},
            {
                "prompt_cache_options": {
                    "mode": "explicit",
                    "ttl": "30m",
                    "comparison_response_id": "resp_0",
                }
            },
        ),
        (
            {"text": {"verbosity": "low"}},
            {"text": {"format": {"type": "text"}, "verbosity": "low"}},
        ),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"text": {"format": {"type": "json_object"}, "verbosity": "medium"}},
        ),
        (
            {"text": {"format": SCHEMA}},
            {
                "text": {
                    "format": {**SCHEMA, "description": None, "strict": False},
                    "verbosity": "medium",
                }
            },
        ),
        (
            {"text": {"format": {**SCHEMA, "description": "d", "strict": True}}},
            {
                "text": {
                    "format": {**SCHEMA, "description": "d", "strict": True},
                    "verbosity": "medium",
                }
            },
        ),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
            {
                "tools": [{**FUNCTION, "description": None, "strict": True}],
                "tool_choice": {"type": "function", "name": "f"},
            },
        ),
    ],
)
@pytest.mark.parametrize("indent", [0, 2])
def test_what_was_asked_is_shown(sent: dict[str, Any], shown: dict[str, Any], indent: int) -> None:
    """Each field is echoed as sent, or as the protocol completes it, on one line."""
    body = msgspec.json.format(msgspec.json.encode(sent), indent=indent)
    response = echoed(body)
    assert {**DEFAULTS, **sent, **shown} == response
    read = SdkResponse.model_validate(response)
    assert response["id"] == read.id


def test_nesting_near_the_limit() -> None:
    """However deep a schema is nested, it is echoed or refused as JSON; nothing else escapes."""
    limit = sys.getrecursionlimit()
    outcomes = set()
    for depth in range(limit - 120, limit + 5):
        schema = b'{"a":\n' * depth + b"1" + b"}" * depth
        parts = [
            b'"text":{"format":{"type":"json_schema","name":"n","schema":' + schema + b"}}",
            b'"tools":[{"type":"function","name":"f","parameters":' + schema + b"}]",
            b'"tools":[{"type":"x","y":' + schema + b"}]",
            b'"truncation":' + schema,
        ]
        for part in parts:
            try:
                outcomes.add(type(echoed(b"{" + part + b"}")))
            except WireError as error:
                outcomes.add(type(error))
    assert {dict, InvalidJson, InvalidRequest} == outcomes


def test_the_echo_holds_no_view_of_the_body() -> None:
    """A response lives longer than the frame that asked for it."""
    body = msgspec.json.encode(
        {"text": {"format": SCHEMA}, "tools": [FUNCTION, {"type": "mcp"}], "metadata": {"a": "b"}}
    )
    before = sys.getrefcount(body)
    request = decode_create(body)
    tools = decode_tools(request.tools)
    choice = decode_tool_choice(Raw(b'"auto"'), tools)
    response = echo(request, tools, choice, id="resp_1", created_at=5, model="m")
    del request
    assert {"a": "b"} == response.metadata
    assert before == sys.getrefcount(body)
