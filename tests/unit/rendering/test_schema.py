"""Tests of `turnwire.rendering.schema`: what schemas let through, and what cannot be enforced."""

from __future__ import annotations

import json
from typing import Any

import llguidance.numpy
import pytest
from llguidance import LLMatcher, LLParserLimits
from msgspec import Raw

from turnwire.constraint import LIMITS
from turnwire.errors import InvalidRequest
from turnwire.protocol.codec import decode_tools
from turnwire.protocol.requests import JsonObjectFormat, JsonSchemaFormat, PlainTextFormat
from turnwire.rendering.schema import argument_schemas, embedded, text_schema, tool_paths
from turnwire.rendering.tokenizer import Tokenizer

TOKENIZER = Tokenizer.shipped()
LOOKAHEAD = r"^(?!x)[a-z]+$"


def made(schema: Any, *, strict: bool = True) -> dict[str, object]:
    """The schema of an answer, in the form that compiles."""
    raw = Raw(json.dumps(schema).encode())
    found = text_schema(TOKENIZER, JsonSchemaFormat(name="n", schema=raw, strict=strict))
    assert found is not None
    return found


def accepts(schema: dict[str, object], text: str) -> bool:
    """Whether this is a whole answer."""
    matcher = LLMatcher(TOKENIZER.guidance, f"start: {embedded(schema)}")
    assert not matcher.is_error(), matcher.get_error()
    output = list(TOKENIZER.encode(text))
    return matcher.try_consume_tokens(output) == len(output) and matcher.is_accepting()


def member(schema: Any) -> dict[str, Any]:
    """An object whose one member is this."""
    return {
        "type": "object",
        "properties": {"a": schema},
        "required": ["a"],
        "additionalProperties": False,
    }


def refused(schema: Any, *, strict: bool = True) -> str:
    """Why a schema is refused."""
    with pytest.raises(InvalidRequest) as caught:
        made(schema, strict=strict)
    assert "text.format.schema" == caught.value.param
    return caught.value.message.partition("': ")[2]


def test_formats_of_text() -> None:
    """Free text has no schema, and a JSON object any members."""
    assert text_schema(TOKENIZER, PlainTextFormat()) is None
    found = text_schema(TOKENIZER, JsonObjectFormat())
    assert found is not None
    assert (True, False) == (accepts(found, '{"a":[]}'), accepts(found, "[]"))


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        # 2**53 + 1, and seven behind it: no float equals the first, the last or most others.
        pytest.param(
            {"minimum": 9007199254740993, "maximum": 9007199254740999},
            ["9007199254740994", "9007199254740998"],
            ["9007199254740992", "9007199254741000"],
            id="between floats",
        ),
        pytest.param(
            {"exclusiveMinimum": -9007199254740993, "exclusiveMaximum": -9007199254740987},
            ["-9007199254740990"],
            ["-9007199254740994", "-9007199254740986"],
            id="below zero",
        ),
        pytest.param(
            {"minimum": -(2**63), "maximum": 2**63 - 1},
            [str(2**62), str(-(2**62)), "0"],
            [],
            id="64 bits with a sign",
        ),
        pytest.param({"minimum": 0, "maximum": 2**64 - 1}, [str(2**64 - 1)], ["-1"], id="64 bits"),
        pytest.param({"minimum": -(10**400), "maximum": 5}, ["-7", "5"], ["6"], id="no float"),
        pytest.param({"minimum": -1.5, "maximum": 1.7e308}, ["-1"], ["-2"], id="as a float"),
        pytest.param({"minimum": 3, "maximum": 4}, ["3", "4"], ["2", "5"], id="small ones"),
    ],
)
def test_bounds(bounds: dict[str, Any], inside: list[str], outside: list[str]) -> None:
    """Nothing beyond a bound comes through; one beyond all integers of 64 bits is none."""
    found = made(member({"type": "integer", **bounds}))
    assert dict.fromkeys(inside, True) == {
        number: accepts(found, f'{{"a":{number}}}') for number in inside
    }
    assert dict.fromkeys(outside, False) == {
        number: accepts(found, f'{{"a":{number}}}') for number in outside
    }


def test_a_bound_that_cannot_be_left_out() -> None:
    """A lower bound above all integers of 64 bits cannot be enforced."""
    assert "integer range" in refused(member({"type": "integer", "minimum": 10**20}))


def is_written(schema: dict[str, object], value: Any) -> bool:
    """Whether a model can write this answer token by token, with a mask before each."""
    matcher = LLMatcher(
        TOKENIZER.guidance, f"start: {embedded(schema)}", limits=LLParserLimits(**LIMITS)
    )
    bits = llguidance.numpy.allocate_token_bitmask(1, TOKENIZER.vocab_size)
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for token in TOKENIZER.encode(text):
        llguidance.numpy.fill_next_token_bitmask(matcher, bits)
        if not matcher.consume_token(token):
            return False
    return bool(matcher.is_accepting())


SCRIPTS = 'The quick brown fox.\n"ünï" € 漢字 😀 \\ \t' * 1000


@pytest.mark.parametrize(
    ("schema", "size"),
    [
        pytest.param({"maxLength": 100_000}, 30_000, id="longest"),
        pytest.param({"minLength": 1, "maxLength": 65_536}, 30_000, id="with a shortest"),
        pytest.param({"minLength": 20_000}, 30_000, id="shortest"),
        pytest.param({"maxLength": 1000}, 1000, id="all that is counted"),
        pytest.param({"pattern": r"^[\s\S]{1,40000}$"}, 30_000, id="pattern"),
        pytest.param({"pattern": r"^(.|\n){20000,}$"}, 30_000, id="pattern without an end"),
    ],
)
def test_long_texts(schema: Any, size: int) -> None:
    """A text may be as long as its schema lets it, whatever that costs to count."""
    found = made(member({"type": "string", **schema}))
    assert is_written(found, {"a": SCRIPTS[:size]})


@pytest.mark.parametrize(
    ("pattern", "whole", "others"),
    [
        (r"^x{1,3}$", ["x", "xxx"], ["", "xxxx"]),
        (r"^x{2}$", ["xx"], ["x", "xxx"]),
        (r"^x{2,5000}$", ["xx", "x" * 6000], ["x"]),
        (r"^\{5000\}$", ["{5000}"], ["", "{1000,}"]),
        (r"^[{5000}]{2}$", ["{}", "50"], ["{", "{}5"]),
        (r"^\[{2}$", ["[["], ["["]),
    ],
)
def test_what_patterns_count(pattern: str, whole: list[str], others: list[str]) -> None:
    """Small numbers hold; of large ones the smaller does; what only looks like one is itself."""
    found = made(member({"type": "string", "pattern": pattern}))
    texts = dict.fromkeys(whole, True) | dict.fromkeys(others, False)
    assert texts == {text: is_written(found, {"a": text}) for text in texts}


def test_many_texts_with_bounds_of_their_own() -> None:
    """Together they are no longer than what can be counted; the longest bounds go first."""
    names = [f"p{n}" for n in range(20)]
    schema = member({"type": "null"})
    schema["properties"] |= {
        name: {"type": "string", "maxLength": 100 + n} for n, name in enumerate(names)
    }
    found = made(schema)
    full = {name: SCRIPTS[n * 100 : n * 100 + 100 + n] for n, name in enumerate(names)}
    assert is_written(found, {"a": None, **full})
    assert not is_written(found, {"a": None, "p0": "x" * 101})
    assert is_written(found, {"a": None, "p19": "x" * 3000})


def test_a_bound_that_is_often_used_counts_once() -> None:
    """Its states are the same everywhere."""
    found = made({"type": "array", "items": member({"type": "string", "maxLength": 900})})
    assert is_written(found, [{"a": SCRIPTS[n : n + 900]} for n in range(20)])
    assert not is_written(found, [{"a": "x" * 901}])


def test_lengths_that_are_counted() -> None:
    """Both ends hold; of two that are too long together the shortest length is kept."""
    found = made(member({"type": "string", "minLength": 3, "maxLength": 5000}))
    assert (False, True) == (is_written(found, {"a": "ab"}), is_written(found, {"a": "abc"}))
    found = made(member({"type": "string", "minLength": 2, "maxLength": 4}))
    assert [False, True, True, False] == [is_written(found, {"a": "x" * n}) for n in (1, 2, 4, 5)]


VALUES = [
    pytest.param({"const": 2**53 + 1}, id="const"),
    pytest.param({"enum": ["a", 10**30]}, id="enum"),
    pytest.param({"const": {"x": [{"y": 2**53 + 1}]}}, id="inside"),
    pytest.param({"enum": [10**400]}, id="no float"),
]


@pytest.mark.parametrize("schema", VALUES)
def test_numbers_that_would_come_out_as_others(schema: Any) -> None:
    """An integer that no float equals is an error with `strict`, and left out without."""
    assert "a number is too long to be enforced exactly" in refused(member(schema))
    assert accepts(made(member(schema), strict=False), '{"a":"anything"}')


def test_values_that_are_no_numbers_of_the_schema() -> None:
    """Names of members, defaults and examples may be anything."""
    schema = member({"type": "integer", "default": 2**53 + 1, "examples": [10**30]})
    schema["properties"]["const"] = {"type": "null"}
    schema["properties"]["minimum"] = {"const": 2**53}
    found = made(schema)
    assert accepts(found, f'{{"a":1,"const":null,"minimum":{2**53}}}')
    assert not accepts(found, '{"a":1,"const":5}')


@pytest.mark.parametrize("pattern", [LOOKAHEAD, r"^(a)\1$", r"\Aa\Z", "["])
def test_patterns_of_other_dialects(pattern: str) -> None:
    """They are an error with `strict`; without, they alone are left out."""
    schema = member({"type": "string", "pattern": pattern, "maxLength": 3})
    schema["properties"]["b"] = {"type": "string", "pattern": "^[0-9]$"}
    assert pattern in refused(schema)
    found = made(schema, strict=False)
    assert accepts(found, '{"a":"xyz","b":"7"}')
    assert not accepts(found, '{"a":"wxyz"}')
    assert not accepts(found, '{"a":"xyz","b":"x"}')


def test_names_by_patterns_of_other_dialects() -> None:
    """Without `strict` any name comes through where nobody can say which would."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "null"}},
        "patternProperties": {LOOKAHEAD: {"type": "integer"}, "^x": {"type": "null"}},
        "additionalProperties": False,
    }
    assert LOOKAHEAD in refused(schema)
    found = made(schema, strict=False)
    assert accepts(found, '{"a":null,"b":"c"}')
    assert not accepts(found, '{"a":1}')


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        pytest.param({"$ref": "#"}, "nothing matches it", id="itself"),
        pytest.param(
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
            },
            "nothing matches it",
            id="a circle",
        ),
        pytest.param(
            {"$ref": "#/$defs/a", "$defs": {"a": member({"$ref": "#/$defs/a"})}},
            "what it demands has no end",
            id="no end",
        ),
        pytest.param(member({"$ref": "#/$defs/a"}), "Pointer '/$defs/a' does not exist", id="gone"),
        pytest.param(member({"enum": []}), "required property 'a' is unsatisfiable", id="nothing"),
    ],
)
def test_what_nobody_can_obey(schema: Any, words: str, strict: bool) -> None:
    """A schema that lets nothing through is the client's error, before a model is asked."""
    assert words in refused(schema, strict=strict)


def test_recursion_with_an_end() -> None:
    """A schema may lead back to itself where it can also end."""
    found = made(member({"anyOf": [{"$ref": "#"}, {"type": "null"}]}))
    assert accepts(found, '{"a":{"a":{"a":null}}}')


def test_arguments() -> None:
    """Each function's schema by its name; an error names its place in the request."""
    tools = decode_tools(
        Raw(
            json.dumps(
                [
                    {"type": "web_search"},
                    {"type": "function", "name": "f", "parameters": member({"type": "null"})},
                    {"type": "function", "name": "g", "strict": False, "parameters": {"not": {}}},
                ]
            ).encode()
        )
    )
    assert {"f": "tools[1]", "g": "tools[2]"} == tool_paths(tools)
    offered = list(tools.offered.values())
    found = argument_schemas(TOKENIZER, tools, offered, every_schema=False)
    assert (True, False) == (accepts(found["f"], '{"a":null}'), accepts(found["f"], "{}"))
    assert accepts(found["g"], '{"anything":1}')
