"""Write what a run of the demo took into the pages that tell of it.

    python -m tools.tell_turn_cost    from docs/figures/turn-cost.json, into README.md and start.md

`make figure` plays the demo first, and draws the figure too. The numbers stand between two marks;
everything else in the pages is left alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from turnwire.cli.demo_report import Report, heading, table

__all__ = ["DATA", "PAGES", "main", "retell"]

ROOT: Final = Path(__file__).parent.parent
DATA: Final = ROOT / "docs" / "figures" / "turn-cost.json"
BEGIN: Final = "<!-- turn cost -->\n"
END: Final = "<!-- end: turn cost -->\n"


def in_short(report: Report) -> str:
    """The rows that matter most, as a table of the page."""
    http, websocket = report.http, report.websocket
    rows = [
        ("time of the loop", *(f"{arm.loop_sec:.2f} s" for arm in (http, websocket))),
        ("of it, neither model nor tools", *(f"{a.other_sec:.2f} s" for a in (http, websocket))),
        (
            "time to first event, median",
            *(f"{1e3 * arm.first_event_sec:.0f} ms" for arm in (http, websocket)),
        ),
        (
            "processor time of the server",
            *(f"{arm.server_cpu_sec or 0:.2f} s" for arm in (http, websocket)),
        ),
        ("bytes sent", *(f"{arm.sent_bytes:,}" for arm in (http, websocket))),
        ("tokens rendered", *(f"{arm.rendered_tokens:,}" for arm in (http, websocket))),
    ]
    cached = websocket.cached_tokens / websocket.prompt_tokens
    return (
        "| | HTTP, all of it each time | WebSocket, what is new |\n|---|---:|---:|\n"
        + "".join(f"| {' | '.join(row)} |\n" for row in rows)
        + "\nBoth made the same calls and got the same answers. In both the engine found "
        f"{100 * cached:.0f} % of the prompt\ntokens in its cache; what differs is the work around "
        "the engine, client included.\n"
    )


def as_printed(report: Report) -> str:
    """The beginning of what the demo prints, in 80 columns."""
    printed = io.StringIO()
    console = Console(file=printed, width=80, highlight=False)
    console.print(f"{heading(report)}\n")
    console.print(table(report))
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    return "```\n" + "\n".join(lines) + "\n```\n"


PAGES: Final[Mapping[Path, Callable[[Report], str]]] = {
    ROOT / "README.md": in_short,
    ROOT / "docs" / "start.md": as_printed,
}


def retell(page: str, told: str) -> str:
    """The page with these numbers.

    Raises:
        ValueError: its marks are not there exactly once.
    """
    if (page.count(BEGIN), page.count(END)) != (1, 1):
        raise ValueError(f"the page must have the marks {BEGIN.strip()} and {END.strip()} once")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{told}{END}{after}"


def main() -> None:
    """Write the pages."""
    report = msgspec.json.decode(DATA.read_bytes(), type=Report)
    for path, tell in PAGES.items():
        path.write_text(retell(path.read_text("utf-8"), tell(report)), "utf-8")


if __name__ == "__main__":
    main()
