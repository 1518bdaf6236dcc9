"""Items to token ids: a ChatML template that only ever appends.

A turn is `<|im_start|>ROLE\nTEXT<|im_end|>\n`. Theory of operation:

* The ids of a conversation are made of pieces, one or more per item, and rendering items one by
  one gives the same ids as rendering them together. That holds because a piece of text is cut
  only where a special token stands on one side of the cut, or right behind an assistant's
  header: byte-level BPE never merges across a special token (engines.md section 4). So a role
  and its text are encoded as one string, and the `\n` behind `<|im_end|>` is safe because
  `<|im_start|>` follows.
* Text is encoded with special tokens disabled: no client's text can open or close a turn.
* What the model sampled is kept as sampled, because encoding its text again may give other ids.
* Assistant items that follow each other share one turn: a client that resends a history cannot
  tell which of them came from one response. The turn stays open until something else follows,
  so that what the model sampled can be appended to the prompt it was sampled from.

Inside an assistant's turn:

    message           its text, bare; a message behind a message opens another turn
    reasoning         <think>TEXT</think>
    call              <tool_call>{"name": NAME, "arguments": ARGUMENTS}</tool_call>
    custom call       <tool_call>NAME\nINPUT</tool_call>

Everything else is a closed turn: messages under their role, outputs under `tool NAME`, or
`tool NAME ORDINAL` from the second of several parallel calls on, items that we do not know
under `system`. Tools that are added stand in a developer's turn, as they would in the preamble. An
incomplete call, reasoning without text, an assistant's message without text and an update of the
configuration render to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum

import msgspec
from msgspec import Struct

from turnwire.constraint import Constraint
from turnwire.errors import ConfigError
from turnwire.protocol.codec import opaque_text
from turnwire.protocol.items import (
    AdditionalTools,
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    Reasoning,
)
from turnwire.protocol.requests import TextFormat
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet
from turnwire.rendering import call
from turnwire.rendering.base import Label, Rendered, Spoken
from turnwire.rendering.grammar import constraint
from turnwire.rendering.parser import OutputParser
from turnwire.rendering.texts import BETWEEN_PARTS, reasoning_of, text_of
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

__all__ = ["NO_TURN", "Label", "Last", "Marks", "Rendered", "Renderer", "Turn"]


class Last(Enum):
    """The kind of the last item in an assistant's open turn."""

    MESSAGE = "message"
    REASONING = "reasoning"
    CALL = "call"


class Turn(Struct, frozen=True):
    """Where a rendering stands.

    Attributes:
        last: The last item of the assistant's turn that is open, or None if no turn is.
    """

    last: Last | None = None

    @property
    def is_open(self) -> bool:
        return self.last is not None


NO_TURN = Turn()
"""No turn is open: the start of a conversation, and after every closed turn."""


class Marks(Struct, frozen=True):
    """Ids of the special tokens that the template is made of."""

    end_of_text: int
    start: int
    end: int
    think: int
    end_think: int
    tool_call: int
    end_tool_call: int


_MARK_NAMES = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
)


class Renderer:
    """The template over one vocabulary; a `Template`.

    Attributes:
        tokenizer: The vocabulary.
        fingerprint: Equal for renderers that give equal ids.
        marks: Ids of the template's special tokens.
        special_ids: Every special id of the vocabulary.
        stop: Ids that end an output: `<|im_end|>` and `<|endoftext|>`.
        plain_texts: By id: the text of a token that is whole characters and not special,
            else None.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Raises:
            ConfigError: the vocabulary lacks a special token of the template.
        """
        missing = [name for name in _MARK_NAMES if name not in tokenizer.special]
        if missing:
            raise ConfigError(f"the tokenizer has no special token {', '.join(missing)}")
        self.tokenizer = tokenizer
        self.fingerprint = f"chatml-2:{tokenizer.fingerprint}"
        marks = self.marks = Marks(*(tokenizer.special[name] for name in _MARK_NAMES))
        self.special_ids = frozenset(tokenizer.special.values())
        self.stop = frozenset((marks.end, marks.end_of_text))
        self.plain_texts: tuple[str | None, ...] = tuple(
            None if token_id in self.special_ids else text
            for token_id, text in enumerate(tokenizer.table.texts)
        )
        self._header = token_array((marks.start, *tokenizer.encode("assistant\n")))
        self._close = token_array((marks.end, *tokenizer.encode("\n")))
        self._start = token_array((marks.start,))
        self._around = {
            Last.MESSAGE: (token_array(), token_array()),
            Last.REASONING: (token_array((marks.think,)), token_array((marks.end_think,))),
            Last.CALL: (token_array((marks.tool_call,)), token_array((marks.end_tool_call,))),
        }

    @property
    def effort_in_start(self) -> bool:
        """No: whether the model thinks is said by the opening."""
        return False

    @property
    def user_first(self) -> bool:
        """No: anybody may begin."""
        return False

    def start(self, instructions: str | None, tools: ToolSet, effort: str | None) -> Rendered:
        """The preamble, and no turn open."""
        ids = self.preamble(instructions, tools)
        return Rendered(ids, NO_TURN, len(ids))

    def preamble(self, instructions: str | None, tools: ToolSet) -> TokenArray:
        """The system turn in front of a conversation; no ids without instructions and tools."""
        sections = [instructions] if instructions else []
        if tools.offered:
            sections.append(_tools_section(tools.offered.values()))
        if not sections:
            return token_array()
        text = self.tokenizer.encode("system\n" + "\n\n".join(sections))
        return self._start + text + self._close

    def opening(self, turn: Turn, *, reasoning: bool) -> TokenArray:
        """What is put behind the conversation to have the model go on.

        Args:
            turn: Where the conversation stands.
            reasoning: Whether the model is to think first.
        """
        ids = token_array()
        if turn.last is Last.MESSAGE:
            ids += self._close
        if turn.last in (None, Last.MESSAGE):
            ids += self._header
        if reasoning:
            ids.append(self.marks.think)
        return ids

    def extend(
        self,
        turn: Turn,
        items: Sequence[Item],
        labels: Sequence[Label | None],
        sampled: Sequence[TokenArray | None],
        spoken: Sequence[Spoken] = (),
        *,
        live: bool = False,
    ) -> Rendered:
        """Render items behind a conversation; any partition of them gives the same ids.

        For a response's items, rendered from the turn before its opening, the ids are the
        opening's followed by what the model sampled, up to the stop token; unless the model
        wrote what the template never does (a call in prose, thinking without a word). A caller
        compares, and keeps the prompt as the prefix if they are equal.

        Args:
            turn: Where the conversation stands.
            items: New items, in order.
            labels: Parallel to `items`: for outputs, what they are rendered under.
            sampled: Parallel to `items`: an assistant item's ids as the model sampled them,
                used in place of its text.
            spoken: Not needed here: an item's ids are its own.
            live: Not needed here either.
        """
        pieces: list[TokenArray | str] = []
        for item, label, ids in zip(items, labels, sampled, strict=True):
            turn = self._append(pieces, turn, item, label, ids)
        texts = [piece for piece in pieces if isinstance(piece, str)]
        encoded: Iterator[TokenArray] = iter(self.tokenizer.encode_batch(texts))
        all_ids = token_array()
        num_tokenised = 0
        for piece in pieces:
            if isinstance(piece, str):
                made = next(encoded)
                num_tokenised += len(made)
                all_ids += made
            else:
                all_ids += piece
        return Rendered(all_ids, turn, num_tokenised)

    def parser(self, offered: Mapping[str, OfferedTool], *, thinking: bool) -> OutputParser:
        """A parser for one output; see `Template.parser`."""
        return OutputParser(self, offered, thinking=thinking)

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
        """The constraint of a turn; see `grammar.constraint`."""
        return constraint(
            self,
            tools,
            tool_choice,
            parallel=parallel,
            text_format=text_format,
            thinking_possible=thinking_possible,
            every_schema=every_schema,
        )

    def _append(
        self,
        pieces: list[TokenArray | str],
        turn: Turn,
        item: Item,
        label: Label | None,
        sampled: TokenArray | None,
    ) -> Turn:
        """The one rule of the template: append an item's pieces; return the turn behind it."""
        match item:
            case Message(role="assistant"):
                kind, text = Last.MESSAGE, text_of(item.content, "")
            case Reasoning():
                kind, text = Last.REASONING, reasoning_of(item)
            case FunctionCall() | CustomToolCall():
                if item.status == "incomplete":
                    return turn  # it must never run, so the model need not see it
                kind, text = Last.CALL, call.write(item)
            case ConfigurationUpdate():
                return turn  # what it sets shows in how the model goes on
            case AdditionalTools() if not item.tools.offered:
                return turn
            case _:
                if turn.is_open:
                    pieces.append(self._close)
                pieces += (self._start, _closed_turn(item, label), self._close)
                return NO_TURN
        if not text and not sampled:
            return turn
        if turn.last is Last.MESSAGE and kind is Last.MESSAGE:
            pieces.append(self._close)
            turn = NO_TURN
        if not turn.is_open:
            pieces.append(self._header)
        before, after = self._around[kind]
        pieces += (before, sampled or text, after)
        return Turn(kind)


def _closed_turn(item: Item, label: Label | None) -> str:
    """The role line and the text of an item that is a turn of its own."""
    match item:
        case Message():
            return f"{item.role}\n{text_of(item.content, BETWEEN_PARTS)}"
        case FunctionCallOutput() | CustomToolCallOutput():
            output = item.output
            text = output if isinstance(output, str) else text_of(output, BETWEEN_PARTS)
            name, ordinal = label or ("", 0)
            role = " ".join(
                ("tool", *([name] if name else []), *([str(ordinal)] if ordinal else []))
            )
            return f"{role}\n{text}"
        case AdditionalTools():
            return f"developer\n{_tools_section(item.tools.offered.values())}"
        case OpaqueItem():
            return f"system\n[{item.type}] {opaque_text(item)}"
        case ItemReference():
            raise AssertionError("references are resolved before a conversation is made")
        case _:
            raise AssertionError(f"an assistant's item is no closed turn: {type(item).__name__}")


_HOW_TO_CALL = 'Call a tool with one JSON object: {"name": NAME, "arguments": OBJECT}.'
_HOW_TO_GIVE_INPUT = (
    "Call a tool that takes an input with its name on a line of its own, then the input as it is."
)


def _tools_section(tools: Iterable[OfferedTool]) -> str:
    how = dict.fromkeys(
        _HOW_TO_CALL if tool.kind == "function" else _HOW_TO_GIVE_INPUT for tool in tools
    )
    return "\n".join(("# Tools", *how, *map(_tool_line, tools)))


def _tool_line(tool: OfferedTool) -> str:
    """One tool as one line of JSON, whitespace in its schema left out."""
    fields: dict[str, object] = {"name": tool.name}
    if tool.description:
        fields["description"] = tool.description
    if tool.kind == "custom":
        fields["input"] = "text"
        if tool.grammar is not None:
            syntax, definition = tool.grammar
            fields["input"] = {"syntax": syntax, "definition": definition}
    elif tool.parameters is not None:
        fields["parameters"] = msgspec.Raw(msgspec.json.format(tool.parameters, indent=-1))
    return msgspec.json.encode(fields).decode()
