"""What goes wrong inside a response is told in words and codes that clients know."""

from __future__ import annotations

import pytest

from turnwire.errors import (
    ContextLengthExceeded,
    ConversationChanged,
    EngineError,
    InvalidRequest,
    Overloaded,
    StoreError,
    TooManyRequests,
    WireError,
)
from turnwire.fault import response_code, told


@pytest.mark.parametrize(
    ("fault", "conversation", "code", "words"),
    [
        (InvalidRequest("too odd"), None, "invalid_value", "too odd"),
        (EngineError("it broke"), None, "server_error", "The engine of 'm' failed: it broke"),
        (ConversationChanged("c"), "conv_1", "conversation_locked", "conv_1"),
        (ConversationChanged("secret"), None, "server_error", "could not be stored"),
        (StoreError("/secret is full"), None, "server_error", "could not be stored"),
        (ValueError("secret"), "conv_1", "server_error", "its log says where"),
    ],
)
def test_a_fault_is_told(fault: Exception, conversation: str | None, code: str, words: str) -> None:
    """Errors of ours are told as they are; of others only that there was one."""
    error = told(fault, "resp_1", "m", conversation)
    assert code == error.code
    assert words in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Overloaded("full"), "server_error"),
        (TooManyRequests("slow down", code="slow_down"), "rate_limit_exceeded"),
        (ContextLengthExceeded("too long"), "context_length_exceeded"),
        (InvalidRequest("no", code="unsupported_value"), "invalid_prompt"),
    ],
)
def test_a_response_fails_with_a_code_of_its_own(error: WireError, code: str) -> None:
    """Whatever a refused request would say, a failed response says one of four codes."""
    assert code == response_code(error)
