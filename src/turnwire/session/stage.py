"""How far a response has come, and what can happen to it there: a table."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["TRANSITIONS", "Stage", "Step"]


class Stage(Enum):
    """How far a response has come."""

    NEW = "new"  # nothing was emitted
    QUEUED = "queued"  # created and queued are out; the model has no place yet
    STREAMING = "streaming"  # created and in_progress are out
    CLOSED = "closed"  # every item is closed; only the terminal event is missing
    ENDED = "ended"  # nothing comes any more but the terminal event


class Step(Enum):
    """What can happen to a response. What is said about steers is possible at any stage."""

    START = "start"
    QUEUE = "queue"
    BEGIN = "begin"
    PART = "part"
    CLOSE = "close"
    SEAL = "seal"
    ANNOUNCE = "announce"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"


TRANSITIONS: Final[dict[tuple[Stage, Step], Stage]] = {
    (Stage.NEW, Step.START): Stage.STREAMING,
    (Stage.NEW, Step.QUEUE): Stage.QUEUED,
    (Stage.QUEUED, Step.BEGIN): Stage.STREAMING,
    (Stage.QUEUED, Step.ANNOUNCE): Stage.QUEUED,
    (Stage.QUEUED, Step.FAIL): Stage.ENDED,
    (Stage.QUEUED, Step.CANCEL): Stage.ENDED,
    (Stage.STREAMING, Step.PART): Stage.STREAMING,
    (Stage.STREAMING, Step.CLOSE): Stage.CLOSED,
    (Stage.STREAMING, Step.ANNOUNCE): Stage.STREAMING,
    (Stage.STREAMING, Step.FAIL): Stage.ENDED,
    (Stage.STREAMING, Step.CANCEL): Stage.ENDED,
    (Stage.CLOSED, Step.SEAL): Stage.CLOSED,
    (Stage.CLOSED, Step.ANNOUNCE): Stage.CLOSED,
    (Stage.CLOSED, Step.COMPLETE): Stage.ENDED,
    (Stage.CLOSED, Step.FAIL): Stage.ENDED,
    (Stage.CLOSED, Step.CANCEL): Stage.ENDED,
}
