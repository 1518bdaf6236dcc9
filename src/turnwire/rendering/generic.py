"""Any chat template: the whole conversation is rendered again for every prompt.

This is for templates that no renderer of ours knows, and for those that take back what they
wrote. Running the template is O(context), some milliseconds for a very long one; but only
pieces that were not there before are tokenised, and as far as the new rendering says the same
as the prompt before and what the model sampled behind it, their ids stand. So an engine's prefix
cache holds as far as the template allows.

What stands between two turns is everything that the opening cannot change: a blank line that
the template puts behind a turn, say, belongs to the opening, and is cut only at a special token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from turnwire.constraint import Constraint
from turnwire.errors import InvalidRequest
from turnwire.protocol.items import Item
from turnwire.protocol.requests import TextFormat
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet
from turnwire.rendering.base import Label, Rendered
from turnwire.rendering.formats import Format
from turnwire.rendering.jinja import ChatTemplate, TemplateRefused
from turnwire.rendering.messages import (
    ChatMessage,
    Head,
    fold,
    may_grow,
    short_id,
    tool_schema,
)
from turnwire.rendering.pieces import Chunk, Pieces, align, split
from turnwire.rendering.tagged import TaggedParser
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

__all__ = ["GenericTemplate", "Quirks", "Rendering"]


class Quirks(Struct, frozen=True, kw_only=True):
    """What a template does not take, and what it is given instead; found by `probe`.

    Attributes:
        arguments: Whether calls come with their arguments as an object or as JSON text.
        late_system: The role of system messages that are not the first message.
        alternate: Whether messages of one role that follow each other are made one.
        system: Whether it takes a system message at all; else it begins the first user message.
        no_tools: What it is given where there are none.
    """

    arguments: Literal["object", "text"] = "object"
    late_system: Literal["system", "user"] = "system"
    alternate: bool = False
    system: bool = True
    no_tools: Literal["none", "empty"] = "none"


class Rendering:
    """A chat template and how to speak to it: messages in, pieces out."""

    def __init__(self, chat: ChatTemplate, quirks: Quirks, bos: int | None = None) -> None:
        """
        Args:
            chat: The template.
            quirks: How it wants to be spoken to.
            bos: A token that every prompt begins with, whether the template says so or not.
        """
        self.chat: Final = chat
        self.quirks: Final = quirks
        self.bos: Final = bos

    def render(
        self, head: Head, messages: Sequence[ChatMessage], *, opening: bool, thinking: bool
    ) -> Pieces:
        """The conversation in pieces.

        Args:
            head: Instructions and tools.
            messages: The messages behind them.
            opening: Whether what makes the model go on is put behind them.
            thinking: Whether it is to think first.

        Raises:
            TemplateRefused: the template does not take it.
        """
        guard = self.chat.guard
        tools = [
            _restored(guard.put_all(tool_schema(tool))) for tool in head.tools.offered.values()
        ]
        pieces = self.chat.render(
            messages=self.dicts(head.instructions, messages),
            tools=[_restored(t) for t in tools]
            or ([] if self.quirks.no_tools == "empty" else None),
            add_generation_prompt=opening,
            enable_thinking=thinking,
            thinking=thinking,
            **({"reasoning_effort": head.effort} if head.effort else {}),
        )
        return pieces if self.bos is None or pieces[:1] == [self.bos] else [self.bos, *pieces]

    def dicts(
        self, instructions: str | None, messages: Sequence[ChatMessage]
    ) -> list[dict[str, Any]]:
        """Messages as templates expect them, texts guarded."""
        put, quirks = self.chat.guard.put, self.quirks
        found: list[dict[str, Any]] = []
        if instructions:
            found.append({"role": "system", "content": put(instructions)})
        for message in messages:
            match message.role:
                case "tool":
                    found += [
                        {
                            "role": "tool",
                            "name": put(result.name),
                            "tool_call_id": short_id(result.call_id),
                            "content": put(result.text),
                        }
                        for result in message.results
                    ]
                case "assistant":
                    found.append(self._assistant(message))
                case "user":
                    found.append({"role": "user", "content": put(message.text)})
                case _:
                    role = quirks.late_system if found else "system"
                    found.append({"role": role, "content": put(message.text)})
        if not quirks.system and found and found[0]["role"] == "system":
            found[0]["role"] = "user"
        return _alternating(found) if quirks.alternate else found

    def _assistant(self, message: ChatMessage) -> dict[str, Any]:
        guard = self.chat.guard
        made: dict[str, Any] = {"role": "assistant", "content": guard.put(message.text)}
        if message.reasoning:
            made["reasoning_content"] = made["thinking"] = guard.put(message.reasoning)
        if message.calls:
            calls = []
            for call in message.calls:
                value = call.decoded() if self.quirks.arguments == "object" else None
                text = call.written() if value is None else ""
                given = guard.put(text) if value is None else guard.put_all(value)
                function = {"name": guard.put(call.name), "arguments": given}
                calls.append(
                    {"id": short_id(call.call_id), "type": "function", "function": function}
                )
            made["tool_calls"] = calls
        return made


def _restored(tool: dict[str, Any]) -> dict[str, Any]:
    """The keys and words of the outer frame are ours: templates compare with them."""
    function = tool[next(key for key in tool if key.endswith("function"))]
    return {"type": "function", "function": function}


def _alternating(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages of one role, without calls, made one."""
    found: list[dict[str, Any]] = []
    for message in messages:
        last = found[-1] if found else None
        same = last is not None and last["role"] == message["role"] != "tool"
        if last is None or not same or "tool_calls" in last:
            found.append(message)
        else:
            content = "\n\n".join(filter(None, (last["content"], message["content"])))
            found[-1] = {**last, **message, "content": content}
    return found


class _Place(Struct, frozen=True, eq=False):
    """Where a rendering stands.

    Attributes:
        head: In front of everything.
        messages: So far.
        chunks: What stands: rendered, or sampled behind it.
        opening: Pieces and ids that make the model go on.
        settled: Whether `chunks` are what the template makes of `messages`; not so after an
            output, until more follows.
    """

    head: Head
    messages: tuple[ChatMessage, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    opening: tuple[Chunk, ...] = ()
    settled: bool = False


class GenericTemplate:
    """A model's own template, run for every prompt; a `Template`.

    Attributes:
        tokenizer: The vocabulary.
        fingerprint: Equal for templates that give equal ids.
        stop: Ids that end an output.
        effort_in_start: Yes: a template may read it anywhere.
    """

    effort_in_start: Final = True

    def __init__(self, tokenizer: Tokenizer, rendering: Rendering, output: Format) -> None:
        """
        Args:
            tokenizer: The vocabulary.
            rendering: The template and how to speak to it.
            output: What the model answers with.
        """
        self.tokenizer: Final = tokenizer
        self.rendering: Final = rendering
        self.output: Final = output
        self.stop: Final = output.stop
        self._special = frozenset(tokenizer.special.values())
        quirks = repr(rendering.quirks)
        digest = hashlib.sha256(f"{quirks}{rendering.chat.source}".encode()).hexdigest()[:16]
        self.fingerprint: Final = f"generic-1:{tokenizer.fingerprint}:{digest}"

    def start(self, instructions: str | None, tools: ToolSet, effort: str | None) -> Rendered:
        """No ids: what stands in front is rendered with the rest."""
        return Rendered(
            token_array(), _Place(Head(instructions, tools, effort)), 0, separable=False
        )

    def opening(self, turn: _Place, *, reasoning: bool) -> TokenArray:
        """What the template puts behind the conversation; it knew the effort from the start."""
        if not turn.settled:
            turn = self._settled(turn, turn.messages).turn
        return _ids(turn.opening)

    def extend(
        self,
        turn: _Place,
        items: Sequence[Item],
        labels: Sequence[Label | None],
        sampled: Sequence[TokenArray | None],
        opening: TokenArray | None = None,
    ) -> Rendered:
        """Render items behind a conversation; see `Template.extend`."""
        last = turn.messages[-1] if turn.messages and may_grow(turn.messages[-1]) else None
        before = turn.messages[:-1] if last is not None else turn.messages
        messages = (*before, *fold(last, items, labels))
        if opening is not None and items and all(ids is not None for ids in sampled):
            ids = opening[:]
            for one in sampled:
                ids += one or token_array()
            chunks = (*turn.chunks, *split(self.tokenizer, self._special, ids))
            return Rendered(ids, _Place(turn.head, messages, chunks), 0)
        if turn.settled and messages == turn.messages:
            return Rendered(token_array(), turn, 0)
        return self._settled(turn, messages)

    def _settled(self, turn: _Place, messages: tuple[ChatMessage, ...]) -> Rendered:
        """Render everything; keep the ids of what stands unchanged."""
        thinking = turn.head.effort not in (None, "none")
        try:
            rendering = self.rendering
            going_on = rendering.render(turn.head, messages, opening=True, thinking=thinking)
            alone = rendering.render(turn.head, messages, opening=False, thinking=thinking)
        except TemplateRefused as error:
            raise InvalidRequest(
                f"The model's chat template does not take this conversation: {error}",
                param="input",
            ) from error
        num_standing = 0
        for ours, piece in zip(alone, going_on, strict=False):
            if ours != piece:
                break
            num_standing += 1
        aligned = align(self.tokenizer, going_on, turn.chunks)
        kept = min(aligned.num_standing, num_standing)
        place = _Place(
            turn.head,
            messages,
            tuple(aligned.chunks[:num_standing]),
            tuple(aligned.chunks[num_standing:]),
            settled=True,
        )
        dropped = sum(len(chunk.ids) for chunk in turn.chunks[kept:])
        return Rendered(
            _ids(aligned.chunks[kept:num_standing]), place, aligned.num_tokenised, dropped
        )

    def parser(self, offered: Mapping[str, OfferedTool], *, thinking: bool) -> TaggedParser:
        """A parser for one output; see `Template.parser`."""
        return self.output.parser(offered, thinking=thinking)

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
        return self.output.constraint(
            tools,
            tool_choice,
            parallel=parallel,
            text_format=text_format,
            thinking_possible=thinking_possible,
            every_schema=every_schema,
        )


def _ids(chunks: Sequence[Chunk]) -> TokenArray:
    ids = token_array()
    for chunk in chunks:
        ids += chunk.ids
    return ids
