"""A model's output tokens to parts, while they arrive.

Special tokens are known by id, never by their text, so text that looks like a tag stays text.

    TEXT      message text                        <think> -> THINKING   <tool_call> -> CALL
    THINKING  reasoning text                      </think> -> TEXT
    CALL      a call's text (see call.py)         </tool_call> -> TEXT
    STOPPED   after a stop token; what follows is ignored

A special token that has no place in the table above produces nothing and is not kept among the
item's sampled ids: what the conversation shows of this output is always well-formed. An item
without text, such as `<think></think>`, is no item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from turnwire.parts import ItemFinished, Part, ReasoningDelta, TextDelta
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.call import CallReader
from turnwire.rendering.detokenizer import Detokenizer
from turnwire.tokens import TokenArray, token_array

if TYPE_CHECKING:
    from turnwire.rendering.chatml import Renderer

__all__ = ["OutputParser"]


class _State(Enum):
    TEXT = "text"
    THINKING = "thinking"
    CALL = "call"
    STOPPED = "stopped"


class OutputParser:
    """One output, parsed in feeds of any size; the size changes how deltas are cut, no more.

    Attributes:
        num_reasoning_tokens: Tokens between `<think>` and `</think>` so far.
        open_sampled: After `finish(cut=True)`: the sampled ids of the item that was cut, or
            None if none was open.
    """

    def __init__(
        self, renderer: Renderer, offered: Mapping[str, OfferedTool], *, thinking: bool
    ) -> None:
        """
        Args:
            offered: Tools that may be called, by name. A call to any other stays text, so none
                at all is how `tool_choice: none` is kept.
            thinking: Whether the prompt ended with `<think>`.
        """
        tokenizer = renderer.tokenizer
        self._marks = renderer.marks
        self._special = renderer.special_ids
        self._stop = renderer.stop
        self._texts = renderer.plain_texts
        self._detokenizer = Detokenizer(tokenizer.table)
        self._offered = offered
        self._state = _State.THINKING if thinking else _State.TEXT
        self._call: CallReader | None = None
        self._sampled = token_array()
        self._has_item = False
        self.num_reasoning_tokens = 0
        self.open_sampled: TokenArray | None = None

    def feed(self, ids: Sequence[int]) -> list[Part]:
        """The parts that `ids` complete, in order; none while a character is unfinished."""
        if len(ids) == 1 and self._state is _State.TEXT and not self._detokenizer.pending:
            # The common case, once per token: whole characters of message text.
            token_id = ids[0]
            text = self._texts[token_id]
            if text:
                self._sampled.append(token_id)
                self._has_item = True
                return [TextDelta(text)]
        parts: list[Part] = []
        start = 0
        for place, token_id in enumerate(ids):
            if token_id in self._special:
                self._plain(ids[start:place], parts)
                self._mark(token_id, parts)
                start = place + 1
        self._plain(ids[start:] if start else ids, parts)
        return parts

    def finish(self, *, cut: bool) -> list[Part]:
        """The output's end.

        Args:
            cut: It ended for want of room, not by a stop token: the item that is open stays
                open. A call whose name was not whole is dropped then, as an incomplete call
                leaves nothing in the conversation either.
        """
        parts: list[Part] = []
        if not cut:
            self._end_item(parts)
        else:
            self._text(self._detokenizer.flush(), parts)
            if self._has_item:
                self.open_sampled = self._sampled
        self._state = _State.STOPPED
        return parts

    def _plain(self, ids: Sequence[int], parts: list[Part]) -> None:
        """Text in the present state; no special id is in `ids`."""
        if not ids or self._state is _State.STOPPED:
            return
        self._sampled.extend(ids)
        if self._state is _State.THINKING:
            self.num_reasoning_tokens += len(ids)
        self._text(self._detokenizer.feed(ids), parts)

    def _text(self, text: str, parts: list[Part]) -> None:
        if not text:
            return
        if self._call is not None:
            parts += self._call.feed(text)
            self._has_item = self._call.opened
        else:
            thinking = self._state is _State.THINKING
            parts.append(ReasoningDelta(text) if thinking else TextDelta(text))
            self._has_item = True

    def _mark(self, token_id: int, parts: list[Part]) -> None:
        """One special token: the moves of the table above."""
        marks = self._marks
        match self._state:
            case _State.STOPPED:
                return
            case _ if token_id in self._stop:
                self._text(self._detokenizer.flush(), parts)
                self._state = _State.STOPPED  # `finish` ends the item
            case _State.TEXT if token_id == marks.think:
                self._end_item(parts)
                self._state = _State.THINKING
            case _State.TEXT if token_id == marks.tool_call:
                self._end_item(parts)
                self._state = _State.CALL
                self._call = CallReader(self._offered)
            case _State.THINKING if token_id == marks.end_think:
                self._end_item(parts)
                self._state = _State.TEXT
            case _State.CALL if token_id == marks.end_tool_call:
                self._end_item(parts)
                self._state = _State.TEXT
            case _:
                # A character cannot go on behind a token that is none.
                self._text(self._detokenizer.flush(), parts)

    def _end_item(self, parts: list[Part]) -> None:
        self._text(self._detokenizer.flush(), parts)
        if self._call is not None:
            rest = self._call.close()
            parts += rest
            self._has_item = self._has_item or bool(rest)
            self._call = None
        if self._has_item:
            parts.append(ItemFinished(self._sampled))
            self._has_item = False
        self._sampled = token_array()
