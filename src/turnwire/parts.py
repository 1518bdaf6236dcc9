"""What a model did, in its order: it thought this, it said that, it called a tool.

Parts are the one shape between whatever answers a turn and the emitter that turns them into
the protocol's events. Deltas of one kind that follow each other belong to one item, until
`ItemFinished`; the next delta opens a new item. Text and refusal are deltas of one kind: both are
parts of a message. `Finished` is the last part; an item that is still open then was cut.

A message may have a phase. A model family that names it first says `MessageStarted`; one that
shows it by what comes next says it in `ItemFinished`; most have none and say nothing.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from turnwire.logprobs import LogProb
from turnwire.tokens import TokenArray

__all__ = [
    "CallArguments",
    "CallStarted",
    "CompactionFinished",
    "CompactionStarted",
    "Finished",
    "ItemFinished",
    "MessageStarted",
    "Part",
    "Phase",
    "ReasoningDelta",
    "RefusalDelta",
    "TextDelta",
]

Phase = Literal["commentary", "final_answer"]
"""Whether a message is said on the way or is the answer (protocol.md section 3.1)."""


class ReasoningDelta(Struct, frozen=True):
    """More reasoning text."""

    text: str


class MessageStarted(Struct, frozen=True):
    """A message opens whose phase is known; a delta opens one without it."""

    phase: Phase


class TextDelta(Struct, frozen=True):
    """More message text.

    Attributes:
        text: The text.
        logprobs: Its tokens, if they were asked for. The last of them may end in the middle of a
            character that comes later, or the first have begun in one that came before.
    """

    text: str
    logprobs: tuple[LogProb, ...] = ()


class RefusalDelta(Struct, frozen=True):
    """More of the words with which the model declines: a content part of its own in a message."""

    text: str


class CallStarted(Struct, frozen=True):
    """A tool call opens; its name is known, its arguments follow.

    Attributes:
        is_async: The model does not wait for the output.
    """

    name: str
    call_id: str
    kind: Literal["function", "custom"] = "function"
    namespace: str | None = None
    is_async: bool = False


class CallArguments(Struct, frozen=True):
    """More of the open call's arguments (or of a custom call's input)."""

    text: str


class ItemFinished(Struct, frozen=True):
    """The item that was open is whole; the next part opens another.

    Attributes:
        sampled: Its token ids as the model sampled them, without the template's own tokens
            around them; None from models that do not speak in tokens.
        phase: Of the message that ends here, where that shows only now; else None.
    """

    sampled: TokenArray | None = None
    phase: Phase | None = None


class CompactionStarted(Struct, frozen=True):
    """A summary of the conversation is being written. No item is open.

    Attributes:
        asked: By a `compaction_trigger`.
    """

    asked: bool


class CompactionFinished(Struct, frozen=True):
    """The summary is whole; it stands for everything before it.

    Attributes:
        encrypted_content: Sealed for the owner.
    """

    encrypted_content: str


class Finished(Struct, frozen=True, kw_only=True):
    """The last part.

    Attributes:
        reason: stop; or max_output_tokens: then the item still open is incomplete;
            content_filter: the same, because what serves the model would not let it go on; or
            steered: it was interrupted between two items.
        num_prompt_tokens: Prompt size.
        num_cached_tokens: Leading prompt tokens the engine did not compute again.
        num_output_tokens: Everything sampled, stop token included.
        num_reasoning_tokens: Those of them that were reasoning.
    """

    reason: Literal["stop", "max_output_tokens", "content_filter", "steered"]
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    num_reasoning_tokens: int


Part = (
    ReasoningDelta
    | MessageStarted
    | TextDelta
    | RefusalDelta
    | CallStarted
    | CallArguments
    | ItemFinished
    | CompactionStarted
    | CompactionFinished
    | Finished
)
