"""Choices that follow from a seed and from nothing else."""

from __future__ import annotations

from hashlib import shake_128

__all__ = ["Dice"]


class Dice:
    """An endless stream of small numbers, a pure function of its seed."""

    __slots__ = ("_at", "_bytes", "_seed")

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._bytes = b""
        self._at = 0

    def roll(self, num_sides: int) -> int:
        """Return the next number, 0 <= number < num_sides <= 65536; all sides equally likely.

        Up to one part in 65536 for each side, that is: the next two bytes are scaled.
        """
        at = self._at
        if at == len(self._bytes):
            # A longer output of shake begins with the shorter one, so nothing is lost.
            self._bytes = shake_128(self._seed).digest(2 * at or 256)
        self._at = at + 2
        return (self._bytes[at] << 8 | self._bytes[at + 1]) * num_sides >> 16
