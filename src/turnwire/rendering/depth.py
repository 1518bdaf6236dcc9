"""How deep does compiling a grammar or a schema recurse? An upper bound, found without recursion.

llguidance compiles a rule where it is first referred to, by recursion, and so for `$ref` in a
schema. A chain of a thousand references overflows the stack of the thread that compiles, and that
ends the process: measured, with 8 MB of stack, at 1,100 nested schemas and at 2,600 rules. Both
come from clients. Which path the library takes is its own business, so what is bounded here is
the longest path there could be: through each definition once, as deep as it is nested.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Final, TypeVar

__all__ = ["MAX_RULE_DEPTH", "MAX_SCHEMA_DEPTH", "longest_path", "schema_depth"]

MAX_RULE_DEPTH: Final = 1000
"""Rules, and groups inside of them, on one path."""
MAX_SCHEMA_DEPTH: Final = 800
"""JSON objects and arrays on one path; at least 1,700 overflow."""

Node = TypeVar("Node", bound=Hashable)


def longest_path(weights: Mapping[Node, int], edges: Mapping[Node, Iterable[Node]]) -> int:
    """No path that visits each node once weighs more than this. O(nodes + edges).

    Exact where there are no cycles; nodes that are on cycles with each other count together.

    Args:
        weights: Of each node.
        edges: From a node to others; those without a weight are left out.
    """
    heaviest = 0
    below: dict[Node, int] = {}  # by node of a finished component: the heaviest path from it on
    for component in _components(weights, edges):
        members = set(component)
        after = max(
            (
                below[target]
                for node in component
                for target in edges.get(node, ())
                if target in weights and target not in members
            ),
            default=0,
        )
        total = sum(weights[node] for node in component) + after
        below.update(dict.fromkeys(component, total))
        heaviest = max(heaviest, total)
    return heaviest


def _components(
    weights: Mapping[Node, int], edges: Mapping[Node, Iterable[Node]]
) -> Iterable[list[Node]]:
    """Tarjan's strongly connected components, each after those it leads to."""
    order: dict[Node, int] = {}
    lowest: dict[Node, int] = {}
    on_path: dict[Node, None] = {}  # Tarjan's stack
    for root in weights:
        if root in order:
            continue
        order[root] = lowest[root] = len(order)
        on_path[root] = None
        visiting = [(root, iter(edges.get(root, ())))]
        while visiting:
            node, targets = visiting[-1]
            for target in targets:
                if target not in weights:
                    continue
                if target not in order:
                    order[target] = lowest[target] = len(order)
                    on_path[target] = None
                    visiting.append((target, iter(edges.get(target, ()))))
                    break
                if target in on_path:
                    lowest[node] = min(lowest[node], order[target])
            else:
                visiting.pop()
                if visiting:
                    above = visiting[-1][0]
                    lowest[above] = min(lowest[above], lowest[node])
                if lowest[node] == order[node]:
                    component = []
                    while True:
                        member, _ = on_path.popitem()
                        component.append(member)
                        if member == node:
                            break
                    yield component


def schema_depth(schema: object) -> int:
    """How deep a JSON schema leads: nested objects and arrays, through every `$ref`.

    A reference that is no path in this document (an anchor, an id) counts as one to all of it.
    """
    places: dict[str, object] = {"": schema}
    weights: dict[str, int] = {}
    edges: dict[str, list[str]] = {}
    waiting = [""]
    while waiting:
        name = waiting.pop()
        weights[name], references = _measure(places[name])
        targets = edges[name] = []
        for reference in references:
            found = _resolve(schema, reference)
            target = "" if found is None or found is schema else reference
            targets.append(target)
            if target not in places:
                places[target] = found
                waiting.append(target)
    return longest_path(weights, edges)


def _measure(value: object) -> tuple[int, set[str]]:
    """Depth of a JSON value, and the references in it. Definitions count where they are used."""
    deepest = 0
    references: set[str] = set()
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, dict):
            reference = one.get("$ref")
            if isinstance(reference, str):
                references.add(reference)
            inner = [v for key, v in one.items() if key not in ("$defs", "definitions")]
        elif isinstance(one, list):
            inner = one
        else:
            continue
        deepest = max(deepest, depth)
        waiting += [(v, depth + 1) for v in inner]
    return deepest, references


def _resolve(schema: object, reference: str) -> object | None:
    """What a JSON pointer (`#/$defs/node`) leads to in the document, or None."""
    path, _, pointer = reference.partition("#")
    if path:
        return None
    found = schema
    for step in pointer.split("/")[1:] if pointer.startswith("/") else ():
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and key.isascii() and key.isdigit():
            found = found[int(key)] if int(key) < len(found) else None
        else:
            return None
    return found
