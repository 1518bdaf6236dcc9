"""Tests of the dice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.dice import Dice


@given(seed=st.binary(max_size=40), sides=st.lists(st.integers(1, 65536), max_size=400))
def test_rolls_follow_from_the_seed(seed: bytes, sides: list[int]) -> None:
    """Equal seeds roll the same numbers, each within its sides, past any refill."""
    one, other = Dice(seed), Dice(seed)
    rolls = [one.roll(n) for n in sides]
    assert rolls == [other.roll(n) for n in sides]
    assert all(0 <= roll < n for roll, n in zip(rolls, sides, strict=True))


def test_all_sides_come_up() -> None:
    """A die of eight sides shows each of them in 200 rolls, and another seed another order."""
    dice = Dice(b"one")
    rolls = [dice.roll(8) for _ in range(200)]
    assert set(range(8)) == set(rolls)
    dice = Dice(b"two")
    assert rolls != [dice.roll(8) for _ in range(200)]
