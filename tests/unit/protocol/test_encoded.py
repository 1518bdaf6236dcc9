"""Encoded responses say how they stand, and can be made to have failed."""

from __future__ import annotations

import json

import pytest
from openai.types.responses import Response

from turnwire.protocol.codec import echo, encode_response
from turnwire.protocol.encoded import Outline, failed, outline
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.responses import ResponseStatus
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice


def encoded(status: ResponseStatus = "in_progress") -> bytes:
    """A background response in some state."""
    response = echo(
        CreateResponse(background=True, metadata={"a": "\u00e4"}),
        EMPTY_TOOL_SET,
        ToolChoice(),
        id="resp_1",
        created_at=7,
        model="sim",
    )
    response.status = status
    return encode_response(response)


@pytest.mark.parametrize(
    ("status", "running"),
    [
        ("queued", True),
        ("in_progress", True),
        ("completed", False),
        ("incomplete", False),
        ("failed", False),
        ("cancelled", False),
    ],
)
def test_outline(status: ResponseStatus, running: bool) -> None:
    """Status and background are read, and whether the response has ended."""
    about = outline(encoded(status))
    assert Outline(status=status, background=True) == about
    assert running is about.running


def test_failed() -> None:
    """A running response becomes a failed one; everything else stays as it was, in its order."""
    before = encoded()
    after = failed(before, "server_error", "It broke.")
    expected = json.loads(before) | {
        "status": "failed",
        "error": {"code": "server_error", "message": "It broke."},
    }
    assert list(expected.items()) == list(json.loads(after).items())
    Response.model_validate_json(after)
