"""Bytes to requests: HTTP bodies and WebSocket frames.

A frame is decoded in one pass, whatever event it holds; `input`, `tools` and `tool_choice` stay
raw views of it. Only a frame that does not decode is looked at again, to find out whose lane
must hear of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NoReturn

from msgspec import UNSET, Raw, Struct, UnsetType, ValidationError

from turnwire.errors import InvalidRequest
from turnwire.protocol.client_events import (
    Cancel,
    ClientEvent,
    Create,
    FrameError,
    Inject,
    Steer,
    StreamId,
    Unknown,
)
from turnwire.protocol.requests import ABSENT, CreateResponse, JsonSchemaFormat
from turnwire.protocol.validation import FAULTS, CheckedDecoder, explain

__all__ = ["decode_create", "decode_frame"]


class _CreateFrame(CreateResponse, tag_field="type", tag="response.create", kw_only=True):
    stream_id: StreamId | UnsetType = UNSET


class _CancelFrame(Struct, tag_field="type", tag="response.cancel"):
    response_id: str | None = None
    stream_id: StreamId | UnsetType = UNSET


class _Envelope(Struct):
    """What is read of a frame that does not decode."""

    type: Raw = ABSENT
    stream_id: Raw = ABSENT
    previous_response_id: Raw = ABSENT


_BODY: Final = CheckedDecoder[CreateResponse](CreateResponse)
_FRAME: Final = CheckedDecoder[_CreateFrame | _CancelFrame | Steer | Inject](
    _CreateFrame | _CancelFrame | Steer | Inject
)
_ENVELOPE: Final = CheckedDecoder[_Envelope](_Envelope)
_STREAM_ID: Final = CheckedDecoder[str](StreamId)
_TYPE: Final = CheckedDecoder[str](str)
_TYPES_OF_FRAMES: Final = {
    "response.create": _CreateFrame,
    "response.cancel": _CancelFrame,
    "response.steer": Steer,
    "response.inject": Inject,
}


def decode_create(body: bytes | str) -> CreateResponse:
    """Decode the body of POST /v1/responses.

    `generate` is not part of the HTTP schema and is dropped (protocol.md section 8.3).

    Raises:
        InvalidJson: the body is not a JSON object in UTF-8.
        InvalidRequest: a field is of the wrong type or out of range; `param` is its path.
    """
    try:
        _check_utf8(body)
        request = _BODY.attempt(body)
    except FAULTS as fault:
        raise explain(fault, body, CreateResponse) from None
    request.generate = None
    _check_schema(request)
    return request


def decode_frame(data: bytes | str) -> ClientEvent:
    """Decode one client event of a WebSocket.

    `stream` and `stream_options` are checked and then dropped: Codex sends the former on every
    frame (protocol.md section 8.2). An event of unknown type is no error here.

    Raises:
        FrameError: the frame cannot be served; it carries the protocol's error and the lane.
    """
    try:
        _check_utf8(data)
        frame = _FRAME.attempt(data)
    except FAULTS as fault:
        return _diagnose(data, fault)
    if type(frame) is not _CreateFrame:
        if type(frame) is _CancelFrame:
            return Cancel(frame.response_id, frame.stream_id or None)
        return frame  # type: ignore[return-value]  # Steer or Inject
    lane = frame.stream_id or None
    frame.stream = frame.stream_options = None
    try:
        if frame.background:
            _refuse_background()
        _check_schema(frame)
    except InvalidRequest as error:
        raise FrameError(error, lane, frame.previous_response_id) from None
    return Create(frame, lane)


def _diagnose(data: bytes | str, fault: Exception) -> Unknown:
    """Return the event if its type is unknown; else raise what is wrong with the frame."""
    if not isinstance(fault, ValidationError):
        raise FrameError(explain(fault, data, CreateResponse)) from None
    try:
        envelope = _ENVELOPE.decode(data)
    except InvalidRequest as error:
        raise FrameError(error) from None
    try:
        # An empty value stands for an absent key; null is a value, and not a valid one.
        lane = _STREAM_ID.attempt(envelope.stream_id) if bytes(envelope.stream_id) else None
    except FAULTS:
        raise FrameError(
            InvalidRequest(
                "'stream_id' must be a string of 1 to 256 of the characters A-Z, a-z, 0-9, "
                "'_', '.' and '-'. Leave it out for the default lane.",
                code="invalid_stream_id",
                param="stream_id",
            )
        ) from None
    if not bytes(envelope.type):
        message = "'type' is required, but it is missing."
        missing = InvalidRequest(message, code="missing_required_parameter", param="type")
        raise FrameError(missing, lane)
    try:
        kind = _TYPE.decode(envelope.type, "type")
    except InvalidRequest as error:
        raise FrameError(error, lane) from None
    expected = _TYPES_OF_FRAMES.get(kind)
    if expected is None:
        return Unknown(kind, lane)
    parent_id: str | None = None
    with suppress(*FAULTS):
        parent_id = _TYPE.attempt(envelope.previous_response_id)
    raise FrameError(explain(fault, data, expected), lane, parent_id) from None


def _check_utf8(document: bytes | str) -> None:
    # The decoder checks what it turns into strings; raw fields it takes as they are, and they
    # come back in events, where a bad byte would break the client's text frame.
    if isinstance(document, bytes) and not document.isascii():
        document.decode()


def _check_schema(request: CreateResponse) -> None:
    chosen = request.text and request.text.format
    if isinstance(chosen, JsonSchemaFormat) and bytes(chosen.schema)[:1] != b"{":
        raise InvalidRequest(
            "'text.format.schema' must be an object.",
            code="invalid_type",
            param="text.format.schema",
        )


def _refuse_background() -> NoReturn:
    raise InvalidRequest(
        "'background' is not supported in WebSocket mode; send the request over HTTP.",
        code="unsupported_parameter",
        param="background",
    )
