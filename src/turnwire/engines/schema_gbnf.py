"""JSON schemas as GBNF: JSON with the separators that a schema asks for, and else compact;
properties in the schema's order.

What is written lets through nothing that the schema forbids, and may let through less: of an
object with declared properties only those, of a pattern only ASCII digits. Where a keyword
cannot be written, the value may be any of its type, and whoever reads the output has to check
it (the engine does, against the original grammar).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Final

from turnwire.engines.gbnf_numbers import integers, numbers
from turnwire.engines.gbnf_rules import Rules, literal
from turnwire.engines.grammar_tree import Unwritable

__all__ = ["SchemaWriter"]

Object = Mapping[str, object]

# They say nothing about what is valid, or are read where they are referred to.
_NOTES: Final = frozenset(
    {
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "x-guidance"),
    }
)
_BY_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems", "prefixItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset(),
    "null": frozenset(),
}
_FORMATS: Final[Mapping[str, str]] = {
    "date": "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])",
    "time": "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z",
    "date-time": "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
_MAX_COUNT: Final = 512
_MAX_DEPTH: Final = 64


class SchemaWriter:
    """Writes schemas into rules; what several of them need is written once."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._shared: dict[tuple[str, str, str], str] = {}
        self._comma, self._colon = ",", ":"
        self._root: object = {}
        self._refs: dict[str, str] = {}
        self._depth = 0

    def write(self, schema: Object | bool) -> str:
        """Return what stands for a value under this schema."""
        self._root, self._refs = schema, {}
        self._comma, self._colon = _separators(schema)
        return self._value(schema)

    # -- a value

    def _value(self, schema: object) -> str:
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                raise Unwritable("a schema that is too deep")
            if isinstance(schema, Mapping):
                try:
                    return self._under(schema)
                except Unwritable:
                    return self._any_of_type(schema)
            if schema is False:
                raise Unwritable("a value that cannot be")
            return self._any("value")
        finally:
            self._depth -= 1

    def _any_of_type(self, schema: Object) -> str:
        kinds = _types(schema)
        return _either([self._any(kind) for kind in kinds]) if kinds else self._any("value")

    def _under(self, schema: Object) -> str:
        said = {key: value for key, value in schema.items() if key not in _NOTES}
        if "$ref" in said:
            return self._referred(said)
        if "const" in said:
            return self._fixed([said["const"]], said)
        if "enum" in said:
            values = said["enum"]
            if not isinstance(values, list):
                raise Unwritable("an enum that is no list")
            return self._fixed(values, said)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in said:
                return self._combined(word, said)
        kinds = _types(said)
        if not kinds:
            kinds = [
                kind for kind, words in _BY_TYPE.items() if words & said.keys() and kind != "number"
            ]
            if not said:
                return self._any("value")
            if len(kinds) != 1:
                raise Unwritable("keywords without a type")
        unknown = said.keys() - {"type"} - frozenset().union(*(_BY_TYPE[kind] for kind in kinds))
        if unknown:
            raise Unwritable(f"the keyword {min(unknown)}")
        return _either([self._typed(kind, said) for kind in kinds])

    def _referred(self, said: Object) -> str:
        ref = said["$ref"]
        if len(said) > 1 or not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise Unwritable("a reference")
        if ref not in self._refs:
            name = self._refs[ref] = self._rules.fresh("ref")
            self._rules.add(name, self._value(self._resolve(ref)))
        return self._refs[ref]

    def _resolve(self, ref: str) -> object:
        found = self._root
        for word in ref.split("/")[1:]:
            key = word.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                raise Unwritable(f"a reference to nothing: {ref}")
            found = found[key]
        return found

    def _fixed(self, values: list[object], said: Object) -> str:
        if said.keys() - {"const", "enum", "type"}:
            raise Unwritable("an enum with more conditions")
        kinds = _types(said)
        fit = [value for value in values if not kinds or _type_of(value) & set(kinds)]
        if not fit:
            raise Unwritable("an enum of nothing")
        return _either([literal(self._json(value)) for value in fit])

    def _combined(self, word: str, said: Object) -> str:
        ways = said[word]
        rest = {key: value for key, value in said.items() if key != word}
        if not isinstance(ways, list) or not ways or (word == "allOf" and len(ways) > 1):
            raise Unwritable(word)
        return _either([self._value(_merged(rest, way)) for way in ways])

    def _typed(self, kind: str, said: Object) -> str:
        match kind:
            case "object":
                return self._object(said)
            case "array":
                return self._array(said)
            case "string":
                return self._string(said)
            case "integer":
                return integers(*_bounds(said))
            case "number":
                return numbers(*_bounds(said))
            case _:
                return self._any(kind)

    # -- objects and arrays

    def _object(self, said: Object) -> str:
        properties, required = said.get("properties", {}), said.get("required", [])
        more = said.get("additionalProperties", True)
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise Unwritable("properties")
        members = dict(properties)
        for name in required:
            if name not in members:
                if more is False:
                    raise Unwritable("a required property that is not allowed")
                members[str(name)] = more
        if members:
            return self._members(members, frozenset(map(str, required)))
        if more is False:
            return '"{}"'
        if more is True or more == {}:
            return self._any("object")
        value = self._named("value", lambda: self._value(more))
        pair = f"{self._any('string')} {literal(self._colon)} {value}"
        return self._list("{", self._rules.made("member", pair), "}", 0, None)

    def _members(self, members: Mapping[str, object], required: frozenset[str]) -> str:
        """`{`, the members in order, each optional one or not, `}`."""
        # From the last to the first: what may follow, behind another member and as the first.
        after = first = '"}"'
        for name, schema in reversed(list(members.items())):
            try:
                value = self._value(schema)
            except Unwritable:
                if name in required:
                    raise
                continue  # it can never be there
            pair = f"{literal(self._json(name) + self._colon)} {value}"
            behind, ahead = f"{literal(self._comma)} {pair} {after}", f"{pair} {after}"
            if name not in required:
                behind, ahead = f"{behind} | {after}", f"{ahead} | {first}"
            after, first = self._rules.made("more", behind), self._rules.made("first", ahead)
        return f'"{{" {first}'

    def _array(self, said: Object) -> str:
        items, leading = said.get("items", True), said.get("prefixItems", [])
        least, most = _count(said, "minItems"), _count(said, "maxItems", None)
        if leading:
            raise Unwritable("prefixItems")
        if items is False:
            most = 0
        if most == 0:
            return '"[]"'
        if least is None or least > _MAX_COUNT:
            raise Unwritable("minItems")
        item = self._named("item", lambda: self._value(items))
        return self._list(
            "[", item, "]", least, most if most is None or most <= _MAX_COUNT else None
        )

    # -- scalars

    def _string(self, said: Object) -> str:
        rules = self._rules
        pattern, form = said.get("pattern"), said.get("format")
        least, most = _count(said, "minLength"), _count(said, "maxLength", None)
        if pattern is not None or form is not None:
            regex = pattern if pattern is not None else _FORMATS.get(str(form))
            if least or most is not None or not isinstance(regex, str) or (pattern and form):
                raise Unwritable("conditions of a string")
            if form is not None:
                regex = f"^(?:{regex})$"
            return f'"\\"" {rules.json_pattern(regex)} "\\""'
        if least is None or least > _MAX_COUNT:
            raise Unwritable("minLength")
        if not least and (most is None or most > _MAX_COUNT):
            return self._any("string")
        one = self._named("character", rules.json_character)
        if most is None or most > _MAX_COUNT:
            return f'"\\"" {one}{{{least}}} {rules.json_text()} "\\""'
        return f'"\\"" {one}{{{least},{most}}} "\\""'

    # -- whatever

    def _any(self, kind: str) -> str:
        key = (kind, self._comma, self._colon)
        found = self._shared.get(key)
        if found is None:
            # Named first: an array of any values has any values in it.
            found = self._shared[key] = self._rules.fresh(f"any {kind}")
            self._rules.add(found, self._any_text(kind))
        return found

    def _any_text(self, kind: str) -> str:
        match kind:
            case "object":
                colon = literal(self._colon)
                pair = f"{self._any('string')} {colon} {self._any('value')}"
                pair = self._rules.made("pair", pair)
                return self._list("{", pair, "}", 0, None)
            case "array":
                return self._list("[", self._any("value"), "]", 0, None)
            case "string":
                return f'"\\"" {self._rules.json_text()} "\\""'
            case "integer":
                return integers(None, None)
            case "number":
                return numbers(None, None)
            case "boolean":
                return '"true" | "false"'
            case "null":
                return '"null"'
            case _:
                kinds = ("object", "array", "string", "number", "boolean", "null")
                return " | ".join(map(self._any, kinds))

    def _named(self, hint: str, write: Callable[[], str]) -> str:
        return self._rules.made(hint, write())

    def _list(self, start: str, item: str, end: str, least: int, most: int | None) -> str:
        bounds = f"{max(0, least - 1)},{'' if most is None else most - 1}"
        inside = f"{item} ({literal(self._comma)} {item}){{{bounds}}}"
        return f"{literal(start)} {inside if least else f'({inside})?'} {literal(end)}"

    def _json(self, value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(self._comma, self._colon))


def _separators(schema: Object | bool) -> tuple[str, str]:
    """What stands between members, and between a name and its value."""
    asked = schema.get("x-guidance") if isinstance(schema, Mapping) else None
    asked = asked if isinstance(asked, Mapping) else {}
    return str(asked.get("item_separator", ",")), str(asked.get("key_separator", ":"))


def _either(ways: list[str]) -> str:
    return ways[0] if len(ways) == 1 else "(" + " | ".join(ways) + ")"


def _types(said: Object) -> list[str]:
    found = said.get("type", [])
    kinds = [found] if isinstance(found, str) else found
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= _BY_TYPE.keys():
        raise Unwritable("a type that JSON does not have")
    return [str(kind) for kind in kinds]


def _type_of(value: object) -> set[str]:
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number", "integer"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
        case _:
            return {"object"}


def _merged(rest: Object, way: object) -> object:
    """A way with the conditions that are around it, where they do not meet."""
    if not rest:
        return way
    if way is True:
        return rest
    if not isinstance(way, Mapping):
        raise Unwritable("conditions around alternatives")
    both = rest.keys() & way.keys() - _NOTES - {"type"}
    if "$ref" in way or both or ("type" in way and rest.get("type", way["type"]) != way["type"]):
        raise Unwritable("conditions around alternatives")
    return {**rest, **way}


def _count(said: Object, key: str, default: int | None = 0) -> int | None:
    value = said.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | None):
        raise Unwritable(key)
    return value


def _bounds(said: Object) -> tuple[float | None, float | None, bool, bool]:
    """Least and most, and whether they themselves are left out."""
    least, most = _number(said, "minimum"), _number(said, "maximum")
    above, below = _number(said, "exclusiveMinimum"), _number(said, "exclusiveMaximum")
    without_least = above is not None and (least is None or above >= least)
    without_most = below is not None and (most is None or below <= most)
    return (
        above if without_least else least,
        below if without_most else most,
        without_least,
        without_most,
    )


def _number(said: Object, key: str) -> float | None:
    value = said.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unwritable(key)
    return value
