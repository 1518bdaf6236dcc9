"""Tests of `turnwire.familiar`."""

from __future__ import annotations

from turnwire.familiar import Familiar


def test_what_was_met_before_is_known() -> None:
    """The second time it is known; what was met longest ago is forgotten first."""
    known = Familiar(max_known=2)
    assert [False, False, True, False, True, False] == [
        known.meet(thing) for thing in ("a", "b", "a", "c", "a", "b")
    ]
