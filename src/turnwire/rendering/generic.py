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

from msgspec import Struct, structs

from turnwire.constraint import Constraint
from turnwire.errors import InvalidRequest
from turnwire.protocol.items import Item
from turnwire.protocol.requests import TextFormat
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolChoice, ToolSet
from turnwire.rendering.base import Label, Rendered, Spoken
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


Json = dict[str, Any]


class Quirks(Struct, frozen=True, kw_only=True):
    """What a template does not take, and what it is given instead; found by `probe`.

    Attributes:
        arguments: Whether calls come with their arguments as an object or as JSON text.
        late_system: The role of system messages that are not the first message.
        alternate: Whether messages of one role that follow each other are made one.
        system: Whether it takes a system message at all; else it begins the first user message.
        no_tools: What it is given where there are none.
        beside_calls: Whether a message with calls may have text; else that is a message before.
        ids: What a call is named by: letters and digits, or, as Kimi's models know it, its tool
            and its number in the conversation.
    """

    arguments: Literal["object", "text"] = "object"
    late_system: Literal["system", "user"] = "system"
    alternate: bool = False
    system: bool = True
    no_tools: Literal["none", "empty"] = "none"
    beside_calls: bool = True
    ids: Literal["short", "numbered"] = "short"


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
        given = [self.given(message) for message in messages]
        return self.render_given(head, given, opening=opening, thinking=thinking)

    def render_given(
        self, head: Head, messages: Sequence[list[Json]], *, opening: bool, thinking: bool
    ) -> Pieces:
        """`render`, of messages that `given` made."""
        put, quirks = self.chat.guard.put, self.quirks
        tools = [self._tool(tool) for tool in head.tools.offered.values()]
        found: list[Json] = []
        if head.instructions:
            found.append({"role": "system", "content": put(head.instructions)})
        for one in messages:
            found += one
        if quirks.ids == "numbered":
            found = _numbered(found)
        for at, message in enumerate(found):
            if message["role"] == "system":
                late = at > 0
                role = quirks.late_system if late else "system" if quirks.system else "user"
                found[at] = {**message, "role": role}
        pieces = self.chat.render(
            messages=_alternating(found) if quirks.alternate else found,
            tools=tools or ([] if quirks.no_tools == "empty" else None),
            add_generation_prompt=opening,
            enable_thinking=thinking,
            thinking=thinking,
            **({"reasoning_effort": head.effort} if head.effort else {}),
        )
        return pieces if self.bos is None or pieces[:1] == [self.bos] else [self.bos, *pieces]

    def given(self, message: ChatMessage) -> list[Json]:
        """A message as templates expect it, texts guarded; results are messages of their own."""
        put = self.chat.guard.put
        match message.role:
            case "tool":
                return [
                    {
                        "role": "tool",
                        "name": put(result.name),
                        "tool_call_id": short_id(result.call_id),
                        "content": put(result.text),
                    }
                    for result in message.results
                ]
            case "assistant" if message.text and message.calls and not self.quirks.beside_calls:
                said, called = structs.replace(message, calls=()), structs.replace(message, text="")
                return [self._assistant(said), self._assistant(called)]
            case "assistant":
                return [self._assistant(message)]
            case "user":
                return [{"role": "user", "content": put(message.text)}]
            case _:
                return [{"role": "system", "content": put(message.text)}]

    def _tool(self, tool: OfferedTool) -> Json:
        # The keys and words of the frame are ours: templates compare with them.
        function = tool_schema(tool)["function"]
        put_all = self.chat.guard.put_all
        return {"type": "function", "function": {k: put_all(v) for k, v in function.items()}}

    def _assistant(self, message: ChatMessage) -> Json:
        guard = self.chat.guard
        text = guard.put(message.text)
        silent = message.calls and not self.quirks.beside_calls
        made: Json = {"role": "assistant", "content": None if silent else text}
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


def _numbered(messages: list[Json]) -> list[Json]:
    """The messages with ids as `functions.NAME:NUMBER`, counted from the first call on."""
    found: list[Json] = []
    ids: dict[str, str] = {}
    count = 0
    for message in messages:
        if "tool_calls" in message:
            calls = []
            for call in message["tool_calls"]:
                ids[call["id"]] = f"functions.{call['function']['name']}:{count}"
                calls.append({**call, "id": ids[call["id"]]})
                count += 1
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            known = message["tool_call_id"]
            message = {**message, "tool_call_id": ids.get(known, known)}
        found.append(message)
    return found


def _alternating(messages: list[Json]) -> list[Json]:
    """Messages of one role, without calls, made one."""
    found: list[Json] = []
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
        given: Parallel to them: as the template gets them.
        chunks: What stands: rendered, or sampled behind it.
        opening: Pieces and ids that make the model go on.
        settled: Whether `chunks` are what the template makes of `messages`; not so after an
            output, until more follows.
    """

    head: Head
    messages: tuple[ChatMessage, ...] = ()
    given: tuple[list[Json], ...] = ()
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
        user_first: Where it insists on roles that alternate.
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
        self.user_first: Final = rendering.quirks.alternate
        self._special = frozenset(tokenizer.special.values())
        self._usual_openings = [_usual_opening(rendering, thinking=one) for one in (False, True)]
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
            turn = self._settled(turn).turn
        return _ids(turn.opening)

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
        last = turn.messages[-1] if turn.messages and may_grow(turn.messages[-1]) else None
        num_kept = len(turn.messages) - (last is not None)
        new = fold(last, items, labels)
        if turn.settled and new == [last] * (last is not None):
            return Rendered(token_array(), turn, 0)
        messages = (*turn.messages[:num_kept], *new)
        given = (*turn.given[:num_kept], *map(self.rendering.given, new))
        said = [chunk for one in spoken for chunk in split(self.tokenizer, self._special, one.ids)]
        if live and spoken:
            chunks = (*turn.chunks, *said)
            return Rendered(spoken[0].ids, _Place(turn.head, messages, given, chunks), 0)
        return self._settled(_Place(turn.head, messages, given, turn.chunks), said)

    def _settled(self, turn: _Place, said: Sequence[Chunk] = ()) -> Rendered:
        """Render everything; keep the ids of what stands unchanged, and of what was said."""
        going_on = self._render(turn, opening=True)
        num_standing = self._num_standing(turn, going_on)
        aligned = align(self.tokenizer, going_on, (*turn.chunks, *said))
        kept = min(aligned.num_standing, num_standing, len(turn.chunks))
        place = _Place(
            turn.head,
            turn.messages,
            turn.given,
            tuple(aligned.chunks[:num_standing]),
            tuple(aligned.chunks[num_standing:]),
            settled=True,
        )
        dropped = sum(len(chunk.ids) for chunk in turn.chunks[kept:])
        return Rendered(
            _ids(aligned.chunks[kept:num_standing]), place, aligned.num_tokenised, dropped
        )

    def _num_standing(self, turn: _Place, going_on: Pieces) -> int:
        """How many pieces the opening does not change."""
        thinking = turn.head.effort not in (None, "none")
        usual = self._usual_openings[thinking]
        at = len(going_on) - len(usual or ())
        if usual is not None and going_on[at:] == usual:
            return at
        alone = self._render(turn, opening=False)
        pairs = enumerate(zip(alone, going_on, strict=False))
        return next((n for n, (ours, piece) in pairs if ours != piece), len(alone))

    def _render(self, turn: _Place, *, opening: bool) -> Pieces:
        thinking = turn.head.effort not in (None, "none")
        try:
            return self.rendering.render_given(
                turn.head, turn.given, opening=opening, thinking=thinking
            )
        except TemplateRefused as error:
            raise InvalidRequest(
                f"The model's chat template does not take this conversation: {error}",
                param="input",
            ) from error

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


def _usual_opening(rendering: Rendering, *, thinking: bool) -> Pieces | None:
    """What the template puts behind a user's message, or None if that is not all it does."""
    head = Head(None, EMPTY_TOOL_SET, "medium" if thinking else None)
    question = [ChatMessage("user", "q")]
    try:
        alone = rendering.render(head, question, opening=False, thinking=thinking)
        going_on = rendering.render(head, question, opening=True, thinking=thinking)
    except TemplateRefused:
        return None
    opening = going_on[len(alone) :]
    # It begins at a special token, or behind one.
    cut_well = isinstance((opening or alone[-1:] or [""])[0], int)
    return opening if cut_well and going_on[: len(alone)] == alone else None


def _ids(chunks: Sequence[Chunk]) -> TokenArray:
    ids = token_array()
    for chunk in chunks:
        ids += chunk.ids
    return ids
