"""Tests of `turnwire.engines.schema_gbnf`: what becomes of each keyword.

That no more gets through than the schema allows is shown with a real llama.cpp, in
`tests/integration/test_llamacpp_grammars.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from turnwire.engines.gbnf_rules import Rules, Shunned
from turnwire.engines.schema_gbnf import SchemaWriter


def written(schema: Any) -> str:
    """The rules and, as the last line, what stands for the schema."""
    rules = Rules(Shunned([]))
    root = SchemaWriter(rules).write(schema)
    return f"{rules.text()}root ::= {root}"


@pytest.mark.parametrize(
    ("schema", "root"),
    [
        ({"const": 'a"b'}, r'"\x22a\x5c\x22b\x22"'),
        ({"enum": [1, None, {"a": [True]}]}, r'("1" | "null" | "{\x22a\x22:[true]}")'),
        ({"type": "integer", "enum": [1, "a", 2.0]}, '("1" | "2.0")'),
        ({"type": "object", "additionalProperties": False}, '"{}"'),
        ({"type": "array", "maxItems": 0}, '"[]"'),
        ({"type": "integer", "minimum": 3, "maximum": 4}, "([3-4])"),
        ({"anyOf": [{"const": 1}, {"const": 2}]}, '("1" | "2")'),
        ({"oneOf": [{"const": 1}]}, '"1"'),
        ({"allOf": [{"const": 1}]}, '"1"'),
        ({"type": "integer", "anyOf": [{"minimum": 9, "maximum": 9}]}, '("9")'),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}, "ref-1"),
        ({"description": "x", "title": "y", "const": 1}, '"1"'),
    ],
)
def test_keywords(schema: Any, root: str) -> None:
    """Each is written as it means."""
    assert root == written(schema).rpartition("root ::= ")[2]


def test_separators() -> None:
    """JSON has the blanks that a schema asks for, everywhere in it."""
    asked = {"x-guidance": {"item_separator": ", ", "key_separator": ": "}}
    value = {"enum": [{"a": [1, 2]}]}
    members = {"properties": {"b": value, "c": {"type": "array", "items": {"const": 3}}}}
    schema = {**asked, "type": "object", **members, "required": ["b", "c"]}
    text = written({**schema, "additionalProperties": False})
    assert r'"\x22b\x22: " "{\x22a\x22: [1, 2]}"' in text
    assert '", " "\\x22c\\x22: "' in text
    assert '(", " item-1)' in text
    assert 'any-string-2 ": " any-value' in written({**asked, "type": "object"})


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "integer", "multipleOf": 3}, "any-integer"),
        ({"type": "object", "patternProperties": {"a": {}}}, "any-object"),
        ({"type": "array", "uniqueItems": True}, "any-array"),
        ({"type": "array", "prefixItems": [{}]}, "any-array"),
        ({"type": "string", "pattern": "(?=a)"}, "any-string"),
        ({"type": "string", "format": "ipv4"}, "any-string"),
        ({"type": "string", "pattern": "a", "minLength": 3}, "any-string"),
        ({"type": "object", "not": {}}, "any-object"),
        ({"$ref": "http://elsewhere"}, "any-value"),
        ({"$ref": "#/nothing"}, "any-value"),
        ({"allOf": [{"const": 1}, {"const": 2}]}, "any-value"),
        ({"type": "nothing"}, None),
        ({"minimum": 1, "maxLength": 2}, "any-value"),
        (True, "any-value"),
        ({}, "any-value"),
    ],
)
def test_what_cannot_be_written_is_any_value_of_its_type(schema: Any, kind: str | None) -> None:
    """It is left to whoever reads the output."""
    if kind is None:
        with pytest.raises(Exception, match="type"):
            written(schema)
        return
    assert written(schema).rpartition("root ::= ")[2].startswith(kind)


def test_recursive_schemas() -> None:
    """A schema that refers to itself is a rule that does."""
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    text = written(tree)
    (line,) = [line for line in text.splitlines() if line.startswith("ref-")]
    assert line.partition(" ")[0] in text.partition(line)[0]


def test_optional_properties() -> None:
    """Every subset of them can be written, in order."""
    text = written(
        {"properties": {n: {"const": n} for n in "abc"}, "required": ["b"], "type": "object"}
    )
    assert '"{"' in text
    assert 3 == sum(line.startswith("first-") for line in text.splitlines())


def test_a_very_deep_schema() -> None:
    """Beyond some depth any value will do."""
    schema: Any = {"const": 1}
    for _ in range(200):
        schema = {"type": "array", "items": schema, "minItems": 1}
    assert "any-" in written(schema)
