"""Log probabilities beside the text that a parser makes of tokens, whatever parser it is.

A parser gives out text when it is certain: a token may be half a character, or the beginning of
what might become a call. So tokens are fed one by one, and the scores of those that gave no text
yet wait for the text that they are part of. What turns out to be no message (reasoning, calls,
the template's own tokens) takes its scores with it. Nobody who does not ask for scores comes here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from turnwire.logprobs import LEAST, LogProb, Scores, TopLogProb
from turnwire.parts import Part, TextDelta

__all__ = ["Parser", "ScoredParser"]


class Parser(Protocol):
    """Any template family's output parser."""

    def feed(self, ids: Sequence[int]) -> list[Part]:
        """The parts that `ids` complete."""
        ...

    def finish(self, *, cut: bool) -> list[Part]:
        """The parts at the output's end."""
        ...


class ScoredParser:
    """A parser whose `TextDelta`s bring the log probabilities of their tokens."""

    def __init__(
        self,
        parser: Parser,
        token_bytes: Sequence[bytes],
        special: Collection[int],
        stop: Collection[int],
    ) -> None:
        """Feed a parser.

        Args:
            parser: Fresh.
            token_bytes: By id.
            special: Ids that are never text.
            stop: Those of them that end an output.
        """
        self._parser: Final = parser
        self._bytes: Final = token_bytes
        self._special: Final = special
        self._stop: Final = stop
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
            special = id_ in self._special
            if not special:
                self._held.append(self._log_prob(id_, score))
            parts += self._attached(made)
            if special and id_ not in self._stop:
                # What stood before it was a header. At a stop it may still become text: a call
                # that was never whole does so in `finish`.
                self._held.clear()
        return parts

    def finish(self, *, cut: bool) -> list[Part]:
        """As the parser's own."""
        return self._attached(self._parser.finish(cut=cut))

    def _attached(self, parts: list[Part]) -> list[Part]:
        held = self._held
        if not held or not parts:
            return parts
        attached: list[Part] = []
        for part in parts:
            attached.append(TextDelta(part.text, tuple(held)) if type(part) is TextDelta else part)
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


def _sendable(logprob: float) -> float:
    # Engines add up rounded numbers, and mask what a grammar forbids with minus infinity.
    return min(0.0, max(LEAST, logprob))
