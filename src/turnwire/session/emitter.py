"""Parts in, ordered events out: the one place that knows the order of a response's events.

    start() ── created, in_progress
    or, in the background, queue() ── created, queued; then begin() ── in_progress
    feed(part)*       items open, grow and close, one after the other
    close(finished)   what is still open is closed: whole, or cut as `incomplete`
    complete(...)     the terminal event
or, at any point after start(): fail(...) or cancel(...), the terminal event instead.

Order of events: protocol.md section 6. `sequence_number` counts from 0 without gaps. The
emitter has no clock, no socket and no ids of its own making beyond those of items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Literal

from msgspec import UNSET, Raw, UnsetType
from msgspec.json import encode

from turnwire.errors import InvalidTransition, WireError
from turnwire.ids import item_id
from turnwire.logprobs import LogProb
from turnwire.parts import (
    CallArguments,
    CallStarted,
    CompactionFinished,
    CompactionStarted,
    Finished,
    ItemFinished,
    MessageStarted,
    Part,
    Phase,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from turnwire.protocol.codec import error_event
from turnwire.protocol.events import (
    CompactionCompacting,
    ContentPartAdded,
    ContentPartDone,
    CustomToolCallInputDelta,
    CustomToolCallInputDone,
    ErrorEvent,
    Event,
    FunctionCallArgumentsDelta,
    FunctionCallArgumentsDone,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    OutputTextDone,
    ReasoningSummaryPartAdded,
    ReasoningSummaryPartDone,
    ReasoningSummaryTextDelta,
    ReasoningSummaryTextDone,
    ReasoningTextDelta,
    ReasoningTextDone,
    RefusalDone,
    ResponseCompleted,
    ResponseCreated,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
    ResponseQueued,
    SteerAccepted,
    SteerError,
    SteerFailed,
    SteerPending,
    SteerRejected,
    SteerSubmission,
)
from turnwire.protocol.events import (
    RefusalDelta as RefusalDeltaEvent,
)
from turnwire.protocol.items import (
    Compaction,
    CustomToolCall,
    FunctionCall,
    Item,
    ItemStatus,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    SummaryText,
)
from turnwire.protocol.responses import IncompleteDetails, Response, ResponseError, Usage
from turnwire.session.content import Content, PartKind

__all__ = ["TRANSITIONS", "Emitter", "ReasoningView", "Stage", "Step"]


class Stage(Enum):
    """How far a response has come."""

    NEW = "new"  # nothing was emitted
    QUEUED = "queued"  # created and queued are out; the model has no place yet
    STREAMING = "streaming"  # created and in_progress are out
    CLOSED = "closed"  # every item is closed; only the terminal event is missing
    ENDED = "ended"  # nothing comes any more but the terminal event


class Step(Enum):
    """What can happen to a response. What is said about steers is possible at any stage."""

    START = "start"
    QUEUE = "queue"
    BEGIN = "begin"
    PART = "part"
    CLOSE = "close"
    SEAL = "seal"
    ANNOUNCE = "announce"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"


TRANSITIONS: Final[dict[tuple[Stage, Step], Stage]] = {
    (Stage.NEW, Step.START): Stage.STREAMING,
    (Stage.NEW, Step.QUEUE): Stage.QUEUED,
    (Stage.QUEUED, Step.BEGIN): Stage.STREAMING,
    (Stage.QUEUED, Step.ANNOUNCE): Stage.QUEUED,
    (Stage.QUEUED, Step.FAIL): Stage.ENDED,
    (Stage.QUEUED, Step.CANCEL): Stage.ENDED,
    (Stage.STREAMING, Step.PART): Stage.STREAMING,
    (Stage.STREAMING, Step.CLOSE): Stage.CLOSED,
    (Stage.STREAMING, Step.ANNOUNCE): Stage.STREAMING,
    (Stage.STREAMING, Step.FAIL): Stage.ENDED,
    (Stage.STREAMING, Step.CANCEL): Stage.ENDED,
    (Stage.CLOSED, Step.SEAL): Stage.CLOSED,
    (Stage.CLOSED, Step.ANNOUNCE): Stage.CLOSED,
    (Stage.CLOSED, Step.COMPLETE): Stage.ENDED,
    (Stage.CLOSED, Step.FAIL): Stage.ENDED,
    (Stage.CLOSED, Step.CANCEL): Stage.ENDED,
}


class ReasoningView:
    """How much of the model's reasoning a client gets to see.

    Attributes:
        summary: Stream the reasoning as a summary part (`reasoning.summary` was asked for).
        raw: Stream it as raw reasoning text (a server option, never by default).
        seal: Makes `encrypted_content` of the whole text, or None to leave it out.
    """

    __slots__ = ("raw", "seal", "summary")

    def __init__(
        self,
        *,
        summary: bool = False,
        raw: bool = False,
        seal: Callable[[str], str] | None = None,
    ) -> None:
        self.summary: Final = summary
        self.raw: Final = raw
        self.seal: Final = seal


class Emitter:
    """Turns one response's parts into its events.

    Attributes:
        response: The response object, moved from state to state.
        items: Finished output items as a context keeps them (reasoning with its text). A cut
            item is there too, with status `incomplete`.
        stage: How far the response has come.
        sequence_number: Of the next event.
    """

    __slots__ = (
        "_begun",
        "_content",
        "_item_id",
        "_lane",
        "_open",
        "_phase",
        "_text",
        "_view",
        "items",
        "response",
        "sequence_number",
        "stage",
    )

    def __init__(
        self,
        response: Response,
        *,
        stream_id: str | None = None,
        reasoning: ReasoningView | None = None,
    ) -> None:
        """Take over a response that is `in_progress` with no output.

        Args:
            response: The initial object, echoing the request.
            stream_id: Name of the lane, echoed on every event; None on the default lane.
            reasoning: What to show of the reasoning; by default nothing but its presence.
        """
        self.response = response
        self.items: list[Item] = []
        self.stage = Stage.NEW
        self.sequence_number = 0
        self._lane: str | UnsetType = UNSET if stream_id is None else stream_id
        self._view = reasoning or ReasoningView()
        self._begun = Raw()
        self._open: CallStarted | Literal["reasoning", "message", "compaction"] | None = None
        self._content = Content()
        self._phase: Phase | None = None
        self._item_id = ""
        self._text: list[str] = []

    # -- the life of a response

    def start(self) -> list[Event]:
        """`response.created` and `response.in_progress`. The parent must be bound by now."""
        self._move(Step.START)
        snapshot = self._begun = self._snapshot()
        return [
            ResponseCreated(sequence_number=self._next(), stream_id=self._lane, response=snapshot),
            ResponseInProgress(
                sequence_number=self._next(), stream_id=self._lane, response=snapshot
            ),
        ]

    def queue(self) -> list[Event]:
        """`response.created` and `response.queued`, of a response in the background."""
        self._move(Step.QUEUE)
        self.response.status = "queued"
        snapshot = self._snapshot()
        return [
            ResponseCreated(sequence_number=self._next(), stream_id=self._lane, response=snapshot),
            ResponseQueued(sequence_number=self._next(), stream_id=self._lane, response=snapshot),
        ]

    def begin(self) -> list[Event]:
        """`response.in_progress` of a response that was queued: the model has a place for it."""
        self._move(Step.BEGIN)
        self.response.status = "in_progress"
        snapshot = self._begun = self._snapshot()
        return [
            ResponseInProgress(
                sequence_number=self._next(), stream_id=self._lane, response=snapshot
            )
        ]

    def keep_alive(self) -> list[Event]:
        """Say again that the response is in progress, for clients that count events as life.

        The one event that is legal at any point between the first and the terminal one; nothing
        once the output is whole.
        """
        if self.stage is not Stage.STREAMING:
            return []
        return [
            ResponseInProgress(
                sequence_number=self._next(), stream_id=self._lane, response=self._begun
            )
        ]

    def feed(self, part: Part) -> list[Event]:
        """Return the events of one part.

        Raises:
            InvalidTransition: the part does not fit what is open; a bug of the model adapter.
        """
        if self.stage is not Stage.STREAMING:  # every token comes this way: the table is slower
            self._move(Step.PART)
        opened = self._open
        match part:
            case TextDelta(text, logprobs):
                content = self._content
                if content.kind == "output_text":
                    content.texts.append(text)
                    return [self._text_delta(text, logprobs)]
                events = self._open_part("output_text")
                self._content.texts.append(text)
                events.append(self._text_delta(text, logprobs))
                return events
            case CallArguments(text):
                event = self._arguments_delta(text)
                self._text.append(text)
                return [event]
            case ReasoningDelta(text):
                events = [] if opened == "reasoning" else self._open_reasoning()
                self._text.append(text)
                events.extend(self._reasoning_delta(text))
                return events
            case CallStarted():
                return self._open_call(part)
            case ItemFinished():
                self._phase = part.phase or self._phase
                return self._close_item("completed")
            case RefusalDelta(text):
                events = [] if self._content.kind == "refusal" else self._open_part("refusal")
                self._content.texts.append(text)
                events.append(self._refusal_delta(text))
                return events
            case MessageStarted(phase):
                return self._open_message(phase)
            case CompactionStarted(asked):
                return self._open_compaction(asked=asked)
            case CompactionFinished(encrypted_content):
                return self._close_compaction(encrypted_content)
            case Finished():
                return self.close(part)

    def close(self, finished: Finished) -> list[Event]:
        """Close what is open and note how the response ends; the terminal event comes later.

        An item still open is whole if the model stopped by itself, and cut otherwise.
        """
        self._move(Step.CLOSE)
        reason = finished.reason
        closing: ItemStatus = "completed" if reason == "stop" else "incomplete"
        events = self._close_item(closing) if self._open else []
        response = self.response
        response.usage = Usage.count(
            prompt=finished.num_prompt_tokens,
            cached=finished.num_cached_tokens,
            output=finished.num_output_tokens,
            reasoning=finished.num_reasoning_tokens,
        )
        if reason != "stop":
            response.status = "incomplete"
            response.incomplete_details = IncompleteDetails(reason=reason)
        else:
            response.status = "completed"
        return events

    def seal(self, now: int) -> Raw:
        """Fix the terminal response object and return it encoded, before its event is sent.

        Args:
            now: Unix seconds, for `completed_at`.
        """
        self._move(Step.SEAL)
        response = self.response
        if response.status == "completed":
            response.completed_at = now
        if response.service_tier == "auto":
            response.service_tier = "default"
        return self._snapshot()

    def complete(self, sealed: Raw) -> ResponseCompleted | ResponseIncomplete:
        """The terminal event of a response that was closed and sealed."""
        self._move(Step.COMPLETE)
        kind = ResponseCompleted if self.response.status == "completed" else ResponseIncomplete
        return kind(sequence_number=self._next(), stream_id=self._lane, response=sealed)

    def announce(self, error: WireError) -> ErrorEvent:
        """The `error` event that goes before `response.failed` on SSE (section 5.3)."""
        self._move(Step.ANNOUNCE)
        lane = self._lane if isinstance(self._lane, str) else None
        return error_event(error, sequence_number=self._next(), stream_id=lane)

    def fail(self, code: str, message: str) -> Raw:
        """End as failed; return the response object encoded, before its event is sent.

        Open items are not closed; finished ones stay in `output`.

        Args:
            code: One of the protocol's response error codes, such as `server_error`.
            message: What a person can act on; no internals.
        """
        self._move(Step.FAIL)
        response = self.response
        response.status = "failed"
        response.incomplete_details = None
        response.completed_at = None
        response.error = ResponseError(code=code, message=message)
        return self._snapshot()

    def cancel(self) -> Raw:
        """End as cancelled, like `fail`: no error, no output, no usage."""
        self._move(Step.CANCEL)
        response = self.response
        response.status = "cancelled"
        response.incomplete_details = None
        response.completed_at = None
        response.output = []
        response.usage = None
        return self._snapshot()

    def failed(self, sealed: Raw) -> ResponseFailed:
        """The terminal event of a response that failed or was cancelled.

        It is numbered when it is sent: a steer that was answered since comes before it.
        """
        if self.stage is not Stage.ENDED:
            raise AssertionError("fail or cancel it first")
        return ResponseFailed(sequence_number=self._next(), stream_id=self._lane, response=sealed)

    # -- steers; they take part in the numbering, also after the terminal event

    def steer_taken(self, steer_id: str) -> SteerAccepted:
        """`response.steer.accepted`."""
        return SteerAccepted(
            sequence_number=self._next(),
            stream_id=self._lane,
            steer=SteerSubmission(id=steer_id, previous_response_id=self.response.id),
        )

    def steer_waits(self, steer_id: str, required_input: Sequence[Raw]) -> SteerPending:
        """`response.steer.pending`, with stubs of what the client owes."""
        return SteerPending(
            sequence_number=self._next(),
            stream_id=self._lane,
            steer=SteerSubmission(id=steer_id, previous_response_id=self.response.id),
            required_input=list(required_input),
        )

    def steer_refused(
        self, steer_id: str | None, given: Raw, code: str, message: str
    ) -> SteerFailed:
        """`response.steer.failed`, with the input handed back."""
        return SteerFailed(
            sequence_number=self._next(),
            stream_id=self._lane,
            steer=SteerRejected(
                id=UNSET if steer_id is None else steer_id,
                previous_response_id=self.response.id,
                input=given,
            ),
            error=SteerError(code=code, message=message),
        )

    # -- items

    def _open_message(self, phase: Phase | None) -> list[Event]:
        self._begin("message", "msg")
        self._content = Content()
        self._phase = phase
        return [self._added(self._message("in_progress"))]

    def _message(self, status: ItemStatus) -> Message:
        return Message(
            id=self._item_id,
            status=status,
            role="assistant",
            content=tuple(self._content.closed),
            phase=self._phase,
        )

    def _open_part(self, kind: PartKind) -> list[Event]:
        events = self._close_part() if self._open == "message" else self._open_message(None)
        events.append(
            ContentPartAdded(
                sequence_number=self._next(),
                stream_id=self._lane,
                item_id=self._item_id,
                output_index=len(self.items),
                content_index=self._content.index,
                part=self._content.open(kind),
            )
        )
        return events

    def _open_reasoning(self) -> list[Event]:
        self._begin("reasoning", "rs")
        events: list[Event] = [self._added(Reasoning(id=self._item_id, summary=()))]
        if self._view.raw:
            events.append(
                ContentPartAdded(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=len(self.items),
                    content_index=0,
                    part=EMPTY_REASONING_PART,
                )
            )
        if self._view.summary:
            events.append(
                ReasoningSummaryPartAdded(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=len(self.items),
                    summary_index=0,
                    part=EMPTY_SUMMARY_PART,
                )
            )
        return events

    def _open_call(self, call: CallStarted) -> list[Event]:
        self._begin(call, "fc" if call.kind == "function" else "ctc")
        return [self._added(self._call_item(call, "", "in_progress"))]

    def _open_compaction(self, *, asked: bool) -> list[Event]:
        self._begin("compaction", "cmp")
        events = [self._added(Compaction(id=self._item_id, encrypted_content=""))]
        if asked:
            events.append(
                CompactionCompacting(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=len(self.items),
                )
            )
        return events

    def _close_compaction(self, encrypted_content: str) -> list[Event]:
        if self._open != "compaction":
            raise InvalidTransition("no compaction is open")
        self._open = None
        item = Compaction(id=self._item_id, encrypted_content=encrypted_content)
        return [self._done(item, item)]

    def _close_item(self, status: ItemStatus) -> list[Event]:
        opened = self._open
        text = "".join(self._text)
        if opened is None or opened == "compaction":
            raise InvalidTransition("no item is open that closes by itself")
        if opened == "message":
            events = self._close_part()
            item = self._message(status)
            events.append(self._done(item, item))
        elif opened == "reasoning":
            events = self._close_reasoning(text, status)
        else:
            events = self._close_call(opened, text, status)
        self._open = None
        self._text = []
        return events

    def _close_part(self) -> list[Event]:
        """Close the message's open part, if there is one."""
        if self._content.kind is None:
            return []
        index, content_index = len(self.items), self._content.index
        part = self._content.close()
        done: Event
        if isinstance(part, OutputText):
            done = OutputTextDone(
                sequence_number=self._next(),
                stream_id=self._lane,
                item_id=self._item_id,
                output_index=index,
                content_index=content_index,
                text=part.text,
                logprobs=part.logprobs,
            )
        else:
            done = RefusalDone(
                sequence_number=self._next(),
                stream_id=self._lane,
                item_id=self._item_id,
                output_index=index,
                content_index=content_index,
                refusal=part.refusal,
            )
        return [
            done,
            ContentPartDone(
                sequence_number=self._next(),
                stream_id=self._lane,
                item_id=self._item_id,
                output_index=index,
                content_index=content_index,
                part=Raw(encode(part)),
            ),
        ]

    def _close_reasoning(self, text: str, status: ItemStatus) -> list[Event]:
        index = len(self.items)
        content = (ReasoningText(text=text),)
        summary = (SummaryText(text=text),) if self._view.summary else ()
        events: list[Event] = []
        if self._view.raw:
            events += [
                ReasoningTextDone(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=index,
                    content_index=0,
                    text=text,
                ),
                ContentPartDone(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=index,
                    content_index=0,
                    part=Raw(encode(content[0])),
                ),
            ]
        if self._view.summary:
            events += [
                ReasoningSummaryTextDone(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=index,
                    summary_index=0,
                    text=text,
                ),
                ReasoningSummaryPartDone(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=index,
                    summary_index=0,
                    part=Raw(encode(SummaryText(text=text))),
                ),
            ]
        cut: ItemStatus | None = status if status == "incomplete" else None
        shown = Reasoning(
            id=self._item_id,
            summary=summary,
            content=content if self._view.raw else None,
            encrypted_content=self._view.seal(text) if self._view.seal else None,
            status=cut,
        )
        kept = Reasoning(id=self._item_id, summary=summary, content=content, status=cut)
        events.append(self._done(shown, kept))
        return events

    def _close_call(self, call: CallStarted, text: str, status: ItemStatus) -> list[Event]:
        item = self._call_item(call, text, status)
        index = len(self.items)
        done: Event
        if call.kind == "function":
            done = FunctionCallArgumentsDone(
                sequence_number=self._next(),
                stream_id=self._lane,
                item_id=self._item_id,
                output_index=index,
                name=call.name,
                arguments=text,
            )
        else:
            done = CustomToolCallInputDone(
                sequence_number=self._next(),
                stream_id=self._lane,
                item_id=self._item_id,
                output_index=index,
                input=text,
            )
        return [done, self._done(item, item)]

    def _call_item(self, call: CallStarted, text: str, status: ItemStatus) -> Item:
        if call.kind == "function":
            return FunctionCall(
                id=self._item_id,
                call_id=call.call_id,
                name=call.name,
                arguments=text,
                status=status,
                namespace=call.namespace,
                async_=call.is_async or None,
            )
        return CustomToolCall(
            id=self._item_id,
            call_id=call.call_id,
            name=call.name,
            input=text,
            status=status,
            namespace=call.namespace,
            async_=call.is_async or None,
        )

    # -- deltas

    def _text_delta(self, text: str, logprobs: Sequence[LogProb]) -> Event:
        content = self._content
        return OutputTextDelta(
            sequence_number=self._next(),
            stream_id=self._lane,
            item_id=self._item_id,
            output_index=len(self.items),
            content_index=content.index,
            delta=text,
            logprobs=content.score(logprobs) if logprobs else [],
        )

    def _refusal_delta(self, text: str) -> Event:
        return RefusalDeltaEvent(
            sequence_number=self._next(),
            stream_id=self._lane,
            item_id=self._item_id,
            output_index=len(self.items),
            content_index=self._content.index,
            delta=text,
        )

    def _arguments_delta(self, text: str) -> Event:
        opened = self._open
        if not isinstance(opened, CallStarted):
            raise InvalidTransition("arguments, but no call is open")
        kind = FunctionCallArgumentsDelta if opened.kind == "function" else CustomToolCallInputDelta
        return kind(
            sequence_number=self._next(),
            stream_id=self._lane,
            item_id=self._item_id,
            output_index=len(self.items),
            delta=text,
        )

    def _reasoning_delta(self, text: str) -> Sequence[Event]:
        events: list[Event] = []
        if self._view.raw:
            events.append(
                ReasoningTextDelta(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=len(self.items),
                    content_index=0,
                    delta=text,
                )
            )
        if self._view.summary:
            events.append(
                ReasoningSummaryTextDelta(
                    sequence_number=self._next(),
                    stream_id=self._lane,
                    item_id=self._item_id,
                    output_index=len(self.items),
                    summary_index=0,
                    delta=text,
                )
            )
        return events

    # -- small things

    def _begin(
        self, kind: CallStarted | Literal["reasoning", "message", "compaction"], prefix: str
    ) -> None:
        if self._open is not None:
            raise InvalidTransition("an item is open already")
        self._open = kind
        self._item_id = item_id(prefix, self.response.id, len(self.items))

    def _added(self, item: Item) -> Event:
        return OutputItemAdded(
            sequence_number=self._next(),
            stream_id=self._lane,
            output_index=len(self.items),
            item=Raw(encode(item)),
        )

    def _done(self, shown: Item, kept: Item) -> Event:
        encoded = Raw(encode(shown))
        event = OutputItemDone(
            sequence_number=self._next(),
            stream_id=self._lane,
            output_index=len(self.items),
            item=encoded,
        )
        self.response.output.append(encoded)
        self.items.append(kept)
        return event

    def _next(self) -> int:
        number = self.sequence_number
        self.sequence_number = number + 1
        return number

    def _snapshot(self) -> Raw:
        return Raw(encode(self.response))

    def _move(self, step: Step) -> None:
        target = TRANSITIONS.get((self.stage, step))
        if target is None:
            raise InvalidTransition(f"{step.value} while the response is {self.stage.value}")
        self.stage = target


EMPTY_REASONING_PART = Raw(encode(ReasoningText(text="")))
EMPTY_SUMMARY_PART = Raw(encode(SummaryText(text="")))
