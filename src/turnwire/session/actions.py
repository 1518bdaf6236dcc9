"""What a connection tells its shell to do."""

from __future__ import annotations

from msgspec import Struct

from turnwire.protocol.events import ErrorEvent
from turnwire.protocol.requests import CreateResponse

__all__ = ["Action", "Cancel", "Job", "Send", "Start"]


class Job(Struct, frozen=True, kw_only=True, eq=False):
    """One `response.create`, from its arrival to its end. Equality is identity.

    Attributes:
        lane: The `stream_id`, or None for the default lane.
        request: What was asked.
        response_id: The id its response will have.
        arrival: Its number in the connection's order of arrival.
        ticket: What the shell noted when the frame arrived; opaque here.
    """

    lane: str | None
    request: CreateResponse
    response_id: str
    arrival: int
    ticket: object = None


class Send(Struct, frozen=True):
    """Send this event to the client."""

    event: ErrorEvent


class Start(Struct, frozen=True):
    """Start this job now; report `finished` when it ended, whatever happened."""

    job: Job


class Cancel(Struct, frozen=True):
    """Stop this job.

    Attributes:
        job: A job that was started and is not finished.
        gone: The client is gone and nothing can be sent; else `response.cancel` asked for it,
            and the response ends as cancelled.
    """

    job: Job
    gone: bool = False


Action = Send | Start | Cancel
