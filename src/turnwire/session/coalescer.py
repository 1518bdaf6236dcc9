"""For a slow reader: hold deltas back and join them, so that fewer, larger events wait for it."""

from __future__ import annotations

from typing import Final

from turnwire.logprobs import LogProb
from turnwire.parts import CallArguments, Part, ReasoningDelta, RefusalDelta, TextDelta

__all__ = ["Coalescer"]

Delta = TextDelta | RefusalDelta | ReasoningDelta | CallArguments

CHARS_PER_LOGPROB: Final = 64
"""About what a log probability takes on the wire: it counts as so much text."""


class Coalescer:
    """Joins deltas of one kind that follow each other. What goes in comes out, in order.

    Attributes:
        max_chars: What is held never grows larger: the caller is told to send it.
    """

    __slots__ = ("_chars", "_kind", "_logprobs", "_texts", "max_chars")

    def __init__(self, max_chars: int = 16_384) -> None:
        self.max_chars: Final = max_chars
        self._kind: type[Delta] | None = None
        self._texts: list[str] = []
        self._logprobs: list[LogProb] = []
        self._chars = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return self._kind is None

    def hold(self, part: Part) -> list[Part]:
        """Take a part; return what must be sent now: nothing, while deltas of one kind come."""
        if not isinstance(part, Delta):
            return [*self.release(), part]
        kind = type(part)
        ready = [] if kind is self._kind else self.release()
        self._kind = kind
        self._texts.append(part.text)
        self._chars += len(part.text)
        if type(part) is TextDelta and part.logprobs:
            self._logprobs += part.logprobs
            num_logprobs = sum(1 + len(one.top_logprobs) for one in part.logprobs)
            self._chars += CHARS_PER_LOGPROB * num_logprobs
        if self._chars >= self.max_chars:
            ready += self.release()
        return ready

    def release(self) -> list[Part]:
        """Return what is held, as one part."""
        if self._kind is None:
            return []
        text = "".join(self._texts)
        joined: Part = (
            TextDelta(text, tuple(self._logprobs)) if self._logprobs else self._kind(text)
        )
        self._kind = None
        self._texts = []
        self._logprobs = []
        self._chars = 0
        return [joined]
