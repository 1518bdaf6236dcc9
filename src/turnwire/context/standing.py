"""What the history itself says about later turns: tools it adds, settings it changes.

Two kinds of items are no part of what was said (protocol.md section 3.4). `additional_tools` adds
tools that may be called from then on. `configuration_update` sets the reasoning effort or the text
format until another one replaces it. As both stand in the history, a continuation knows them
without being told again, and the tokens before them stay as they are. A compaction item brings
along what stood before it.

What an update sets wins over the request's own `reasoning.effort` and `text.format` [D]: a client
sends an update so that it can leave those as they were, which keeps its cached prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Raw, Struct, structs

from turnwire.errors import InvalidRequest
from turnwire.protocol.items import AdditionalTools, Compaction, ConfigurationUpdate, Item
from turnwire.protocol.requests import (
    CreateResponse,
    Effort,
    ReasoningConfig,
    TextConfig,
    TextFormat,
)
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolSet

__all__ = ["NOTHING_STANDS", "Standing", "applied", "stand"]


class Standing(Struct, frozen=True, eq=False):
    """What holds after an item of the history, and until it is changed.

    Attributes:
        tools: Every tool that was added.
        effort: Reasoning effort, or None for what the request says.
        text_format: Format of the text, or None for what the request says.
    """

    tools: ToolSet = EMPTY_TOOL_SET
    effort: Effort | None = None
    text_format: TextFormat | None = None


NOTHING_STANDS: Final = Standing()
"""At the start of a history."""


def stand(before: Standing, items: Sequence[Item]) -> Standing:
    """Return what holds after `items`; `before` itself if they change nothing. O(items).

    Raises:
        InvalidRequest: a tool is added under a name that an added tool has already.
    """
    now = before
    for item in items:
        if type(item) is Compaction:
            now = stand(NOTHING_STANDS, item.opened.kept if item.opened is not None else ())
        elif type(item) is AdditionalTools:
            now = Standing(_joined(now.tools, item.tools), now.effort, now.text_format)
        elif type(item) is ConfigurationUpdate:
            effort = item.reasoning.effort if item.reasoning is not None else now.effort
            text_format = item.text.format if item.text is not None else now.text_format
            now = Standing(now.tools, effort, text_format)
    return now


def applied(standing: Standing, request: CreateResponse, tools: ToolSet) -> CreateResponse:
    """Return the request with what the history sets in place of its own; itself if it sets nothing.

    Args:
        tools: The request's tools, decoded.

    Raises:
        InvalidRequest: the request has a tool by a name that the history added one under.
    """
    for name in standing.tools.offered:
        if (tool := tools.offered.get(name)) is not None:
            raise InvalidRequest(
                f"'{tool.path}.name' must be unique, but an item of the history adds a tool called "
                f"'{name}' already.",
                param=f"{tool.path}.name",
            )
    effort, text_format = standing.effort, standing.text_format
    if effort is not None:
        reasoning = structs.replace(request.reasoning or ReasoningConfig(), effort=effort)
        request = structs.replace(request, reasoning=reasoning)
    if text_format is not None:
        text = structs.replace(request.text or TextConfig(), format=text_format)
        request = structs.replace(request, text=text)
    return request


def _joined(known: ToolSet, added: ToolSet) -> ToolSet:
    offered: dict[str, OfferedTool] = dict(known.offered)
    for name, tool in added.offered.items():
        if name in offered:
            raise InvalidRequest(
                f"'{tool.path}.name' must be unique, but another tool is called '{name}' too.",
                param=f"{tool.path}.name",
            )
        offered[name] = tool
    return ToolSet(
        raw=known.raw + b"\n" + added.raw,
        offered=offered,
        echo=Raw(b"[]"),
        left_out=known.left_out + added.left_out,
    )
