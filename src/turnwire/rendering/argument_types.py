"""What arguments of a tool may be, where they are written one by one and without quotes.

`7` is a number to one tool and a text to another. Only the tool's schema says which.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from turnwire.rendering.messages import sound

__all__ = ["Types", "argument_types", "as_json", "types_of"]

Types = frozenset[str] | None
"""Names of JSON's types, or None where any will do."""

_NAMES: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    list: "array",
    dict: "object",
}
_CONSTANTS: Final = {"True": "true", "False": "false", "None": "null"}
_STRING: Final = frozenset(("string",))
_MAX_DEPTH: Final = 16
_MAX_PYTHON_CHARS: Final = 10_000


def argument_types(parameters: bytes | None) -> Mapping[str, Types]:
    """By argument: the types that a tool's schema allows; what it does not declare is left out."""
    if parameters is None:
        return {}
    try:
        root = msgspec.json.decode(parameters)
    except (msgspec.DecodeError, RecursionError):
        return {}
    properties = root.get("properties") if isinstance(root, dict) else None
    if not isinstance(properties, dict):
        return {}
    return {key: types_of(schema, root) for key, schema in properties.items()}


def types_of(schema: Any, root: Any, depth: int = 0) -> Types:
    """The types that a schema allows.

    Args:
        schema: A part of `root`.
        root: What its references point into.
        depth: How many schemas around it were looked at.
    """
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    found: list[frozenset[str]] = []
    if "$ref" in schema:
        found += _known(types_of(_pointed(schema["$ref"], root), root, depth + 1))
    if "const" in schema:
        found.append(frozenset((_NAMES[type(schema["const"])],)))
    if isinstance(schema.get("enum"), list):
        found.append(frozenset(_NAMES[type(value)] for value in schema["enum"]))
    declared = schema.get("type")
    if isinstance(declared, str):
        found.append(frozenset((declared,)))
    elif isinstance(declared, list):
        found.append(frozenset(one for one in declared if isinstance(one, str)))
    for keyword in ("anyOf", "oneOf"):
        ways = schema.get(keyword)
        if isinstance(ways, list):
            all_types = [types_of(way, root, depth + 1) for way in ways]
            known = [types for types in all_types if types is not None]
            if len(known) == len(all_types):
                found.append(frozenset().union(*known))
    if isinstance(schema.get("allOf"), list):
        for part in schema["allOf"]:
            found += _known(types_of(part, root, depth + 1))
    return frozenset.intersection(*found) if found else None


def _known(types: Types) -> list[frozenset[str]]:
    return [] if types is None else [types]


def _pointed(reference: Any, root: Any) -> Any:
    """What a reference inside of the schema points at; None if nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    for step in reference[1:].split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        root = root.get(key) if isinstance(root, dict) else None
    return root


def as_json(text: str, types: Types) -> str:
    """An argument as JSON.

    It is what the types allow: text where that is all they do, else JSON's or Python's constants
    and values as far as it is one. What is none of these is text.

    Args:
        text: As the model wrote it.
        types: What it may be.
    """
    if types == _STRING:
        return _quoted(text)
    found = text.strip()
    kind = _kind(found)
    if not kind:
        found = _python(found)
        kind = _kind(found)
    if not kind or (kind == "string" and types is None):
        return _quoted(text)
    if types is not None and "string" in types and not _fits(kind, types):
        return _quoted(text)
    return sound(found)


def _fits(kind: str, types: frozenset[str]) -> bool:
    return kind in types or (kind == "integer" and "number" in types)


def _quoted(text: str) -> str:
    return sound(json.dumps(text, ensure_ascii=False))


def _refused(constant: str) -> None:
    raise ValueError(constant)  # NaN and its like are no JSON


def _kind(text: str) -> str:
    """The type of the value that a text is in JSON, or ""."""
    try:
        return _NAMES[type(json.loads(text, parse_constant=_refused))]
    except (ValueError, RecursionError):
        return ""


def _python(text: str) -> str:
    """JSON for Python's spelling of a list, an object or a constant; "" if it is none.

    Some templates show arguments that way, and their models write so.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[:1] not in ("[", "{") or len(text) > _MAX_PYTHON_CHARS:
        return ""
    try:
        return json.dumps(ast.literal_eval(text), ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ""
