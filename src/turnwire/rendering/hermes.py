"""ChatML with Hermes's tool calls: Qwen 2.5 and 3, Hermes, and many that were made from them.

    <|im_start|>user⏎TEXT<|im_end|>⏎
    <|im_start|>assistant⏎<think>⏎REASONING⏎</think>⏎⏎TEXT⏎<tool_call>⏎
        {"name": "NAME", "arguments": {...}}⏎</tool_call><|im_end|>⏎
    <|im_start|>user⏎<tool_response>⏎OUTPUT⏎</tool_response><|im_end|>⏎

`<think>`, `<tool_call>` and `<tool_response>` are tokens of their own in some vocabularies and
text in others. What differs between models is in `Variant`, and is found out by comparing with
the model's template. Qwen 3 drops reasoning once a user speaks again, so it is not append-only;
in a chain of calls, where only outputs follow, it is. (Hermes's own templates write the end of
an output differently once something follows it, and are rendered by themselves.)
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from turnwire.rendering.formats import CallForm, Format
from turnwire.rendering.generic import Rendering
from turnwire.rendering.messages import ChatMessage, Head
from turnwire.rendering.own_words import OwnWords
from turnwire.rendering.pieces import Piece, Pieces, joined
from turnwire.rendering.tagged import Tags
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["VARIANTS", "Hermes", "Variant", "hermes_format"]


class Variant(Struct, frozen=True, kw_only=True):
    """What differs between models.

    Attributes:
        reasoning: Whether it is written: never, until a user speaks again, or always.
    """

    reasoning: Literal["never", "present", "always"] = "never"


VARIANTS: Final = (
    Variant(reasoning="never"),
    Variant(reasoning="present"),
    Variant(reasoning="always"),
)


class Hermes:
    """The words of the format; a `Family`.

    Attributes:
        name: Of format, variant and template.
        effort_in_start: No: whether the model thinks is said by the opening.
    """

    effort_in_start: Final = False

    def __init__(self, tokenizer: Tokenizer, rendering: Rendering, variant: Variant) -> None:
        """
        Args:
            tokenizer: The vocabulary; it has ChatML's tokens.
            rendering: The model's template.
            variant: What is special about it.
        """
        special = tokenizer.special
        self._start: Final = special["<|im_start|>"]
        self._end: Final = special["<|im_end|>"]
        self._variant: Final = variant
        self._think = _tag(tokenizer, "<think>")
        self._end_think = _tag(tokenizer, "</think>")
        self._call = _tag(tokenizer, "<tool_call>")
        self._end_call = _tag(tokenizer, "</tool_call>")
        self._response = _tag(tokenizer, "<tool_response>")
        self._end_response = _tag(tokenizer, "</tool_response>")
        self._late_system = rendering.quirks.late_system
        self._own = OwnWords(rendering, lambda message: self._written(message, past=False))
        self.name: Final = f"hermes-1:{variant.reasoning}:{self._own.digest}"

    def head(self, head: Head) -> Pieces | None:
        """What stands in front, if the first message does not change it."""
        return self._own.head(head)

    def separable(self, head: Head) -> bool:
        """Always."""
        return True

    def first(self, head: Head, message: ChatMessage | None, *, past: bool) -> Pieces:
        """What stands in front, and the first message."""
        if message is not None and message.role == "assistant":
            return self._own.first(head, None) + self._written(message, past=past)
        return self._own.first(head, message)

    def message(self, head: Head, message: ChatMessage, *, past: bool) -> Pieces:
        """A message that is not the first."""
        return self._written(message, past=past)

    def ends_past(self, before: ChatMessage | None, message: ChatMessage) -> bool:
        """Whether a user speaks, where reasoning is dropped then."""
        return self._variant.reasoning == "present" and message.role == "user"

    def opening(self, *, reasoning: bool) -> Pieces:
        """As the model's template has it."""
        return self._own.opening(reasoning=reasoning)

    def _written(self, message: ChatMessage, *, past: bool) -> Pieces:
        match message.role:
            case "assistant":
                body = self._assistant(message, past)
            case "tool":
                body = ["user"]
                for result in message.results:
                    body += ("\n", self._response, f"\n{result.text}\n", self._end_response)
            case "user":
                body = [f"user\n{message.text}"]
            case _:
                body = [f"{self._late_system}\n{message.text}"]
        return joined([self._start, *body, self._end, "\n"])

    def _assistant(self, message: ChatMessage, past: bool) -> Pieces:
        body: Pieces = ["assistant\n"]
        text = message.text
        shown = self._variant.reasoning == "always" or (
            self._variant.reasoning == "present" and not past
        )
        if message.reasoning and shown:
            reasoning = message.reasoning.strip("\n")
            text = text.lstrip("\n")
            body += (self._think, f"\n{reasoning}\n", self._end_think, "\n\n")
        body.append(text)
        for n, call in enumerate(message.calls):
            body += ("\n" if text or n else "", self._call)
            body.append(f'\n{{"name": "{call.name}", "arguments": {call.written()}}}\n')
            body.append(self._end_call)
        return body


def _tag(tokenizer: Tokenizer, name: str) -> Piece:
    return tokenizer.special.get(name, name)


def hermes_format(tokenizer: Tokenizer, stop: frozenset[int], begun: tuple[bool, bool]) -> Format:
    """The format's output; see `Format` for what the arguments mean."""
    call, end_call = _tag(tokenizer, "<tool_call>"), _tag(tokenizer, "</tool_call>")
    return Format(
        name="hermes",
        tokenizer=tokenizer,
        tags=Tags(
            think=_tag(tokenizer, "<think>"),
            end_think=_tag(tokenizer, "</think>"),
            call=(call,),
            end_call=end_call,
        ),
        stop=stop,
        calls=CallForm(
            first=(call, "\n"), between=("\n", end_call, "\n", call, "\n"), last=("\n", end_call)
        ),
        begun=begun,
    )
