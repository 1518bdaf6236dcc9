"""The diagrams of the state machines are drawn from the tables, and the page has the latest."""

from __future__ import annotations

from enum import Enum

import pytest
from tools.draw_states import PAGE, TABLES, draw, redraw


class Door(Enum):
    """A small machine."""

    OPEN = "open"
    SHUT = "shut"
    GONE = "gone"


class Hand(Enum):
    """What moves it."""

    PUSH = "push"
    KICK = "kick"
    PULL = "pull"


def test_a_table_becomes_a_diagram() -> None:
    """It has a beginning, one arrow for all moves between two states, and its ends."""
    table = {
        (Door.OPEN, Hand.PUSH): Door.SHUT,
        (Door.OPEN, Hand.KICK): Door.SHUT,
        (Door.SHUT, Hand.PULL): Door.OPEN,
        (Door.SHUT, Hand.KICK): Door.GONE,
    }
    assert (
        "stateDiagram-v2\n"
        "    [*] --> open\n"
        "    open --> shut: push, kick\n"
        "    shut --> open: pull\n"
        "    shut --> gone: kick\n"
        "    gone --> [*]\n"
    ) == draw(Door.OPEN, table)


@pytest.mark.parametrize("name", TABLES)
def test_every_state_and_move_of_a_table_is_drawn(name: str) -> None:
    """Nothing of the table is left out."""
    first, table = TABLES[name]
    drawn = draw(first, table)
    for (state, move), target in table.items():
        [arrow] = [
            line for line in drawn.splitlines() if f" {state.value} --> {target.value}:" in line
        ]
        assert move.value in arrow.partition(": ")[2].split(", ")


def test_the_page_is_up_to_date() -> None:
    """`python -m tools.draw_states` would change nothing."""
    page = PAGE.read_text("utf-8")
    assert redraw(page) == page


def test_an_old_diagram_is_replaced_and_the_rest_is_not() -> None:
    """Drawing again mends what someone changed by hand."""
    page = PAGE.read_text("utf-8")
    assert page == redraw(page.replace("[*] --> idle", "[*] --> asleep"))


def test_a_page_without_marks_is_refused() -> None:
    """A diagram that has lost its place is not lost in silence."""
    with pytest.raises(ValueError, match="lane"):
        redraw("# WebSocket mode\n")
