"""What is due is decided by a table of moments."""

from __future__ import annotations

import pytest
from msgspec import structs

from turnwire.session.watch import Due, Pulse, Watch

WATCH = Watch(max_age_sec=100, idle_sec=20, keepalive_sec=10, stalled_sec=30)
CALM = Pulse(age=50, unheard=5, unsaid=5, stalled=0, busy=False, remembers=False)


@pytest.mark.parametrize(
    ("moment", "due"),
    [
        pytest.param({}, None, id="in use"),
        pytest.param({"unheard": 20, "unsaid": 20}, Due.CLOSE_IDLE, id="idle"),
        pytest.param({"unheard": 20}, None, id="just answered"),
        pytest.param({"unheard": 20, "unsaid": 20, "remembers": True}, None, id="a conversation"),
        pytest.param({"unheard": 20, "unsaid": 9, "busy": True}, None, id="streaming"),
        pytest.param({"unsaid": 10, "busy": True}, Due.KEEP_ALIVE, id="a silent response"),
        pytest.param({"age": 100}, Due.EXPIRE, id="old"),
        pytest.param({"age": 100, "busy": True, "unsaid": 99}, Due.EXPIRE, id="old and busy"),
        pytest.param({"stalled": 30, "age": 100, "busy": True}, Due.CUT_OFF, id="stalled"),
        pytest.param({"stalled": 29.9, "busy": True}, None, id="slow"),
    ],
)
def test_due(moment: dict[str, float], due: Due | None) -> None:
    """The gravest rule that applies wins."""
    assert due is WATCH.due(structs.replace(CALM, **moment))


@pytest.mark.parametrize(
    ("rule", "moment"),
    [
        ("max_age_sec", {"age": 1e9}),
        ("idle_sec", {"unheard": 1e9, "unsaid": 1e9}),
        ("keepalive_sec", {"unsaid": 1e9, "busy": True}),
        ("stalled_sec", {"stalled": 1e9}),
    ],
)
def test_zero_turns_a_rule_off(rule: str, moment: dict[str, float]) -> None:
    """A rule at 0 never applies."""
    watch = structs.replace(WATCH, **{rule: 0})
    assert watch.due(structs.replace(CALM, **moment)) is None
