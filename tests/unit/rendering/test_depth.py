"""Tests of `turnwire.rendering.depth`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.rendering.depth import longest_path, schema_depth

NODES = st.integers(0, 5)


@given(
    st.dictionaries(NODES, st.integers(1, 9), min_size=1),
    st.dictionaries(NODES, st.lists(st.integers(0, 7), max_size=4)),
)
def test_no_path_is_longer(weights: dict[int, int], edges: dict[int, list[int]]) -> None:
    """The bound is never below the heaviest simple path, and is that path without cycles."""

    def heaviest(node: int, seen: frozenset[int]) -> int:
        after = (
            heaviest(target, seen | {target})
            for target in edges.get(node, ())
            if target in weights and target not in seen
        )
        return weights[node] + max(after, default=0)

    found = max(heaviest(node, frozenset({node})) for node in weights)
    forward = {node: [t for t in targets if t > node] for node, targets in edges.items()}
    assert found <= longest_path(weights, edges) <= sum(weights.values())
    edges = forward
    assert max(heaviest(node, frozenset({node})) for node in weights) == longest_path(
        weights, forward
    )


def test_long_chains_and_large_cycles() -> None:
    """Ten thousand nodes in a row need no recursion here, closed to a circle or not."""
    weights = dict.fromkeys(range(10_000), 1)
    chain = {node: [node + 1] for node in weights}
    assert 10_000 == longest_path(weights, chain)
    assert 10_000 == longest_path(weights, {**chain, 9_999: [0]})


def chained(length: int) -> dict[str, Any]:
    """Definitions that each refer to the next."""
    names = [f"d{n}" for n in range(length)]
    defs: dict[str, Any] = {
        name: {"items": {"$ref": f"#/$defs/{following}"}}
        for name, following in itertools.pairwise(names)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**defs, names[-1]: {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "depth"),
    [
        ({}, 1),
        (True, 0),
        ({"type": "object", "properties": {"a": {"anyOf": [{}, {}]}}}, 5),
        ({"$defs": {"a": {"items": {"items": {}}}}}, 1),
        (chained(1), 2),
        (chained(3), 6),
        ({"items": {"$ref": "#"}}, 2),
        ({"items": {"$ref": "other.json"}}, 2),
        ({"items": {"$ref": "#nowhere"}}, 2),
        ({"items": {"$ref": "#/properties/a~1b"}, "properties": {"a/b": {"items": {}}}}, 6),
        ({"$ref": "#/allOf/1", "allOf": [{}, {"items": {}}]}, 6),
        ({"$ref": "#/allOf/7", "allOf": [{}]}, 3),
        ({"enum": [[[]]]}, 4),
    ],
)
def test_schema_depth(schema: object, depth: int) -> None:
    """Nesting counts, and so does what references lead to; definitions nobody uses do not."""
    assert depth == schema_depth(schema)


def test_deep_schemas_need_no_recursion() -> None:
    """Ten thousand levels are counted like three."""
    schema: object = {}
    for _ in range(10_000):
        schema = {"items": schema}
    assert 10_001 == schema_depth(schema)
    assert 2 * 9_999 + 2 == schema_depth(chained(10_000))
