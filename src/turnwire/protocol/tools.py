"""Tool definitions and tool choice (protocol.md sections 2.1 and 2.2).

`ToolSet` is what the rest of the server sees: the tools a model may be offered, under the names
it calls them by, and the bytes to echo. It is decoded once per distinct `tools` value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Raw, Struct

__all__ = ["EMPTY_TOOL_SET", "OfferedTool", "ToolChoice", "ToolSet", "join", "qualified"]


def qualified(name: str, namespace: str | None) -> str:
    """The name a model knows a tool by: `namespace.name`, or its own outside namespaces."""
    return name if namespace is None else f"{namespace}.{name}"


class OfferedTool(Struct, frozen=True, kw_only=True):
    """A tool the model may call.

    Attributes:
        name: The name the model calls it by, unique in its set, `[a-zA-Z0-9_.-]`: its own, or
            `namespace.name` for a namespace's tool.
        kind: Whether its call is a `function_call` or a `custom_tool_call`.
        description: For the prompt; may be empty.
        parameters: The JSON schema of the arguments as sent, or None where any object is fine.
        strict: Whether decoding is constrained to `parameters`.
        grammar: Custom tools only: (syntax, definition), or None for free text.
        namespace: The namespace tool it came out of, if any; the call item carries it.
        is_async: The model goes on after the call; its output may come in any later turn.
        strict_asked: Whether the request says `strict: true`, in so many words.
        path: Where the request defines it, for errors: `tools[2]`; "" if no request did.
    """

    name: str
    kind: Literal["function", "custom"] = "function"
    description: str = ""
    parameters: bytes | None = None
    strict: bool = True
    grammar: tuple[Literal["lark", "regex"], str] | None = None
    namespace: str | None = None
    is_async: bool = False
    strict_asked: bool = False
    path: str = ""

    @property
    def call_name(self) -> str:
        """Its own name, which the call item carries beside `namespace`."""
        return self.name if self.namespace is None else self.name.rpartition(".")[2]


class ToolSet(Struct, frozen=True, kw_only=True):
    """The decoded `tools` of a request.

    Attributes:
        raw: The bytes it was decoded from; equal bytes mean an equal set.
        offered: The tools that go into the prompt, by name, in the order given.
        echo: The JSON array for the response object, every function with `name`,
            `description`, `parameters` and `strict`.
        left_out: Type of each tool that was accepted but is not offered, for the metric:
            hosted ones, unknown ones, and functions that only programs may call.
    """

    raw: bytes
    offered: Mapping[str, OfferedTool]
    echo: Raw
    left_out: tuple[str, ...] = ()

    @property
    def has_grammar(self) -> bool:
        """Whether a tool brings a grammar, which may be costly to compile."""
        return any(tool.grammar is not None for tool in self.offered.values())


EMPTY_TOOL_SET = ToolSet(raw=b"", offered={}, echo=Raw(b"[]"))


def join(tools: ToolSet, added: ToolSet) -> ToolSet:
    """A request's tools and those its history added, as one set with the request's echo.

    Args:
        tools: The request's.
        added: Of other names than those.
    """
    if not added.offered:
        return tools
    return ToolSet(
        raw=tools.raw + added.raw,
        offered={**tools.offered, **added.offered},
        echo=tools.echo,
        left_out=tools.left_out,
    )


class ToolChoice(Struct, frozen=True, kw_only=True):
    """The decoded `tool_choice`.

    Attributes:
        mode: none, auto or required; naming one tool is `required` with one allowed name.
        allowed: Names the model may call, or None for all that are offered.
        echo: The JSON value for the response object.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    allowed: tuple[str, ...] | None = None
    echo: Raw = Raw(b'"auto"')
