"""Tools as functions of chat."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from turnwire.errors import InvalidRequest
from turnwire.models.chat.toolbox import NO_TOOLS, Toolbox, Toolboxes
from turnwire.protocol.codec import decode_tool_choice, decode_tools
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice

Json = dict[str, Any]

SCHEMA: Json = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ: Json = {
    "type": "function",
    "name": "read",
    "description": "Read.",
    "parameters": SCHEMA,
    "strict": True,
}
RUN: Json = {"type": "function", "name": "run", "parameters": SCHEMA}
STOP: Json = {"type": "function", "name": "stop"}
NOTE: Json = {
    "type": "custom",
    "name": "note",
    "format": {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"},
}
SPACE: Json = {"type": "namespace", "name": "mcp.git", "tools": [{**READ, "name": "log"}]}
ALL: list[Json] = [READ, RUN, STOP, NOTE, SPACE]


def box(tools: list[Json], choice: Any = "auto", *, sends_strict: bool = False) -> Toolbox:
    tool_set = decode_tools(Raw(json.dumps(tools).encode()))
    chosen = decode_tool_choice(Raw(json.dumps(choice).encode()), tool_set)
    return Toolboxes(sends_strict=sends_strict).of(tool_set, chosen)


def functions(made: Toolbox) -> list[Json]:
    return [entry["function"] for entry in json.loads(made.encoded)]


def test_every_kind_is_a_function() -> None:
    """Schemas pass as they are, custom tools take one string, and no name has a dot."""
    made = box(ALL)
    read, run, stop, note, log = functions(made)
    assert {"name": "read", "description": "Read.", "parameters": SCHEMA} == read
    assert {"name": "run", "parameters": SCHEMA} == run
    assert {"name": "stop", "parameters": {"type": "object", "properties": {}}} == stop
    assert ["input"] == note["parameters"]["required"]
    assert "regex grammar:\n[a-z]+" in note["parameters"]["properties"]["input"]["description"]
    assert "mcp__git__log" == log["name"]
    assert "mcp.git.log" == made.tools["mcp__git__log"].name
    assert None is made.choice


def test_strict_is_sent_where_it_is_wanted() -> None:
    """The flag goes out only if the endpoint knows it; who asked in so many words is checked."""
    sent = functions(box([READ, RUN], sends_strict=True))
    assert [True, True] == [entry["strict"] for entry in sent]
    assert all("strict" not in entry for entry in functions(box([READ, RUN])))
    assert {"read": SCHEMA, "mcp__git__log": SCHEMA} == box(ALL).strict


@pytest.mark.parametrize(
    ("choice", "sent", "names", "callable_"),
    [
        ("auto", None, ["read", "run"], ["read", "run"]),
        ("none", "none", ["read", "run"], []),
        ("required", "required", ["read", "run"], ["read", "run"]),
        (
            {"type": "function", "name": "run"},
            "required",
            ["run"],
            ["run"],
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "run"}],
            },
            None,
            ["run"],
            ["run"],
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [
                    {"type": "function", "name": "run"},
                    {"type": "function", "name": "read"},
                ],
            },
            "required",
            ["read", "run"],
            ["read", "run"],
        ),
    ],
    ids=["auto", "none", "required", "named", "allowed-auto", "allowed-required"],
)
def test_choices(choice: Any, sent: Any, names: list[str], callable_: list[str]) -> None:
    """What chat can say is said; of allowed tools only those are sent, and only they count."""
    made = box([READ, RUN], choice)
    assert sent == made.choice
    assert names == [entry["name"] for entry in functions(made)]
    assert callable_ == list(made.tools)
    assert (names[0] if len(names) == 1 else None) == made.only_tool


def test_names_that_collide_are_refused() -> None:
    """A function and a namespace's tool cannot share what chat calls them."""
    with pytest.raises(InvalidRequest, match="rename one") as raised:
        box([{**RUN, "name": "mcp__git__log"}, SPACE])
    assert "tools" == raised.value.param


def test_a_box_is_made_once() -> None:
    """Equal tools and choices give the same box; no tools give the empty one."""
    boxes = Toolboxes(sends_strict=False)
    raw = json.dumps([READ]).encode()
    one = boxes.of(decode_tools(Raw(raw)), ToolChoice())
    assert one is boxes.of(decode_tools(Raw(raw)), ToolChoice())
    assert one is not boxes.of(decode_tools(Raw(raw)), ToolChoice(mode="required"))
    assert NO_TOOLS is boxes.of(EMPTY_TOOL_SET, ToolChoice())
