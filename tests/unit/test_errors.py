from __future__ import annotations

from collections.abc import Iterator

import pytest

from turnwire import errors
from turnwire.errors import (
    ClientError,
    ContextLengthExceeded,
    ConversationLocked,
    EngineError,
    InvalidApiKey,
    InvalidJson,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    PreviousResponseNotFound,
    ServiceError,
    TooManyRequests,
    TurnwireError,
    WireError,
)


def descendants(kind: type[TurnwireError]) -> Iterator[type[TurnwireError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        (InvalidRequest("m"), 400, "invalid_request_error", "invalid_value"),
        (InvalidJson("m"), 400, "invalid_request_error", "invalid_json"),
        (ModelNotFound("x"), 400, "invalid_request_error", "model_not_found"),
        (
            PreviousResponseNotFound("x"),
            400,
            "invalid_request_error",
            "previous_response_not_found",
        ),
        (ContextLengthExceeded("m"), 400, "invalid_request_error", "context_length_exceeded"),
        (InvalidApiKey("m"), 401, "invalid_request_error", "invalid_api_key"),
        (PermissionDenied("m"), 403, "permission_error", "permission_denied"),
        (NotFound("m"), 404, "invalid_request_error", "not_found"),
        (ConversationLocked("x"), 409, "invalid_request_error", "conversation_locked"),
        (PayloadTooLarge("m"), 413, "invalid_request_error", "payload_too_large"),
        (TooManyRequests("m"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (ServiceError("m"), 500, "server_error", "server_error"),
        (Overloaded("m"), 503, "service_unavailable_error", "server_is_overloaded"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, WireError) else "",
)
def test_what_the_wire_sees(error: WireError, status: int, type_: str, code: str) -> None:
    """Each error has the status, type and code that the protocol gives it."""
    assert (status, type_, code) == (error.status, error.type, error.code)


def test_the_class_says_whose_fault_it_is() -> None:
    """A 4xx is the client's error, a 5xx ours, and no error is both."""
    for kind in descendants(WireError):
        assert issubclass(kind, WireError)
        expected = ClientError if 400 <= kind.status < 500 else ServiceError
        assert issubclass(kind, expected)
        assert not (issubclass(kind, ClientError) and issubclass(kind, ServiceError))


def test_fields_travel_with_the_error() -> None:
    """A given code wins over the default, and every field can be read back."""
    error = TooManyRequests(
        "Slow down.", code="slow_down", param="input[0].content", retry_after_sec=7
    )
    assert ("Slow down.", "slow_down", "input[0].content", 7) == (
        error.message,
        error.code,
        error.param,
        error.retry_after_sec,
    )
    assert "Slow down." == str(error)


def test_names_are_in_the_message_and_the_field_in_param() -> None:
    """What was not found is named, and `param` is the request field that named it."""
    model, previous = ModelNotFound("gpt-9"), PreviousResponseNotFound("resp_abc")
    assert ("model", "previous_response_id") == (model.param, previous.param)
    assert "'gpt-9'" in model.message
    assert "Previous response with id 'resp_abc' not found." == previous.message


def test_one_tree_drawn_at_the_top() -> None:
    """Every error descends from TurnwireError, is public, and stands in the drawing."""
    drawing = errors.__doc__ or ""
    tree = {kind for kind in descendants(TurnwireError) if kind.__module__ == errors.__name__}
    assert {kind.__name__ for kind in tree} | {"TurnwireError"} == set(errors.__all__)
    missing = {kind.__name__ for kind in tree if f" {kind.__name__} " not in drawing}
    assert {"WireError"} == missing - {
        kind.__name__ for kind in tree if f" {kind.__name__}\n" in drawing
    }


def test_an_engine_error_is_not_for_the_wire() -> None:
    """What an engine raises is translated by the turn before a client sees it."""
    assert not issubclass(EngineError, WireError)
