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

    Between bounds that are no whole numbers it is the numbers between the next whole ones.

    Raises:
        Unwritable: there is no whole number between the bounds, and none is one of them.
    """
    if least is None and most is None:
        exponent = "([eE] [-+]? [0-9]{1,2})?"
        return f'("-"? ("0" | [1-9] [0-9]{{0,14}}) {_FRACTION} {exponent})'
    low, high = _whole(least, most, without_least, without_most)
    if low > high and low == high + 1 and 0 <= high == least:
        return f'("{high}" {_ABOVE_ZERO})'  # between one whole number and the next
    if low > high:
        raise Unwritable("no whole number between the bounds")
    ways = []
    # Away from zero a fraction adds, so that the last whole number may have none.
    if high >= 1 and high > low:
        ways += [f"{way} {_FRACTION}" for way in _between(max(0, low), high - 1)]
    if low <= -1 and high > low:
        ways += [f'"-" {way} {_FRACTION}' for way in _between(max(1, -high), -low - 1)]
        if high >= 0:
            ways.append(f'"-0" {_ABOVE_ZERO}')
    ways += [f'"{low}"', f'"{high}"']
    # Between a bound that is left out and the whole number next to it.
    if without_least and least is not None and 0 <= least == low - 1:
        ways.append(f'"{int(least)}" {_ABOVE_ZERO}')
    if without_most and most is not None and 0 < most == high + 1:
        ways.append(f'"{high}" {_FRACTION}')
    return "(" + " | ".join(dict.fromkeys(ways)) + ")"


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
