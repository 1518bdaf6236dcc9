"""How likely tokens were: as an engine says it, by id, and as a client reads it, by text.

Logarithms are natural and at most 0. Source of the shapes: protocol.md section 3.1.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["LEAST", "LogProb", "Scores", "TopLogProb"]

LEAST = -9999.0
"""Stands for minus infinity, which JSON cannot say; OpenAI sends the same number."""


class Scores(Struct, frozen=True):
    """What an engine says of one sampled token.

    Attributes:
        logprob: Of the token itself.
        top: The most likely tokens in its place and their logarithms, the likeliest first, at
            most as many as were asked for; the sampled one among them, or not.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class TopLogProb(Struct, frozen=True):
    """A token that was likely in a place, on the wire.

    Attributes:
        token: Its text, with U+FFFD for what is no whole character.
        logprob: Its logarithm.
        bytes: Its very bytes, 0 to 255 each.
    """

    token: str
    logprob: float
    bytes: tuple[int, ...]


class LogProb(Struct, frozen=True):
    """A token of a text, on the wire: as `TopLogProb`, and what was likely in its place."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: tuple[TopLogProb, ...] = ()
