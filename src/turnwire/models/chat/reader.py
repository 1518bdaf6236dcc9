"""Chunks of a chat completion to parts, while they arrive.

Servers differ most in calls. Some stream the arguments, others send a call whole; some repeat the
name in each chunk; some leave out the index, or give every call the index 0 and an id of its own;
some leave out the id. What a new entry belongs to is decided in one place, `_call_of`. Parts allow
one open item at a time, so a call that begins before the one before it is whole waits.

A call of a tool that was not offered stays text, as everywhere here: a client is never asked to
run what it did not offer. Arguments that are no JSON are passed on, as models write them, but for
tools that say `strict: true` (see `CallInProgress.close`). With `parallel_tool_calls: false` calls
after the first are dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec.json import encode

from turnwire.errors import EngineError
from turnwire.ids import new_id
from turnwire.logprobs import LogProb, TopLogProb
from turnwire.models.chat.calls import CallInProgress
from turnwire.models.chat.chunks import (
    Choice,
    Chunk,
    ContentPiece,
    Score,
    ToolCallDelta,
    TopScore,
    Usage,
)
from turnwire.models.chat.schema import flaw
from turnwire.models.chat.toolbox import Toolbox
from turnwire.parts import (
    CallArguments,
    CallStarted,
    ItemFinished,
    Part,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)

__all__ = ["Ending", "PartReader"]

_Delta = TextDelta | RefusalDelta | ReasoningDelta | CallArguments

Ending = Literal["stop", "max_output_tokens", "content_filter"]

_ENDINGS: Final[dict[str, Ending]] = {
    "length": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "content_filter": "content_filter",
}
_FAILURES: Final = frozenset({"abort", "error", "insufficient_system_resource"})
"""vLLM and SGLang, OpenRouter, DeepSeek."""

MAX_CALLS: Final = 128
MAX_ID_CHARS: Final = 64  # of a call_id, protocol.md section 3.2


class PartReader:
    """One answer.

    Attributes:
        ending: How it ended, or None while nobody said.
        usage: What it cost, or None while nobody said.
        num_cached: Prompt tokens that were cached, by the server's own count.
        num_chars: Characters of output so far, for an estimate where no usage comes.
        num_reasoning_chars: Of those, reasoning.
    """

    def __init__(
        self,
        box: Toolbox,
        *,
        parallel: bool = True,
        was_called: Callable[[str], bool] = lambda _: False,
        scores: bool = False,
        format_schema: Any = None,
        checks: bool = True,
    ) -> None:
        """
        Args:
            box: What may be called.
            parallel: Whether several calls may be made.
            was_called: Whether the conversation has a call of this id already.
            scores: Whether text comes with its log probabilities, if the server sends them.
            format_schema: The decoded schema that the text has to obey, or None.
            checks: Whether what is strict is checked.
        """
        self._box = box
        self._parallel = parallel
        self._was_called = was_called
        self._scored = scores
        self._scores: list[LogProb] = []  # of the text in `_texts`
        self._schema = format_schema
        self._checks = checks
        self._index: int | None = None  # of the choice that is read
        self._ids: set[str] = set()
        self._parts: list[Part] = []
        self._open: Literal["text", "reasoning"] | CallInProgress | None = None
        self._kind: type[_Delta] = TextDelta
        self._texts: list[str] = []  # of `_kind`, and not in `_parts` yet
        self._blank = ""  # white space before any text of a message
        self._blank_scores: list[LogProb] = []
        self._said: list[str] | None = [] if format_schema is not None else None
        self._calls: list[CallInProgress] = []
        self._by_index: dict[int, CallInProgress] = {}
        self._last: CallInProgress | None = None  # also one that was dropped
        self._waiting: deque[CallInProgress] = deque()
        self.ending: Ending | None = None
        self.usage: Usage | None = None
        self.num_cached = 0
        self.num_chars = 0
        self.num_reasoning_chars = 0

    def feed(self, chunk: Chunk) -> None:
        """Take a chunk; `take` gives what it said.

        Raises:
            EngineError: it makes no sense, or says that the answer failed.
        """
        for choice in chunk.choices or ():
            # One was asked for; a server that gives several is heard in the one it began with.
            if self._index is None:
                self._index = choice.index
            if choice.index == self._index:
                self._choice(choice)
        if chunk.usage is not None:
            self.usage = chunk.usage
            self.num_cached = max(self.num_cached, chunk.usage.num_cached)
        if chunk.timings is not None:
            self.num_cached = max(self.num_cached, chunk.timings.cache_n)

    def take(self) -> list[Part]:
        """The parts since the last time; text that came together is one delta."""
        self._flush()
        parts, self._parts = self._parts, []
        return parts

    def finish(self, *, said: bool = False) -> list[Part]:
        """The answer is over: close what is open, unless it was cut.

        Args:
            said: The server said that it was all; some give no reason then.

        Raises:
            EngineError: the answer broke off, or what it says is not what was promised.
        """
        if self.ending is None:
            if not said:
                raise EngineError("its answer broke off")
            if not self.num_chars and not self._calls:
                raise EngineError("it ended its answer without a word")
            self.ending = "stop"
        if self.ending == "stop":
            self._next_call(over=True)
            self._close()
            if self._said is not None and not self._calls and self._checks:
                self._check_format("".join(self._said))
        return self.take()

    # -- text

    def _choice(self, choice: Choice) -> None:
        delta = choice.delta if choice.delta is not None else choice.message
        if delta is not None:
            if thought := delta.reasoning_content or delta.reasoning:
                self._think(thought)
            content = delta.content
            if content:
                if isinstance(content, str):
                    scores = choice.logprobs if self._scored else None
                    self._say(content, scores.content if scores is not None else None)
                else:
                    self._pieces(content)
            if delta.refusal:
                self._refuse(delta.refusal)
            if isinstance(delta.tool_calls, ToolCallDelta):
                self._call(delta.tool_calls)
            elif delta.tool_calls:
                for call in delta.tool_calls:
                    self._call(call)
        reason = choice.finish_reason
        if reason is not None:
            if reason in _FAILURES:
                raise EngineError("it broke off its answer")
            self.ending = _ENDINGS.get(reason, "stop")

    def _pieces(self, pieces: list[ContentPiece]) -> None:
        for piece in pieces:
            if isinstance(piece.thinking, str):
                self._think(piece.thinking)
            else:
                for thought in piece.thinking:
                    self._think(thought.text)
            self._say(piece.text)

    def _think(self, text: str) -> None:
        if text:
            if self._open != "reasoning":
                self._begin("reasoning")
            self._add(ReasoningDelta, text)
            self.num_chars += len(text)
            self.num_reasoning_chars += len(text)

    def _say(self, text: str, scores: Sequence[Score] | None = None) -> None:
        made = [_scored(score) for score in scores or ()]
        if self._open != "text":
            # Line ends between reasoning, calls and text are no message.
            text, made = self._blank + text, self._blank_scores + made
            if not text.strip():
                self._blank, self._blank_scores = text, made
                return
            self._begin("text")
        self._scores += made
        self._text(text)

    def _drop_blank(self) -> None:
        self._blank, self._blank_scores = "", []

    def _refuse(self, text: str) -> None:
        """A part of its own in the same message."""
        if self._open != "text":
            self._begin("text")
        self._add(RefusalDelta, text)
        self.num_chars += len(text)

    def _text(self, text: str) -> None:
        self._add(TextDelta, text)
        self.num_chars += len(text)
        if self._said is not None:
            self._said.append(text)

    def _add(self, kind: type[_Delta], text: str) -> None:
        if kind is not self._kind:
            self._flush()
            self._kind = kind
        self._texts.append(text)

    def _flush(self) -> None:
        if not self._texts:
            return
        text = "".join(self._texts)
        self._texts.clear()
        if self._scores and self._kind is TextDelta:
            self._parts.append(TextDelta(text, tuple(self._scores)))
            self._scores.clear()
        else:
            self._parts.append(self._kind(text))

    def _begin(self, kind: Literal["text", "reasoning"]) -> None:
        self._next_call(over=True)
        self._close()
        self._drop_blank()
        self._open = kind

    def _close(self) -> None:
        """End the item that is open."""
        opened = self._open
        if opened is None:
            return
        self._open = None
        if isinstance(opened, CallInProgress):
            rest = opened.take() + opened.close(self._box, checks=self._checks)
            if opened.tool is None:
                self._text(rest + "}")
            elif rest:
                self._arguments(rest)
        self._flush()
        self._parts.append(ItemFinished())

    # -- calls

    def _call(self, delta: ToolCallDelta) -> None:
        function = delta.function
        name = (function.name if function is not None else None) or ""
        arguments = function.arguments if function is not None else None
        if isinstance(arguments, dict):
            arguments = encode(arguments).decode()
        call = self._call_of(delta, name, arguments or "")
        if call is None:
            return
        if name:
            call.identify(name, self._box)
        if arguments:
            if call is not self._open and call not in self._waiting:
                if arguments.strip():
                    raise EngineError("it went on with a call that was over")
                return
            call.add(arguments)
            self.num_chars += len(arguments)
        self._next_call(over=False)
        if call is self._open:
            self._show(call)

    def _call_of(self, delta: ToolCallDelta, name: str, arguments: str) -> CallInProgress | None:
        """The call that an entry belongs to, made if it is a new one; None if it is dropped."""
        id_, index = str(delta.id or ""), delta.index
        last = self._last
        if index is not None:
            known = self._by_index.get(index)
        elif id_:
            known = next((one for one in self._calls if one.upstream_id == id_), None)
        else:
            known = last
            if name and last is not None and last.name and (name != last.name or last.is_whole()):
                known = None
        if known is not None and name and index is not None:
            other = bool(id_) and known.upstream_id not in ("", id_)
            if other or (arguments.strip() and known.is_whole()):
                known = None  # the index is every call's
        if known is None:
            if index is None and not id_ and not name:
                raise EngineError("it sent arguments of no call")
            if len(self._calls) >= MAX_CALLS:
                raise EngineError("it made too many calls at once")
            known = self._last = CallInProgress(id_)
            if index is not None:
                self._by_index[index] = known
            if self._parallel or not self._calls:
                self._calls.append(known)
                self._waiting.append(known)
        elif id_ and not known.upstream_id:
            known.upstream_id = id_
        return known if known in self._calls else None

    def _next_call(self, *, over: bool) -> None:
        """Open the next call that waits, if the one before it is whole; all of them at the end."""
        while self._waiting:
            opened = self._open
            if not over and isinstance(opened, CallInProgress) and not opened.is_whole():
                return
            call = self._waiting[0]
            if not call.name:
                if not over:
                    return
                raise EngineError("it made a call without a name")
            self._waiting.popleft()
            self._close()
            self._drop_blank()
            self._open = call
            tool = call.tool
            if tool is None:
                self._text(f'{{"name": {encode(call.name).decode()}, "arguments": ')
            else:
                call_id = self._new_call_id(call.upstream_id)
                started = CallStarted(
                    tool.call_name, call_id, tool.kind, tool.namespace, tool.is_async
                )
                self._parts.append(started)
            self._show(call)

    def _show(self, call: CallInProgress) -> None:
        text = call.take()
        if text and call.tool is None:
            self._text(text)
        elif text:
            self._arguments(text)

    def _arguments(self, text: str) -> None:
        self._add(CallArguments, text)

    def _new_call_id(self, upstream_id: str) -> str:
        """The endpoint's own id where it is one: some templates show it to the model."""
        taken = upstream_id in self._ids or self._was_called(upstream_id)
        usable = 0 < len(upstream_id) <= MAX_ID_CHARS and not taken
        call_id = upstream_id if usable else new_id("call")
        self._ids.add(call_id)
        return call_id

    # -- promises

    def _check_format(self, text: str) -> None:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise EngineError("its answer is not the JSON that was asked for") from error
        problem = flaw(value, self._schema)
        if problem is not None:
            raise EngineError(f"its answer breaks the schema of `text.format` ({problem})")


def _scored(score: Score) -> LogProb:
    return LogProb(
        score.token,
        score.logprob,
        _bytes_of(score),
        tuple(
            TopLogProb(one.token, one.logprob, _bytes_of(one)) for one in score.top_logprobs or ()
        ),
    )


def _bytes_of(score: TopScore) -> tuple[int, ...]:
    return score.bytes if score.bytes is not None else tuple(score.token.encode())
