"""Mistral's instruct models.

    [AVAILABLE_TOOLS][TOOLS][/AVAILABLE_TOOLS][INST]TEXT[/INST]TEXT</s>
    [TOOL_CALLS][{"name": "NAME", "arguments": {...}, "id": "ID"}]</s>    until early 2025
    [TOOL_CALLS]NAME[ARGS]{...}</s>                                       since
    [TOOL_RESULTS]{"content": OUTPUT, "call_id": "ID"}[/TOOL_RESULTS]     or the output alone

The tools stand in front of the last message of a user, so they move when a user speaks again:
the format is append-only in a chain of calls, and not beyond it. What stands in front, and how
tools are written, is what the model's template makes of it. Templates that put the system prompt
into the last message, and take it out again when a tool is called, are rendered by themselves.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from turnwire.rendering.formats import CallForm, Format
from turnwire.rendering.generic import Rendering
from turnwire.rendering.grammar_text import Expression
from turnwire.rendering.messages import ChatCall, ChatMessage, ChatResult, Head, short_id
from turnwire.rendering.own_words import OwnWords
from turnwire.rendering.pieces import Piece, Pieces, joined
from turnwire.rendering.tagged import Tags
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["VARIANTS", "Mistral", "Variant", "mistral_format"]


class Variant(Struct, frozen=True, kw_only=True):
    """What differs between models.

    Attributes:
        space: Whether a blank stands between tags and text (older vocabularies).
        named: Whether calls are a name and arguments, each behind a tag, and not a list.
        ids: Whether a call's id stands between them, and in front of its output; text beside a
            call is not shown again then.
        results: Whether an output is an object's field, or stands alone.
        moving: Whether the tools stand in front of a user's last message, and not of the first.
    """

    space: str = ""
    named: bool = False
    ids: bool = False
    results: Literal["field", "alone"] = "field"
    moving: bool = True


VARIANTS: Final = (
    *(Variant(space=space) for space in ("", " ")),
    *(
        Variant(named=True, ids=ids, results="alone", moving=moving)
        for ids in (False, True)
        for moving in (True, False)
    ),
)


class Mistral:
    """The words of the format; a `Family`.

    Attributes:
        name: Of format, variant and template.
        effort_in_start: No.
    """

    effort_in_start: Final = False

    def __init__(
        self, tokenizer: Tokenizer, rendering: Rendering, variant: Variant, end: int
    ) -> None:
        """
        Args:
            tokenizer: The vocabulary; it has the format's tokens.
            rendering: The model's template.
            variant: What is special about it.
            end: The token that ends an assistant's message.
        """
        special = tokenizer.special
        self._inst: Final = special["[INST]"]
        self._end_inst: Final = special["[/INST]"]
        self._tools = special.get("[AVAILABLE_TOOLS]", -1)
        self._end_tools = special.get("[/AVAILABLE_TOOLS]", -1)
        self._calls: Final = special["[TOOL_CALLS]"]
        self._arguments: Piece = special.get("[ARGS]", "[ARGS]")
        self._results: Piece = special.get("[TOOL_RESULTS]", "[TOOL_RESULTS]")
        self._end_results: Piece = special.get("[/TOOL_RESULTS]", "[/TOOL_RESULTS]")
        self._system: Piece = special.get("[SYSTEM_PROMPT]", "[SYSTEM_PROMPT]")
        self._end_system: Piece = special.get("[/SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
        self._late_system: Final = rendering.quirks.late_system
        self._end: Final = end
        self._variant: Final = variant
        self._own = OwnWords(rendering, self._written)
        self._call_id: Piece = special.get("[CALL_ID]", "[CALL_ID]")
        self._content: Piece = special.get("[TOOL_CONTENT]", "[TOOL_CONTENT]")
        self.name: Final = f"mistral-1:{variant!r}:{self._own.digest}"

    def head(self, head: Head) -> Pieces | None:
        """What stands in front of the tools, if the first message does not change it."""
        if not self._moves(head):
            return self._own.head(head)
        return self._parts(head)[0] if head.instructions else None

    def separable(self, head: Head) -> bool:
        """Whether no tools stand in the conversation."""
        return not self._moves(head)

    def first(self, head: Head, message: ChatMessage | None, *, past: bool) -> Pieces:
        """What stands in front, and the first message."""
        if message is None or message.role != "user":
            return self._own.first(head, message)
        before, _ = self._parts(head)
        return before + self.message(head, message, past=past)

    def message(self, head: Head, message: ChatMessage, *, past: bool) -> Pieces:
        """A message that is not the first; a user's last one with the tools before it."""
        if message.role == "user" and self._moves(head) and not past:
            return joined(self._parts(head)[1] + self._written(message))
        return self._written(message)

    def ends_past(self, before: ChatMessage | None, message: ChatMessage) -> bool:
        """Whether a user speaks: the tools move there."""
        return self._variant.moving and message.role == "user"

    def opening(self, *, reasoning: bool) -> Pieces:
        """As the model's template has it: nothing, mostly."""
        return self._own.opening(reasoning=reasoning)

    def _moves(self, head: Head) -> bool:
        return self._variant.moving and bool(head.tools.offered)

    def _parts(self, head: Head) -> tuple[Pieces, Pieces]:
        """What stands in front of a user's message: before the tools, and the tools."""
        pieces = self._own.before_user(head)
        if self._tools not in pieces or not self._variant.moving:
            return pieces, []
        begin, end = pieces.index(self._tools), pieces.index(self._end_tools) + 1
        return pieces[:begin], pieces[begin:end]

    def _written(self, message: ChatMessage) -> Pieces:
        space = self._variant.space
        match message.role:
            case "assistant" if message.calls and self._variant.named:
                calls: Pieces = [] if self._variant.ids else [message.text]
                for call in message.calls:
                    ids = (self._call_id, short_id(call.call_id)) if self._variant.ids else ()
                    calls += (self._calls, call.name, *ids, self._arguments, call.written())
                return joined([*calls, self._end])
            case "assistant" if message.calls:
                listed = ", ".join(map(_listed, message.calls))
                return [self._calls, f"{space}[{listed}]", self._end]
            case "assistant":
                return joined([f"{space}{message.text}", self._end])
            case "tool":
                return joined([p for result in message.results for p in self._result(result)])
            case "user":
                return joined([self._inst, f"{space}{message.text}", self._end_inst])
            case _ if self._late_system == "user":
                return joined([self._inst, f"{space}{message.text}", self._end_inst])
            case _:
                return joined([self._system, message.text, self._end_system])

    def _result(self, result: ChatResult) -> Pieces:
        text, call_id = result.text, short_id(result.call_id)
        if self._variant.ids:
            return [self._results, call_id, self._content, text, self._end_results]
        if self._variant.results == "field":
            text = f'{self._variant.space}{{"content": {text}, "call_id": "{call_id}"}}'
        return [self._results, text, self._end_results]


def _listed(call: ChatCall) -> str:
    return (
        f'{{"name": "{call.name}", "arguments": {call.written()}, '
        f'"id": "{short_id(call.call_id)}"}}'
    )


def mistral_format(
    tokenizer: Tokenizer, stop: frozenset[int], begun: tuple[bool, bool], *, style: str
) -> Format:
    """The format's output; see `Format` for what the other arguments mean.

    Args:
        style: A call as the template writes it.
    """
    special = tokenizer.special
    calls, arguments = special["[TOOL_CALLS]"], special.get("[ARGS]")
    call_id = special.get("[CALL_ID]")
    if arguments is None or "[ARGS]" not in style:
        form = CallForm(first=(calls, "["), between=(", ",), last=("]",))
    else:
        any_id = Expression("/[a-zA-Z0-9]{9}/")
        with_id = () if call_id is None or "[CALL_ID]" not in style else (call_id, any_id)
        form = CallForm(
            first=(calls,),
            between=(calls,),
            name_key="",
            arguments_key=(*with_id, arguments),
            end="",
        )
    return Format(
        name="mistral",
        tokenizer=tokenizer,
        tags=Tags(
            think=special.get("[THINK]"),
            end_think=special.get("[/THINK]"),
            call=(calls,),
            arguments=arguments,
            call_id=call_id,
        ),
        stop=stop,
        calls=form,
        begun=begun,
    )
