"""A renderer of our own for a family of models: only what is new is written and tokenised.

The words of a family are a few functions (`Family`); this is how a conversation is made of them.

* What stands in front (instructions, tools, a system prompt that the template brings along) is
  what the model's own template makes of it, rendered once for each preamble. Where it depends on
  the first message (tools that stand in it, a system prompt that a client replaces), it waits
  for that one.
* Messages are written one by one. The last one may still grow, and is written again then.
* Some formats change what they wrote when a certain message follows: reasoning is dropped when a
  user speaks again. The messages that may still change are the *window*; when such a message
  comes, they are written anew as past, and the window begins behind them.

Whatever is written again is compared piece by piece with what stands (`pieces.align`): equal
pieces keep their ids, sampled ones as they were sampled, and only what differs is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from turnwire.constraint import Constraint
from turnwire.protocol.items import Item
from turnwire.protocol.requests import TextFormat
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet
from turnwire.rendering.base import Label, Parser, Rendered, Spoken
from turnwire.rendering.messages import ChatMessage, Head, fold, may_grow
from turnwire.rendering.pieces import Chunk, Pieces, align, joined, split
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

__all__ = ["Family", "FamilyTemplate", "Output"]


class Output(Protocol):
    """Reads what a model answers; `formats.Format` and its like."""

    @property
    def stop(self) -> frozenset[int]:
        """Ids that end an output."""
        ...

    def parser(self, offered: Mapping[str, OfferedTool], *, thinking: bool) -> Parser:
        """A parser for one output; see `Template.parser`."""
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
        """The constraint of a turn; see `Template.constraint`."""
        ...


class Family(Protocol):
    """The words of one family. Between two messages there is always a special token."""

    @property
    def name(self) -> str:
        """Names it, with whatever changes its words."""
        ...

    @property
    def effort_in_start(self) -> bool:
        """Whether what stands in front depends on the reasoning effort."""
        ...

    def head(self, head: Head) -> Pieces | None:
        """What stands in front of the messages, or None if that depends on the first of them.

        Raises:
            InvalidRequest: the model cannot be told this.
        """
        ...

    def separable(self, head: Head) -> bool:
        """Whether no message depends on what stands in front, once that is written."""
        ...

    def first(self, head: Head, message: ChatMessage | None, *, past: bool) -> Pieces:
        """What stands in front, and the first message if there is one.

        Raises:
            InvalidRequest: the model cannot be told this.
        """
        ...

    def message(self, head: Head, message: ChatMessage, *, past: bool) -> Pieces:
        """A message that is not the first; whole, up to where another may follow.

        Args:
            head: What stands in front.
            message: The message.
            past: Whether a message followed that changes those before it.
        """
        ...

    def ends_past(self, before: ChatMessage | None, message: ChatMessage) -> bool:
        """Whether all messages before `message` are past, now that it follows `before`."""
        ...

    def opening(self, *, reasoning: bool) -> Pieces:
        """What makes the model go on."""
        ...


class _Node(Struct, frozen=True, eq=False):
    """A message of the window, with its ids.

    Attributes:
        parent: The message before it, if that is in the window too.
        message: What was said.
        chunks: How it is written.
        first: Whether what stands in front is among them.
    """

    parent: _Node | None
    message: ChatMessage
    chunks: tuple[Chunk, ...]
    first: bool


class _Place(Struct, frozen=True, eq=False):
    """Where a rendering stands.

    Attributes:
        head: What is in front.
        waits: Whether that is not written yet.
        top: The last message, and through it the window.
    """

    head: Head
    waits: bool
    top: _Node | None = None


class FamilyTemplate:
    """A `Template` out of the words of a family.

    Attributes:
        tokenizer: The vocabulary.
        fingerprint: Equal for templates that give equal ids.
        stop: Ids that end an output.
        effort_in_start: As the family says.
        user_first: No: a family writes whoever begins.
    """

    user_first: Final = False

    def __init__(self, tokenizer: Tokenizer, family: Family, output: Output) -> None:
        """
        Args:
            tokenizer: The vocabulary.
            family: Writes.
            output: Reads.
        """
        self.tokenizer: Final = tokenizer
        self.family: Final = family
        self.output: Final = output
        self.fingerprint: Final = f"{family.name}:{tokenizer.fingerprint}"
        self.stop: Final = output.stop
        self.effort_in_start: Final = family.effort_in_start
        self._special = frozenset(tokenizer.special.values())
        self._openings = {
            reasoning: self.encoded(family.opening(reasoning=reasoning))
            for reasoning in (False, True)
        }

    def start(self, instructions: str | None, tools: ToolSet, effort: str | None) -> Rendered:
        """The preamble, unless it waits for the first message."""
        head = Head(instructions or None, tools, effort)
        pieces = self.family.head(head)
        if pieces is None:
            return Rendered(token_array(), _Place(head, waits=True), 0, separable=False)
        ids = self.encoded(pieces)
        place = _Place(head, waits=False)
        return Rendered(ids, place, len(ids), separable=self.family.separable(head))

    def opening(self, turn: _Place, *, reasoning: bool) -> TokenArray:
        """What is put behind the conversation to have the model go on."""
        ids = self._openings[reasoning]
        if turn.waits and turn.top is None:  # nobody has said anything
            return self.encoded(self.family.first(turn.head, None, past=False)) + ids
        return ids

    def extend(
        self,
        turn: _Place,
        items: Sequence[Item],
        labels: Sequence[Label | None],
        sampled: Sequence[TokenArray | None],
        spoken: Sequence[Spoken] = (),
        *,
        live: bool = False,
    ) -> Rendered:
        """Render items behind a conversation; see `Template.extend`."""
        made, at = Rendered(token_array(), turn, 0), 0
        # One response at a time: its ids are its own words', and nobody else's that are equal.
        for one in spoken:
            if at < one.begin:
                before = slice(at, one.begin)
                made = made.followed_by(self._extend(made.turn, items[before], labels[before]))
            at = one.end
            said = slice(one.begin, at)
            more = self._extend(made.turn, items[said], labels[said], one.ids)
            made = made.followed_by(more)
        if at < len(items):
            made = made.followed_by(self._extend(made.turn, items[at:], labels[at:]))
        return made

    def _extend(
        self,
        turn: _Place,
        items: Sequence[Item],
        labels: Sequence[Label | None],
        spoken: TokenArray | None = None,
    ) -> Rendered:
        top = turn.top
        growing = top is not None and may_grow(top.message)
        messages = fold(top.message if top is not None and growing else None, items, labels)
        if top is not None and growing and messages[0] is top.message:
            del messages[0]
            growing = False
        if not messages:
            return Rendered(token_array(), turn, 0)
        said = split(self.tokenizer, self._special, spoken) if spoken is not None else []
        return self._extended(turn, messages, said, growing=growing)

    def _extended(
        self, turn: _Place, messages: list[ChatMessage], said: list[Chunk], *, growing: bool
    ) -> Rendered:
        """Write messages behind a conversation.

        Args:
            turn: Where it stands.
            messages: At least one.
            said: What was sampled behind it, and the opening before that.
            growing: Whether the first message takes the place of the last that stands.
        """
        top = turn.top
        first = turn.waits and top is None
        standing: list[Chunk] = []
        if top is not None and growing:
            standing += top.chunks
            first = top.first
            top = top.parent
        before, num_past = top.message if top is not None else None, -1
        for place, message in enumerate(messages):
            if self.family.ends_past(before, message):
                num_past = place
            before = message
        again: list[_Node] = []
        if num_past >= 0:
            while top is not None:
                again.append(top)
                top = top.parent
            again.reverse()
            standing = [chunk for node in again for chunk in node.chunks] + standing
        firsts = [node.first for node in again] + [first] + [False] * (len(messages) - 1)
        written = [node.message for node in again] + messages
        num_past += len(again)
        pieces = [
            joined(
                (self.family.first if is_first else self.family.message)(
                    turn.head, message, past=place < num_past
                )
            )
            for place, (message, is_first) in enumerate(zip(written, firsts, strict=True))
        ]
        aligned = align(
            self.tokenizer, [piece for some in pieces for piece in some], standing + said
        )
        kept = min(aligned.num_standing, len(standing))
        at = 0
        for place, (message, some, is_first) in enumerate(
            zip(written, pieces, firsts, strict=True)
        ):
            chunks = tuple(aligned.chunks[at : at + len(some)])
            at += len(some)
            if place >= num_past:
                top = _Node(top, message, chunks, is_first)
        return Rendered(
            _ids(aligned.chunks[kept:]),
            _Place(turn.head, waits=turn.waits, top=top),
            aligned.num_tokenised,
            sum(len(chunk.ids) for chunk in standing[kept:]),
        )

    def parser(self, offered: Mapping[str, OfferedTool], *, thinking: bool) -> Parser:
        """A parser for one output; see `Template.parser`."""
        return self.output.parser(offered, thinking=thinking)

    def constraint(self, tools: ToolSet, tool_choice: ToolChoice, **how: Any) -> Constraint | None:
        """The constraint of a turn; see `Template.constraint`."""
        return self.output.constraint(tools, tool_choice, **how)

    def prompt(self, head: Head, messages: Sequence[ChatMessage]) -> TokenArray:
        """The ids of a whole conversation and the opening, for a comparison.

        Raises:
            InvalidRequest: the model cannot be told this.
        """
        begun = self.start(head.instructions, head.tools, head.effort)
        rendered = self._extended(begun.turn, list(messages), [], growing=False)
        reasoning = head.effort not in (None, "none")
        return begun.ids + rendered.ids + self.opening(rendered.turn, reasoning=reasoning)

    def encoded(self, pieces: Pieces) -> TokenArray:
        """Pieces as ids."""
        return _ids(align(self.tokenizer, joined(pieces), ()).chunks)


def _ids(chunks: Sequence[Chunk]) -> TokenArray:
    ids = token_array()
    for chunk in chunks:
        ids += chunk.ids
    return ids
