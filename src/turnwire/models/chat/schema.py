"""Does a value obey a JSON schema? For what an endpoint promised to hold to, and may not have.

The subset that strict tools and formats may use, and some more: type, enum, const, properties,
required, additionalProperties, items, prefixItems, bounds of numbers, strings and arrays, anyOf,
allOf, oneOf, and `$ref` into the schema itself. Other keywords say nothing here: the check is
there to catch what is wrong for certain.

Clients write the schemas and have a say in the values, and everybody waits for the check. So its
work is bounded, and patterns are not tried: a regular expression can be written to take for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["flaw"]

MAX_DEPTH: Final = 64
"""Deeper values are taken as they are; strict mode of hosted APIs ends at 10 levels."""
MAX_STEPS: Final = 20_000
"""Some milliseconds; what is not checked by then is taken as it is. Schemas that refer to
themselves, or list thousands of values, can ask for any number."""


def flaw(value: object, schema: object) -> str | None:
    """Say what is wrong with a value, or None if nothing is.

    Args:
        value: As decoded from JSON.
        schema: A decoded JSON schema; references are looked up in it.

    Returns:
        The path and the keyword that does not hold, such as `files[0].mode: enum`. Never a
        piece of the value.
    """
    try:
        for path, keyword in _Check(schema).flaws(value, schema, "", 0):
            return f"{path or 'the value'}: {keyword}"
    except _Tired:
        pass
    return None


class _Tired(Exception):
    """The work was more than it is worth."""


class _Check:
    """One check of one value."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._steps_left = MAX_STEPS

    def flaws(
        self, value: object, schema: object, path: str, depth: int
    ) -> Iterator[tuple[str, str]]:
        """Where and which keyword, for each that does not hold."""
        self._spend(1)
        if schema is False:
            yield path, "false"
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return
        for keyword, wanted in schema.items():
            self._spend(1)
            match keyword:
                case "$ref":
                    target = _resolve(wanted, self._root)
                    yield from self.flaws(value, target, path, depth + 1)
                case "allOf" if isinstance(wanted, Sequence):
                    for one in wanted:
                        yield from self.flaws(value, one, path, depth + 1)
                case "anyOf" | "oneOf" if isinstance(wanted, Sequence):
                    fits = sum(self._fits(value, one, path, depth + 1) for one in wanted)
                    if not fits or (keyword == "oneOf" and fits > 1):
                        yield path, keyword
                case _ if (holds := _CHECKS.get(keyword)) is not None:
                    self._spend(len(wanted) if isinstance(wanted, Sequence) else 1)
                    if not holds(value, wanted):
                        yield path, keyword
        if isinstance(value, dict):
            yield from self._in_object(value, schema, path, depth)
        elif isinstance(value, list):
            yield from self._in_array(value, schema, path, depth)

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise _Tired

    def _fits(self, value: object, schema: object, path: str, depth: int) -> bool:
        return next(self.flaws(value, schema, path, depth), None) is None

    def _in_object(
        self, value: Mapping[str, object], schema: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[tuple[str, str]]:
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        further = schema.get("additionalProperties", True)
        if "patternProperties" in schema:
            further = True  # which names are meant is not ours to say
        for name, one in value.items():
            place = f"{path}.{name}" if path else name
            if name in known:
                yield from self.flaws(one, known[name], place, depth + 1)
            elif further is False:
                yield path, "additionalProperties"  # the name itself is the model's own
            else:
                yield from self.flaws(one, further, place, depth + 1)

    def _in_array(
        self, value: Sequence[object], schema: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[tuple[str, str]]:
        leading = schema.get("prefixItems")
        first = leading if isinstance(leading, Sequence) else ()
        rest = schema.get("items", True)
        for n, one in enumerate(value):
            wanted = first[n] if n < len(first) else rest
            yield from self.flaws(one, wanted, f"{path}[{n}]", depth + 1)


def _resolve(reference: object, root: object) -> object:
    """What a `#/...` reference points to; True, which everything obeys, if that is nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    found = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            return True
        found = found[name]
    return found


_TYPES: Final[Mapping[str, Callable[[object], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and value == int(value),  # type: ignore[call-overload]
    "number": lambda value: _is_number(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_type(value: object, wanted: object) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, Sequence):
        return True
    return any(_TYPES[name](value) if name in _TYPES else True for name in names)


def _same(one: object, other: object) -> bool:
    """Equality as JSON has it: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


def _is_listed(value: object, wanted: object) -> bool:
    return not isinstance(wanted, Sequence) or any(_same(value, one) for one in wanted)


def _has_required(value: object, wanted: object) -> bool:
    if not isinstance(value, dict) or not isinstance(wanted, Sequence):
        return True
    return all(name in value for name in wanted)


def _bound(
    kind: Callable[[object], bool], measure: Callable[[Any], Any], holds: Callable[[Any, Any], bool]
) -> Callable[[object, object], bool]:
    def check(value: object, wanted: object) -> bool:
        return not (kind(value) and _is_number(wanted)) or holds(measure(value), wanted)

    return check


def _self(value: Any) -> Any:
    return value


_CHECKS: Final[Mapping[str, Callable[[object, object], bool]]] = {
    "type": _is_type,
    "enum": _is_listed,
    "const": _same,
    "required": _has_required,
    "minimum": _bound(_is_number, _self, lambda a, b: a >= b),
    "maximum": _bound(_is_number, _self, lambda a, b: a <= b),
    "exclusiveMinimum": _bound(_is_number, _self, lambda a, b: a > b),
    "exclusiveMaximum": _bound(_is_number, _self, lambda a, b: a < b),
    "minLength": _bound(_TYPES["string"], len, lambda a, b: a >= b),
    "maxLength": _bound(_TYPES["string"], len, lambda a, b: a <= b),
    "minItems": _bound(_TYPES["array"], len, lambda a, b: a >= b),
    "maxItems": _bound(_TYPES["array"], len, lambda a, b: a <= b),
}
