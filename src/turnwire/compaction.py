"""Compaction: the model sums a conversation up, and the summary stands for it from then on.

A compaction is a generation like any other, over the prompt as it is followed by the request for a
summary: so it hits the prefix cache, and any model can do it. What comes out is sealed into an item
(`protocol.compaction`); what of the conversation is seen behind that item says `context.window`.

    compaction_trigger    the item is the whole response
    at the start          the prompt has more tokens than the threshold: the item comes first, and
                          the model goes on from it in the same response
    at the end            the prompt and what was said have more tokens, unless the response began
                          with a compaction, was cut, or waits for tool outputs: the item comes
                          last. Without it the next response would begin with one, so a failure of
                          this one is no failure of the response.

Calls that wait for their output are never folded away: a conversation that owes outputs is not
compacted, and calls that may be answered later or never are kept behind the summary.

Usage: input tokens are those of the request's own prompt, as counting says; what a second pass
reads of it again is not added. Output tokens are all that were sampled, summaries included.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from msgspec import Struct, structs

from turnwire.context.chain import Context
from turnwire.context.window import carried
from turnwire.errors import EngineError, InvalidRequest, WireError
from turnwire.models.base import Model, Prepared, RenderReport, Settings
from turnwire.parts import (
    CompactionFinished,
    CompactionStarted,
    Finished,
    ItemFinished,
    Part,
    TextDelta,
)
from turnwire.protocol.items import Compaction, InputText, Item, Message, Summary
from turnwire.protocol.requests import CreateResponse, PlainTextFormat
from turnwire.protocol.tools import ToolChoice
from turnwire.telemetry.logs import get_logger
from turnwire.telemetry.metrics import Metrics

__all__ = [
    "Compacting",
    "Seal",
    "Wanted",
    "prepare_summary",
    "question",
    "sum_up",
    "summary_settings",
    "wanted",
]

log = get_logger()

MAX_SUMMARY_TOKENS: Final = 4096
SUMMARY_SHARE: Final = 8
"""Of a small window a summary may take one part of so many."""
THRESHOLD_PERCENT: Final = 80

QUESTION: Final = (
    "Sum this conversation up, for yourself: your summary will stand in the place of everything "
    "above, and you will go on from it alone. Keep what that takes: what the user wants, and every "
    "condition they set; what was decided, and why; what was done and found out, with files, "
    "commands, names and values exactly as they were; what is unfinished, and the next step. Add "
    "nothing that is not above. Answer with the summary only, and call no tool."
)

Seal = Callable[[Summary], str]
"""Makes the sealed content of a compaction item."""


class Wanted(Struct, frozen=True):
    """When a response is to compact.

    Attributes:
        asked: At once and nothing else: there was a `compaction_trigger`.
        threshold: When there are more tokens than this; None for never.
    """

    asked: bool = False
    threshold: int | None = None


def wanted(request: CreateResponse, asked: bool, model: Model) -> Wanted | None:
    """What a request asks for, or None for no compaction.

    Args:
        request: The request.
        asked: Whether a trigger ends its input.
        model: Whose window the default threshold is a part of.

    Raises:
        InvalidRequest: there is no threshold, and none can be derived; or a trigger in a warm-up.
    """
    if asked and request.warm_up:
        raise InvalidRequest(
            "A warm-up generates nothing, and so it cannot compact; leave the 'compaction_trigger' "
            "out.",
            param="input",
        )
    if asked:
        return Wanted(asked=True)
    if not request.context_management or request.warm_up:
        return None
    threshold = request.context_management[0].compact_threshold
    if threshold is None:
        if model.window is None:
            raise InvalidRequest(
                f"The window of the model {model.name!r} is not known; say at how many tokens to "
                "compact.",
                code="missing_required_parameter",
                param="context_management[0].compact_threshold",
            )
        threshold = model.window * THRESHOLD_PERCENT // 100
    return Wanted(threshold=threshold)


def question(instructions: str | None = None) -> Message:
    """What the model is asked for a summary with.

    Args:
        instructions: The client's own wishes for it.
    """
    text = QUESTION if not instructions else f"{QUESTION}\n\nFor this summary: {instructions}"
    return Message(role="user", content=(InputText(text=text),))


def summary_settings(settings: Settings, window: int | None) -> Settings:
    """The settings of a turn, for a summary: the same prefix, and plain text in the end."""
    most = (
        MAX_SUMMARY_TOKENS if window is None else min(MAX_SUMMARY_TOKENS, window // SUMMARY_SHARE)
    )
    return structs.replace(
        settings,
        tool_choice=ToolChoice(mode="none"),
        text_format=PlainTextFormat(),
        effort=None,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        top_logprobs=None,
        max_output_tokens=max(1, most),
        warm_up=False,
    )


def prepare_summary(
    model: Model, context: Context, settings: Settings, instructions: str | None = None
) -> Prepared:
    """Prepare to sum a conversation up.

    Raises:
        ContextLengthExceeded: there is no room for the question.
        InvalidRequest: a call waits for its output.
        Overloaded: the engine has no place.
    """
    return model.prepare(
        context, [question(instructions)], summary_settings(settings, model.window)
    )


async def sum_up(
    prepared: Prepared, context: Context, retained: tuple[bytes, ...] = ()
) -> tuple[Summary, Finished]:
    """Have the model write the summary of a conversation.

    Args:
        prepared: Of `prepare_summary`.
        context: The conversation.
        retained: Fingerprints of the messages that stay beside it.

    Raises:
        EngineError: the engine failed, or the model said nothing.
    """
    texts: list[str] = []
    finished: Finished | None = None
    async with aclosing(prepared.respond()) as parts:
        async for part in parts:
            if type(part) is TextDelta:
                texts.append(part.text)
            elif type(part) is Finished:
                finished = part
    text = "".join(texts).strip()
    if finished is None or not text:
        raise EngineError("it wrote no summary")
    return Summary(text=text, retained=retained, kept=carried(context)), finished


class Compacting:
    """A prepared turn that compacts its conversation where it has to; see `Prepared`."""

    def __init__(
        self,
        model: Model,
        prepared: Prepared,
        settings: Settings,
        wanted: Wanted,
        *,
        item_id: str,
        seal: Seal,
        said: Sequence[Item],
        metrics: Metrics,
    ) -> None:
        """Decide whether it begins with a compaction, and prepare that.

        Args:
            model: Who answers.
            prepared: The turn without compaction.
            settings: Of the turn.
            wanted: What was asked for.
            item_id: The id of the response's first item, if that is a compaction.
            seal: Seals a summary for the owner.
            said: The response's items so far, as its emitter knows them; it grows.
            metrics: Told of prompts beside the turn's own.

        Raises:
            WireError: as `prepare_summary`.
        """
        self.context: Final = prepared.context
        self.report: Final[RenderReport] = prepared.report
        self.num_prompt_tokens = prepared.num_prompt_tokens
        self._model: Final = model
        self._settings: Final = settings
        self._threshold: Final = wanted.threshold
        self._item_id: Final = item_id
        self._seal: Final = seal
        self._said: Final = said
        self._metrics: Final = metrics
        # The summary to begin with, or None.
        self._first: Prepared | None = None
        # The turn itself: another one when it goes on from a summary; None with a trigger.
        self._inner: Prepared | None = prepared
        if wanted.asked or self._is_above(prepared.num_prompt_tokens):
            self._first = prepare_summary(model, prepared.context, settings)
        if wanted.asked and self._first is not None:
            self._inner = None
            self.num_prompt_tokens = self._first.num_prompt_tokens
        # What was sampled for the summary to begin with.
        self._before: Finished | None = None
        # The conversation behind the turn's own output, once it was asked for.
        self._after: Context | None = None
        # How many of the response's items are in it.
        self._num_settled = 0
        # By what they are sealed into.
        self._summaries: Final[dict[str, Summary]] = {}

    async def respond(self) -> AsyncGenerator[Part, None]:
        """Yield the parts of the response; see `Prepared.respond`."""
        if self._first is not None:
            yield CompactionStarted(asked=self._inner is None)
            summary, self._before = await sum_up(self._first, self.context)
            sealed = self._sealed(summary)
            yield CompactionFinished(sealed)
            if self._inner is None:
                yield self._before
                return
            item = Compaction(id=self._item_id, encrypted_content=sealed, opened=summary)
            inner = self._model.prepare(Context(self.context, [item]), (), self._settings)
            report, self._inner = inner.report, inner
            self._metrics.context_rendered(report.mode, report.reason, report.num_tokenised)
        if self._inner is None:
            raise AssertionError("a trigger begins with a compaction")
        last: Finished | None = None
        item_is_open = False
        async with aclosing(self._inner.respond()) as parts:
            async for part in parts:
                if type(part) is Finished:
                    last = part
                    break
                item_is_open = type(part) is not ItemFinished
                yield part
        if last is None:
            raise EngineError("it ended without saying why")
        if self._before is not None:
            self._metrics.tokens_used(last.num_prompt_tokens, last.num_cached_tokens, 0)
        elif last.reason == "stop" and self._is_above(
            last.num_prompt_tokens + last.num_output_tokens
        ):
            if item_is_open:
                yield ItemFinished()
            async for part in self._at_the_end(self._inner, last):
                yield part
            return
        yield self._total(last)

    async def _at_the_end(self, inner: Prepared, last: Finished) -> AsyncGenerator[Part, None]:
        """Compact what is there now if nothing speaks against it, and finish."""
        self._num_settled = len(self._said)
        after = self._after = inner.settle(self._said)
        if all(call.optional for call in after.open_calls.values()):
            try:
                prepared = prepare_summary(self._model, after, self._settings)
                summary, spent = await sum_up(prepared, after)
            except (EngineError, WireError) as fault:
                log.warning("compaction_skipped", exc_info=fault)
            else:
                yield CompactionStarted(asked=False)
                yield CompactionFinished(self._sealed(summary))
                self._metrics.tokens_used(spent.num_prompt_tokens, spent.num_cached_tokens, 0)
                last = structs.replace(
                    last, num_output_tokens=last.num_output_tokens + spent.num_output_tokens
                )
        yield last

    def interrupted(self) -> Finished:
        """What was used so far; see `Prepared.interrupted`."""
        if self._inner is None:
            raise AssertionError("a compaction has no items that it could end between")
        return self._total(self._inner.interrupted())

    async def warm(self) -> int:
        """Not for this: a warm-up does not compact."""
        raise AssertionError("a warm-up does not compact")

    def settle(self, output: Sequence[Item]) -> Context:
        """Return the context after the response; see `Prepared.settle`."""
        items = [
            structs.replace(item, opened=self._summaries[item.encrypted_content])
            if isinstance(item, Compaction)
            else item
            for item in output
        ]
        if self._inner is None:
            return Context(self.context, items)
        if self._after is None:
            return self._inner.settle(items if self._before is None else items[1:])
        behind = items[self._num_settled :]
        return Context(self._after, behind) if behind else self._after

    def _is_above(self, num_tokens: int) -> bool:
        return self._threshold is not None and num_tokens > self._threshold

    def _sealed(self, summary: Summary) -> str:
        sealed = self._seal(summary)
        self._summaries[sealed] = summary
        return sealed

    def _total(self, last: Finished) -> Finished:
        """The usage of the response, by that of its last pass."""
        before = self._before
        if before is None:
            return last
        return structs.replace(
            last,
            num_prompt_tokens=self.num_prompt_tokens,
            # The first pass read more than the prompt; of that the last token was computed.
            num_cached_tokens=min(before.num_cached_tokens, self.num_prompt_tokens - 1),
            num_output_tokens=before.num_output_tokens + last.num_output_tokens,
        )
