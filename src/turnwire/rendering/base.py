"""The seam between a token model and the format its model was trained on.

A `Template` writes items as token ids, a `Parser` reads what the model answers, and the two
know the same format. Each format is one file beside this one.

A rendering is a fold: `start` begins it, `extend` adds items to it, and between two steps it
stands at a *turn*, a value that only the template that made it can read. Any partition of the
items gives the same prompt in the end, which is `opening` behind the last step. Most formats
only ever append; where one takes back what it wrote (reasoning that is dropped, tools that
move), `Rendered.num_dropped` says how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from turnwire.constraint import Constraint
from turnwire.parts import Part
from turnwire.protocol.items import Item
from turnwire.protocol.requests import TextFormat
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray

__all__ = ["Label", "Parser", "Rendered", "Spoken", "Template"]

Label = tuple[str, int]
"""What an output is rendered under: (the tool's name, the call's ordinal)."""


class Rendered(Struct, frozen=True):
    """New items as ids.

    Attributes:
        ids: What they add to the conversation, shape (k,).
        turn: Where the rendering stands behind them.
        num_tokenised: How many of the ids the tokenizer made for this call.
        num_dropped: How many ids at the end of the conversation, as it stood before, go first.
            Never any of the preamble's.
        separable: Of what `start` gives: whether nothing behind it depends on it. Then the ids
            that an extension added can be joined behind another such start.
    """

    ids: TokenArray
    turn: Any
    num_tokenised: int
    num_dropped: int = 0
    separable: bool = True

    def followed_by(self, more: Rendered) -> Rendered:
        """The two as one extension."""
        kept = len(self.ids) - more.num_dropped
        return Rendered(
            self.ids[: max(kept, 0)] + more.ids,
            more.turn,
            self.num_tokenised + more.num_tokenised,
            self.num_dropped + max(-kept, 0),
        )


class Spoken(Struct, frozen=True):
    """One response among items that are rendered.

    Attributes:
        begin: The place of its first item.
        end: The place behind its last one.
        ids: The opening that it was sampled behind, and all that was sampled.
    """

    begin: int
    end: int
    ids: TokenArray


class Parser(Protocol):
    """One output, read in feeds of any size; the size changes how deltas are cut, no more."""

    @property
    def num_reasoning_tokens(self) -> int:
        """Tokens of reasoning so far."""
        ...

    @property
    def open_sampled(self) -> TokenArray | None:
        """After `finish(cut=True)`: the sampled ids of the item that was cut, or None."""
        ...

    def feed(self, ids: Sequence[int]) -> list[Part]:
        """The parts that `ids` complete, in order."""
        ...

    def finish(self, *, cut: bool) -> list[Part]:
        """The output's end.

        Args:
            cut: It ended for want of room, not by a stop token: the item that is open stays
                open.
        """
        ...


class Template(Protocol):
    """A format over one vocabulary. Pure: it remembers nothing of a conversation."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for templates that give equal ids."""
        ...

    @property
    def stop(self) -> frozenset[int]:
        """Ids that end an output."""
        ...

    @property
    def effort_in_start(self) -> bool:
        """Whether `start` depends on the reasoning effort."""
        ...

    @property
    def user_first(self) -> bool:
        """Whether it takes no conversation that begins with anybody but a user."""
        ...

    def start(self, instructions: str | None, tools: ToolSet, effort: str | None) -> Rendered:
        """The preamble, perhaps without an id, and the turn that a conversation begins at."""
        ...

    def opening(self, turn: Any, *, reasoning: bool) -> TokenArray:
        """What is put behind the conversation to have the model go on.

        Args:
            turn: Where the conversation stands.
            reasoning: Whether the model is to think first.
        """
        ...

    def extend(
        self,
        turn: Any,
        items: Sequence[Item],
        labels: Sequence[Label | None],
        sampled: Sequence[TokenArray | None],
        spoken: Sequence[Spoken] = (),
        *,
        live: bool = False,
    ) -> Rendered:
        """Render items behind a conversation.

        For a response's items, rendered `live` from the turn before its opening, the ids are
        the opening's followed by what the model sampled, up to the stop token; unless the model
        wrote what the template never does. A caller compares, and keeps the prompt as the
        prefix if they are equal.

        Args:
            turn: Where the conversation stands.
            items: New items, in order.
            labels: Parallel to `items`: for outputs, what they are rendered under.
            sampled: Parallel to `items`: an assistant item's ids as the model sampled them.
            spoken: The responses among the items of which every item was sampled, in order.
            live: The items are one response's, which was sampled just now.
        """
        ...

    def parser(self, offered: Mapping[str, OfferedTool], *, thinking: bool) -> Parser:
        """A parser for one output.

        Args:
            offered: Tools that may be called, by name. A call to any other stays text.
            thinking: The `reasoning` that the prompt's opening was made with.
        """
        ...

    def constraint(
        self,
        tools: ToolSet,
        tool_choice: ToolChoice,
        *,
        parallel: bool,
        text_format: TextFormat,
        thinking_possible: bool,
        every_schema: bool = False,
    ) -> Constraint | None:
        """Build the constraint of a turn; None if the output is free; see `grammar.constraint`.

        Raises:
            InvalidRequest: a schema is invalid or cannot be enforced, or a call is required
                and no tool is offered.
        """
        ...
