"""What gpt-oss answers with, read while it arrives; see harmony.py for the format.

    HEADER    channel and recipient                 <|message|> -> BODY
    BODY      reasoning, text or a call's JSON      <|end|> -> HEADER, behind the next <|start|>
    STOPPED   after <|return|>, <|call|>; what follows is ignored

A recipient may stand in the author's place or in the channel's; the model does both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from turnwire.constraint import Constraint
from turnwire.parts import ItemFinished, MessageStarted, Part, Phase, ReasoningDelta, TextDelta
from turnwire.protocol.requests import TextFormat
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet
from turnwire.rendering.detokenizer import Detokenizer
from turnwire.rendering.formats import as_functions
from turnwire.rendering.grammar import callable_tools
from turnwire.rendering.harmony import harmony_marks
from turnwire.rendering.json_call import JsonCall
from turnwire.rendering.schema import Schema, argument_schemas, text_schema
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

__all__ = ["HarmonyOutput", "HarmonyParser"]


class _State(Enum):
    HEADER = "header"
    BODY = "body"
    STOPPED = "stopped"


class HarmonyParser:
    """One output, parsed in feeds of any size.

    Attributes:
        num_reasoning_tokens: Tokens in the analysis channel so far.
        open_sampled: After `finish(cut=True)`: the sampled ids of the item that was cut, or
            None if none was open.
    """

    def __init__(self, tokenizer: Tokenizer, offered: Mapping[str, OfferedTool]) -> None:
        """
        Args:
            tokenizer: The vocabulary.
            offered: Tools that may be called, by name. A call to any other is text.
        """
        self._marks = harmony_marks(tokenizer)
        self._special = frozenset(tokenizer.special.values())
        self._detokenizer = Detokenizer(tokenizer.table)
        self._offered = offered
        self._state = _State.HEADER
        self._header = ""
        self._thinking = False
        self._phase: Phase | None = None
        self._call: JsonCall | None = None
        self._sampled = token_array()
        self._last: TokenArray | None = None
        self._has_item = False
        self.num_reasoning_tokens = 0
        self.open_sampled: TokenArray | None = None

    def feed(self, ids: Sequence[int]) -> list[Part]:
        """The parts that `ids` complete, in order."""
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
        """The output's end; see `Parser.finish`."""
        parts: list[Part] = []
        self._text(self._detokenizer.flush(), parts)
        if cut:
            self.open_sampled = self._sampled if self._has_item else None
        else:
            self._end_item(parts)
            if self._last is not None and self._sampled:
                self._last.extend(self._sampled)  # a header without a body
        self._state = _State.STOPPED
        return parts

    def _plain(self, ids: Sequence[int], parts: list[Part]) -> None:
        if not ids or self._state is _State.STOPPED:
            return
        self._sampled.extend(ids)
        if self._thinking:
            self.num_reasoning_tokens += len(ids)
        self._text(self._detokenizer.feed(ids), parts)

    def _text(self, text: str, parts: list[Part]) -> None:
        if not text or self._state is _State.STOPPED:
            return
        if self._state is _State.HEADER:
            self._header += text
            return
        if self._call is not None:
            new = self._call.feed(text)
            parts += new
            self._has_item = self._has_item or bool(new)
        elif self._thinking:
            parts.append(ReasoningDelta(text))
            self._has_item = True
        else:
            if not self._has_item and self._phase is not None:
                parts.append(MessageStarted(self._phase))
            parts.append(TextDelta(text))
            self._has_item = True

    def _mark(self, token_id: int, parts: list[Part]) -> None:
        if self._state is _State.STOPPED:
            return
        self._text(self._detokenizer.flush(), parts)
        marks = self._marks
        if token_id in (marks.ret, marks.call):
            self._end_item(parts)
            self._state = _State.STOPPED
            return
        self._sampled.append(token_id)
        if token_id == marks.end:
            self._end_item(parts)
            self._state = _State.HEADER
            self._header = ""
        elif self._state is _State.HEADER and token_id == marks.start:
            self._header = ""
        elif self._state is _State.HEADER and token_id in (marks.channel, marks.constrain):
            self._header += "\n"
        elif self._state is _State.HEADER and token_id == marks.message:
            self._begin(parts)

    def _begin(self, parts: list[Part]) -> None:
        """A body begins; its header says what it is."""
        self._state = _State.BODY
        words = self._header.split()
        recipient = next((word[3:] for word in words if word.startswith("to=")), "")
        tool = self._offered.get(recipient.removeprefix("functions."))
        self._thinking = "analysis" in words and tool is None
        self._phase = "commentary" if "commentary" in words else "final_answer"
        self._call = JsonCall(self._offered, tool) if tool is not None else None
        if self._call is not None:
            parts += self._call.feed("")  # its name is known
            self._has_item = True

    def _end_item(self, parts: list[Part]) -> None:
        if self._call is not None:
            parts += self._call.close()
            self._call = None
        if self._has_item:
            parts.append(ItemFinished(self._sampled))
            self._last = self._sampled
            self._sampled = token_array()
            self._has_item = False
        self._thinking = False


class HarmonyOutput:
    """Reads gpt-oss, and says what it may write; an `Output`.

    Attributes:
        stop: `<|return|>`, `<|call|>` and the end of text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Raises:
            ConfigError: the vocabulary lacks a special token of the format.
        """
        self._tokenizer: Final = tokenizer
        marks = self._marks = harmony_marks(tokenizer)
        ends = {marks.ret, marks.call, tokenizer.special.get("<|endoftext|>", marks.ret)}
        self.stop: Final = frozenset(ends)

    def parser(self, offered: Mapping[str, OfferedTool], *, thinking: bool) -> HarmonyParser:
        """A parser for one output; the model always chooses whether it thinks."""
        return HarmonyParser(self._tokenizer, offered)

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
        """The constraint of a turn; see `Template.constraint`. There is one call in a turn."""
        offered = callable_tools(tools, tool_choice)
        functions = as_functions(tools)
        called = [functions.offered[tool.name] for tool in offered]
        schemas = argument_schemas(self._tokenizer, functions, called, every_schema)
        content = text_schema(self._tokenizer, text_format)
        held = content is not None or tool_choice.mode == "required"
        if not held and not any(tool.strict for tool in called):
            return None
        return Constraint(
            grammar=self._grammar(
                called, schemas, content, answers=not called or tool_choice.mode != "required"
            )
        )

    def _grammar(
        self,
        called: Sequence[OfferedTool],
        schemas: Mapping[str, Schema],
        content: Schema | None,
        *,
        answers: bool,
    ) -> str:
        marks = self._marks
        message, channel = f"<[{marks.message}]>", f"<[{marks.channel}]>"
        again = f'<[{marks.end}]> <[{marks.start}]> "assistant"'
        ends = (["final"] if answers else []) + (["call"] if called else [])
        rules = [
            f"start: ahead* ({' | '.join(ends)})",
            f'ahead: {channel} ("analysis" | "commentary") {message} TEXT {again}',
            f'final: {channel} "final" {message} {"TEXT" if content is None else "json"}',
            "TEXT: /(?s:.*)/",
        ]
        if content is not None:
            rules.append(f"json: %json {json.dumps(content)}")
        if called:
            rules.append("call: " + " | ".join(f"call{n}" for n in range(len(called))))
        for n, tool in enumerate(called):
            header = json.dumps(f"commentary to=functions.{tool.name} ")
            rules.append(
                f'call{n}: {channel} {header} <[{marks.constrain}]> "json" {message} value{n}'
            )
            rules.append(f"value{n}: %json {json.dumps(schemas[tool.name])}")
        if not answers:
            del rules[2]
        return "\n".join(rules) + "\n"
