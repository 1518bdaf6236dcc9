"""Tools and tool choices."""

from __future__ import annotations

import re
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.responses import Tool
from pydantic import TypeAdapter

from turnwire.errors import InvalidRequest, WireError
from turnwire.protocol.requests import ABSENT
from turnwire.protocol.tool_codec import (
    MAX_TOOLS,
    decode_tool_choice,
    decode_tools,
    single_line,
)
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolChoice, ToolSet

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "$schema": "s"}


def encoded(value: object) -> Raw:
    """A Python value as raw JSON."""
    return Raw(msgspec.json.encode(value))


def decode(tools: list[Any]) -> ToolSet:
    """Decode a list of Python objects as `tools`."""
    return decode_tools(encoded(tools))


def function(name: str, **more: Any) -> dict[str, Any]:
    """A function tool."""
    return {"type": "function", "name": name, **more}


def namespace(name: str, *tools: dict[str, Any]) -> dict[str, Any]:
    """A namespace tool."""
    return {"type": "namespace", "name": name, "description": "d", "tools": list(tools)}


@pytest.mark.parametrize(
    ("sent", "strict"),
    [({}, True), ({"strict": None}, True), ({"strict": True}, True), ({"strict": False}, False)],
)
def test_strict(sent: dict[str, Any], strict: bool) -> None:
    """A function is strict unless it says false, and the echo says which."""
    tools = decode([function("f", **sent)])
    assert strict is tools.offered["f"].strict
    assert strict is msgspec.json.decode(tools.echo)[0]["strict"]


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"description": None, "parameters": None},
        {"description": "d", "parameters": SCHEMA, "defer_loading": True},
        {"parameters": SCHEMA, "output_schema": {}, "async": True},
    ],
)
def test_function_echo(sent: dict[str, Any]) -> None:
    """A function's echo has its four keys whatever was sent, and all else as sent."""
    (echo,) = msgspec.json.decode(decode([function("f", **sent)]).echo)
    defaults = {"description": None, "parameters": None, "strict": True}
    assert {**defaults, **function("f", **sent)} == echo


def test_offered_function() -> None:
    """What goes into the prompt is the function as sent, its schema to the byte."""
    raw = b'[{"type":"function","name":"f","description":"d","parameters":{ "type":"object" }}]'
    tools = decode_tools(Raw(raw))
    expected = OfferedTool(
        name="f", description="d", parameters=b'{ "type":"object" }', path="tools[0]"
    )
    assert {"f": expected} == tools.offered
    assert raw == tools.raw
    assert () == tools.left_out


@pytest.mark.parametrize(
    ("sent", "grammar"),
    [
        ({}, None),
        ({"format": None}, None),
        ({"format": {"type": "text"}}, None),
        (
            {"format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}},
            ("lark", "start: /a/"),
        ),
    ],
)
def test_custom(sent: dict[str, Any], grammar: tuple[str, str] | None) -> None:
    """A custom tool takes free text or obeys a grammar, and is echoed as sent."""
    tool = {"type": "custom", "name": "c", "description": "d", **sent}
    tools = decode([tool])
    offered = tools.offered["c"]
    assert ("custom", "d", grammar) == (offered.kind, offered.description, offered.grammar)
    assert [tool] == msgspec.json.decode(tools.echo)


def test_hosted_and_unknown_tools_are_left_out() -> None:
    """Tools that this server does not run are echoed as given, counted, and not offered."""
    others = [
        {"type": "web_search", "external_web_access": True},
        {"type": "acme:search", "n": 1},
        {"type": "tool_search"},
    ]
    tools = decode([others[0], function("f", strict=False), *others[1:]])
    assert ["f"] == list(tools.offered)
    assert ("web_search", "acme:search", "tool_search") == tools.left_out
    echo = msgspec.json.decode(tools.echo)
    assert others == [echo[0], *echo[2:]]


def test_unknown_tools_keep_their_bytes() -> None:
    """An unknown tool's numbers and spacing are echoed as they were."""
    unknown = b'{"type":"x", "n":1.50e3}'
    assert b"[" + unknown + b"]" == bytes(decode_tools(Raw(b"[ " + unknown + b" ]")).echo)


def test_functions_for_programs_only_are_left_out() -> None:
    """A function that the model itself may not call is not offered."""
    tools = decode(
        [
            function("a", allowed_callers=["programmatic"]),
            function("b", allowed_callers=["programmatic", "direct"]),
            function("c", allowed_callers=None),
        ]
    )
    assert ["b", "c"] == list(tools.offered)
    assert ("function",) == tools.left_out


@pytest.mark.parametrize(
    ("tools", "offered"),
    [
        ([namespace("n", function("f"))], [("n.f", "n", "f")]),
        ([function("f"), namespace("n", function("f"))], [("f", None, "f"), ("n.f", "n", "f")]),
        (
            [namespace("m", function("f")), namespace("n", function("f"), function("g"))],
            [("m.f", "m", "f"), ("n.f", "n", "f"), ("n.g", "n", "g")],
        ),
        (
            [namespace("m.x", function("f")), namespace("m", {"type": "custom", "name": "f"})],
            [("m.x.f", "m.x", "f"), ("m.f", "m", "f")],
        ),
        (
            [namespace("n", function("f")), namespace("n", function("g"))],
            [("n.f", "n", "f"), ("n.g", "n", "g")],
        ),
    ],
)
def test_namespaces_are_flattened(
    tools: list[Any], offered: list[tuple[str, str | None, str]]
) -> None:
    """A namespace's tools are offered under qualified names, and called by their own."""
    decoded = decode(tools)
    assert offered == [
        (name, tool.namespace, tool.call_name) for name, tool in decoded.offered.items()
    ]
    assert all(name == tool.name for name, tool in decoded.offered.items())
    namespaces = [tool for tool in tools if tool["type"] == "namespace"]
    echo = msgspec.json.decode(decoded.echo)
    assert namespaces == [tool for tool in echo if tool["type"] == "namespace"]


@pytest.mark.parametrize("sent", [{}, {"description": None}])
def test_a_namespace_is_described_in_the_echo(sent: dict[str, Any]) -> None:
    """The official types want a description, which clients may leave out."""
    tool = {"type": "namespace", "name": "n", "tools": [function("f")]}
    (echo,) = msgspec.json.decode(decode([{**tool, **sent}]).echo)
    assert {**tool, "description": ""} == echo


def test_namespaces_may_hold_hosted_tools() -> None:
    """A namespace's tool that cannot be offered is left out like any other."""
    tools = decode([namespace("n", {"type": "mcp"}, function("f"))])
    assert (["n.f"], ("mcp",)) == (list(tools.offered), tools.left_out)


@pytest.mark.parametrize("raw", [ABSENT, Raw(b""), Raw(b"null"), Raw(b"[]"), Raw(b"[ ]")])
def test_no_tools(raw: Raw) -> None:
    """Absent, null and empty are all no tools."""
    assert decode_tools(raw) is EMPTY_TOOL_SET


def test_equal_bytes_are_not_decoded_again() -> None:
    """The set of an earlier turn is returned itself if its bytes are equal."""
    known = decode([function("f")])
    assert decode_tools(Raw(bytes(known.raw)), known) is known
    assert decode_tools(Raw(known.raw + b" "), known) is not known
    assert decode_tools(ABSENT, known) is EMPTY_TOOL_SET


def test_tool_sets_hold_no_view_of_their_frame() -> None:
    """A kept tool set does not keep the frame that brought it."""
    hosted = {"type": "mcp", "server_label": "x"}
    frame = msgspec.json.encode([function("f", parameters=SCHEMA), hosted])
    before = sys.getrefcount(frame)
    tools = decode_tools(Raw(frame))
    assert tools.raw == frame
    choice = decode_tool_choice(encoded({"type": "function", "name": "f"}), tools)
    assert ("f",) == choice.allowed
    assert before == sys.getrefcount(frame)


BAD = [
    ({}, "invalid_type", "tools"),
    ([function(f"f{n}") for n in range(MAX_TOOLS + 1)], "array_above_max_length", "tools"),
    ([5], "invalid_type", "tools[0]"),
    ([{}], "missing_required_parameter", "tools[0].type"),
    ([{"type": 5}], "invalid_type", "tools[0].type"),
    ([{"type": "function", "function": {"name": "f"}}], "missing_required_parameter",
     "tools[0].name"),
    ([function("")], "invalid_value", "tools[0].name"),
    ([function("a.b")], "invalid_value", "tools[0].name"),
    ([function("a\n")], "invalid_value", "tools[0].name"),
    ([function("a" * 129)], "invalid_value", "tools[0].name"),
    ([function("f", parameters=[])], "invalid_type", "tools[0].parameters"),
    ([function("f", strict="yes")], "invalid_type", "tools[0].strict"),
    ([function("f"), function("g"), function("f")], "invalid_value", "tools[2].name"),
    ([function("f"), {"type": "custom", "name": "f"}], "invalid_value", "tools[1].name"),
    ([function("f", allowed_callers=[])], "array_below_min_length", "tools[0].allowed_callers"),
    ([{"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "peg",
       "definition": ""}}], "invalid_value", "tools[0].format.syntax"),
    ([namespace("a b")], "invalid_value", "tools[0].name"),
    ([{"type": "namespace", "name": "n"}], "missing_required_parameter", "tools[0].tools"),
    ([namespace("n", function("f"), function("f"))], "invalid_value", "tools[0].tools[1].name"),
    ([namespace("n", function("f")), namespace("n", function("f"))], "invalid_value",
     "tools[1].tools[0].name"),
    ([namespace("n", function("f", parameters=5))], "invalid_type",
     "tools[0].tools[0].parameters"),
]  # fmt: skip


@pytest.mark.parametrize(("tools", "code", "param"), BAD, ids=[f"{row[2]} {row[1]}" for row in BAD])
def test_bad_tools(tools: Any, code: str, param: str) -> None:
    """What is no tool is named with its path."""
    with pytest.raises(InvalidRequest) as caught:
        decode(tools)
    assert (code, param) == (caught.value.code, caught.value.param)


def test_as_many_tools_as_allowed() -> None:
    """The limit itself is allowed."""
    assert MAX_TOOLS == len(decode([function(f"f{n}") for n in range(MAX_TOOLS)]).offered)


TOOLS = decode(
    [
        function("f"),
        {"type": "custom", "name": "c"},
        namespace("m", function("x"), function("f"), function("y")),
        namespace("n", function("x")),
        {"type": "web_search"},
    ]
)


@pytest.mark.parametrize(
    ("choice", "mode", "allowed"),
    [
        (None, "auto", None),
        ("auto", "auto", None),
        ("none", "none", None),
        ("required", "required", None),
        ({"type": "function", "name": "f"}, "required", ("f",)),
        ({"type": "custom", "name": "c"}, "required", ("c",)),
        ({"type": "function", "name": "y"}, "required", ("m.y",)),
        ({"type": "function", "name": "m.f"}, "required", ("m.f",)),
        ({"type": "function", "name": "x"}, "required", ("m.x", "n.x")),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [
                    {"type": "function", "name": "f"},
                    {"type": "custom", "name": "c"},
                    {"type": "function", "name": "f"},
                ],
            },
            "auto",
            ("f", "c"),
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "y"}],
            },
            "required",
            ("m.y",),
        ),
    ],
)
def test_tool_choice(choice: object, mode: str, allowed: tuple[str, ...] | None) -> None:
    """A choice is a mode and the names it allows; it is echoed as given."""
    decoded = decode_tool_choice(encoded(choice), TOOLS)
    assert (mode, allowed) == (decoded.mode, decoded.allowed)
    assert (choice or "auto") == msgspec.json.decode(decoded.echo)


def test_allowed_tools_without_a_mode() -> None:
    """Its mode is auto, which the echo says, as readers want it."""
    choice = {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]}
    decoded = decode_tool_choice(Raw(msgspec.json.format(msgspec.json.encode(choice))), TOOLS)
    assert ("auto", ("f",)) == (decoded.mode, decoded.allowed)
    assert {**choice, "mode": "auto"} == msgspec.json.decode(decoded.echo)
    assert b"\n" not in bytes(decoded.echo)


@pytest.mark.parametrize("raw", [ABSENT, Raw(b""), Raw(b"null")])
def test_absent_choice(raw: Raw) -> None:
    """Absent and null are auto, with tools or without."""
    assert ToolChoice() == decode_tool_choice(raw, EMPTY_TOOL_SET)


BAD_CHOICES: list[tuple[Any, str, str]] = [
    (5, "invalid_type", "tool_choice"),
    ("any", "invalid_value", "tool_choice"),
    ({}, "missing_required_parameter", "tool_choice.type"),
    ({"type": "function"}, "missing_required_parameter", "tool_choice.name"),
    ({"type": "function", "name": "g"}, "invalid_value", "tool_choice"),
    ({"type": "function", "name": "c"}, "invalid_value", "tool_choice"),
    ({"type": "custom", "name": "f"}, "invalid_value", "tool_choice"),
    ({"type": "web_search"}, "unsupported_value", "tool_choice"),
    ({"type": "mcp", "server_label": "x"}, "unsupported_value", "tool_choice"),
    ({"type": "allowed_tools"}, "missing_required_parameter", "tool_choice.tools"),
    ({"type": "allowed_tools", "tools": [{}]}, "missing_required_parameter",
     "tool_choice.tools[0].type"),
    ({"type": "allowed_tools", "mode": "none", "tools": []}, "invalid_value", "tool_choice.mode"),
    ({"type": "allowed_tools", "mode": "auto", "tools": []}, "array_below_min_length",
     "tool_choice.tools"),
    ({"type": "allowed_tools", "mode": "auto",
      "tools": [{"type": "function", "name": "f"}] * 129}, "array_above_max_length",
     "tool_choice.tools"),
    ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]},
     "unsupported_value", "tool_choice"),
    ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]},
     "missing_required_parameter", "tool_choice.tools[0].name"),
]  # fmt: skip


@pytest.mark.parametrize(("choice", "code", "param"), BAD_CHOICES)
def test_bad_choices(choice: Any, code: str, param: str) -> None:
    """A choice that cannot be kept is a 400."""
    with pytest.raises(InvalidRequest) as caught:
        decode_tool_choice(encoded(choice), TOOLS)
    assert (code, param) == (caught.value.code, caught.value.param)


def test_required_needs_a_tool() -> None:
    """A call cannot be demanded where hosted tools are all there is."""
    with pytest.raises(InvalidRequest) as caught:
        decode_tool_choice(encoded("required"), decode([{"type": "web_search"}]))
    assert "tool_choice" == caught.value.param


def test_echo_fits_one_line() -> None:
    """Pretty-printed tools are echoed on one line, with every value as it was."""
    tool = {"type": "x", "a": "line\nbreak", "b": [1, {}]}
    pretty = msgspec.json.format(msgspec.json.encode([tool, function("f")]), indent=2)
    echo = bytes(decode_tools(Raw(pretty.replace(b"\n", b"\r\n"))).echo)
    assert [] == re.findall(rb"[\r\n]", echo)
    assert tool == msgspec.json.decode(echo)[0]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["type", "name", "strict", "parameters", "tools", "format", "mode"])
WORDS = st.sampled_from(["function", "custom", "namespace", "allowed_tools", "f", "auto"])
LIKELY = st.dictionaries(KEYS, JSON | WORDS, max_size=5)


@given(JSON | st.lists(LIKELY, max_size=3))
def test_nothing_but_wire_errors_for_tools(value: object) -> None:
    """Any JSON is a tool set, echoed in full, or one of the protocol's errors."""
    try:
        decoded: object = decode_tools(encoded(value))
    except WireError as error:
        decoded = error
    assert isinstance(decoded, ToolSet | InvalidRequest)
    if isinstance(decoded, ToolSet):
        sent = value if isinstance(value, list) else []
        assert len(sent) == len(msgspec.json.decode(decoded.echo))


@given(JSON | LIKELY)
def test_nothing_but_wire_errors_for_choices(value: object) -> None:
    """Any JSON is a choice or one of the protocol's errors."""
    try:
        decoded: object = decode_tool_choice(encoded(value), TOOLS)
    except WireError as error:
        decoded = error
    assert isinstance(decoded, ToolChoice | InvalidRequest)


@given(JSON, st.integers(min_value=0, max_value=4))
def test_single_line_keeps_the_value(value: object, indent: int) -> None:
    """Formatting on one line changes no value."""
    formatted = msgspec.json.format(msgspec.json.encode(value), indent=indent)
    assert value == msgspec.json.decode(single_line(formatted))


def test_echo_is_the_sdks() -> None:
    """The official library reads every echoed tool as a tool of the same type."""
    adapter: TypeAdapter[Any] = TypeAdapter(list[Tool])
    for sent, read in zip(
        msgspec.json.decode(TOOLS.echo),
        adapter.validate_json(bytes(TOOLS.echo)),
        strict=True,
    ):
        assert sent["type"] == read.type
