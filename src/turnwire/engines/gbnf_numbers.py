"""Numbers between two bounds, as GBNF. Never more than 15 digits: what a float holds exactly."""

from __future__ import annotations

import math
from typing import Final

from turnwire.engines.grammar_tree import Unwritable

__all__ = ["integers", "numbers"]

_DIGITS: Final = 15
_LIMIT: Final = 10**_DIGITS - 1
_FRACTION: Final = '("." [0-9]{1,15})?'
_ABOVE_ZERO: Final = '"." [0-9]{0,14} [1-9]'


def integers(
    least: float | None,
    most: float | None,
    without_least: bool = False,
    without_most: bool = False,
) -> str:
    """Whole numbers; the bounds are among them unless they are left out.

    Raises:
        Unwritable: there is none between the bounds.
    """
    low, high = _whole(least, most, without_least, without_most)
    if low > high:
        raise Unwritable("no whole number between the bounds")
    ways = []
    if low < 0:
        ways += [f'"-" {way}' for way in _between(max(1, -high), -low)]
    if high >= 0:
        ways += _between(max(0, low), high)
    return "(" + " | ".join(ways) + ")"


def numbers(
    least: float | None,
    most: float | None,
    without_least: bool = False,
    without_most: bool = False,
) -> str:
    """Numbers with or without a fraction; as `integers`.

    Of bounds that are no whole numbers, what is between the next whole ones is written.

    Raises:
        Unwritable: that is nothing.
    """
    if least is None and most is None:
        exponent = "([eE] [-+]? [0-9]{1,2})?"
        return f'("-"? ("0" | [1-9] [0-9]{{0,14}}) {_FRACTION} {exponent})'
    ways: list[str] = []
    if most is None or most >= 0:
        low = max(0, 0 if least is None else least)
        ways += _upward(low, most, without_least and low == least, without_most)
    if least is None or least < 0:
        # The same, seen in the mirror; but there is no -0.
        low = max(0, 0 if most is None else -most)
        without = low == 0 or (without_most and low == -(most or 0))
        high = None if least is None else -least
        ways += [f'"-" {way}' for way in _upward(low, high, without, without_least)]
    if not ways:
        raise Unwritable("no number between the bounds that could be written")
    return "(" + " | ".join(ways) + ")"


def _upward(low: float, high: float | None, without_low: bool, without_high: bool) -> list[str]:
    """The ways to write the numbers from `low`, which is not below 0, to `high`."""
    first = min(_LIMIT, math.ceil(low))
    last = _LIMIT if high is None else min(_LIMIT, math.floor(high))
    ways: list[str] = []
    if without_low and first == low:
        if first < last:
            ways.append(f'"{first}" {_ABOVE_ZERO}')
        first += 1
    if first < last:
        ways += [f"{way} {_FRACTION}" for way in _between(first, last - 1)]
    if first <= last and not (without_high and last == high):
        ways.append(f'"{last}"')
    return ways


def _whole(
    least: float | None, most: float | None, without_least: bool, without_most: bool
) -> tuple[int, int]:
    low = -_LIMIT if least is None else max(-_LIMIT, math.ceil(least))
    high = _LIMIT if most is None else min(_LIMIT, math.floor(most))
    if without_least and low == least:
        low += 1
    if without_most and high == most:
        high -= 1
    return low, high


def _between(low: int, high: int) -> list[str]:
    """The ways to write the whole numbers from `low` to `high`, neither below 0."""
    ways: list[str] = []
    while low <= high:
        # As many numbers as have this many digits, and all the same but the last ones.
        end = min(high, 10 ** len(str(low)) - 1)
        ways += _same_length(str(low), str(end))
        low = end + 1
    return ways


def _same_length(low: str, high: str) -> list[str]:
    if low == high:
        return [f'"{low}"']
    shared = next(place for place, sign in enumerate(low) if sign != high[place])
    head, rest = low[:shared], len(low) - shared - 1
    first, last = int(low[shared]), int(high[shared])
    ways: list[str] = []
    if low[shared + 1 :].strip("0"):
        ways += _same_length(low[shared + 1 :], "9" * rest)
        ways = [f'"{head}{first}" {way}' for way in ways]
        first += 1
    tail: list[str] = []
    if high[shared + 1 :].strip("9"):
        tail = [f'"{head}{last}" {way}' for way in _same_length("0" * rest, high[shared + 1 :])]
        last -= 1
    if first <= last:
        digit = f"[{first}-{last}]" if first < last else f'"{first}"'
        before = f'"{head}" ' if head else ""
        ways.append(f"{before}{digit}" + (f" [0-9]{{{rest}}}" if rest else ""))
    return ways + tail
