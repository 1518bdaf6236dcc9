"""What the settings of a turn allow the model to write, as a grammar over tokens.

The grammars are llguidance's Lark: special tokens by id (`<[5]>`), JSON schemas embedded. They
name exactly what `call.write` writes, without whitespace inside the JSON, so that a model that
obeys one without understanding it (a random one, say) still ends soon.

| tool_choice      | text.format  | the output is                                           |
|------------------|--------------|---------------------------------------------------------|
| none, or no tool | text         | free: no constraint. The parser is offered no tool then |
| none, or no tool | json         | JSON, from the first token                              |
| auto             | text         | free until `<tool_call>`; from there on calls, then end |
| auto             | json         | JSON or calls, from the first token                     |
| required         | any          | calls, from the first token                             |

With `parallel` there may be several calls, else one. Behind a call of an async tool the model may
go on in the text format, and then call again; behind any other only calls follow, because the
model waits for an output. Arguments obey the tool's schema where the tool is strict and are any
JSON object where it is not. A custom tool's input obeys its grammar, if it has one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from llguidance import regex_to_lark

from turnwire.constraint import Constraint
from turnwire.errors import InvalidRequest
from turnwire.protocol.requests import TextFormat
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet
from turnwire.rendering import call
from turnwire.rendering.lark import MAX_DEFINITION_CHARS, LarkError, embeddable
from turnwire.rendering.schema import argument_schemas, embedded, text_schema, tool_paths
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.rendering.trial import invalid, problem, reason

if TYPE_CHECKING:
    from turnwire.rendering.chatml import Renderer

__all__ = ["callable_tools", "constraint"]

_ANY_TEXT: Final = "/(?s:.*)/"
_SOME_TEXT: Final = "/(?s:.+)/"


def constraint(
    renderer: Renderer,
    tools: ToolSet,
    tool_choice: ToolChoice,
    *,
    parallel: bool,
    text_format: TextFormat,
    thinking_possible: bool,
    every_schema: bool = False,
) -> Constraint | None:
    """Build the constraint of a turn; None if the output is free.

    Costs milliseconds per schema, so callers keep the result. Pure.

    Args:
        renderer: Its vocabulary and marks are what the grammar is written in.
        parallel: Whether more than one call is allowed.
        thinking_possible: Whether the model may think before it obeys.
        every_schema: Enforce the schemas of tools that are not strict too, where that is
            possible: for models that would not know what to write otherwise.

    Raises:
        InvalidRequest: a schema is invalid or cannot be enforced (`param` names it), or a call
            is required and no tool is offered. A schema with keywords we cannot enforce is an
            error only where `strict` was asked for in so many words; elsewhere, as with OpenAI,
            strictness is tried (protocol.md section 2.1) and those keywords are left out.
    """
    offered = callable_tools(tools, tool_choice)
    values = _values(renderer.tokenizer, tools, offered, every_schema)
    content = text_schema(renderer.tokenizer, text_format)
    marks = renderer.marks
    free_span = (marks.think, marks.end_think) if thinking_possible else None
    calls = f"<[{marks.tool_call}]> calls"
    trigger: int | None = None
    rules: list[str] = []
    if offered and tool_choice.mode == "required":
        rules.append(f"start: {calls}")
    elif offered and content is None:
        rules.append("start: calls")
        trigger = marks.tool_call
    elif content is not None:
        rules.append(f"start: text | {calls}" if offered else "start: text")
    else:
        return None
    if offered:
        more = calls.replace("calls", "call") if parallel else None
        rules += _order_rules(offered, more, calls if parallel else None)
        rules += _call_rules(offered, values, marks.end_tool_call)
    if content is not None:
        rules.append(f"text: {embedded(content)}")
    elif any(tool.is_async for tool in offered):
        rules.append(f"text: {_SOME_TEXT}")
    made = "\n".join(rules) + "\n"
    if any(tool.grammar for tool in offered):
        # Each by itself is within its limits; all of them together may not be.
        fault = problem(renderer.tokenizer, made, probe=False)
        if fault:
            raise InvalidRequest(
                f"The grammars of 'tools' are too large together: {reason(fault)}",
                param="tools",
            )
    return Constraint(grammar=made, trigger=trigger, free_span=free_span)


def callable_tools(tools: ToolSet, tool_choice: ToolChoice) -> list[OfferedTool]:
    """The tools that this turn may call."""
    if tool_choice.mode == "none":
        return []
    allowed = tool_choice.allowed
    found = [t for t in tools.offered.values() if allowed is None or t.name in allowed]
    if tool_choice.mode == "required" and not found:
        raise InvalidRequest(
            "A tool call is required, but no tool is offered.", param="tool_choice"
        )
    return found


def _order_rules(
    tools: Sequence[OfferedTool], more: str | None, again: str | None
) -> Iterator[str]:
    """What may follow what. `more` and `again` open a call, and are None where one is all."""
    plain = [f"call{n}" for n, tool in enumerate(tools) if not tool.is_async]
    later = [f"call{n}" for n, tool in enumerate(tools) if tool.is_async]
    yield "call: " + " | ".join(f"call{n}" for n in range(len(tools)))
    rest = f" ({more})*" if more else ""
    if not later:
        yield f"calls: call{rest}"
        return
    yield f"later: {' | '.join(later)}"
    going_on = f"later text? ({again})?" if again else "later text?"
    if plain:
        yield f"plain: {' | '.join(plain)}"
        yield f"calls: plain{rest} | {going_on}"
    else:
        yield f"calls: {going_on}"


def _call_rules(
    tools: Sequence[OfferedTool], values: Mapping[str, str], end_tool_call: int
) -> Iterator[str]:
    for n, tool in enumerate(tools):
        before = json.dumps(call.opening(tool.name, tool.kind))
        after = '"}" ' if tool.kind == "function" else ""
        yield f"call{n}: {before} value{n} {after}<[{end_tool_call}]>"
        yield f"value{n}: {values[tool.name]}"


def _values(
    tokenizer: Tokenizer, tools: ToolSet, offered: Sequence[OfferedTool], every_schema: bool
) -> dict[str, str]:
    """By tool: what stands behind `arguments`, or is the input, as the body of a rule."""
    functions = [tool for tool in offered if tool.kind == "function"]
    schemas = argument_schemas(tokenizer, tools, functions, every_schema)
    values = {name: embedded(schema) for name, schema in schemas.items()}
    paths = tool_paths(tools)
    for tool in offered:
        if tool.kind == "custom":
            path = f"{paths[tool.name]}.format.definition"
            values[tool.name] = _input(tokenizer, tool, path)
    return values


def _input(tokenizer: Tokenizer, tool: OfferedTool, param: str) -> str:
    """A custom tool's input, as the body of a rule."""
    if tool.grammar is None:
        return _ANY_TEXT
    syntax, definition = tool.grammar
    try:
        if syntax == "regex":
            lines_before, body = 0, _pattern(definition)
        else:
            lines_before, body = 1, f"%lark {{\n{embeddable(definition)}\n}}"
    except LarkError as error:
        raise invalid(param, str(error), "grammar") from error
    fault = problem(tokenizer, f"start: {body}\n")
    if fault:
        raise invalid(param, reason(fault, lines_before), "grammar")
    return body


def _pattern(definition: str) -> str:
    """A regular expression as one terminal."""
    if len(definition) > MAX_DEFINITION_CHARS:
        raise LarkError(
            f"it has {len(definition)} characters; at most {MAX_DEFINITION_CHARS} are taken"
        )
    if (len(definition) - len(definition.rstrip("\\"))) % 2:
        raise LarkError("it ends in the middle of an escape")
    # The library escapes slashes and line ends. Two slashes alone would be a comment.
    return f"/{regex_to_lark(definition, '')}/" if definition else '""'
