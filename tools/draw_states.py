"""Draw the state machines of WebSocket mode from the tables that the server runs by.

    python -m tools.draw_states           write the diagrams into docs/reference/websocket.md
    python -m tools.draw_states --check   say whether they are up to date; exit 1 if not

A diagram stands between the two marks of its name; everything else in the file is left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

from turnwire.session import lane, stage, steering

__all__ = ["PAGE", "draw", "main", "redraw"]

PAGE: Final = Path(__file__).parent.parent / "docs" / "reference" / "websocket.md"

Table = Mapping[tuple[Any, Any], Enum]
TABLES: Final[Mapping[str, tuple[Enum, Table]]] = {
    "lane": (lane.State.IDLE, lane.TRANSITIONS),
    "response": (stage.Stage.NEW, stage.TRANSITIONS),
    "steer": (steering.SteerState.ACCEPTED, steering.TRANSITIONS),
}


def draw(first: Enum, table: Table) -> str:
    """One state machine in Mermaid's notation.

    Args:
        first: The state that it begins in.
        table: (state, move): next state. Moves between the same two states share an arrow, and a
            state without moves out is an end.
    """
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, move), target in table.items():
        arrows.setdefault((state.value, target.value), []).append(move.value)
    lines = ["stateDiagram-v2", f"    [*] --> {first.value}"]
    lines += [
        f"    {state} --> {target}: {', '.join(moves)}" for (state, target), moves in arrows.items()
    ]
    begun = {state for state, _ in arrows}
    ends = dict.fromkeys(target for _, target in arrows if target not in begun)
    lines += [f"    {state} --> [*]" for state in ends]
    return "\n".join(lines) + "\n"


def redraw(page: str) -> str:
    """The page with every diagram drawn anew.

    Raises:
        ValueError: the marks of a diagram are not there exactly once.
    """
    for name, (first, table) in TABLES.items():
        begin, end = f"<!-- states: {name} -->\n", f"<!-- end: {name} -->\n"
        if (page.count(begin), page.count(end)) != (1, 1):
            raise ValueError(f"the page must have the marks of {name!r} once")
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}```mermaid\n{draw(first, table)}```\n{end}{after}"
    return page


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` compare it only; 1 if it was out of date."""
    before = PAGE.read_text("utf-8")
    after = redraw(before)
    if "--check" in arguments:
        return int(before != after)
    PAGE.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
