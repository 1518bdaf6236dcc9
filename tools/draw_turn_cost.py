"""Draw what a turn costs over HTTP and over WebSocket, from a run of the demo.

    turnwire demo --json > docs/figures/turn-cost.json
    python tools/draw_turn_cost.py docs/figures/turn-cost.json docs/figures/turn-cost.svg

The same data gives the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from turnwire.cli.demo_report import PerTurn, Report

__all__ = ["draw"]

WIDTH: Final = 840
HEIGHT: Final = 336
# Of a panel: where its plot begins and how large it is. Pixels.
LEFT: Final = 58
TOP: Final = 76
PLOT_WIDTH: Final = 318
PLOT_HEIGHT: Final = 188

# Both are told apart on white by people who do not see red or green, and in grey.
HTTP: Final = "#c2570c"
WEBSOCKET: Final = "#1d4ed8"
INK: Final = "#1f2937"
FAINT: Final = "#6b7280"
LINE: Final = "#e5e7eb"


def draw(report: Report) -> str:
    """Return the figure as SVG: bytes sent and tokens rendered, turn by turn."""
    arms = ((HTTP, "HTTP", report.http), (WEBSOCKET, "WebSocket", report.websocket))
    panels: list[tuple[str, Callable[[PerTurn], int], float, str]] = [
        ("Kilobytes sent", lambda turn: turn.sent_bytes, 1e3, "kB"),
        ("Tokens rendered", lambda turn: turn.rendered_tokens, 1.0, ""),
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(_title(report))}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        _text(LEFT - 34, 28, "What each turn of an agent loop costs", INK, size=16, weight=600),
    ]
    for place, (heading, measure, unit, name) in enumerate(panels):
        x = LEFT + place * (WIDTH // 2)
        lines = [
            (colour, arm, [measure(turn) / unit for turn in summary.per_turn])
            for colour, arm, summary in arms
        ]
        parts += _panel(x, heading, lines, name)
    parts += [
        _text(LEFT - 34, HEIGHT - 12, _caption(report), FAINT, size=11),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _title(report: Report) -> str:
    http, websocket = report.http, report.websocket
    return (
        f"In a loop of {report.tool_calls} tool calls HTTP sent {http.sent_bytes:,} bytes and "
        f"WebSocket {websocket.sent_bytes:,}; the server rendered {http.rendered_tokens:,} and "
        f"{websocket.rendered_tokens:,} tokens."
    )


def _caption(report: Report) -> str:
    return (
        f"{report.tool_calls} tool calls and an answer by {report.model}, a simulated model. HTTP: "
        "the whole conversation, each time. WebSocket: what is new."
    )


def _panel(
    left: int, heading: str, lines: Sequence[tuple[str, str, Sequence[float]]], unit: str
) -> list[str]:
    """One plot: axes from zero, a line per arm, its name above it."""
    top = max(value for _, _, values in lines for value in values)
    step = _step(top)
    ceiling = step * -(-top // step)
    num_turns = max(len(values) for _, _, values in lines)

    def x(turn: int) -> float:
        return left + PLOT_WIDTH * turn / max(num_turns - 1, 1)

    def y(value: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - value / ceiling)

    parts = [_text(left - 34, TOP - 18, heading, INK, size=13, weight=600)]
    for tick in range(round(ceiling / step) + 1):
        value = tick * step
        parts.append(
            f'<line x1="{left}" x2="{left + PLOT_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="{LINE}"/>'
        )
        label = f"{value:,.0f}" + (f" {unit}" if unit and value == ceiling else "")
        parts.append(_text(left - 8, y(value) + 4, label, FAINT, anchor="end", size=11))
    below = TOP + PLOT_HEIGHT + 18
    marks = [0, *range(4, num_turns, 5)]
    parts += [_text(x(turn), below, str(turn + 1), FAINT, anchor="middle") for turn in marks]
    parts.append(_text(left + PLOT_WIDTH / 2, below + 16, "turn", FAINT, anchor="middle"))
    for colour, arm, values in lines:
        points = " ".join(f"{x(turn):.1f},{y(value):.1f}" for turn, value in enumerate(values))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5" '
            'stroke-linejoin="round"/>'
        )
        # Above the end of its line, where the two are farthest apart.
        highest = max(values[-6:])
        parts.append(_text(x(num_turns - 1), y(highest) - 9, arm, colour, anchor="end", weight=600))
    return parts


def _step(top: float) -> float:
    """A round distance between grid lines that gives three to eight of them."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if top <= step * factor * 5:
                return step * factor
        step *= 10


def _text(
    x: float,
    y: float,
    text: str,
    colour: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" '
        f'font-size="{size}" font-weight="{weight}">{escape(text)}</text>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="what `turnwire demo --json` printed")
    parser.add_argument("figure", type=Path, help="where the SVG goes")
    given = parser.parse_args()
    report = msgspec.json.decode(given.data.read_bytes(), type=Report)
    given.figure.write_text(draw(report), "utf-8")


if __name__ == "__main__":
    main()
