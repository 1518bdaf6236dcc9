"""The decoder's complaints, one example of every shape."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from turnwire.errors import InvalidJson, InvalidRequest
from turnwire.protocol.codec import decode_create
from turnwire.protocol.validation import COMPLAINT, FAULTS, PATTERNS, CheckedDecoder, explain


class Circle(Struct, tag_field="type", tag="circle"):
    radius: int


class Square(Struct, tag_field="type", tag="square"):
    side: int
    colour: Literal["red", "blue"] | None = None


class Thing(Struct):
    whole: Annotated[int, Meta(ge=16, le=20)] | None = None
    strictly: Annotated[int, Meta(gt=0, lt=9)] | None = None
    part: Annotated[float, Meta(ge=0, le=2)] | None = None
    flag: bool | None = None
    text: Annotated[str, Meta(min_length=1, max_length=4)] | None = None
    name: Annotated[str, Meta(pattern=r"\A[a-z\d]+\Z")] | None = None
    numbers: Annotated[list[int], Meta(min_length=1, max_length=2)] | None = None
    pairs: (
        Annotated[
            dict[Annotated[str, Meta(max_length=3)], Annotated[str, Meta(max_length=5)]],
            Meta(min_length=1, max_length=2),
        ]
        | None
    ) = None
    shade: Literal["light", "dark"] | None = None
    shapes: tuple[Circle | Square, ...] = ()
    either: str | Circle | None = None


THING = CheckedDecoder[Thing](Thing)

TABLE = [
    ('{"shapes":[{"type":"circle"}]}', "missing_required_parameter", "shapes[0].radius",
     "'shapes[0].radius' is required, but it is missing."),
    ('{"shapes":[{"radius":1}]}', "missing_required_parameter", "shapes[0].type",
     "'shapes[0].type' is required, but it is missing."),
    ('{"whole":"x"}', "invalid_type", "whole",
     "'whole' must be an integer or null, but 'x' was given."),
    ('{"flag":[1,2]}', "invalid_type", "flag",
     "'flag' must be a boolean or null, but an array of 2 elements was given."),
    ('{"text":{"a":1}}', "invalid_type", "text",
     "'text' must be a string or null, but an object of 1 pairs was given."),
    ('{"part":null,"numbers":[1,true]}', "invalid_type", "numbers[1]",
     "'numbers[1]' must be an integer, but true was given."),
    ('{"shapes":[{"type":5}]}', "invalid_type", "shapes[0].type",
     "'shapes[0].type' must be a string, but 5 was given."),
    ('{"either":7}', "invalid_type", "either",
     "'either' must be a string or an object or null, but 7 was given."),
    ('{"whole":15}', "integer_below_min_value", "whole",
     "'whole' must be at least 16, but 15 was given."),
    ('{"whole":21}', "integer_above_max_value", "whole",
     "'whole' must be at most 20, but 21 was given."),
    ('{"strictly":0}', "integer_below_min_value", "strictly",
     "'strictly' must be at least 1, but 0 was given."),
    ('{"strictly":9}', "integer_above_max_value", "strictly",
     "'strictly' must be at most 8, but 9 was given."),
    ('{"part":-0.5}', "decimal_below_min_value", "part",
     "'part' must be at least 0, but -0.5 was given."),
    ('{"part":2.1}', "decimal_above_max_value", "part",
     "'part' must be at most 2, but 2.1 was given."),
    ('{"text":""}', "string_below_min_length", "text",
     "'text' must be a string of at least 1 characters, but '' was given."),
    ('{"text":"%s"}' % ("x" * 50), "string_above_max_length", "text",
     "'text' must be a string of at most 4 characters, "
     "but a string of 50 characters was given."),
    ('{"numbers":[]}', "array_below_min_length", "numbers",
     "'numbers' must be an array of at least 1 elements, but an array of 0 elements was given."),
    ('{"numbers":[1,2,3]}', "array_above_max_length", "numbers",
     "'numbers' must be an array of at most 2 elements, but an array of 3 elements was given."),
    ('{"pairs":{}}', "object_below_min_pairs", "pairs",
     "'pairs' must be an object of at least 1 pairs, but an object of 0 pairs was given."),
    ('{"pairs":{"a":"","b":"","c":""}}', "object_above_max_pairs", "pairs",
     "'pairs' must be an object of at most 2 pairs, but an object of 3 pairs was given."),
    ('{"pairs":{"abcd":"x"}}', "string_above_max_length", "pairs",
     "Every key in 'pairs' must be a string of at most 3 characters."),
    ('{"pairs":{"a":"abcdef"}}', "string_above_max_length", "pairs",
     "Every value in 'pairs' must be a string of at most 5 characters."),
    ('{"pairs":{"a":1}}', "invalid_type", "pairs",
     "Every value in 'pairs' must be a string."),
    ('{"name":"A"}', "invalid_value", "name",
     r"'name' must be a string that matches ^[a-z\d]+$, but 'A' was given."),
    ('{"shade":"grey - at `$.name`"}', "invalid_value", "shade",
     "'shade' must be one of 'dark', 'light', but 'grey - at `$.name`' was given."),
    ('{"shapes":[{"type":"circle","radius":1},{"type":"line"}]}', "invalid_value",
     "shapes[1].type", "'shapes[1].type' must be one of 'circle', 'square', but 'line' was given."),
    ('{"shapes":[{"type":"square","side":1,"colour":"x"}]}', "invalid_value", "shapes[0].colour",
     "'shapes[0].colour' must be one of 'blue', 'red', but 'x' was given."),
    ('{"part":1e999}', "invalid_value", "part",
     "'part' must be a value within its range, but 1e999 was given."),
    ('{"whole":%s}' % ("9" * 5000), "invalid_value", "whole",
     f"'whole' must be a value within its range, but {'9' * 40} was given."),
    ('{"whole":[%s1]}' % ("1," * 40_000), "invalid_type", "whole",
     "'whole' must be an integer or null, but a large array was given."),
    ('{"pairs":{%s"c":""}}' % ('"a":"","b":"",' * 5_000),
     "object_above_max_pairs", "pairs",
     "'pairs' must be an object of at most 2 pairs, but a large object was given."),
    ('{"flag":"%s"}' % ("x" * 100_000), "invalid_type", "flag",
     "'flag' must be a boolean or null, but a string of 100000 characters was given."),
]  # fmt: skip


@pytest.mark.parametrize(("document", "code", "param", "message"), TABLE)
def test_complaints(document: str, code: str, param: str, message: str) -> None:
    """Every complaint of the decoder becomes a code, a path and a sentence."""
    with pytest.raises(InvalidRequest) as caught:
        THING.decode(document)
    assert (code, param, message) == (caught.value.code, caught.value.param, str(caught.value))


def test_every_pattern_is_met() -> None:
    """The table above has an example for each line of the grammar."""
    said = set()
    for document, *_ in TABLE:
        try:
            THING.attempt(document)
        except FAULTS as fault:
            place = COMPLAINT.match(str(fault))
            assert place is not None
            said |= {code for pattern, code in PATTERNS if pattern.fullmatch(place["what"])}
    assert {code for _, code in PATTERNS} == said


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "is empty; it must be a JSON object"),
        (b"{", "not valid JSON"),
        (b'{"whole":16}x', "not valid JSON"),
        (b'{"whole":1', "not valid JSON"),
        (b'{"other":"\\ud800"}', "not valid JSON"),
        (b'{"text":"\xff"}', "not valid UTF-8"),
        ('{"text":"\ud800"}', "not valid UTF-8"),
        (b'{"other":' + b"[" * 100_000, "nested too deeply"),
        (b"[1]", "must be a JSON object, but an array of 1 elements was given"),
        (b"null", "must be a JSON object, but null was given"),
    ],
)
def test_not_json(document: bytes | str, says: str) -> None:
    """What is no JSON object is invalid_json, also where a bad field comes before the break."""
    with pytest.raises(InvalidJson, match=says) as caught:
        THING.decode(document)
    assert ("invalid_json", None) == (caught.value.code, caught.value.param)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ('{"whole":1}', "input[3].whole"),
        ('{"shapes":[{}]}', "input[3].shapes[0].type"),
        ("5", "input[3]"),
    ],
)
def test_paths_start_where_the_document_is(document: str, param: str) -> None:
    """A part of a request is decoded by itself; its errors still name the whole path."""
    with pytest.raises(InvalidRequest) as caught:
        THING.decode(document, "input[3]")
    assert param == caught.value.param


def test_an_unknown_complaint_is_still_an_answer() -> None:
    """Words that are not in the grammar give invalid_value and keep the path."""
    fault = msgspec.ValidationError("Something new - at `$.whole`")
    error = explain(fault, b'{"whole":3}', Thing)
    assert ("invalid_value", "whole") == (error.code, error.param)
    assert str(error) == "'whole' must be valid (Something new), but 3 was given."


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(Thing.__struct_fields__), JSON))
def test_any_value_is_taken_or_explained(document: dict[str, object]) -> None:
    """Whatever stands in a field, the answer is a value or an error that names a field."""
    error = refusal(msgspec.json.encode(document))
    named = error.param.split("[")[0].split(".")[0] if error and error.param else None
    assert (named in document) is (error is not None)


def refusal(document: bytes) -> InvalidRequest | None:
    """The error that a document meets, if it meets one."""
    try:
        THING.decode(document)
    except InvalidRequest as error:
        return error
    return None


def test_a_key_that_is_there_twice() -> None:
    """The decoder complains of the first, which is not the one that reading finds."""
    with pytest.raises(InvalidRequest) as refused:
        decode_create(
            b'{"model":"m","context_management":[{"type":"compaction"},{"type":"x"}],'
            b'"context_management":[]}'
        )
    assert "context_management[1].type" == refused.value.param
