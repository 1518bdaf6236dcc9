"""JSON schemas of clients, brought into the form that llguidance embeds.

A tool says what its arguments look like as a JSON schema, and so does `text.format`. Which of it
can be enforced is the library's matter; what is not, is an error where `strict` was asked for in
so many words. Elsewhere, as with OpenAI, strictness is tried (protocol.md section 2.1), and what
cannot be enforced is left out:

    not, if, propertyNames ...         keywords the library does not know
    pattern, patternProperties         in other dialects than Rust's, which has no look-around
    enum, const                        with integers that no float equals: the library's numbers
                                       are floats, and another number would come out

Three things are left out though `strict` is true: `oneOf` is obeyed as `anyOf`, bounds that no
integer of 64 bits is beyond are none, and of lengths, those that patterns count among them, only
the shorter ones are enforced. A lexer that counts characters has some ten states for each (measured
with text of every script), and `constraint.LIMITS` allows so many for an output: a long text would
fail for a bound that it is nowhere near.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf, nextafter
from typing import Final

import msgspec
from msgspec import structs

from turnwire.errors import InvalidRequest
from turnwire.protocol.requests import JsonObjectFormat, JsonSchemaFormat, TextFormat
from turnwire.protocol.tools import OfferedTool, ToolSet
from turnwire.rendering.depth import MAX_SCHEMA_DEPTH, schema_depth
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.rendering.trial import invalid, problem, reason

__all__ = ["Schema", "argument_schemas", "embedded", "text_schema", "tool_paths"]

Schema = dict[str, object]

_ANY_OBJECT: Final[Schema] = {"type": "object"}
# oneOf is obeyed as anyOf: an intersection of complements is beyond a token grammar.
_COMPACT: Final = {"whitespace_flexible": False, "coerce_one_of": True}
# Under these the keys are names, and no keywords.
_NAMED: Final = frozenset(
    ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
)
# These hold values, and no schemas.
_DATA: Final = frozenset(("const", "default", "enum", "examples"))
_LOWER: Final = ("minimum", "exclusiveMinimum")
_UPPER: Final = ("maximum", "exclusiveMaximum")
_TOO_FAR: Final = 2**63
# An escape, a class, or how often what is before it repeats: `{3}`, `{3,}`, `{3,5}`.
_REPEATED: Final = re.compile(
    r"\\.|\[(?:\\.|[^\]\\])*\]|\{(?P<least>\d{1,9})(?:,(?P<most>\d{0,9}))?\}", re.DOTALL
)
_MAX_COUNTED_CHARS: Final = 1000
"""Of all bounds of lengths in a schema together; the same bounds count once."""


def embedded(schema: Schema) -> str:
    """A schema as the body of a rule."""
    return "%json " + json.dumps(schema)


def tool_paths(tools: ToolSet) -> dict[str, str]:
    """Where in the request each offered tool is; a set that no request spelt counts its own."""
    return {tool.name: tool.path or f"tools[{n}]" for n, tool in enumerate(tools.offered.values())}


def argument_schemas(
    tokenizer: Tokenizer, tools: ToolSet, functions: Sequence[OfferedTool], every_schema: bool
) -> dict[str, Schema]:
    """By function: the schema of its arguments in the form that compiles.

    Args:
        tokenizer: Whose tokens will obey.
        tools: All there are, whose places errors name.
        functions: Those whose schemas are wanted.
        every_schema: As in `grammar.constraint`.

    Raises:
        InvalidRequest: a schema is invalid or cannot be enforced; `param` names it.
    """
    paths = tool_paths(tools)
    schemas: dict[str, Schema] = {}
    for tool in functions:
        path = paths[tool.name]
        if every_schema and not tool.strict:
            # Not strict: what cannot be enforced is no error.
            with suppress(InvalidRequest):
                strict = structs.replace(tool, strict=True, strict_asked=False)
                schemas[tool.name] = _arguments(tokenizer, strict, path)
                continue
        schemas[tool.name] = _arguments(tokenizer, tool, path)
    return schemas


def text_schema(tokenizer: Tokenizer, text_format: TextFormat) -> Schema | None:
    """The schema of an answer, or None where it is free text.

    Raises:
        InvalidRequest: as `argument_schemas`.
    """
    match text_format:
        case JsonObjectFormat():
            return _compact(_ANY_OBJECT)
        case JsonSchemaFormat():
            param = "text.format.schema"
            schema = _decode(bytes(text_format.schema), param)
            return _usable(tokenizer, schema, param, lenient=not text_format.strict)
        case _:
            return None


def _arguments(tokenizer: Tokenizer, tool: OfferedTool, path: str) -> Schema:
    """The schema of what stands behind `arguments`."""
    if tool.parameters is None or not tool.strict:
        return _compact(_ANY_OBJECT)
    param = f"{path}.parameters"
    schema = _decode(tool.parameters, param)
    if schema.setdefault("type", "object") != "object":
        raise invalid(param, "the schema of a function's parameters must be of type object")
    return _usable(tokenizer, schema, param, lenient=not tool.strict_asked)


def _decode(raw: bytes, param: str) -> Schema:
    try:
        return msgspec.json.decode(raw, type=Schema)
    except RecursionError:
        raise invalid(param, "it is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise invalid(param, f"it is no JSON object that can be read: {error}") from error


def _compact(schema: Schema, *, lenient: bool = False) -> Schema:
    return {**schema, "x-guidance": {**_COMPACT, "lenient": lenient}}


def _usable(tokenizer: Tokenizer, schema: Schema, param: str, *, lenient: bool) -> Schema:
    """The schema in the form that compiles; with `lenient`, less what cannot be enforced."""
    depth = schema_depth(schema)
    if depth > MAX_SCHEMA_DEPTH:
        raise invalid(
            param,
            f"it leads {depth} levels deep; at most {MAX_SCHEMA_DEPTH} can be enforced",
        )
    _round_bounds(schema)
    _leave_long_lengths_out(schema)
    _loosen_patterns(schema)
    inexact = _leave_inexact_values_out(schema)
    if inexact and not lenient:
        raise invalid(param, f"a number is too long to be enforced exactly: {inexact[0]}")
    fault = ""
    for attempt in (False, True) if lenient else (False,):
        compact = _compact(schema, lenient=attempt)
        grammar = f"start: {embedded(compact)}"
        # Without references a schema that compiles can be obeyed.
        found = problem(tokenizer, grammar, probe="$ref" in grammar)
        if not found:
            return compact
        fault = fault or found
    if lenient and _leave_patterns_out(tokenizer, schema):
        return _usable(tokenizer, schema, param, lenient=True)
    raise invalid(param, reason(fault))


# --- what cannot be enforced -------------------------------------------------------------------


def _schemas(schema: Schema) -> Iterator[dict[str, object]]:
    """The schema and those in it, which may be changed while they are walked."""
    waiting: list[object] = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            yield one
            for key, value in one.items():
                if key in _NAMED and isinstance(value, dict):
                    waiting += value.values()
                elif key not in _DATA:
                    waiting.append(value)


def _round_bounds(schema: Schema) -> None:
    """Make every bound a number that the library has, on its inner side.

    One beyond all integers of 64 bits is left out: it says which type a program has for the
    number, and the library cannot compile it.
    """
    for one in _schemas(schema):
        for key in (*_LOWER, *_UPPER):
            bound = one.get(key)
            if not isinstance(bound, int | float) or isinstance(bound, bool):
                continue
            if bound <= -_TOO_FAR if key in _LOWER else bound >= _TOO_FAR:
                del one[key]
            elif isinstance(bound, int) and abs(bound) < _TOO_FAR and _is_inexact(bound):
                one[key] = _rounded(bound, up=key in _LOWER)


def _rounded(bound: int, *, up: bool) -> int:
    """The float next to a bound, on the side that was asked for."""
    near = float(bound)
    if (near < bound) if up else (near > bound):
        near = nextafter(near, inf if up else -inf)
    return int(near)


def _leave_long_lengths_out(schema: Schema) -> None:
    """Take bounds of lengths out, the longest first, until the rest can be counted."""
    bounded: dict[tuple[int, int], list[dict[str, object]]] = {}
    for one in _schemas(schema):
        found = (_length(one, "minLength"), _length(one, "maxLength"))
        if found != (0, 0):
            bounded.setdefault(found, []).append(one)
    while sum(map(max, bounded)) > _MAX_COUNTED_CHARS:
        longest = max(bounded, key=max)
        shorter = (longest[0], 0) if longest[1] else (0, 0)
        for one in bounded.pop(longest):
            del one["maxLength" if longest[1] else "minLength"]
            if shorter != (0, 0):
                bounded.setdefault(shorter, []).append(one)


def _loosen_patterns(schema: Schema) -> None:
    """What a pattern repeats more often than can be counted, it repeats without an end."""
    for one in _schemas(schema):
        pattern = one.get("pattern")
        if isinstance(pattern, str):
            one["pattern"] = _REPEATED.sub(_loosened, pattern)


def _loosened(found: re.Match[str]) -> str:
    least, most = found["least"], found["most"]
    if least is None or max(int(least), int(most or 0)) <= _MAX_COUNTED_CHARS:
        return found[0]
    return f"{{{min(int(least), _MAX_COUNTED_CHARS)},}}"


def _length(schema: Mapping[str, object], key: str) -> int:
    bound = schema.get(key)
    return bound if isinstance(bound, int) and not isinstance(bound, bool) and bound > 0 else 0


def _leave_inexact_values_out(schema: Schema) -> list[int]:
    """Take the `enum` and `const` out that the library would change; the numbers that it would."""
    found: list[int] = []
    for one in _schemas(schema):
        for key in ("const", "enum"):
            numbers = list(_inexact_numbers(one.get(key)))
            if numbers:
                del one[key]
                found += numbers
    return found


def _inexact_numbers(value: object) -> Iterator[int]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, int) and _is_inexact(one):
            yield one


def _is_inexact(number: int) -> bool:
    try:
        return int(float(number)) != number
    except OverflowError:
        return True


def _leave_patterns_out(tokenizer: Tokenizer, schema: Schema) -> bool:
    """Take the patterns out that do not compile by themselves; whether there were any."""
    found = False
    for one in _schemas(schema):
        pattern = one.get("pattern")
        if isinstance(pattern, str) and not _is_matchable(tokenizer, pattern):
            del one["pattern"]
            found = True
        named = one.get("patternProperties")
        if isinstance(named, dict) and not all(_is_matchable(tokenizer, key) for key in named):
            del one["patternProperties"]
            # Of other names than those it would have let through nothing is known either.
            one.pop("additionalProperties", None)
            found = True
    return found


def _is_matchable(tokenizer: Tokenizer, pattern: str) -> bool:
    text = _compact({"type": "string", "pattern": pattern})
    return not problem(tokenizer, f"start: {embedded(text)}", probe=False)
