"""Made-up log probabilities for made-up output.

A pure function of the prompt, the place in the output and the token there: asking for more
alternatives adds to the list and changes nothing in it. The numbers are a geometric
distribution, so that those of all tokens together are never more than certain. Mostly the token
that was sampled is the likeliest, sometimes it is the second, rarely none of those that can be
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128
from math import log
from typing import Final

from turnwire.logprobs import Scores

__all__ = ["Likelihood"]

_UNLIKELY_RANK = 24  # beyond the 20 alternatives that a client may ask for


class Likelihood:
    """The scores of one output."""

    def __init__(self, seed: bytes, candidates: Sequence[int], num_top: int) -> None:
        """Score an output.

        Args:
            seed: Stands for the prompt.
            candidates: Ids that may be alternatives, more than `num_top` of them.
            num_top: Alternatives for each token.
        """
        self._seed: Final = seed
        self._candidates: Final = candidates
        self._num_top: Final = num_top

    def of(self, position: int, id_: int) -> Scores:
        """The scores of the token at this position of the output."""
        digest = shake_128(b"%b/%d/%d" % (self._seed, position, id_)).digest(8)
        ratio = 0.02 + 0.7 * digest[0] / 255  # of each probability to the one before
        rank = (1, _UNLIKELY_RANK)[digest[1] % 2] if digest[1] < 32 else 0
        likeliest, step = log(1.0 - ratio), log(ratio)
        ids = self._others(int.from_bytes(digest[2:], "big"), id_)
        if rank < self._num_top:
            ids.insert(rank, id_)
        top = [(one, likeliest + place * step) for place, one in enumerate(ids[: self._num_top])]
        return Scores(likeliest + rank * step, tuple(top))

    def _others(self, number: int, id_: int) -> list[int]:
        candidates = self._candidates
        start = number % len(candidates)
        # One more than is needed: the sampled token may be among them.
        places = range(start, start + self._num_top + 1)
        found = [candidates[place % len(candidates)] for place in places]
        return [one for one in found if one != id_]
