"""Errors to answers: when and whether to try again."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from turnwire.errors import (
    ClientError,
    ConversationLocked,
    InvalidApiKey,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServiceError,
    TooManyRequests,
    WireError,
)
from turnwire.server.faults import answer, fault_middleware
from turnwire.telemetry.metrics import Metrics


class Conflict(ClientError):
    """A 409 that says nothing of trying again."""

    status = 409


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidRequest("x"), {}),
        (NotFound("x"), {}),
        (ServiceError("x"), {}),
        (InvalidApiKey("x"), {"WWW-Authenticate": "Bearer"}),
        (TooManyRequests("x"), {"Retry-After": "1"}),
        (TooManyRequests("x", retry_after_sec=7), {"Retry-After": "7"}),
        (TooManyRequests("x", retry_after_sec=0), {"Retry-After": "1"}),
        (Overloaded("x"), {"Retry-After": "1"}),
        (Overloaded("x", retry_after_sec=5), {"Retry-After": "5"}),
        (ConversationLocked("conv_x"), {"x-should-retry": "false"}),
        (Conflict("x", code="other"), {}),
    ],
)
def test_headers_of_errors(error: WireError, expected: dict[str, str]) -> None:
    """429 and 503 always say when to try again; what no retry mends says so."""
    made = answer(error)
    told = {
        name: made.headers[name]
        for name in ("Retry-After", "WWW-Authenticate", "x-should-retry")
        if name in made.headers
    }
    assert (error.status, expected) == (made.status, told)
    body = made.body
    assert isinstance(body, bytes)
    assert error.code == json.loads(body)["error"]["code"]


def test_a_quote_that_is_no_text() -> None:
    """Bytes of a header that are not UTF-8 come back readable, not as a fault of the server."""
    body = answer(InvalidRequest("not 'text/\udc80'")).body
    assert isinstance(body, bytes)
    assert "not 'text/\\udc80'" == json.loads(body)["error"]["message"]


async def test_a_path_is_logged_as_it_came() -> None:
    """A client cannot begin a line of its own in the log."""

    async def broken(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("a fault of ours")

    request = make_mocked_request("GET", "/v1/x%0Afaked%20line")
    with capture_logs() as lines:
        answered = await fault_middleware(Metrics())(request, broken)
    assert (500, ["/v1/x%0Afaked%20line"]) == (answered.status, [line["path"] for line in lines])
