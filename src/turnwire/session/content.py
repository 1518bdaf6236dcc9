"""What the message that is open says: its content parts, one after the other.

A part is text or a refusal. It grows until deltas of the other kind come, or the message ends;
then it is closed and the next one may open (protocol.md section 6, "Several parts"). Events and
their numbers are the emitter's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Raw
from msgspec.json import encode

from turnwire.errors import InvalidTransition
from turnwire.logprobs import LogProb
from turnwire.protocol.items import AssistantPart, OutputText, Refusal

__all__ = ["EMPTY_PARTS", "Content", "PartKind"]

PartKind = Literal["output_text", "refusal"]

EMPTY_PARTS: Final[dict[PartKind, Raw]] = {
    "output_text": Raw(encode(OutputText(text=""))),
    "refusal": Raw(encode(Refusal(refusal=""))),
}
"""The parts as they open."""


class Content:
    """The content of one message.

    Attributes:
        kind: Of the part that is open, or None.
        index: `content_index` of the open part, or of the one that opens next.
        texts: What the open part says so far, to be appended to: every token comes this way.
        closed: The parts before it.
    """

    __slots__ = ("_logprobs", "closed", "index", "kind", "texts")

    def __init__(self) -> None:
        self.kind: PartKind | None = None
        self.index = 0
        self.texts: list[str] = []
        self.closed: list[AssistantPart] = []
        self._logprobs: list[Raw] = []

    def open(self, kind: PartKind) -> Raw:
        """Open a part; return it as it begins."""
        if self.kind is not None:
            raise InvalidTransition("a content part is open already")
        self.kind = kind
        return EMPTY_PARTS[kind]

    def score(self, logprobs: Sequence[LogProb]) -> list[Raw]:
        """Add the log probabilities of text just added; return them encoded."""
        encoded = [Raw(encode(one)) for one in logprobs]
        self._logprobs += encoded
        return encoded

    def close(self) -> AssistantPart:
        """Close the open part; return it whole."""
        if self.kind is None:
            raise InvalidTransition("no content part is open")
        text = "".join(self.texts)
        part: AssistantPart = (
            OutputText(text=text, logprobs=self._logprobs)
            if self.kind == "output_text"
            else Refusal(refusal=text)
        )
        self.closed.append(part)
        self.kind = None
        self.index += 1
        self.texts = []
        self._logprobs = []
        return part
