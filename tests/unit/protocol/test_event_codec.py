"""Events, responses and errors as bytes."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import msgspec
import pytest
from msgspec import UNSET, Raw
from openai.types.responses import Response as SdkResponse
from openai.types.responses import (
    ResponseErrorEvent,
    ResponseSteerAcceptedEvent,
    ResponseSteerFailedEvent,
    ResponseSteerPendingEvent,
    ResponseStreamEvent,
)
from pydantic import BaseModel, TypeAdapter

from turnwire import errors
from turnwire.errors import (
    ClientError,
    InvalidApiKey,
    InvalidRequest,
    Overloaded,
    PreviousResponseNotFound,
    ServiceError,
    TooManyRequests,
    WireError,
)
from turnwire.protocol import events
from turnwire.protocol.event_codec import (
    encode_event,
    encode_response,
    error_body,
    error_event,
    event_type,
    sse_prefix,
)
from turnwire.protocol.events import Event, ServerEvent
from turnwire.protocol.item_codec import encode_item, encode_part
from turnwire.protocol.items import (
    CustomToolCall,
    FunctionCall,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)
from turnwire.protocol.requests import PlainTextFormat, TextConfig
from turnwire.protocol.responses import (
    IncompleteDetails,
    Response,
    ResponseError,
    ResponseStatus,
    Usage,
)

TEXT = OutputText(text="hi")
MESSAGE = Message(id="msg_1", role="assistant", status="completed", content=(TEXT,))
USAGE = Usage.count(prompt=5, cached=2, output=3, reasoning=1)


def response(status: ResponseStatus = "in_progress", **more: Any) -> Response:
    """A response in some state."""
    return Response(
        id="resp_1",
        created_at=1,
        status=status,
        model="m",
        text=TextConfig(format=PlainTextFormat(), verbosity="medium"),
        **more,
    )


def raw(part: Any) -> Raw:
    """A part as events embed it."""
    return Raw(encode_part(part))


STATE = Raw(encode_response(response()))
PLACE: dict[str, Any] = {"sequence_number": 7, "item_id": "i", "output_index": 1}
PART: dict[str, Any] = {**PLACE, "content_index": 0}
SUMMARY: dict[str, Any] = {**PLACE, "summary_index": 0}
STEER = events.SteerSubmission(id="steer_1", previous_response_id="resp_1")
EXAMPLES: list[Event] = [
    events.ResponseCreated(sequence_number=0, response=STATE),
    events.ResponseQueued(sequence_number=1, response=STATE),
    events.ResponseInProgress(sequence_number=2, response=STATE),
    events.ResponseCompleted(
        sequence_number=3,
        response=Raw(
            encode_response(
                response(
                    "completed",
                    completed_at=2,
                    usage=USAGE,
                    output=[
                        Raw(encode_item(MESSAGE)),
                        Raw(
                            encode_item(
                                FunctionCall(id="fc_1", call_id="c", name="f", arguments="{}")
                            )
                        ),
                        Raw(
                            encode_item(CustomToolCall(id="ctc_1", call_id="c", name="f", input=""))
                        ),
                        Raw(encode_item(Reasoning(id="rs_1", summary=()))),
                    ],
                )
            )
        ),
    ),
    events.ResponseIncomplete(
        sequence_number=3,
        response=Raw(
            encode_response(
                response(
                    "incomplete",
                    usage=USAGE,
                    incomplete_details=IncompleteDetails(reason="max_output_tokens"),
                )
            )
        ),
    ),
    events.ResponseFailed(
        sequence_number=3,
        response=Raw(
            encode_response(
                response("failed", error=ResponseError(code="server_error", message="no"))
            )
        ),
    ),
    events.OutputItemAdded(sequence_number=3, output_index=0, item=Raw(encode_item(MESSAGE))),
    events.OutputItemDone(sequence_number=3, output_index=0, item=Raw(encode_item(MESSAGE))),
    events.ContentPartAdded(**PART, part=raw(TEXT)),
    events.ContentPartAdded(**PART, part=raw(ReasoningText(text=""))),
    events.ContentPartDone(**PART, part=raw(Refusal(refusal="no"))),
    events.OutputTextDelta(**PART, delta="h"),
    events.OutputTextDelta(
        **PART,
        delta="h",
        logprobs=[Raw(b'{"token":"h","logprob":-0.5,"bytes":[104],"top_logprobs":[]}')],
        obfuscation="xx",
        stream_id="a",
    ),
    events.OutputTextDone(**PART, text="hi"),
    events.OutputTextAnnotationAdded(
        **PART, annotation_index=0, annotation=Raw(b'{"type":"file_path","file_id":"f","index":1}')
    ),
    events.RefusalDelta(**PART, delta="n"),
    events.RefusalDone(**PART, refusal="no"),
    events.ReasoningTextDelta(**PART, delta="h"),
    events.ReasoningTextDone(**PART, text="hm"),
    events.ReasoningSummaryPartAdded(**SUMMARY, part=raw(SummaryText(text=""))),
    events.ReasoningSummaryPartDone(**SUMMARY, part=raw(SummaryText(text="hm"))),
    events.ReasoningSummaryPartDone(
        **SUMMARY, part=raw(SummaryText(text="hm")), status="incomplete"
    ),
    events.ReasoningSummaryTextDelta(**SUMMARY, delta="h", obfuscation="x"),
    events.ReasoningSummaryTextDone(**SUMMARY, text="hm"),
    events.FunctionCallArgumentsDelta(**PLACE, delta="{"),
    events.FunctionCallArgumentsDone(**PLACE, name="f", arguments="{}"),
    events.CustomToolCallInputDelta(**PLACE, delta="a"),
    events.CustomToolCallInputDone(**PLACE, input="ab"),
    events.CompactionCompacting(**PLACE),
    events.SteerAccepted(sequence_number=4, steer=STEER),
    events.SteerPending(
        sequence_number=5,
        steer=STEER,
        required_input=[Raw(b'{"type":"function_call_output","call_id":"c","name":"f"}')],
    ),
    events.SteerFailed(
        sequence_number=6,
        steer=events.SteerRejected(previous_response_id="resp_1", input=Raw(b'"no"')),
        error=events.SteerError(code="steering_not_supported", message="no"),
    ),
    events.InjectFailed(
        sequence_number=7,
        response_id="resp_1",
        input=Raw(b"[]"),
        error=events.InjectError(code="response_not_found", message="no"),
    ),
    error_event(InvalidRequest("no", param="input"), sequence_number=8, stream_id="a"),
]
# The library reads these outside its union of stream events, or not at all.
APART: dict[type, type[BaseModel] | None] = {
    events.SteerAccepted: ResponseSteerAcceptedEvent,
    events.SteerPending: ResponseSteerPendingEvent,
    events.SteerFailed: ResponseSteerFailedEvent,
    events.InjectFailed: None,
}


def test_every_event_has_an_example() -> None:
    """The checks below leave no event out."""
    assert set(get_args(ServerEvent)) == {type(event) for event in EXAMPLES}


@pytest.mark.parametrize("event", EXAMPLES, ids=event_type)
def test_events_are_the_sdks(event: Event) -> None:
    """The official library reads each event as its own type, with every field as sent."""
    sent = msgspec.json.decode(encode_event(event))
    model: Any = APART.get(type(event), ResponseStreamEvent)
    if model is None:
        assert {"type", "sequence_number", "response_id", "input", "error"} == set(sent)
        return
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    read = adapter.validate_python(sent)
    assert isinstance(read, BaseModel)
    assert sent == read.model_dump(mode="json", exclude_unset=True, by_alias=True)


@pytest.mark.parametrize("event", EXAMPLES, ids=event_type)
def test_framing(event: Event) -> None:
    """An event's type stands first in its JSON and alone in its SSE prefix; all on one line."""
    encoded = encode_event(event)
    kind = event_type(event)
    assert kind == msgspec.json.decode(encoded)["type"]
    assert encoded.startswith(b'{"type":"')
    assert f"event: {kind}\ndata: ".encode() == sse_prefix(event)
    assert b"\n" not in encoded


def test_default_lane_has_no_stream_id() -> None:
    """Only events of a named lane carry the key; deltas carry padding only when they have it."""
    plain = msgspec.json.decode(encode_event(events.OutputTextDelta(**PART, delta="h")))
    assert {"type", "delta", "logprobs", *PART} == set(plain)
    named = encode_event(events.OutputTextDelta(**PART, delta="h", stream_id="a"))
    assert {**plain, "stream_id": "a"} == msgspec.json.decode(named)


# protocol.md section 4, the set of recorded responses
ALWAYS_SENT = {
    "id", "object", "created_at", "completed_at", "status", "background", "error",
    "incomplete_details", "instructions", "max_output_tokens", "max_tool_calls", "model", "output",
    "parallel_tool_calls", "previous_response_id", "prompt_cache_key", "prompt_cache_retention",
    "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text",
    "tool_choice", "tools", "top_logprobs", "top_p", "presence_penalty", "frequency_penalty",
    "truncation", "usage", "user", "metadata",
}  # fmt: skip


def test_response_has_every_field() -> None:
    """Every field that must be present is, null where it has no value."""
    sent = msgspec.json.decode(encode_response(response()))
    assert set(sent) == ALWAYS_SENT
    assert {"effort": None, "summary": None} == sent["reasoning"]
    assert {"format": {"type": "text"}, "verbosity": "medium"} == sent["text"]


def test_usage_is_the_sdks() -> None:
    """A terminal response is the official library's, usage and all."""
    sent = msgspec.json.decode(encode_response(response("completed", usage=USAGE)))
    read = SdkResponse.model_validate(sent)
    assert read.usage is not None
    assert (5, 2, 0, 3, 1, 8) == (
        read.usage.input_tokens,
        read.usage.input_tokens_details.cached_tokens,
        read.usage.input_tokens_details.cache_write_tokens,
        read.usage.output_tokens,
        read.usage.output_tokens_details.reasoning_tokens,
        read.usage.total_tokens,
    )


def test_error_body() -> None:
    """An HTTP error body has the four keys, code and param as they are."""
    body = error_body(PreviousResponseNotFound("resp_abc"))
    assert {
        "error": {
            "type": "invalid_request_error",
            "code": "previous_response_not_found",
            "message": "Previous response with id 'resp_abc' not found.",
            "param": "previous_response_id",
        }
    } == msgspec.json.decode(body)
    assert msgspec.json.decode(error_body(ClientError("no")))["error"]["code"] is None


def test_error_event_is_nested_and_flat() -> None:
    """The same error is there for readers of either form, with its lane and when to try again."""
    event = error_event(Overloaded("full", retry_after_sec=3), sequence_number=5, stream_id="lane")
    sent = msgspec.json.decode(encode_event(event))
    assert {
        "type": "error",
        "sequence_number": 5,
        "stream_id": "lane",
        "status": 503,
        "error": {
            "type": "service_unavailable_error",
            "code": "server_is_overloaded",
            "message": "full",
            "param": None,
            "headers": {"retry-after": "3"},
        },
        "code": "server_is_overloaded",
        "message": "full",
        "param": None,
    } == sent
    assert 5 == ResponseErrorEvent.model_validate(sent).sequence_number


def test_error_event_without_a_lane() -> None:
    """On the default lane the key is absent, and so are headers that say nothing."""
    event = error_event(ServiceError("no"))
    assert (0, UNSET, UNSET) == (event.sequence_number, event.stream_id, event.error.headers)


WIRE_ERRORS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, WireError)
]


@pytest.mark.parametrize("kind", WIRE_ERRORS, ids=lambda kind: kind.__name__)
def test_error_events_always_have_a_code(kind: type[WireError]) -> None:
    """Clients on a WebSocket never meet a null code."""
    event = error_event(kind("m"))
    assert event.code
    assert event.code == event.error.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClientError("m"), "invalid_request"),
        (WireError("m"), "server_error"),
        (InvalidApiKey("m", code="invalid_api_key"), "invalid_api_key"),
        (TooManyRequests("m"), "rate_limit_exceeded"),
    ],
)
def test_derived_codes(error: WireError, code: str) -> None:
    """An error without a code takes one from its type."""
    assert code == error_event(error).code
