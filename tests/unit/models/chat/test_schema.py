"""The check of values against schemas, and another implementation's opinion."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwire.models.chat.schema import MAX_DEPTH, MAX_STEPS, _Check, flaw

FILES = {
    "type": "object",
    "properties": {
        "files": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"mode": {"enum": ["r", "w"]}, "size": {"$ref": "#/$defs/size"}},
                "required": ["mode"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["files"],
    "$defs": {"size": {"type": ["integer", "null"], "minimum": 0}},
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"files": [{"mode": "r", "size": 1}, {"mode": "w", "size": None}]}, None),
        ({}, "the value: required"),
        ([], "the value: type"),
        ({"files": {}}, "files: type"),
        ({"files": [{"mode": "x"}]}, "files[0].mode: enum"),
        ({"files": [{"mode": "r"}, {"mode": "r", "more": 1}]}, "files[1]: additionalProperties"),
        ({"files": [{"mode": "r", "size": -1}]}, "files[0].size: minimum"),
        ({"files": [{"mode": "r", "size": 1.5}]}, "files[0].size: type"),
    ],
)
def test_the_flaw_is_named(value: object, expected: str | None) -> None:
    """It says where and which keyword, and never what the model wrote."""
    assert expected == flaw(value, FILES)


NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -2.5]),
    st.sampled_from(["", "a", "ab", "abc"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
TYPE = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.just({}),
    st.fixed_dictionaries({"type": st.one_of(TYPE, st.lists(TYPE, min_size=1, unique=True))}),
    st.fixed_dictionaries({"enum": st.lists(VALUES, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"const": VALUES}),
    st.dictionaries(
        st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
        st.integers(-2, 2),
        max_size=2,
    ),
    st.dictionaries(
        st.sampled_from(["minLength", "maxLength", "minItems", "maxItems"]), st.integers(0, 3)
    ),
    st.just({"$ref": "#/$defs/x"}),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(NAMES, inner, max_size=3),
                "required": st.lists(NAMES, unique=True),
                "additionalProperties": inner,
            },
        ),
        st.fixed_dictionaries(
            {}, optional={"items": inner, "prefixItems": st.lists(inner, min_size=1, max_size=2)}
        ),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=3)}),
    ),
    max_leaves=6,
)


@given(SCHEMAS, LEAVES.filter(lambda leaf: leaf != {"$ref": "#/$defs/x"}), VALUES)
@settings(max_examples=300)
def test_another_implementation_agrees(schema: Any, shared: Any, value: Any) -> None:
    """For the keywords that are checked, `jsonschema_rs` finds a flaw where we do."""
    root = {"allOf": [schema], "$defs": {"x": shared}}
    assert jsonschema_rs.is_valid(root, value) == (flaw(value, root) is None)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"type": 3},
        {"enum": 3},
        {"required": "a"},
        {"pattern": "^nothing$"},
        {"patternProperties": {"^b": False}, "additionalProperties": False},
        {"minimum": "1"},
        {"anyOf": 3},
        {"$ref": "#/nowhere"},
        {"$ref": "other.json"},
        {"format": "email"},
        {"properties": 3, "items": 3, "prefixItems": 3},
        "no schema",
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("value", ["text", 1, {"a": 1}, [1]], ids=str)
def test_what_cannot_be_judged_is_no_flaw(schema: Any, value: object) -> None:
    """A schema that is wrong itself, or says more than is known here, refuses nothing."""
    assert flaw(value, schema) is None


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        (1, {"oneOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}]}),
        ([-1] * 3000, {"items": {"enum": list(range(3000))}}),
        ("a" * 40 + "b", {"pattern": "(a+)+$"}),
    ],
    ids=["doubling", "tripling", "long-lists", "backtracking"],
)
def test_the_work_is_bounded(value: object, schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema that asks for more than it is worth is given up, and refuses nothing more."""
    num_steps = 0
    spend = _Check._spend

    def counted(check: _Check, steps: int) -> None:
        nonlocal num_steps
        num_steps += 1
        spend(check, steps)

    monkeypatch.setattr(_Check, "_spend", counted)
    found = flaw(value, schema)
    assert found in (None, "[0]: enum")
    assert 0 < num_steps <= MAX_STEPS + 1


def test_a_circle_ends() -> None:
    """A schema that refers to itself for ever is followed to a depth and no further."""
    deep: Any = 1
    for _ in range(3 * MAX_DEPTH):
        deep = [deep]
    assert flaw(deep, {"$ref": "#"}) is None
    assert flaw(deep, {"items": {"$ref": "#"}}) is None
