"""A grammar of arguments that are written one by one, without quotes (`elements.py`).

They come in the order of the schema. A string is any text up to its end tag: one of an
enumeration, or one that obeys a length or a pattern with both its anchors, where the schema says
so. (Other patterns and `format` are not held.) What is no string is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from llguidance import regex_to_lark
from msgspec import Struct

from turnwire.rendering.argument_types import types_of
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
        name: Of the rule; the names of others begin with it, in capitals those of terminals.
        schema: Of the arguments, in the form that compiles.
        pieces: How they are written.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not schema.keys() <= _PLAIN:
        yield name, f"{name}_any*"
        yield from _string(f"{name}_any", _KEY, None, pieces)
        return
    required = schema.get("required")
    wanted = required if isinstance(required, list) else []
    rules = [f"{name}_{n}" for n in range(len(properties))]
    parts = [
        rule if key in wanted else f"{rule}?" for rule, key in zip(rules, properties, strict=True)
    ]
    yield name, " ".join(parts) or '""'
    for rule, (key, value) in zip(rules, properties.items(), strict=True):
        yield from _argument(rule, key, _followed(value, schema), schema, pieces)


def _argument(
    rule: str, key: str, value: Mapping[str, Any], root: Schema, pieces: ElementPieces
) -> Iterator[tuple[str, str]]:
    """Rules for one argument."""
    quoted = json.dumps(key)
    types = types_of(value, root)
    one_of = value.get("enum", [value["const"]] if "const" in value else None)
    if isinstance(one_of, list):
        yield rule, " | ".join(_fixed(quoted, one, pieces) for one in one_of)
    elif types is None or "string" in types:
        pattern = _pattern(value) if types == frozenset(("string",)) else None
        yield from _string(rule, quoted, pattern, pieces)
    else:
        carried: Schema = {}
        for word in ("$defs", "definitions", "x-guidance"):
            if word in root:
                carried[word] = root[word]
        body = embedded(spaced({**value, **carried}))
        yield rule, _element(pieces, quoted, f"{body} {sequence(pieces.last)}", is_text=False)


def _fixed(key: str, value: Any, pieces: ElementPieces) -> str:
    is_text = isinstance(value, str)
    spelled = value if is_text else json.dumps(value, ensure_ascii=False)
    return _element(pieces, key, f"{json.dumps(spelled)} {sequence(pieces.last)}", is_text=is_text)


def _string(
    rule: str, key: str, pattern: str | None, pieces: ElementPieces
) -> Iterator[tuple[str, str]]:
    """Rules for a text, which ends with its end tag and not before."""
    last = pieces.last
    token = next((n for n, piece in enumerate(last) if isinstance(piece, int)), None)
    if token is not None:  # which ends a text wherever it comes; a tag may begin in front of it
        lead = "".join(map(str, last[:token])).strip()
        value = f"/{pattern or '(?s:.*)'}{escaped(lead)}/"
        behind = sequence(last[token:])
    else:
        end, value, behind = str(last[0]), rule.upper(), sequence(last[1:])
        # A text with a length of its own does not spell what its end tag begins with.
        sign = escaped(end.strip()[0])
        whole = (pattern or "").replace("(?s:.)", f"[^{sign}]")
        yield value, f"/{whole}{escaped(end)}/" if pattern else until(end)
    yield rule, _element(pieces, key, f"{value} {behind}", is_text=True)


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


def _pattern(value: Mapping[str, Any]) -> str | None:
    """A regular expression that a string has to match as a whole; None if any will do."""
    given = value.get("pattern")
    if isinstance(given, str):
        anchored = given.startswith("^") and given.endswith("$") and not given.endswith("\\$")
        inner = given[1:-1]
        if not anchored or ("|" in inner and not inner.startswith("(")):
            return None  # it may stand anywhere, or its anchors belong to parts of it
        return f"(?:{regex_to_lark(inner, '')})"
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
