"""Imports point one way: the table below is the rule, the import statements are the facts.

A room is a module or a package directly under `turnwire`. It may import itself, the rooms that
its row names, and third-party packages. A room without a row fails, so that a new noun gets its
place before its first import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
PACKAGE = SRC / "turnwire"

LEAVES = frozenset(
    {"constraint", "errors", "familiar", "gguf", "ids", "logprobs", "parts", "sealing", "tokens"}
)
SAID = LEAVES | {"protocol"}
MODELS = SAID | {"context", "engines", "hub", "model_config", "rendering"}
ORDER = SAID | {"context", "session", "telemetry"}
ASKED = MODELS | ORDER | {"compaction", "conversations", "history", "models", "order", "resent"}
TURN = ASKED | {"admission", "asked", "config", "fault", "running", "store"}

ALLOWED: dict[str, frozenset[str]] = {
    "turnwire": frozenset(),  # the package's own __init__: the version
    "errors": frozenset(),
    "ids": frozenset(),
    "tokens": frozenset(),
    "constraint": frozenset(),
    "familiar": frozenset(),
    "logprobs": frozenset(),
    "parts": frozenset({"logprobs", "tokens"}),
    "gguf": frozenset({"errors"}),
    "sealing": frozenset({"errors"}),
    "model_config": frozenset({"errors"}),
    "hub": frozenset({"errors"}),
    "config_layers": frozenset({"errors", "model_config"}),
    "config": LEAVES | {"model_config"},
    "config_sources": LEAVES | {"config", "config_layers", "model_config"},
    "telemetry": LEAVES,
    "engines": LEAVES,
    "protocol": LEAVES,
    "session": SAID,
    "context": SAID,
    "rendering": SAID,
    "store": SAID,
    "models": MODELS,
    "history": SAID | {"context", "store"},
    "conversations": SAID | {"context", "history", "store"},
    "resent": SAID | {"context", "history"},
    "order": ORDER,
    "admission": LEAVES | {"models", "session"},
    "running": ORDER | {"order"},
    "compaction": MODELS | {"models", "telemetry"},
    "fault": LEAVES | {"telemetry"},
    "asked": ASKED,
    "turn": TURN,
    "server": TURN | {"turn"},
    "cli": TURN | {"config_sources", "server", "turn", "turnwire"},
}


def room_of(module: str) -> str:
    """`turnwire.engines.sim` -> `engines`; `turnwire` -> `turnwire`."""
    _, _, rest = module.partition(".")
    return rest.partition(".")[0] or "turnwire"


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rooms() -> list[str]:
    found = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    return sorted(found | {path.parent.name for path in PACKAGE.glob("*/__init__.py")})


def imported(source: str) -> Iterator[str]:
    """Every module of ours that the source imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "turnwire":
            # `from turnwire import errors` names a room, `import __version__` does not.
            names = [
                f"turnwire.{alias.name}" if alias.name in ALLOWED else "turnwire"
                for alias in node.names
            ]
        elif isinstance(node, ast.ImportFrom):
            names = ["turnwire" + "." * node.level if node.level else node.module or ""]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == "turnwire")


def violations(module: str, source: str) -> list[str]:
    room = room_of(module)
    return [
        f"{module} imports {name}"
        for name in imported(source)
        if room_of(name) != room and room_of(name) not in ALLOWED[room]
    ]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_of)
def test_imports_point_one_way(path: Path) -> None:
    """A module imports its own room and the rooms that its row of the table names."""
    module = module_of(path)
    assert room_of(module) in ALLOWED, f"{module} is in a room that has no row in the table"
    assert [] == violations(module, path.read_text("utf-8"))


@pytest.mark.parametrize("room", rooms())
def test_every_room_has_a_row(room: str) -> None:
    """A room that is not in the table fails, before it imports anything."""
    assert room in ALLOWED


def test_the_table_has_no_cycle() -> None:
    """No room can reach itself through the rooms it may import."""
    order: list[str] = []
    waiting = dict(ALLOWED)
    while waiting:
        free = [room for room, needs in waiting.items() if needs <= set(order)]
        assert free, f"a cycle among {sorted(waiting)}"
        order += free
        for room in free:
            del waiting[room]
    assert set(ALLOWED) == set(order)


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("turnwire.engines.sim", "from turnwire.tokens import Tokens", []),
        ("turnwire.engines.sim", "import turnwire.engines.base", []),
        ("turnwire.engines.sim", "import json, turnwire.protocol.items", ["protocol.items"]),
        ("turnwire.store.sqlite", "from turnwire.context import chain", ["context"]),
        ("turnwire.store.sqlite", "from turnwire import context, errors", ["context"]),
        (
            "turnwire.session.lane",
            "def f():\n    from turnwire.server.app import run",
            ["server.app"],
        ),
        ("turnwire.session.lane", "from . import cache", [""]),
        ("turnwire.cli.main", "from turnwire import __version__", []),
        ("turnwire.ids", "from turnwirex import y", []),
    ],
)
def test_the_check_itself(module: str, source: str, expected: list[str]) -> None:
    """Upward and sideways imports are found wherever they stand; relative ones are not used."""
    found = [
        line.rpartition(" ")[2].removeprefix("turnwire").strip(".")
        for line in violations(module, source)
    ]
    assert expected == found
