"""The tables of docs/reference/compliance.md, made from the cases that the tests play."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.integration.compliance.plays import COMPACTION, CONVERSATIONS, EDGES, PLAYS
from tests.integration.compliance.requests import LIMITS, REQUESTS
from tests.integration.compliance.stage import TRANSPORTS, Transport
from tests.integration.compliance.suite import SUITE, Limit, Play, Request

__all__ = ["CASES", "PAGE", "Case", "tables", "written"]

Case = Request | Limit | Play

PAGE: Final = Path(__file__).parents[3] / "docs" / "reference" / "compliance.md"
CASES: Final[tuple[Case, ...]] = (*REQUESTS, *LIMITS, *PLAYS)
SECTIONS: Final[dict[str, Sequence[Case]]] = {
    "Requests": REQUESTS,
    "Limits": LIMITS,
    "Conversations": CONVERSATIONS,
    "Compaction": COMPACTION,
    "Transports": EDGES,
}
WORDS: Final[dict[Transport, str]] = {"json": "JSON", "sse": "SSE", "websocket": "WebSocket"}


def tables() -> dict[str, list[str]]:
    """The rows of the page's tables, by the headings they stand under."""
    found = {"The suite": [f"| `{name}` | {_ours(name)} |" for name in SUITE]}
    for heading, cases in SECTIONS.items():
        found[heading] = [f"| {_name(case)} | {_over(case)} | {case.asks} |" for case in cases]
    return found


def written() -> dict[str, list[str]]:
    """The same, as the page has them."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| case"):
            found.setdefault(heading, []).append(line)
    return found


def _ours(name: str) -> str:
    return ", ".join(_name(case) for case in CASES if name in case.suite)


def _name(case: Case) -> str:
    return f"`{case.name}`" if isinstance(case, Limit) else case.name


def _over(case: Case) -> str:
    return ", ".join(WORDS[transport] for transport in TRANSPORTS if transport in case.transports)


if __name__ == "__main__":
    for title, lines in tables().items():
        print("", f"## {title}", *lines, sep="\n")
