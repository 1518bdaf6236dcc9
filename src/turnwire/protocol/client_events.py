"""What a client says on a WebSocket (protocol.md sections 8.2 and 9).

`stream_id` is None on the default lane. Ids that were sent are valid here: `decode_frame` lets
no other through.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Raw, Struct

from turnwire.errors import TurnwireError, WireError
from turnwire.protocol.requests import CreateResponse

__all__ = [
    "Cancel",
    "ClientEvent",
    "Create",
    "FrameError",
    "Inject",
    "Steer",
    "StreamId",
    "Unknown",
]

StreamId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,256}\Z")]
"""Names a lane (8.4)."""


class Create(Struct, frozen=True):
    """`response.create`."""

    request: CreateResponse
    stream_id: str | None = None


class Cancel(Struct, frozen=True):
    """`response.cancel`: end the running response, of that id or of that lane."""

    response_id: str | None = None
    stream_id: str | None = None


class Steer(Struct, frozen=True, tag_field="type", tag="response.steer"):
    """`response.steer`: the target decides the lane, so there is no stream_id."""

    previous_response_id: str
    input: Raw


class Inject(Struct, frozen=True, tag_field="type", tag="response.inject"):
    """`response.inject`."""

    response_id: str
    input: Raw


class Unknown(Struct, frozen=True):
    """An event of a type that is not in the protocol. The socket stays open."""

    type: str
    stream_id: str | None = None


ClientEvent: TypeAlias = Create | Cancel | Steer | Inject | Unknown


class FrameError(TurnwireError):
    """A frame that cannot be served, and the lane that must hear of it.

    Attributes:
        error: What to tell the client.
        stream_id: To be echoed in the error event; None on the default lane, and where the
            frame's own stream_id is not valid.
        parent_id: The `previous_response_id` of a create that cannot be served: its lane
            forgets that response, as after any failed continuation (8.5).
    """

    def __init__(
        self, error: WireError, stream_id: str | None = None, parent_id: str | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.stream_id = stream_id
        self.parent_id = parent_id
