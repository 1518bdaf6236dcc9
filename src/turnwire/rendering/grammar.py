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

With `parallel` there may be several calls, else one. Arguments obey the tool's schema where the
tool is strict and are any JSON object where it is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from llguidance import LLMatcher
from msgspec import Struct, structs

from turnwire.constraint import Constraint
from turnwire.errors import InvalidRequest
from turnwire.protocol.requests import JsonObjectFormat, JsonSchemaFormat, TextFormat
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet
from turnwire.rendering import call
from turnwire.rendering.tokenizer import Tokenizer

if TYPE_CHECKING:
    from turnwire.rendering.chatml import Renderer

__all__ = ["constraint"]

Schema = dict[str, object]

_ANY_OBJECT: Schema = {"type": "object"}
# oneOf is obeyed as anyOf: an intersection of complements is beyond a token grammar.
_COMPACT = {"whitespace_flexible": False, "coerce_one_of": True}
_MAX_REASON_CHARS = 300


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
    callable_tools = _callable(tools, tool_choice)
    schemas = _argument_schemas(renderer.tokenizer, tools, callable_tools, every_schema)
    text_schema = _text_schema(renderer.tokenizer, text_format)
    marks = renderer.marks
    free_span = (marks.think, marks.end_think) if thinking_possible else None
    calls = f"<[{marks.tool_call}]> calls"
    trigger: int | None = None
    rules: list[str] = []
    if callable_tools and tool_choice.mode == "required":
        rules.append(f"start: {calls}")
    elif callable_tools and text_schema is None:
        rules.append("start: calls")
        trigger = marks.tool_call
    elif text_schema is not None:
        rules.append(f"start: text | {calls}" if callable_tools else "start: text")
        rules.append(f"text: {_embed(text_schema)}")
    else:
        return None
    if callable_tools:
        more = f" ({calls.replace('calls', 'call')})*" if parallel else ""
        rules.append(f"calls: call{more}")
        rules += _call_rules(callable_tools, schemas, marks.end_tool_call)
    return Constraint(grammar="\n".join(rules) + "\n", trigger=trigger, free_span=free_span)


def _callable(tools: ToolSet, tool_choice: ToolChoice) -> list[OfferedTool]:
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


def _call_rules(
    tools: Sequence[OfferedTool], schemas: Mapping[str, Schema], end_tool_call: int
) -> Iterator[str]:
    yield "call: " + " | ".join(f"call{n}" for n in range(len(tools)))
    for n, tool in enumerate(tools):
        before = json.dumps(call.opening(tool.name, tool.kind))
        yield f'call{n}: {before} value{n} "}}" <[{end_tool_call}]>'
        yield f"value{n}: {_embed(schemas[tool.name])}"


def _embed(schema: Schema) -> str:
    return "%json " + json.dumps(schema)


class _Declared(Struct, frozen=True):
    """A tool as the request spelled it; namespaces hold tools of their own."""

    type: str = ""
    strict: bool | None = None
    tools: tuple[_Declared, ...] = ()


_DECLARED = msgspec.json.Decoder(tuple[_Declared, ...])


def _declared(tools: ToolSet) -> dict[str, tuple[str, bool]]:
    """By name: the request's path of each offered tool, and whether it says `strict: true`."""
    try:
        found = list(_walk(_DECLARED.decode(tools.raw), "tools"))
    except msgspec.DecodeError:  # a set that was not decoded from a request has no such bytes
        found = []
    if len(found) != len(tools.offered):
        found = [(f"tools[{n}]", False) for n in range(len(tools.offered))]
    return dict(zip(tools.offered, found, strict=True))


def _walk(declared: Sequence[_Declared], path: str) -> Iterator[tuple[str, bool]]:
    for n, tool in enumerate(declared):
        if tool.type in ("function", "custom"):
            yield f"{path}[{n}]", tool.strict is True
        elif tool.type == "namespace":
            yield from _walk(tool.tools, f"{path}[{n}].tools")


def _argument_schemas(
    tokenizer: Tokenizer,
    tools: ToolSet,
    callable_tools: Sequence[OfferedTool],
    every_schema: bool,
) -> dict[str, Schema]:
    declared = _declared(tools)
    schemas: dict[str, Schema] = {}
    for tool in callable_tools:
        path, asked = declared[tool.name]
        if every_schema and not tool.strict:
            # Not strict: what cannot be enforced is no error.
            with suppress(InvalidRequest):
                strict = structs.replace(tool, strict=True)
                schemas[tool.name] = _value_schema(tokenizer, strict, path, asked=False)
                continue
        schemas[tool.name] = _value_schema(tokenizer, tool, path, asked)
    return schemas


def _value_schema(tokenizer: Tokenizer, tool: OfferedTool, path: str, asked: bool) -> Schema:
    """The schema of what stands behind `arguments` or `input`."""
    if tool.kind == "custom":
        value: Schema = {"type": "string"}
        # The input is written as a JSON string. A pattern can be obeyed through the string's
        # escapes; a Lark grammar cannot, so its tool takes any text.
        if tool.grammar is not None and tool.grammar[0] == "regex":
            value["pattern"] = f"^(?:{tool.grammar[1]})$"
        return _usable(tokenizer, value, f"{path}.format.definition", lenient=False)
    if tool.parameters is None or not tool.strict:
        return _compact(_ANY_OBJECT)
    param = f"{path}.parameters"
    schema = _decode(tool.parameters, param)
    if schema.setdefault("type", "object") != "object":
        raise _invalid(param, "the schema of a function's parameters must be of type object")
    return _usable(tokenizer, schema, param, lenient=not asked)


def _text_schema(tokenizer: Tokenizer, text_format: TextFormat) -> Schema | None:
    match text_format:
        case JsonObjectFormat():
            return _compact(_ANY_OBJECT)
        case JsonSchemaFormat():
            param = "text.format.schema"
            schema = _decode(bytes(text_format.schema), param)
            return _usable(tokenizer, schema, param, lenient=not text_format.strict)
        case _:
            return None


def _decode(raw: bytes, param: str) -> Schema:
    try:
        return msgspec.json.decode(raw, type=Schema)
    except msgspec.DecodeError as error:
        raise _invalid(param, "a schema must be a JSON object") from error


def _compact(schema: Schema, *, lenient: bool = False) -> Schema:
    return {**schema, "x-guidance": {**_COMPACT, "lenient": lenient}}


def _usable(tokenizer: Tokenizer, schema: Schema, param: str, *, lenient: bool) -> Schema:
    """The schema in the form that compiles; with `lenient`, less what cannot be enforced."""
    reason = ""
    for attempt in (False, True) if lenient else (False,):
        compact = _compact(schema, lenient=attempt)
        failed, problems = LLMatcher.validate_grammar_with_warnings(
            f"start: {_embed(compact)}", tokenizer.guidance
        )
        if not failed:
            return compact
        reason = reason or problems[0]
    raise _invalid(param, _reason(reason))


def _reason(problem: str) -> str:
    """The library's reason on one line, without its picture of our grammar."""
    words = problem.partition("\n   1 | ")[0].split()
    reason = " ".join(words)
    return reason.partition("failed to compile JSON schema: ")[2] or reason


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid schema for '{param}': {reason[:_MAX_REASON_CHARS]}", param=param
    )
