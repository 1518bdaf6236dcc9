"""Llama 3.1, 3.2 and 3.3.

    <|start_header_id|>ROLE<|end_header_id|>⏎⏎TEXT<|eot_id|>

The roles are system, user, assistant and `ipython` for what a tool returned. A call is a whole
message, `{"name": "NAME", "parameters": {...}}`; text beside it is not shown to the model again.
Its template takes one call at a time, and so does a turn here. It trims every text. Tools stand
in the system message or in the first user's, as the model's template has it. It only appends.
"""

from __future__ import annotations

import json
from typing import Final

from turnwire.rendering.formats import CallForm, Format
from turnwire.rendering.generic import Rendering
from turnwire.rendering.messages import ChatMessage, Head, sound
from turnwire.rendering.own_words import OwnWords
from turnwire.rendering.pieces import Piece, Pieces, joined
from turnwire.rendering.tagged import Tags
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["Llama3", "llama3_format"]


class Llama3:
    """The words of the format; a `Family`.

    Attributes:
        name: Of format, variant and template.
        effort_in_start: No.
    """

    effort_in_start: Final = False

    def __init__(self, tokenizer: Tokenizer, rendering: Rendering, *, quoted: bool) -> None:
        """
        Args:
            tokenizer: The vocabulary; it has the format's tokens.
            rendering: The model's template.
            quoted: Whether outputs of tools are written as JSON strings.
        """
        special = tokenizer.special
        self._start: Final = special["<|start_header_id|>"]
        self._end_header: Final = special["<|end_header_id|>"]
        self._end: Final = special["<|eot_id|>"]
        self._quoted: Final = quoted
        self._late_system = rendering.quirks.late_system
        self._own = OwnWords(rendering, self._written)
        self.name: Final = f"llama3-1:{'quoted' if quoted else 'plain'}:{self._own.digest}"

    def head(self, head: Head) -> Pieces | None:
        """What stands in front, if the first message does not change it."""
        return self._own.head(head)

    def separable(self, head: Head) -> bool:
        """Always."""
        return True

    def first(self, head: Head, message: ChatMessage | None, *, past: bool) -> Pieces:
        """What stands in front, and the first message."""
        return self._own.first(head, message)

    def message(self, head: Head, message: ChatMessage, *, past: bool) -> Pieces:
        """A message that is not the first."""
        return self._written(message)

    def ends_past(self, before: ChatMessage | None, message: ChatMessage) -> bool:
        """Never: nothing changes."""
        return False

    def opening(self, *, reasoning: bool) -> Pieces:
        """As the model's template has it."""
        return self._own.opening(reasoning=reasoning)

    def _written(self, message: ChatMessage) -> Pieces:
        match message.role:
            case "tool":
                pieces: Pieces = []
                for result in message.results:
                    quoted = sound(json.dumps(result.text, ensure_ascii=False))
                    pieces += self._turn("ipython", quoted if self._quoted else result.text)
                return joined(pieces)
            case "assistant" if message.calls:
                text = "; ".join(
                    f'{{"name": "{call.name}", "parameters": {call.written()}}}'
                    for call in message.calls
                )
                return self._turn("assistant", text)
            case "assistant" | "user" as role:
                return self._turn(role, message.text.strip())
            case _:
                return self._turn(self._late_system, message.text.strip())

    def _turn(self, role: str, text: str) -> Pieces:
        return [self._start, role, self._end_header, f"\n\n{text}", self._end]


def llama3_format(tokenizer: Tokenizer, stop: frozenset[int], begun: tuple[bool, bool]) -> Format:
    """The format's output; see `Format` for what the arguments mean."""
    python = tokenizer.special.get("<|python_tag|>")
    tags: tuple[Piece, ...] = (python,) if python is not None else ()
    return Format(
        name="llama3",
        tokenizer=tokenizer,
        tags=Tags(call=tags, bare=True),
        stop=stop,
        calls=CallForm(arguments_key=('", "parameters": ',)),
        begun=begun,
    )
