"""What a connection tells its shell to do."""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from turnwire.protocol.events import ErrorEvent
from turnwire.protocol.requests import CreateResponse

__all__ = [
    "Action",
    "Cancel",
    "InjectRefused",
    "Job",
    "Outcome",
    "Send",
    "Start",
    "SteerRefused",
    "SteerTaken",
    "SteerWaits",
]


class Job(Struct, frozen=True, kw_only=True, eq=False):
    """One `response.create`, from its arrival to its end. Equality is identity.

    Attributes:
        lane: The `stream_id`, or None for the default lane.
        request: What was asked.
        response_id: The id its response will have.
        arrival: Its number in the connection's order of arrival.
        num_bytes: Size of the frame it came in, which it keeps in memory.
        ticket: What the shell noted when the frame arrived; opaque here.
    """

    lane: str | None
    request: CreateResponse
    response_id: str
    arrival: int
    num_bytes: int = 0
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


class SteerTaken(Struct, frozen=True):
    """A steer was accepted: tell the client, and have the response end at its next item.

    Attributes:
        steer_id: The steer's id.
        target: The response it steers.
        job: The job of that response.
    """

    steer_id: str
    target: str
    job: Job


class SteerWaits(Struct, frozen=True):
    """A steer stays queued until the client has sent what it owes: tell it what that is."""

    steer_id: str
    target: str
    required_input: tuple[Raw, ...]
    job: Job


class SteerRefused(Struct, frozen=True):
    """A steer was not taken, or was taken and is lost: hand its input back."""

    target: str
    input: Raw
    code: str
    message: str
    steer_id: str | None = None
    job: Job | None = None


class InjectRefused(Struct, frozen=True):
    """An inject was not taken: hand its input back."""

    response_id: str
    input: Raw
    code: Literal["response_already_completed", "response_not_found"]
    message: str


class Outcome(Struct, frozen=True, kw_only=True):
    """How a job ended.

    Attributes:
        failed: With an error envelope or `response.failed`, not by being cancelled.
        continuable: Its response can be continued on this connection.
        owed: Stubs of the items that the client must send before the model can go on.
    """

    failed: bool = False
    continuable: bool = True
    owed: tuple[Raw, ...] = ()


Action = Send | Start | Cancel | SteerTaken | SteerWaits | SteerRefused | InjectRefused
