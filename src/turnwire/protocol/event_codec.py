"""Responses, events and errors to bytes.

The same event goes out as an SSE frame or as a WebSocket frame: they differ in framing only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

from msgspec import UNSET, Struct
from msgspec.json import Encoder

from turnwire.errors import WireError
from turnwire.protocol.events import ErrorDetail, ErrorEvent, Event, ServerEvent
from turnwire.protocol.responses import Response

__all__ = [
    "encode_event",
    "encode_response",
    "error_body",
    "error_event",
    "event_type",
    "sse_prefix",
]

_ENCODER: Final = Encoder()
_TYPES: Final[dict[type, str]] = {
    kind: str(kind.__struct_config__.tag) for kind in get_args(ServerEvent)
}
_PREFIXES: Final[dict[type, bytes]] = {
    kind: f"event: {name}\ndata: ".encode() for kind, name in _TYPES.items()
}

# An error without a code gets one on WebSocket, where clients need it ([D], protocol.md 8.6).
_CODES: Final = {
    "invalid_request_error": "invalid_request",
    "permission_error": "permission_denied",
    "rate_limit_error": "rate_limit_exceeded",
    "service_unavailable_error": "server_is_overloaded",
}


class _ErrorBody(Struct):
    error: ErrorDetail


encode_event: Final[Callable[[Event], bytes]] = _ENCODER.encode
"""Encode one event as JSON on one line. The encoder's own method: every token comes this way."""


def event_type(event: Event) -> str:
    """The event's `type` on the wire."""
    return _TYPES[type(event)]


def sse_prefix(event: Event) -> bytes:
    """What stands before the JSON in an SSE frame: `event: TYPE`, line feed, `data: `.

    A blank line ends the frame: prefix + `encode_event(event)` + two line feeds (section 7).
    """
    return _PREFIXES[type(event)]


def encode_response(response: Response) -> bytes:
    """Encode a response object; what is raw in it is copied."""
    return _ENCODER.encode(response)


def error_body(error: WireError) -> bytes:
    """The body of an HTTP error answer (protocol.md section 16); the code may be null."""
    return _ENCODER.encode(
        _ErrorBody(
            ErrorDetail(type=error.type, code=error.code, message=error.message, param=error.param)
        )
    )


def error_event(
    error: WireError, *, sequence_number: int = 0, stream_id: str | None = None
) -> ErrorEvent:
    """The error as an event; never without a code.

    Args:
        error: What went wrong; when to try again travels in `headers`.
        sequence_number: The response's next, or 0 where there is no response.
        stream_id: The lane that must hear of it; None for the default lane.
    """
    code = error.code or _CODES.get(error.type, error.type)
    headers: dict[str, str] = {}
    if error.retry_after_sec is not None:
        headers["retry-after"] = str(error.retry_after_sec)
    if error.should_retry is not None:
        headers["x-should-retry"] = str(error.should_retry).lower()
    return ErrorEvent(
        sequence_number=sequence_number,
        stream_id=UNSET if stream_id is None else stream_id,
        status=error.status,
        error=ErrorDetail(
            type=error.type,
            code=code,
            message=error.message,
            param=error.param,
            headers=headers or UNSET,
        ),
        code=code,
        message=error.message,
        param=error.param,
    )
