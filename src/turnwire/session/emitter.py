"""Parts in, ordered events out: the one place that knows the order of a response's events.

    start() ── created, in_progress
    or, in the background, queue() ── created, queued; then begin() ── in_progress
    feed(part)*       items open, grow and close, one after the other
    close(finished)   what is still open is closed: whole, or cut as `incomplete`
    complete(...)     the terminal event
or, at any point after start(): fail(...) or cancel(...), the terminal event instead.

Order of events: protocol.md section 6; those of one item are in `opened`. `sequence_number` counts
from 0 without gaps. The emitter has no clock, no socket and no ids of its own making beyond those
of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from msgspec import UNSET, Raw
from msgspec.json import encode

from turnwire.errors import InvalidTransition, WireError
from turnwire.ids import item_id
from turnwire.parts import (
    CallArguments,
    CallStarted,
    CompactionFinished,
    CompactionStarted,
    Finished,
    ItemFinished,
    MessageStarted,
    Part,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from turnwire.protocol.codec import error_event
from turnwire.protocol.events import (
    ErrorEvent,
    Event,
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
from turnwire.protocol.items import Item, ItemStatus
from turnwire.protocol.responses import IncompleteDetails, Response, ResponseError, Usage
from turnwire.session.numbering import Numbering
from turnwire.session.opened import (
    Closed,
    Opened,
    OpenedCall,
    OpenedCompaction,
    OpenedMessage,
)
from turnwire.session.reasoning import OpenedReasoning, ReasoningView
from turnwire.session.stage import TRANSITIONS, Stage, Step

__all__ = ["Emitter"]

S = TypeVar(
    "S",
    ResponseCreated,
    ResponseQueued,
    ResponseInProgress,
    ResponseCompleted,
    ResponseIncomplete,
    ResponseFailed,
)


class Emitter:
    """Turns one response's parts into its events.

    Attributes:
        response: The response object, moved from state to state.
        items: Finished output items as a context keeps them (reasoning with its text). A cut
            item is there too, with status `incomplete`.
        stage: How far the response has come.
    """

    __slots__ = ("_begun", "_numbers", "_opened", "_view", "items", "response", "stage")

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
        self._numbers: Final = Numbering(stream_id)
        self._view: Final = reasoning or ReasoningView()
        self._begun = Raw()
        self._opened: Opened | None = None

    @property
    def sequence_number(self) -> int:
        """Of the next event."""
        return self._numbers.next

    # -- the life of a response

    def start(self) -> list[Event]:
        """`response.created` and `response.in_progress`. The parent must be bound by now."""
        self._move(Step.START)
        snapshot = self._begun = self._snapshot()
        return [self._state(ResponseCreated, snapshot), self._state(ResponseInProgress, snapshot)]

    def queue(self) -> list[Event]:
        """`response.created` and `response.queued`, of a response in the background."""
        self._move(Step.QUEUE)
        self.response.status = "queued"
        snapshot = self._snapshot()
        return [self._state(ResponseCreated, snapshot), self._state(ResponseQueued, snapshot)]

    def begin(self) -> list[Event]:
        """`response.in_progress` of a response that was queued: the model has a place for it."""
        self._move(Step.BEGIN)
        self.response.status = "in_progress"
        snapshot = self._begun = self._snapshot()
        return [self._state(ResponseInProgress, snapshot)]

    def keep_alive(self) -> list[Event]:
        """Say again that the response is in progress, for clients that count events as life.

        The one event that is legal at any point between the first and the terminal one; nothing
        once the output is whole.
        """
        if self.stage is not Stage.STREAMING:
            return []
        return [self._state(ResponseInProgress, self._begun)]

    def feed(self, part: Part) -> list[Event]:
        """Return the events of one part.

        Raises:
            InvalidTransition: the part does not fit what is open; a bug of the model adapter.
        """
        if self.stage is not Stage.STREAMING:  # every token comes this way: the table is slower
            self._move(Step.PART)
        opened = self._opened
        if type(part) is TextDelta and type(opened) is OpenedMessage:  # and nearly every one this
            return opened.text(part.text, part.logprobs)
        match part:
            case CallArguments(text):
                if not isinstance(opened, OpenedCall):
                    raise InvalidTransition("arguments, but no call is open")
                return opened.text(text)
            case ReasoningDelta(text):
                if isinstance(opened, OpenedReasoning):
                    return opened.text(text)
                reasoning = OpenedReasoning(*self._place("rs"), self._view)
                return self._open(reasoning) + reasoning.text(text)
            case TextDelta(text, logprobs):
                message = OpenedMessage(*self._place("msg"))
                return self._open(message) + message.text(text, logprobs)
            case RefusalDelta(text):
                if isinstance(opened, OpenedMessage):
                    return opened.refusal(text)
                message = OpenedMessage(*self._place("msg"))
                return self._open(message) + message.refusal(text)
            case MessageStarted(phase):
                return self._open(OpenedMessage(*self._place("msg"), phase))
            case CallStarted(kind=kind):
                prefix = "fc" if kind == "function" else "ctc"
                return self._open(OpenedCall(*self._place(prefix), part))
            case ItemFinished(phase=phase):
                if phase is not None and isinstance(opened, OpenedMessage):
                    opened.phase = phase
                return self._close("completed")
            case CompactionStarted(asked):
                return self._open(OpenedCompaction(*self._place("cmp"), asked=asked))
            case CompactionFinished(encrypted_content):
                if not isinstance(opened, OpenedCompaction):
                    raise InvalidTransition("no compaction is open")
                return self._keep(opened.sealed(encrypted_content))
            case Finished():
                return self.close(part)

    def close(self, finished: Finished) -> list[Event]:
        """Close what is open and note how the response ends; the terminal event comes later.

        An item still open is whole if the model stopped by itself, and cut otherwise.
        """
        self._move(Step.CLOSE)
        reason = finished.reason
        closing: ItemStatus = "completed" if reason == "stop" else "incomplete"
        events = self._close(closing) if self._opened is not None else []
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
        if self.response.status == "completed":
            return self._state(ResponseCompleted, sealed)
        return self._state(ResponseIncomplete, sealed)

    def announce(self, error: WireError) -> ErrorEvent:
        """The `error` event that goes before `response.failed` on SSE (section 5.3)."""
        self._move(Step.ANNOUNCE)
        lane = self._numbers.lane if isinstance(self._numbers.lane, str) else None
        return error_event(error, sequence_number=self._numbers.take(), stream_id=lane)

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
        return self._state(ResponseFailed, sealed)

    # -- steers; they take part in the numbering, also after the terminal event

    def steer_taken(self, steer_id: str) -> SteerAccepted:
        """`response.steer.accepted`."""
        return SteerAccepted(
            sequence_number=self._numbers.take(),
            stream_id=self._numbers.lane,
            steer=SteerSubmission(id=steer_id, previous_response_id=self.response.id),
        )

    def steer_waits(self, steer_id: str, required_input: Sequence[Raw]) -> SteerPending:
        """`response.steer.pending`, with stubs of what the client owes."""
        return SteerPending(
            sequence_number=self._numbers.take(),
            stream_id=self._numbers.lane,
            steer=SteerSubmission(id=steer_id, previous_response_id=self.response.id),
            required_input=list(required_input),
        )

    def steer_refused(
        self, steer_id: str | None, given: Raw, code: str, message: str
    ) -> SteerFailed:
        """`response.steer.failed`, with the input handed back."""
        return SteerFailed(
            sequence_number=self._numbers.take(),
            stream_id=self._numbers.lane,
            steer=SteerRejected(
                id=UNSET if steer_id is None else steer_id,
                previous_response_id=self.response.id,
                input=given,
            ),
            error=SteerError(code=code, message=message),
        )

    # -- items

    def _place(self, prefix: str) -> tuple[Numbering, str, int]:
        """What the next item of the output begins with."""
        index = len(self.items)
        return self._numbers, item_id(prefix, self.response.id, index), index

    def _open(self, item: Opened) -> list[Event]:
        if self._opened is not None:
            raise InvalidTransition("an item is open already")
        self._opened = item
        return item.open()

    def _close(self, status: ItemStatus) -> list[Event]:
        if self._opened is None:
            raise InvalidTransition("no item is open")
        return self._keep(self._opened.close(status))

    def _keep(self, closed: Closed) -> list[Event]:
        self._opened = None
        self.response.output.append(closed.shown)
        self.items.append(closed.kept)
        return closed.events

    # -- small things

    def _state(self, kind: type[S], response: Raw) -> S:
        return kind(
            sequence_number=self._numbers.take(), stream_id=self._numbers.lane, response=response
        )

    def _snapshot(self) -> Raw:
        return Raw(encode(self.response))

    def _move(self, step: Step) -> None:
        target = TRANSITIONS.get((self.stage, step))
        if target is None:
            raise InvalidTransition(f"{step.value} while the response is {self.stage.value}")
        self.stage = target
