"""Streaming events (protocol.md section 5): the same objects on SSE and on WebSocket.

Every event carries `sequence_number`; on a named lane of a WebSocket also `stream_id`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType, field

__all__ = [
    "TERMINAL_EVENTS",
    "CompactionCompacting",
    "ContentPartAdded",
    "ContentPartDone",
    "CustomToolCallInputDelta",
    "CustomToolCallInputDone",
    "ErrorDetail",
    "ErrorEvent",
    "Event",
    "FunctionCallArgumentsDelta",
    "FunctionCallArgumentsDone",
    "InjectError",
    "InjectFailed",
    "OutputItemAdded",
    "OutputItemDone",
    "OutputTextAnnotationAdded",
    "OutputTextDelta",
    "OutputTextDone",
    "ReasoningSummaryPartAdded",
    "ReasoningSummaryPartDone",
    "ReasoningSummaryTextDelta",
    "ReasoningSummaryTextDone",
    "ReasoningTextDelta",
    "ReasoningTextDone",
    "RefusalDelta",
    "RefusalDone",
    "ResponseCompleted",
    "ResponseCreated",
    "ResponseFailed",
    "ResponseInProgress",
    "ResponseIncomplete",
    "ResponseQueued",
    "ServerEvent",
    "SteerAccepted",
    "SteerError",
    "SteerFailed",
    "SteerPending",
    "SteerRejected",
    "SteerSubmission",
]


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event has."""

    sequence_number: int
    stream_id: str | UnsetType = UNSET


class _ResponseState(Event, frozen=True, kw_only=True):
    response: Raw  # the whole response object, encoded


class ResponseCreated(_ResponseState, frozen=True, kw_only=True, tag="response.created"):
    """Sequence number 0."""


class ResponseQueued(_ResponseState, frozen=True, kw_only=True, tag="response.queued"):
    """Background only."""


class ResponseInProgress(_ResponseState, frozen=True, kw_only=True, tag="response.in_progress"):
    """The parent is bound and the turn runs."""


class ResponseCompleted(_ResponseState, frozen=True, kw_only=True, tag="response.completed"):
    """Terminal."""


class ResponseIncomplete(_ResponseState, frozen=True, kw_only=True, tag="response.incomplete"):
    """Terminal: a limit was hit or the response was steered."""


class ResponseFailed(_ResponseState, frozen=True, kw_only=True, tag="response.failed"):
    """Terminal: failed or cancelled."""


TERMINAL_EVENTS = (ResponseCompleted, ResponseIncomplete, ResponseFailed)


class OutputItemAdded(Event, frozen=True, kw_only=True, tag="response.output_item.added"):
    """An item opens; its status is in_progress."""

    output_index: int
    item: Raw


class OutputItemDone(Event, frozen=True, kw_only=True, tag="response.output_item.done"):
    """An item closed; it will not change."""

    output_index: int
    item: Raw


class _OfItem(Event, frozen=True, kw_only=True):
    item_id: str
    output_index: int


class _OfPart(_OfItem, frozen=True, kw_only=True):
    content_index: int


class ContentPartAdded(_OfPart, frozen=True, kw_only=True, tag="response.content_part.added"):
    """A content part opens, empty."""

    part: Raw


class ContentPartDone(_OfPart, frozen=True, kw_only=True, tag="response.content_part.done"):
    """A content part closed."""

    part: Raw


class OutputTextDelta(_OfPart, frozen=True, kw_only=True, tag="response.output_text.delta"):
    """More text."""

    delta: str
    logprobs: list[Raw] = field(default_factory=list)
    obfuscation: str | UnsetType = UNSET


class OutputTextDone(_OfPart, frozen=True, kw_only=True, tag="response.output_text.done"):
    """The part's whole text."""

    text: str
    logprobs: list[Raw] = field(default_factory=list)


class OutputTextAnnotationAdded(
    _OfPart, frozen=True, kw_only=True, tag="response.output_text.annotation.added"
):
    """An annotation of the text sent so far."""

    annotation_index: int
    annotation: Raw


class RefusalDelta(_OfPart, frozen=True, kw_only=True, tag="response.refusal.delta"):
    """More of a refusal."""

    delta: str


class RefusalDone(_OfPart, frozen=True, kw_only=True, tag="response.refusal.done"):
    """The whole refusal."""

    refusal: str


class ReasoningTextDelta(_OfPart, frozen=True, kw_only=True, tag="response.reasoning_text.delta"):
    """More raw reasoning; only where a server option asks for it."""

    delta: str


class ReasoningTextDone(_OfPart, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    """The whole raw reasoning."""

    text: str


class FunctionCallArgumentsDelta(
    _OfItem, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"
):
    """More of a call's arguments."""

    delta: str
    obfuscation: str | UnsetType = UNSET


class FunctionCallArgumentsDone(
    _OfItem, frozen=True, kw_only=True, tag="response.function_call_arguments.done"
):
    """A call's whole arguments."""

    name: str
    arguments: str


class CustomToolCallInputDelta(
    _OfItem, frozen=True, kw_only=True, tag="response.custom_tool_call_input.delta"
):
    """More of a custom call's input."""

    delta: str


class CustomToolCallInputDone(
    _OfItem, frozen=True, kw_only=True, tag="response.custom_tool_call_input.done"
):
    """A custom call's whole input."""

    input: str


class _OfSummary(_OfItem, frozen=True, kw_only=True):
    summary_index: int


class ReasoningSummaryPartAdded(
    _OfSummary, frozen=True, kw_only=True, tag="response.reasoning_summary_part.added"
):
    """A summary part opens, empty."""

    part: Raw


class ReasoningSummaryPartDone(
    _OfSummary, frozen=True, kw_only=True, tag="response.reasoning_summary_part.done"
):
    """A summary part closed; `status` only where it was cut."""

    part: Raw
    status: Literal["incomplete"] | UnsetType = UNSET


class ReasoningSummaryTextDelta(
    _OfSummary, frozen=True, kw_only=True, tag="response.reasoning_summary_text.delta"
):
    """More of a summary part."""

    delta: str
    obfuscation: str | UnsetType = UNSET


class ReasoningSummaryTextDone(
    _OfSummary, frozen=True, kw_only=True, tag="response.reasoning_summary_text.done"
):
    """A summary part's whole text."""

    text: str


class CompactionCompacting(
    _OfItem, frozen=True, kw_only=True, tag="response.compaction.compacting"
):
    """A summary is being sampled because a `compaction_trigger` asked for it."""


class SteerSubmission(Struct, frozen=True, kw_only=True):
    """A steer that was taken."""

    id: str
    previous_response_id: str


class SteerRejected(Struct, frozen=True, kw_only=True):
    """A steer that was not committed, with the input handed back; `id` only if it had one."""

    id: str | UnsetType = UNSET
    previous_response_id: str
    input: Raw


class SteerError(Struct, frozen=True, kw_only=True):
    """Why a steer was not committed (codes: protocol.md section 9.1)."""

    type: Literal["invalid_request_error"] = "invalid_request_error"
    code: str
    message: str


class SteerAccepted(Event, frozen=True, kw_only=True, tag="response.steer.accepted"):
    """Queued, not applied: the successor's `response.created` is the commit point."""

    steer: SteerSubmission


class SteerPending(Event, frozen=True, kw_only=True, tag="response.steer.pending"):
    """Still queued: the client owes tool results, listed as stubs."""

    steer: SteerSubmission
    reason: Literal["waiting_for_required_input"] = "waiting_for_required_input"
    required_input: list[Raw]


class SteerFailed(Event, frozen=True, kw_only=True, tag="response.steer.failed"):
    """Refused, or lost after it was accepted."""

    steer: SteerRejected
    error: SteerError


class InjectError(Struct, frozen=True, kw_only=True):
    """Why an inject was refused."""

    code: Literal["response_already_completed", "response_not_found"]
    message: str


class InjectFailed(Event, frozen=True, kw_only=True, tag="response.inject.failed"):
    """Nothing of the input was taken (protocol.md section 9.2)."""

    response_id: str
    input: Raw
    error: InjectError


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """`error` of an error body or event; `headers` only in events, for what HTTP puts there."""

    type: str
    code: str | None
    message: str
    param: str | None
    headers: dict[str, str] | UnsetType = UNSET


class ErrorEvent(Event, frozen=True, kw_only=True, tag="error"):
    """An error as an event: nested, with the flat fields beside it, valid for both readers.

    Clients need `status` (Codex ignores the event without it) and `sequence_number` (the AI SDK
    rejects it without), see clients.md section 3.
    """

    status: int
    error: ErrorDetail
    code: str | None
    message: str
    param: str | None


ServerEvent: TypeAlias = (
    ResponseCreated
    | ResponseQueued
    | ResponseInProgress
    | ResponseCompleted
    | ResponseIncomplete
    | ResponseFailed
    | OutputItemAdded
    | OutputItemDone
    | ContentPartAdded
    | ContentPartDone
    | OutputTextDelta
    | OutputTextDone
    | OutputTextAnnotationAdded
    | RefusalDelta
    | RefusalDone
    | ReasoningTextDelta
    | ReasoningTextDone
    | ReasoningSummaryPartAdded
    | ReasoningSummaryPartDone
    | ReasoningSummaryTextDelta
    | ReasoningSummaryTextDone
    | FunctionCallArgumentsDelta
    | FunctionCallArgumentsDone
    | CustomToolCallInputDelta
    | CustomToolCallInputDone
    | CompactionCompacting
    | SteerAccepted
    | SteerPending
    | SteerFailed
    | InjectFailed
    | ErrorEvent
)
"""Every event this server may send."""
