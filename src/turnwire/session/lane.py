"""One lane of a connection: its requests run one at a time, in the order they came.

    IDLE ──submit──> WAITING ──start──> RUNNING ──finish──> IDLE, and WAITING if more wait
    WAITING ──drop──> IDLE           any ──close──> CLOSED

A lane does not start its own requests: the connection does, because the number of responses in
flight is limited over all lanes together (protocol.md section 8.4).
Rule: every change of `Lane.state` happens in this file, by the table.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, Generic, TypeVar

from turnwire.errors import InvalidTransition

__all__ = ["TRANSITIONS", "Lane", "Move", "State"]

T = TypeVar("T")


class State(Enum):
    """What a lane is doing."""

    IDLE = "idle"  # nothing runs, nothing waits
    WAITING = "waiting"  # its first request waits for a free place in flight
    RUNNING = "running"  # one request runs; later ones wait behind it
    CLOSED = "closed"  # final


class Move(Enum):
    """What can happen to a lane."""

    SUBMIT = "submit"
    START = "start"
    FINISH = "finish"
    DROP = "drop"
    CLOSE = "close"


TRANSITIONS: Final[dict[tuple[State, Move], State]] = {
    (State.IDLE, Move.SUBMIT): State.WAITING,
    (State.WAITING, Move.SUBMIT): State.WAITING,
    (State.RUNNING, Move.SUBMIT): State.RUNNING,
    (State.WAITING, Move.START): State.RUNNING,
    (State.RUNNING, Move.FINISH): State.IDLE,
    (State.IDLE, Move.DROP): State.IDLE,
    (State.WAITING, Move.DROP): State.IDLE,
    (State.RUNNING, Move.DROP): State.RUNNING,
    (State.IDLE, Move.CLOSE): State.CLOSED,
    (State.WAITING, Move.CLOSE): State.CLOSED,
    (State.RUNNING, Move.CLOSE): State.CLOSED,
}


class Lane(Generic[T]):
    """FIFO of the requests of one `stream_id`.

    Attributes:
        name: The `stream_id`, or None for the default lane.
        state: By the table.
        running: The request in flight, while RUNNING.
        waiting: Requests not started yet, oldest first.
    """

    __slots__ = ("name", "running", "state", "waiting")

    def __init__(self, name: str | None) -> None:
        self.name: Final = name
        self.state = State.IDLE
        self.running: T | None = None
        self.waiting: deque[T] = deque()

    def submit(self, request: T) -> None:
        """A request arrived; it waits its turn."""
        self._move(Move.SUBMIT)
        self.waiting.append(request)

    def submit_first(self, request: T) -> None:
        """A request that goes before all that wait: the successor of a steered response."""
        self._move(Move.SUBMIT)
        self.waiting.appendleft(request)

    def start(self) -> T:
        """Take the first waiting request into flight and return it."""
        self._move(Move.START)
        self.running = self.waiting.popleft()
        return self.running

    def finish(self) -> None:
        """The running request ended, however it ended; those that wait are as if new."""
        self._move(Move.FINISH)
        self.running = None
        if self.waiting:
            self._move(Move.SUBMIT)

    def drop(self) -> list[T]:
        """Take out what waits and return it; what runs goes on."""
        self._move(Move.DROP)
        dropped = list(self.waiting)
        self.waiting.clear()
        return dropped

    def close(self) -> T | None:
        """Drop what waits; return the request that must be cancelled, if one runs."""
        self._move(Move.CLOSE)
        self.waiting.clear()
        running, self.running = self.running, None
        return running

    def _move(self, move: Move) -> None:
        target = TRANSITIONS.get((self.state, move))
        if target is None:
            raise InvalidTransition(f"{move.value} while the lane is {self.state.value}")
        self.state = target
