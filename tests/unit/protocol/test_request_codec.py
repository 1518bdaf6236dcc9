"""Bodies and frames."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import InvalidJson, InvalidRequest, WireError
from turnwire.protocol.client_events import Cancel, Create, FrameError, Inject, Steer, Unknown
from turnwire.protocol.request_codec import decode_create, decode_frame
from turnwire.protocol.requests import (
    ABSENT,
    CacheOptions,
    ConversationRef,
    CreateResponse,
    JsonObjectFormat,
    JsonSchemaFormat,
    PlainTextFormat,
    ReasoningConfig,
    TextConfig,
)

FULL: dict[str, Any] = {
    "model": "m",
    "input": [{"role": "user", "content": "hi"}],
    "instructions": "be brief",
    "previous_response_id": None,
    "conversation": {"id": "conv_1"},
    "store": False,
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "background": False,
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 16,
    "max_tool_calls": 1,
    "temperature": 2,
    "top_p": 0.5,
    "presence_penalty": -2,
    "frequency_penalty": 2.0,
    "top_logprobs": 20,
    "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    "tools": [{"type": "web_search"}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "max", "summary": "auto", "context": "all_turns", "mode": "pro"},
    "truncation": "auto",
    "metadata": {"k": "v"},
    "service_tier": "ultrafast",
    "prompt_cache_key": "key",
    "prompt_cache_options": {"mode": "explicit", "ttl": "12h", "prewarm": False},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s" * 128,
    "user": "u",
    "client_metadata": {"private": 1},
}


def test_every_field_arrives() -> None:
    """Each field of section 2 is read; unknown ones are ignored."""
    request = decode_create(msgspec.json.encode(FULL))
    scalars = [name for name in FULL if type(FULL[name]) in (str, bool, int, float)]
    plain = {name: getattr(request, name) for name in scalars if name != "tool_choice"}
    assert {name: FULL[name] for name in plain} == plain
    assert ConversationRef(id="conv_1") == request.conversation
    assert TextConfig(format=JsonObjectFormat(), verbosity="low") == request.text
    assert (
        ReasoningConfig(effort="max", summary="auto", context="all_turns", mode="pro")
        == request.reasoning
    )
    assert CacheOptions(mode="explicit", ttl="12h", prewarm=False) == request.prompt_cache_options
    assert FULL["include"] == request.include
    assert {"k": "v"} == request.metadata
    assert FULL["input"] == msgspec.json.decode(request.input)
    assert FULL["tools"] == msgspec.json.decode(request.tools)
    assert "auto" == msgspec.json.decode(request.tool_choice)


def test_null_is_absent() -> None:
    """A field may be null wherever it may be absent."""
    names = set(FULL) - {"client_metadata", "input", "tools", "tool_choice"}
    assert CreateResponse() == decode_create(msgspec.json.encode(dict.fromkeys(names)))


def test_raw_fields_tell_absent_from_null() -> None:
    """What stays raw is ABSENT if it was not sent."""
    request = decode_create(b'{"tools":null}')
    assert b"null" == bytes(request.tools)
    assert request.input is ABSENT


def test_generate_and_stream_id_are_no_part_of_http() -> None:
    """WebSocket fields in an HTTP body are ignored, whatever they hold."""
    request = decode_create(b'{"type":5,"stream_id":7,"generate":false}')
    assert request.generate is None
    assert request.warm_up is False


@pytest.mark.parametrize(
    ("given_format", "expected"),
    [
        ({"type": "text"}, PlainTextFormat()),
        (
            {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            JsonSchemaFormat(name="n", schema=msgspec.Raw(b'{"type":"object"}'), strict=True),
        ),
    ],
)
def test_text_formats(given_format: dict[str, Any], expected: object) -> None:
    """The format is one of three tagged objects."""
    request = decode_create(msgspec.json.encode({"text": {"format": given_format}}))
    assert request.text is not None
    assert expected == request.text.format


BAD_FIELDS = [
    ({"model": 5}, "invalid_type", "model"),
    ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
    ({"max_tool_calls": 0}, "integer_below_min_value", "max_tool_calls"),
    ({"temperature": 2.1}, "decimal_above_max_value", "temperature"),
    ({"top_p": -0.1}, "decimal_below_min_value", "top_p"),
    ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs"),
    ({"include": ["nothing"]}, "invalid_value", "include[0]"),
    ({"metadata": {"k" * 65: ""}}, "string_above_max_length", "metadata"),
    ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata"),
    ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_pairs", "metadata"),
    ({"safety_identifier": "s" * 129}, "string_above_max_length", "safety_identifier"),
    ({"conversation": {}}, "missing_required_parameter", "conversation.id"),
    ({"reasoning": {"effort": "huge"}}, "invalid_value", "reasoning.effort"),
    ({"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"),
    (
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        "missing_required_parameter",
        "text.format.name",
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}},
        "invalid_value",
        "text.format.name",
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": []}}},
        "invalid_type",
        "text.format.schema",
    ),
]


@pytest.mark.parametrize(("fields", "code", "param"), BAD_FIELDS)
def test_bad_fields(fields: dict[str, Any], code: str, param: str) -> None:
    """A field out of its range is named with its path, over HTTP and in a frame alike."""
    with pytest.raises(InvalidRequest) as over_http:
        decode_create(msgspec.json.encode(fields))
    with pytest.raises(FrameError) as in_frame:
        decode_frame(msgspec.json.encode({"type": "response.create", "stream_id": "a", **fields}))
    assert (code, param) == (over_http.value.code, over_http.value.param)
    assert (code, param) == (in_frame.value.error.code, in_frame.value.error.param)
    assert "a" == in_frame.value.stream_id


BROKEN = [
    b"",
    b"nonsense",
    b"[]",
    b'"text"',
    b'{"model":"m"',
    b'{"model":"\xff"}',
    b'{"tools":["\xff"]}',
    b'{"input":"\\ud800"}',
    b'{"input":' + b'{"a":' * 100_000,
    '{"model":"\ud800"}',
]


@pytest.mark.parametrize("document", BROKEN, ids=lambda document: repr(document[:20]))
def test_broken_documents(document: bytes | str) -> None:
    """What is no JSON object in UTF-8 is invalid_json, raw fields included; no lane hears it."""
    with pytest.raises(InvalidJson):
        decode_create(document)
    with pytest.raises(FrameError) as caught:
        decode_frame(document)
    assert ("invalid_json", None) == (caught.value.error.code, caught.value.stream_id)


def test_create_frame() -> None:
    """A create frame carries a request and its lane; `stream` is dropped."""
    frame = msgspec.json.encode({**FULL, "type": "response.create", "stream_id": "lane.1"})
    event = decode_frame(frame)
    assert isinstance(event, Create)
    assert "lane.1" == event.stream_id
    assert (None, None) == (event.request.stream, event.request.stream_options)
    assert FULL["input"] == msgspec.json.decode(event.request.input)
    assert "be brief" == event.request.instructions


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        ({"type": "response.cancel"}, Cancel()),
        (
            {"type": "response.cancel", "response_id": "r", "stream_id": "a"},
            Cancel("r", "a"),
        ),
        (
            {"type": "response.steer", "previous_response_id": "r", "input": "no"},
            Steer("r", msgspec.Raw(b'"no"')),
        ),
        (
            {"type": "response.inject", "response_id": "r", "input": []},
            Inject("r", msgspec.Raw(b"[]")),
        ),
        ({"type": "response.processed", "response_id": "r"}, Unknown("response.processed")),
        ({"stream_id": "a", "type": "", "model": 5}, Unknown("", "a")),
    ],
)
def test_other_frames(frame: dict[str, Any], event: object) -> None:
    """Every client event has its struct; types outside the protocol are Unknown."""
    assert event == decode_frame(msgspec.json.encode(frame))


@pytest.mark.parametrize("as_text", [True, False])
def test_text_and_bytes_are_one(as_text: bool) -> None:
    """A frame is the same as text and as UTF-8 bytes."""
    text = '{"input":"grüße","type":"response.create","stream_id":"ä"}'.replace('"ä"', '"a"')
    event = decode_frame(text if as_text else text.encode())
    assert isinstance(event, Create)
    assert '"grüße"'.encode() == bytes(event.request.input)


@pytest.mark.parametrize("stream_id", ["", "a b", "x" * 257, "a\n", "ä", None, 5, ["a"]])
@pytest.mark.parametrize("kind", ["response.create", "response.cancel", "response.future"])
def test_invalid_stream_id(kind: str, stream_id: object) -> None:
    """A stream_id that is none is refused before anything else, and is not echoed."""
    frame = {"model": 5, "type": kind, "stream_id": stream_id}
    if kind == "response.future":
        frame["type"] = 5
    with pytest.raises(FrameError) as caught:
        decode_frame(msgspec.json.encode(frame))
    error = caught.value.error
    assert ("invalid_stream_id", "stream_id", 400) == (error.code, error.param, error.status)
    assert caught.value.stream_id is None


@pytest.mark.parametrize("stream_id", ["a", "x" * 256, "A-z_0.9"])
def test_valid_stream_id(stream_id: str) -> None:
    """1 to 256 characters of the given alphabet name a lane."""
    frame = {"type": "response.create", "stream_id": stream_id}
    event = decode_frame(msgspec.json.encode(frame))
    assert isinstance(event, Create)
    assert stream_id == event.stream_id


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        ({}, "missing_required_parameter", "type"),
        ({"type": None}, "invalid_type", "type"),
        ({"type": 5}, "invalid_type", "type"),
        ({"type": "response.steer"}, "missing_required_parameter", "previous_response_id"),
        ({"type": "response.inject", "response_id": 1}, "invalid_type", "response_id"),
        ({"type": "response.cancel", "response_id": 1}, "invalid_type", "response_id"),
        ({"type": "response.create", "background": True}, "unsupported_parameter", "background"),
    ],
)
def test_refused_frames(frame: dict[str, Any], code: str, param: str) -> None:
    """A frame that cannot be served says why, and its lane is known to the caller."""
    with pytest.raises(FrameError) as caught:
        decode_frame(msgspec.json.encode({"stream_id": "a", **frame}))
    assert (code, param) == (caught.value.error.code, caught.value.error.param)
    assert "a" == caught.value.stream_id


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from([*CreateResponse.__struct_fields__, "type", "stream_id", "response_id"])
TYPES = st.sampled_from(["response.create", "response.cancel", "response.steer", "x"])


@given(
    JSON | st.dictionaries(FIELDS, JSON, max_size=6),
    st.none() | TYPES,
    st.integers(min_value=0, max_value=200),
)
def test_nothing_but_wire_errors(document: object, kind: str | None, cut: int) -> None:
    """Any JSON, whole or cut short, is a request or one of the protocol's errors."""
    if isinstance(document, dict) and kind:
        document["type"] = kind
    encoded = msgspec.json.encode(document)
    for text in (encoded, encoded[:cut]):
        assert isinstance(outcome_of_body(text), CreateResponse | WireError)
        assert isinstance(
            outcome_of_frame(text), Create | Cancel | Steer | Inject | Unknown | WireError
        )


def outcome_of_body(text: bytes) -> object:
    """What an HTTP body becomes."""
    try:
        return decode_create(text)
    except WireError as error:
        return error


def outcome_of_frame(text: bytes) -> object:
    """What a frame becomes."""
    try:
        return decode_frame(text)
    except FrameError as failure:
        return failure.error
