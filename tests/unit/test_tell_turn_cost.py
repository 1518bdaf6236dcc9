"""The numbers of the demo in the pages are those of the run that the figure was drawn from."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tools.tell_turn_cost import BEGIN, DATA, END, PAGES, retell

from turnwire.cli.demo_report import Report


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.name))
def test_the_pages_have_the_latest_numbers(path: Path) -> None:
    """Nobody changed the one without the other: `make figure` writes both."""
    report = msgspec.json.decode(DATA.read_bytes(), type=Report)
    page = path.read_text("utf-8")
    assert retell(page, PAGES[path](report)) == page


def test_the_rest_of_a_page_stays() -> None:
    """What stands between the marks is replaced, and nothing else."""
    assert f"a\n{BEGIN}new\n{END}b\n" == retell(f"a\n{BEGIN}old\n{END}b\n", "new\n")


@pytest.mark.parametrize("page", ["", BEGIN, f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_its_marks(page: str) -> None:
    """Where the numbers would go is not guessed."""
    with pytest.raises(ValueError, match="marks"):
        retell(page, "new\n")
