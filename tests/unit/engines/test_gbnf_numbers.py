"""Tests of `turnwire.engines.gbnf_numbers`: what is between two bounds, and nothing else."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from turnwire.engines.gbnf_numbers import integers, numbers
from turnwire.engines.grammar_tree import Unwritable

BOUND = st.none() | st.integers(-1200, 1200)


def as_regex(gbnf: str) -> re.Pattern[str]:
    """GBNF without rules is a regular expression, but for its quotes and blanks."""
    parts = re.split(r'("[^"]*")', gbnf)
    return re.compile(
        "".join(re.escape(p[1:-1]) if p.startswith('"') else p.replace(" ", "") for p in parts)
    )


@given(BOUND, BOUND, st.booleans(), st.booleans(), st.lists(st.integers(-1300, 1300), min_size=9))
def test_integers(
    least: int | None, most: int | None, above: bool, below: bool, tried: list[int]
) -> None:
    """A whole number is written if, and only if, it is between the bounds."""
    low = -(10**12) if least is None else least + above
    high = 10**12 if most is None else most - below
    if low > high:
        with pytest.raises(Unwritable):
            integers(least, most, above, below)
        return
    pattern = as_regex(integers(least, most, above, below))
    ends = [end for end in (least, most) if end is not None]
    for number in {*tried, *ends, *(end - 1 for end in ends), *(end + 1 for end in ends)}:
        assert (low <= number <= high) is bool(pattern.fullmatch(str(number))), number
    for text in ("-0", "01", "+1", "", "1.0", "1e1"):
        assert not pattern.fullmatch(text)


@given(BOUND, BOUND, st.booleans(), st.booleans(), st.floats(-1300, 1300))
def test_numbers(
    least: int | None, most: int | None, above: bool, below: bool, tried: float
) -> None:
    """No number outside of the bounds is written; whole ones inside all are, fractions too."""
    try:
        pattern = as_regex(numbers(least, most, above, below))
    except Unwritable:
        assume(False)
    low, high = -math.inf if least is None else least, math.inf if most is None else most

    def inside(value: float) -> bool:
        return (low < value or (value == low and not above)) and (
            value < high or (value == high and not below)
        )

    ends = [float(end) for end in (least, most) if end is not None]
    for value in (tried, 0.0, *ends, *(e + 0.5 for e in ends), *(e - 0.5 for e in ends)):
        text = f"{value:.3f}"
        if pattern.fullmatch(text):
            assert inside(float(text)), text
        if value == int(value) and inside(value):
            assert pattern.fullmatch(str(int(value))), value
    if least is not None and most is not None and most - least >= 1:
        assert pattern.fullmatch(f"{(least + 0.25):.2f}") or pattern.fullmatch(f"{least}.25")


@pytest.mark.parametrize(
    ("least", "most", "good", "bad"),
    [
        (0, 1, ["0", "1", "0.5", "0.001"], ["1.1", "-0.1", "2"]),
        (0.5, 7.5, ["1", "6.9", "7"], ["0.4", "7.6", "8"]),
        (-2.5, 7, ["-2", "-1.5", "-0.5", "0", "6.9"], ["-2.6", "7.1"]),
        (-5, -2, ["-5", "-4.99", "-2"], ["-5.1", "-1", "0"]),
    ],
)
def test_fractions(least: float, most: float, good: list[str], bad: list[str]) -> None:
    """Fractions are written between the whole numbers that the bounds enclose."""
    pattern = as_regex(numbers(least, most))
    assert dict.fromkeys(good, True) == {text: bool(pattern.fullmatch(text)) for text in good}
    assert dict.fromkeys(bad, False) == {text: bool(pattern.fullmatch(text)) for text in bad}


def test_between_two_whole_numbers() -> None:
    """A probability that is neither 0 nor 1 can be written."""
    pattern = as_regex(numbers(0, 1, True, True))
    assert [True, False, False, False] == [
        bool(pattern.fullmatch(text)) for text in ("0.5", "0.0", "1", "0")
    ]
