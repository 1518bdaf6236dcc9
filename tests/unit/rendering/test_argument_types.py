"""Tests of `turnwire.rendering.argument_types`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.rendering.argument_types import Types, argument_types, as_json

STRING = frozenset(("string",))


def only(*names: str) -> Types:
    return frozenset(names)


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({}, None),
        (True, None),
        ({"description": "x"}, None),
        ({"type": "string"}, STRING),
        ({"type": ["string", "null"]}, only("string", "null")),
        ({"const": 7}, only("integer")),
        ({"enum": ["a", None, True]}, only("string", "null", "boolean")),
        ({"type": "string", "enum": ["a", 1]}, STRING),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, only("integer", "null")),
        ({"oneOf": [{"type": "integer"}, {}]}, None),
        ({"allOf": [{"type": ["integer", "string"]}, {"type": "string"}]}, STRING),
        ({"$ref": "#/$defs/a~1b"}, only("array")),
        ({"$ref": "#/$defs/again"}, None),
        ({"$ref": "http://elsewhere"}, None),
        ({"$ref": 5}, None),
    ],
)
def test_types(schema: Any, types: Types) -> None:
    """What a schema allows is known through references and combinations, or it is unknown."""
    root = {
        "properties": {"p": schema},
        "$defs": {"a/b": {"type": "array"}, "again": {"$ref": "#/$defs/again"}},
    }
    assert {"p": types} == argument_types(json.dumps(root).encode())


@pytest.mark.parametrize("raw", [None, b"{}", b"[]", b"{", b'{"properties": 5}', b"[" * 100_000])
def test_no_types(raw: bytes | None) -> None:
    """A tool without a schema that says so has arguments of any type."""
    assert {} == argument_types(raw)


@pytest.mark.parametrize(
    ("text", "types", "written"),
    [
        pytest.param("7", STRING, '"7"', id="a text of digits"),
        pytest.param(' "a" ', STRING, '" \\"a\\" "', id="quotes in a text"),
        pytest.param("7", only("integer"), "7", id="a number"),
        pytest.param(" 7\n", only("integer"), "7", id="blanks around a number"),
        pytest.param("1e400", only("number"), "1e400", id="a number beyond floats"),
        pytest.param("true", only("boolean"), "true", id="true"),
        pytest.param("True", only("boolean"), "true", id="Python's True"),
        pytest.param("None", only("null", "integer"), "null", id="Python's None"),
        pytest.param("{'a': [None, 1.5]}", only("object"), '{"a": [null, 1.5]}', id="Python's"),
        pytest.param('{"a":  1}', only("object"), '{"a":  1}', id="JSON as it was"),
        pytest.param("NaN", only("number"), '"NaN"', id="no JSON"),
        pytest.param("seven", only("integer"), '"seven"', id="no number"),
        pytest.param("null", only("string", "null"), "null", id="null, where it may be"),
        pytest.param("7", only("string", "null"), '"7"', id="text, where no number may be"),
        pytest.param("7", only("string", "number"), "7", id="an integer is a number"),
        pytest.param("7", None, "7", id="anything"),
        pytest.param("a b", None, '"a b"', id="anything that is no JSON"),
        pytest.param('"a"', None, '"\\"a\\""', id="quotes are the text's own"),
        pytest.param("[" * 100_000, None, json.dumps("[" * 100_000), id="too deep"),
        pytest.param("{[]: 1}", None, '"{[]: 1}"', id="Python that is none"),
        pytest.param("{(1, 2): 3}", None, '"{(1, 2): 3}"', id="a key that JSON has not"),
        pytest.param("", None, '""', id="nothing"),
    ],
)
def test_values(text: str, types: Types, written: str) -> None:
    """A value becomes what the schema says it is, and text if it cannot."""
    assert written == as_json(text, types)


@given(st.text(), st.sampled_from([None, STRING, only("integer"), only("string", "object")]))
def test_always_json(text: str, types: Types) -> None:
    """Whatever a model writes becomes valid JSON."""
    json.loads(as_json(text, types), parse_constant=lambda name: pytest.fail(name))
