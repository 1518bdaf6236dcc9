"""Log probabilities beside the text that a parser makes of tokens, whatever format it reads.

A parser gives out text when it is certain: a token may be half a character, or the beginning of
what might become a call. So tokens are fed one by one, and the scores of those that gave no text
yet wait for the text that they are part of. What turns out to be no message (reasoning, calls,
the template's own words) takes its scores with it. Nobody who does not ask for scores comes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from turnwire.logprobs import LEAST, LogProb, Scores, TopLogProb
from turnwire.parts import Part, TextDelta
from turnwire.rendering.base import Parser
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["ScoredParser"]


class ScoredParser:
    """A parser whose `TextDelta`s bring the log probabilities of their tokens."""

    def __init__(self, parser: Parser, tokenizer: Tokenizer) -> None:
        """Feed a parser.

        Args:
            parser: Fresh.
            tokenizer: The vocabulary that it reads.
        """
        self._parser: Final = parser
        self._bytes: Final = tokenizer.token_bytes()
        self._special: Final = frozenset(tokenizer.special.values())
        self._held: list[LogProb] = []

    def feed(self, ids: Sequence[int], scores: Sequence[Scores] | None) -> list[Part]:
        """As the parser's own.

        Args:
            ids: New tokens.
            scores: Parallel to `ids`; None from an engine that has none.
        """
        if scores is None:
            return self._parser.feed(ids)
        parts: list[Part] = []
        for id_, score in zip(ids, scores, strict=True):
            made = self._parser.feed((id_,))
            if id_ not in self._special:  # those are never text
                self._held.append(self._log_prob(id_, score))
            parts += self._attached(made)
        return parts

    def finish(self, *, cut: bool) -> list[Part]:
        """As the parser's own."""
        return self._attached(self._parser.finish(cut=cut))

    def _attached(self, parts: list[Part]) -> list[Part]:
        """The parts, the first text with the scores that were held for it; none are left."""
        held = self._held
        if not held or not parts:
            return parts
        attached: list[Part] = []
        for part in parts:
            if type(part) is TextDelta:
                part = TextDelta(part.text, tuple(_tokens_of(part.text, held)))
            attached.append(part)
            held.clear()
        return attached

    def _log_prob(self, id_: int, score: Scores) -> LogProb:
        data = self._bytes[id_]
        return LogProb(
            data.decode("utf-8", "replace"),
            _sendable(score.logprob),
            tuple(data),
            tuple([self._top(*one) for one in score.top]),
        )

    def _top(self, id_: int, logprob: float) -> TopLogProb:
        data = self._bytes[id_]
        return TopLogProb(data.decode("utf-8", "replace"), _sendable(logprob), tuple(data))


def _tokens_of(text: str, held: Sequence[LogProb]) -> Sequence[LogProb]:
    """Those of the held tokens that the text is made of.

    A parser swallows words of its format (a header, line feeds between items) in front of a text:
    tokens that the text does not need go from the front.
    """
    needed = len(text.encode())
    surplus = sum(len(one.bytes) for one in held) - needed
    first = 0
    while first < len(held) and len(held[first].bytes) <= surplus:
        surplus -= len(held[first].bytes)
        first += 1
    return held[first:]


def _sendable(logprob: float) -> float:
    # Engines add up rounded numbers, and mask what a grammar forbids with minus infinity.
    return min(0.0, max(LEAST, logprob))
