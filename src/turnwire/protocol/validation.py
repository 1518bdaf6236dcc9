"""From the decoder's complaint to the protocol's error: a code, a path and one sentence.

msgspec says what is wrong as text: an expectation, then a place. This is the only file that
reads that text; `PATTERNS` is its grammar, and one test
holds an example of every line. What
came instead is looked up in the document, level by level, so that a large body is never turned
into Python objects only to be refused.

Source: codes from protocol.md section 16.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw, inspect
from msgspec.json import Decoder

from turnwire.errors import InvalidJson, InvalidRequest

__all__ = ["FAULTS", "CheckedDecoder", "Document", "explain"]

T = TypeVar("T")

Document = bytes | str | Raw

FAULTS: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What decoding other people's bytes may raise; `explain` takes each of them."""

# The place comes last: " - at `$.a[0].b`", or " - at `key` in `$.a`" for a mapping's key.
COMPLAINT: Final = re.compile(
    r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?\Z", re.DOTALL
)
STEP: Final = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")

LENGTH: Final = r"Expected `(?P<sized>{kind})` of length (?P<bound>{bound}) (?P<limit>\d+)"
PATTERNS: Final = tuple(
    (re.compile(pattern, re.DOTALL), code)
    for pattern, code in (
        (r"Object missing required field `(?P<field>.*)`", "missing_required_parameter"),
        (r"Expected `(?P<type>[^`]*)`(?:, got `[^`]*`)?", "invalid_type"),
        (r"Expected `int` (?P<bound>>=?) (?P<limit>\S+)", "integer_below_min_value"),
        (r"Expected `int` (?P<bound><=?) (?P<limit>\S+)", "integer_above_max_value"),
        (r"Expected `float` (?P<bound>>=?) (?P<limit>\S+)", "decimal_below_min_value"),
        (r"Expected `float` (?P<bound><=?) (?P<limit>\S+)", "decimal_above_max_value"),
        (LENGTH.format(kind="str", bound=">="), "string_below_min_length"),
        (LENGTH.format(kind="str", bound="<="), "string_above_max_length"),
        (LENGTH.format(kind="array", bound=">="), "array_below_min_length"),
        (LENGTH.format(kind="array", bound="<="), "array_above_max_length"),
        (LENGTH.format(kind="object", bound=">="), "object_below_min_pairs"),
        (LENGTH.format(kind="object", bound="<="), "object_above_max_pairs"),
        (r"Expected `str` matching regex '(?P<regex>.*)'", "invalid_value"),
        (r"Invalid (?:enum )?value .*", "invalid_value"),
        (r"(?:Number|Integer value) out of range", "invalid_value"),
    )
)

TYPE_NAMES: Final = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
UNITS: Final = {"str": "characters", "array": "elements", "object": "pairs"}
BOUNDS: Final = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}

# Longer values are described, not quoted.
MAX_QUOTED_CHARS: Final = 40
# The elements of what is longer are not counted either: a million pairs take a second.
MAX_COUNTED_BYTES: Final = 65_536

_OBJECT: Final = Decoder(dict[str, Raw])
_ARRAY: Final = Decoder(list[Raw])


class CheckedDecoder(Generic[T]):
    """A decoder of one type whose complaints are the protocol's errors.

    Attributes:
        type: What it decodes.
    """

    def __init__(self, type: Any) -> None:  # `type[T]` cannot hold a union
        self.type: Final = type
        self._decoder: Decoder[T] = Decoder(type)

    def attempt(self, document: Document) -> T:
        """Decode, and let one of `FAULTS` out as it is."""
        return self._decoder.decode(document)

    def decode(self, document: Document, param: str = "") -> T:
        """Decode a document, or the part of a request that is at `param`.

        Raises:
            InvalidJson: it is not JSON.
            InvalidRequest: it is not of this type; `param` is the path of the field at fault.
        """
        try:
            return self._decoder.decode(document)
        except FAULTS as fault:
            raise explain(fault, document, self.type, param) from None


def explain(fault: Exception, document: Document, type_: Any, param: str = "") -> InvalidRequest:
    """Return the error for one of `FAULTS`.

    Args:
        fault: What decoding raised.
        document: What was decoded; the offending value is looked up in it.
        type_: The type it was decoded as; allowed values are looked up in it.
        param: Path of `document` in the request, or "" if it is the request.
    """
    if document == b"":
        return InvalidJson("The text is empty; it must be a JSON object.")
    if not isinstance(fault, msgspec.ValidationError):
        return _not_json(fault)
    complaint = COMPLAINT.match(str(fault))
    if complaint is None:
        raise AssertionError("the pattern matches every text")
    path = complaint["path"] or ""
    steps = _steps(path)
    try:
        came = _describe(_value_at(document, steps))
    except FAULTS as worse:
        # The decoder stops at the first bad field; the text after it may not even be JSON.
        return _not_json(worse)
    where = _join(param, steps)
    what, code, groups = _classify(complaint["what"])
    if code == "missing_required_parameter":
        where = _join(param, [*steps, groups["field"]])
        return InvalidRequest(f"'{where}' is required, but it is missing.", code=code, param=where)
    if not where and code == "invalid_type":
        return InvalidJson(f"The text must be a JSON object, but {came} was given.")
    expected = what or _expected(groups, _allowed(type_, steps) if code == "invalid_value" else ())
    if complaint["key"] or "[...]" in path:
        # msgspec does not say which key.
        each = "key" if complaint["key"] else "value"
        text = f"Every {each} in '{where}' must be {expected}."
    else:
        text = f"'{where}' must be {expected}, but {came} was given."
    return InvalidRequest(text, code=code, param=where or None)


def _classify(what: str) -> tuple[str, str, dict[str, str]]:
    """Return (words of its own, code, named groups) of a complaint without its place."""
    for pattern, code in PATTERNS:
        if found := pattern.fullmatch(what):
            return "", code, found.groupdict(default="")
    # A newer msgspec may complain in words that are not in the table.
    return f"valid ({what})", "invalid_value", {}


def _not_json(fault: Exception) -> InvalidJson:
    match fault:
        case RecursionError():
            return InvalidJson("The JSON is nested too deeply.")
        case UnicodeError():
            return InvalidJson("The text is not valid UTF-8.")
        case _:
            reason = str(fault).removeprefix("JSON is malformed: ")
            return InvalidJson(f"The text is not valid JSON ({reason}).")


def _expected(groups: dict[str, str], allowed: Sequence[str]) -> str:
    if allowed:
        return "one of " + ", ".join(f"'{value}'" for value in allowed)
    if kinds := groups.get("type"):
        return " or ".join(TYPE_NAMES.get(kind, f"`{kind}`") for kind in kinds.split(" | "))
    if regex := groups.get("regex"):
        # msgspec shows the pattern as a Python literal; people know ^ and $ better.
        plain = regex.replace("\\\\", "\\").removeprefix("\\A").removesuffix("\\Z")
        return f"a string that matches ^{plain}$"
    if bound := groups.get("bound"):
        size = f"{BOUNDS[bound]} {groups['limit'].removesuffix('.0')}"
        sized = groups.get("sized")
        return f"{TYPE_NAMES[sized]} of {size} {UNITS[sized]}" if sized else size
    return "a value within its range"


# -- places


def _steps(path: str) -> list[str | int]:
    """Split `.a[3].b[...]` into names and indices; it ends before what msgspec cannot name."""
    steps: list[str | int] = []
    for step in STEP.finditer(path):
        index = step["index"]
        if index == "...":
            break
        steps.append(step["name"] if index is None else int(index))
    return steps


def _join(param: str, steps: Sequence[str | int]) -> str:
    text = param + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


def _value_at(document: Document, steps: Sequence[str | int]) -> Raw | None:
    """The value at a path, or None if there is none. Checks the whole document's syntax."""
    value = msgspec.json.decode(document, type=Raw)
    for step in steps:
        if isinstance(step, int):
            elements = _ARRAY.decode(value)
            if step >= len(elements):
                return None  # a key that is there twice: the decoder complained of the other one
            value = elements[step]
            continue
        found = _OBJECT.decode(value).get(step)
        if found is None:
            return None
        value = found
    return value


def _describe(value: Raw | None) -> str:
    if value is None:
        return "nothing"
    text = bytes(value)
    large = len(text) > MAX_COUNTED_BYTES
    match text[:1]:
        case b'"':
            decoded = msgspec.json.decode(text, type=str)
            if len(decoded) <= MAX_QUOTED_CHARS:
                return f"'{decoded}'"
            return f"a string of {len(decoded)} characters"
        case b"[":
            return "a large array" if large else f"an array of {len(_ARRAY.decode(text))} elements"
        case b"{":
            return "a large object" if large else f"an object of {len(_OBJECT.decode(text))} pairs"
        case _:
            return text[:MAX_QUOTED_CHARS].decode()


# -- types


def _allowed(type_: Any, steps: Sequence[str | int]) -> list[str]:
    """The strings that a field may hold, if it is an enumeration or a tag."""
    types = list(_members(_type_info(type_)))
    for step in steps:
        tags = [
            str(t.tag) for t in types if isinstance(t, inspect.StructType) and t.tag_field == step
        ]
        if tags:
            return tags
        types = list(chain.from_iterable(_below(t, step) for t in types))
    literals = [t.values for t in types if isinstance(t, inspect.LiteralType)]
    return list(dict.fromkeys(str(value) for values in literals for value in values))


@cache
def _type_info(type_: Any) -> inspect.Type:
    return inspect.type_info(type_)


def _members(type_: inspect.Type) -> Iterator[inspect.Type]:
    match type_:
        case inspect.Metadata():
            yield from _members(type_.type)
        case inspect.UnionType():
            for member in type_.types:
                yield from _members(member)
        case _:
            yield type_


def _below(type_: inspect.Type, step: str | int) -> Iterator[inspect.Type]:
    match type_:
        case inspect.StructType():
            for field in type_.fields:
                if field.encode_name == step:
                    yield from _members(field.type)
        case inspect.ListType() | inspect.VarTupleType():
            if isinstance(step, int):
                yield from _members(type_.item_type)
        case _:
            return
