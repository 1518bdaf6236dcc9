"""Tools as chat knows them: functions, by names without a dot.

A custom tool is a function with one string, `input`; a namespace's tool is called
`namespace__name`, because hosted APIs take `[a-zA-Z0-9_-]` only. Made once for each set of tools.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.json import encode

from turnwire.errors import InvalidRequest
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet

__all__ = ["NO_TOOLS", "Toolbox", "Toolboxes", "wire_name"]

MAX_TOOLBOXES: Final = 512  # some KB each; agents share a handful

_NO_PARAMETERS: Final = Raw(b'{"type":"object","properties":{}}')


def wire_name(name: str) -> str:
    """The name that chat has for an offered tool."""
    return name.replace(".", "__")


class Toolbox(Struct, frozen=True, eq=False):
    """The tools of a turn.

    Attributes:
        tools: What may be called, by the name chat has for it.
        encoded: The JSON array of `tools` as it is sent; empty if there is none.
        choice: Value of `tool_choice`, or None to leave it out.
        only_tool: Name of the tool that is sent, if it is a single one.
        strict: By name, the schemas of tools that say `strict: true` in so many words.
    """

    tools: Mapping[str, OfferedTool]
    encoded: bytes = b""
    choice: Literal["required", "none"] | None = None
    only_tool: str | None = None
    strict: Mapping[str, Mapping[str, Any]] = {}


NO_TOOLS: Final = Toolbox({})
"""Nothing is offered."""


class Toolboxes:
    """Those that were made; the ones used last are kept. Safe in threads."""

    def __init__(self, *, sends_strict: bool) -> None:
        """
        Args:
            sends_strict: Pass `strict` on.
        """
        self._sends_strict: Final = sends_strict
        self._lock: Final = threading.Lock()
        self._made: OrderedDict[object, Toolbox] = OrderedDict()

    def of(self, tools: ToolSet, choice: ToolChoice) -> Toolbox:
        """What a turn with these tools sends.

        Where only some tools are allowed, only those are sent: chat has no other way to say it
        that every server knows. The prompt then differs from that of a turn with all of them,
        and so does what an endpoint finds in its prefix cache.

        Raises:
            InvalidRequest: two names are the same for chat.
        """
        if not tools.offered:
            return NO_TOOLS
        key = (tools.raw, choice.mode, choice.allowed)
        with self._lock:
            found = self._made.get(key)
            if found is not None:
                self._made.move_to_end(key)
                return found
        made = self._make(tools, choice)
        with self._lock:
            self._made[key] = made
            if len(self._made) > MAX_TOOLBOXES:
                self._made.popitem(last=False)
        return made

    def _make(self, tools: ToolSet, choice: ToolChoice) -> Toolbox:
        sent = [
            tool
            for tool in tools.offered.values()
            if choice.allowed is None or tool.name in choice.allowed
        ]
        named: dict[str, OfferedTool] = {}
        for tool in sent:
            name = wire_name(tool.name)
            if name in named:
                raise InvalidRequest(
                    f"The tools {named[name].name!r} and {tool.name!r} have the same name for "
                    f"this model, {name!r}; rename one.",
                    param="tools",
                )
            named[name] = tool
        return Toolbox(
            tools={} if choice.mode == "none" else named,
            encoded=encode([self._entry(name, tool) for name, tool in named.items()]),
            choice=None if choice.mode == "auto" else choice.mode,
            only_tool=next(iter(named)) if len(named) == 1 else None,
            strict={
                name: msgspec.json.decode(tool.parameters)
                for name, tool in named.items()
                if tool.strict_asked and tool.parameters is not None
            },
        )

    def _entry(self, name: str, tool: OfferedTool) -> dict[str, Any]:
        function: dict[str, Any] = {"name": name}
        if tool.description:
            function["description"] = tool.description
        if tool.kind == "custom":
            function["parameters"] = _input_schema(tool)
        else:
            function["parameters"] = (
                _NO_PARAMETERS if tool.parameters is None else _compact(tool.parameters)
            )
            if self._sends_strict:
                function["strict"] = tool.strict
        return {"type": "function", "function": function}


def _compact(schema: bytes) -> Raw:
    return Raw(msgspec.json.format(schema, indent=-1))


def _input_schema(tool: OfferedTool) -> dict[str, Any]:
    about: dict[str, Any] = {"type": "string"}
    if tool.grammar is not None:
        syntax, definition = tool.grammar
        about["description"] = f"Text that obeys this {syntax} grammar:\n{definition}"
    return {
        "type": "object",
        "properties": {"input": about},
        "required": ["input"],
        "additionalProperties": False,
    }
