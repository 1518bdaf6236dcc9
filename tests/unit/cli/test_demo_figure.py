"""The figure of the README, against the numbers it was drawn from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import msgspec
import pytest

from turnwire.cli.demo_report import Report

ROOT = Path(__file__).parents[3]
FIGURES = ROOT / "docs" / "figures"


@pytest.fixture(scope="module")
def report() -> Report:
    return msgspec.json.decode((FIGURES / "turn-cost.json").read_bytes(), type=Report)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "tools" / "draw_turn_cost.py"
    spec = importlib.util.spec_from_file_location("draw_turn_cost", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_is_drawn_from_the_data_beside_it(report: Report, tool: ModuleType) -> None:
    """Nobody changed the one without the other."""
    assert tool.draw(report) == (FIGURES / "turn-cost.svg").read_text("utf-8")


def test_the_figure_has_a_point_for_every_turn(report: Report, tool: ModuleType) -> None:
    """Two panels with a line per arm, as many points as turns, all inside of the picture."""
    figure = ElementTree.fromstring(tool.draw(report))  # noqa: S314 - our own
    lines = figure.findall("{http://www.w3.org/2000/svg}polyline")
    points = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in lines
    ]
    assert [report.tool_calls + 1] * 4 == [len(line) for line in points]
    assert all(0 < x < tool.WIDTH and 0 < y < tool.HEIGHT for line in points for x, y in line)


@pytest.mark.parametrize(
    ("top", "step"),
    [(1, 1), (5, 1), (6, 2), (11, 5), (68, 20), (19_492, 5000), (2_000_000, 500_000)],
)
def test_grid_lines_are_round(tool: ModuleType, top: float, step: float) -> None:
    """The distance between grid lines is 1, 2 or 5 times a power of ten, five of them at most."""
    assert step == tool._step(top)
