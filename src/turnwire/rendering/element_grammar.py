"""A grammar of arguments that are written one by one, without quotes (`elements.py`).

They come in the order of the schema. A string is any text up to its end tag: one of an
enumeration, or one that obeys a pattern or a length, where the schema says so (`format` is not
held: nothing quotes the text that it would be looked for in). What is no string is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from llguidance import regex_to_lark
from msgspec import Struct

from turnwire.rendering.argument_types import Types, types_of
from turnwire.rendering.grammar_text import embedded, escaped, sequence, spaced, until
from turnwire.rendering.pieces import Piece
from turnwire.rendering.schema import Schema

__all__ = ["ElementPieces", "element_rules"]

_PLAIN: Final = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "$defs", "definitions"),
        *("title", "description", "$schema", "$id", "$comment", "x-guidance", "examples"),
    }
)
_MAX_LENGTH: Final = 512
_KEY: Final = "/[a-zA-Z0-9_.\\-]+/"


class ElementPieces(Struct, frozen=True, kw_only=True):
    """How an element is written.

    Attributes:
        first: In front of its key.
        before_text: Between key and a value that is a string.
        before_json: Between key and any other.
        last: Behind the value.
    """

    first: tuple[Piece, ...]
    before_text: tuple[Piece, ...]
    before_json: tuple[Piece, ...]
    last: tuple[Piece, ...]


def element_rules(name: str, schema: Schema, pieces: ElementPieces) -> Iterator[tuple[str, str]]:
    """Rules for all arguments of a tool, by name; the first of them is `name`.

    Args:
        name: Of the rule; the names of others begin with it.
        schema: Of the arguments, in the form that compiles.
        pieces: How they are written.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not schema.keys() <= _PLAIN:
        yield name, f"{name}_any*"
        yield f"{name}_any", _element(pieces, _KEY, _text(pieces), is_text=True)
        return
    required = schema.get("required")
    wanted = required if isinstance(required, list) else []
    names = [f"{name}_{n}" for n in range(len(properties))]
    parts = [
        f"{rule}{'' if key in wanted else '?'}" for rule, key in zip(names, properties, strict=True)
    ]
    yield name, " ".join(parts) or '""'
    for rule, (key, value) in zip(names, properties.items(), strict=True):
        yield rule, " | ".join(_ways(key, value, schema, pieces))


def _ways(key: str, value: Any, root: Schema, pieces: ElementPieces) -> Iterator[str]:
    """How one argument may be written."""
    quoted = json.dumps(key)
    value = _followed(value, root)
    types = types_of(value, root)
    one_of = value.get("enum", [value["const"]] if "const" in value else None)
    if isinstance(one_of, list):
        for one in one_of:
            is_text = isinstance(one, str)
            spelled = one if is_text else json.dumps(one, ensure_ascii=False)
            yield _element(pieces, quoted, _closed(json.dumps(spelled), pieces), is_text=is_text)
    elif types is None or "string" in types:
        yield _element(pieces, quoted, _string(value, types, pieces), is_text=True)
    else:
        carried: Schema = {}
        for word in ("$defs", "definitions", "x-guidance"):
            if word in root:
                carried[word] = root[word]
        body = _closed(embedded(spaced({**value, **carried})), pieces)
        yield _element(pieces, quoted, body, is_text=False)


def _followed(value: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """A property's schema; one that is only a reference to a definition is that."""
    found = value if isinstance(value, dict) else {}
    reference = found.get("$ref")
    if len(found) == 1 and isinstance(reference, str):
        for place in ("$defs", "definitions"):
            definition = reference.removeprefix(f"#/{place}/")
            known = root.get(place)
            if definition != reference and isinstance(known, dict):
                target = known.get(definition)
                return target if isinstance(target, dict) else found
    return found


def _element(pieces: ElementPieces, key: str, value: str, *, is_text: bool) -> str:
    before = pieces.before_text if is_text else pieces.before_json
    parts = (sequence(pieces.first), key, sequence(before), value)
    return " ".join(filter(None, parts))


def _closed(value: str, pieces: ElementPieces) -> str:
    return f"{value} {sequence(pieces.last)}"


def _ended(pieces: ElementPieces) -> tuple[Piece, str]:
    """What ends a text, and what stands behind that."""
    last = [piece for piece in pieces.last if not isinstance(piece, str) or piece.strip()]
    at = pieces.last.index(last[0])
    return last[0], sequence(pieces.last[at + 1 :])


def _text(pieces: ElementPieces) -> str:
    end, behind = _ended(pieces)
    return f"{until(end)} {behind}"


def _string(value: Mapping[str, Any], types: Types, pieces: ElementPieces) -> str:
    pattern = _pattern(value) if types == frozenset(("string",)) else None
    if pattern is None:
        return _text(pieces)
    end, behind = _ended(pieces)
    if isinstance(end, int):
        return f"/{pattern}/ <[{end}]> {behind}"
    # A text with a length of its own does not spell what its end tag begins with.
    sign = end.strip()[0]
    return f"/{pattern.replace('(?s:.)', f'[^{escaped(sign)}]')}{escaped(end)}/ {behind}"


def _pattern(value: Mapping[str, Any]) -> str | None:
    """A regular expression that a string has to match as a whole; None if any will do."""
    given = value.get("pattern")
    if isinstance(given, str):
        begun, ended = given.startswith("^"), given.endswith("$") and not given.endswith("\\$")
        inner = given.removeprefix("^") if begun else given
        inner = inner[:-1] if ended else inner
        if "|" in inner and (begun or ended) and not inner.startswith("("):
            return None  # the anchors belong to parts of it
        anything = "(?s:.*)"
        whole = f"(?:{regex_to_lark(inner, '')})"
        return f"{'' if begun else anything}{whole}{'' if ended else anything}"
    least, most = value.get("minLength", 0), value.get("maxLength")
    if (
        not isinstance(least, int)
        or not isinstance(most, int | None)
        or (not least and most is None)
    ):
        return None
    if max(least, most or 0) > _MAX_LENGTH:
        return None
    return f"(?s:.){{{least},{'' if most is None else most}}}"
