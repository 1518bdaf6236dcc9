"""What a client says on a WebSocket."""

from __future__ import annotations

from turnwire.errors import PreviousResponseNotFound, TurnwireError
from turnwire.protocol.client_events import FrameError


def test_frame_error_carries_error_and_lane() -> None:
    """A refused frame knows what to tell whom."""
    error = PreviousResponseNotFound("resp_1")
    failure = FrameError(error, "a")
    assert (error, "a", error.message) == (failure.error, failure.stream_id, str(failure))
    assert FrameError(error).stream_id is None
    assert isinstance(failure, TurnwireError)
