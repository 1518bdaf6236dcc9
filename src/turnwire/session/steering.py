"""Steers: messages that a client sends into a response that is still running.

    accepted ──the response ends──> committed: input of the successor, or of the create that
        │                              continues the response
        ├──the client owes tool results──> pending ──that create arrives──> committed
        └──the response failed, or the lane moved on──> failed
    committed ──that input is refused before its response.created──> failed

A steer never rewrites what was sent: the running item is finished, the response ends, and the
steer is read by what comes next (protocol.md section 9.1). Steers live on their connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Final, Literal

from msgspec import DecodeError, Meta, Raw, Struct
from msgspec.json import Decoder, encode

from turnwire.errors import InvalidTransition
from turnwire.ids import new_id
from turnwire.protocol.items import InputFile, InputImage, InputText

__all__ = [
    "TRANSITIONS",
    "InvalidSteer",
    "Steer",
    "SteerMove",
    "SteerState",
    "Steers",
    "merge_input",
    "steer_messages",
]


class SteerState(Enum):
    """Where a steer stands."""

    ACCEPTED = "accepted"  # queued behind the response it steers
    PENDING = "pending"  # the response ended and waits for the client's tool results
    COMMITTED = "committed"  # part of the next input
    FAILED = "failed"  # handed back to the client


class SteerMove(Enum):
    """What can happen to a steer."""

    WAIT = "wait"
    COMMIT = "commit"
    FAIL = "fail"


TRANSITIONS: Final[dict[tuple[SteerState, SteerMove], SteerState]] = {
    (SteerState.ACCEPTED, SteerMove.WAIT): SteerState.PENDING,
    (SteerState.ACCEPTED, SteerMove.COMMIT): SteerState.COMMITTED,
    (SteerState.ACCEPTED, SteerMove.FAIL): SteerState.FAILED,
    (SteerState.PENDING, SteerMove.COMMIT): SteerState.COMMITTED,
    (SteerState.PENDING, SteerMove.FAIL): SteerState.FAILED,
    # The request that it became part of was refused before its `response.created`.
    (SteerState.COMMITTED, SteerMove.FAIL): SteerState.FAILED,
}


class InvalidSteer(ValueError):
    """The steer's input is not a string or a non-empty list of user messages."""


class Steer:
    """One accepted steer.

    Attributes:
        id: Its id on the wire.
        target: The response it steers.
        input: As the client sent it, to hand back if it fails.
        messages: The same as a list of JSON messages.
        num_bytes: Size of the input.
        state: By the table.
    """

    __slots__ = ("id", "input", "messages", "num_bytes", "state", "target")

    def __init__(self, target: str, given: Raw) -> None:
        """Take a steer.

        Raises:
            InvalidSteer: its input cannot be used.
        """
        self.id: Final = new_id("steer")
        self.target: Final = target
        self.input: Final = given.copy()
        self.messages: Final = steer_messages(self.input)
        self.num_bytes: Final = memoryview(self.input).nbytes
        self.state = SteerState.ACCEPTED

    def move(self, move: SteerMove) -> None:
        """Change the state by the table.

        Raises:
            InvalidTransition: the move is not in it; nothing changed.
        """
        target = TRANSITIONS.get((self.state, move))
        if target is None:
            raise InvalidTransition(f"{move.value} while the steer is {self.state.value}")
        self.state = target


class Steers:
    """The steers of a connection that are not committed yet, by the response they steer.

    Attributes:
        max_per_response: One more is refused with `too_many_pending_steers`.
    """

    __slots__ = ("_waiting", "max_per_response")

    def __init__(self, max_per_response: int = 16) -> None:
        self.max_per_response: Final = max_per_response
        self._waiting: dict[str, list[Steer]] = {}

    def of(self, response_id: str) -> Sequence[Steer]:
        """The steers of a response, oldest first."""
        return self._waiting.get(response_id, ())

    def targets(self) -> Sequence[str]:
        """The responses that have steers, by the arrival of their first."""
        return list(self._waiting)

    def is_full(self, response_id: str) -> bool:
        """Whether a response has all the steers it may have."""
        return len(self.of(response_id)) >= self.max_per_response

    def add(self, steer: Steer) -> None:
        """Queue an accepted steer."""
        self._waiting.setdefault(steer.target, []).append(steer)

    def commit(self, response_id: str) -> list[Raw]:
        """Take a response's steers; return their messages in order."""
        messages: list[Raw] = []
        for steer in self._take(response_id):
            steer.move(SteerMove.COMMIT)
            messages += steer.messages
        return messages

    def wait(self, response_id: str) -> Sequence[Steer]:
        """The response ended and the client owes tool results; return who must hear of it."""
        told = [s for s in self.of(response_id) if s.state is SteerState.ACCEPTED]
        for steer in told:
            steer.move(SteerMove.WAIT)
        return told

    def fail(self, response_id: str) -> Sequence[Steer]:
        """Nothing will continue this response; return the steers to hand back."""
        failed = self._take(response_id)
        for steer in failed:
            steer.move(SteerMove.FAIL)
        return failed

    def clear(self) -> None:
        """The connection is over."""
        self._waiting.clear()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _take(self, response_id: str) -> list[Steer]:
        return self._waiting.pop(response_id, [])


class _SteerMessage(Struct, forbid_unknown_fields=True):
    """What a steer may hold: a user's message, and no field more."""

    role: Literal["user"]
    content: Annotated[str, Meta(max_length=10_485_760)] | list[InputText | InputImage | InputFile]
    type: Literal["message"] | None = None


_INPUT: Final[Decoder[str | list[Raw]]] = Decoder(str | Annotated[list[Raw], Meta(min_length=1)])
_MESSAGE: Final = Decoder(_SteerMessage)
_MERGED: Final[Decoder[str | list[Raw] | None]] = Decoder(str | list[Raw] | None)


def steer_messages(given: Raw) -> list[Raw]:
    """A steer's input as messages.

    Raises:
        InvalidSteer: it is neither a string nor a non-empty list of user messages.
    """
    try:
        decoded = _INPUT.decode(given)
        if isinstance(decoded, str):
            return [_user_message(decoded)]
        for message in decoded:
            _MESSAGE.decode(message)
    except (DecodeError, RecursionError) as error:
        raise InvalidSteer(str(error)) from error
    return decoded


def merge_input(first: Sequence[Raw], given: Raw) -> Raw:
    """Put messages before a create's `input`, whatever form that has.

    An input that cannot be read is returned as it is: its own check will say what is wrong.
    """
    try:
        decoded = _MERGED.decode(given) if memoryview(given).nbytes else None
    except (DecodeError, RecursionError):
        return given
    rest = [_user_message(decoded)] if isinstance(decoded, str) else decoded or []
    return Raw(b"[" + b",".join(bytes(item) for item in [*first, *rest]) + b"]")


def _user_message(text: str) -> Raw:
    return Raw(encode({"type": "message", "role": "user", "content": text}))
