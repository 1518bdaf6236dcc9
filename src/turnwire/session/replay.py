"""The events of one response, numbered, for readers that come, go and come back.

A reader is no more than the number of the last event it has: it may ask again from anywhere, and
gets the same bytes each time (protocol.md section 12, `starting_after`). The log does not know its
readers, nor what an event says.

Memory is bounded, and full has two answers. Well before the bound the log is `crowded`: whoever
writes should join what it can, which is enough for any answer of a model. At the bound the oldest
events go, and a reader that asks for one of them is told so.
"""

from __future__ import annotations

from typing import Final

__all__ = ["EventLog", "EventsDropped"]

CROWDED_SHARE: Final = 0.5


class EventsDropped(Exception):
    """The log no longer holds the next event that a reader needs.

    Attributes:
        first: `sequence_number` of the oldest event that can be read.
    """

    def __init__(self, first: int) -> None:
        super().__init__(f"the log begins at event {first}")
        self.first: Final = first


class EventLog:
    """Events in the order of their `sequence_number`, without gaps.

    Attributes:
        max_events: Events held, at least 1.
        max_bytes: Bytes held; the newest event is held however large it is.
        first: Number of the oldest event that is held.
        num_bytes: Bytes that are held.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        if max_events < 1:
            raise ValueError("a log holds at least one event")
        self.max_events: Final = max_events
        self.max_bytes: Final = max_bytes
        self.first = 0
        self.num_bytes = 0
        # Those before `_head` are gone. A deque would be slow to read from the middle.
        self._events: list[bytes] = []
        self._head = 0

    @property
    def num_events(self) -> int:
        """Events that are held."""
        return len(self._events) - self._head

    @property
    def following(self) -> int:
        """Number of the event that comes next."""
        return self.first + self.num_events

    @property
    def crowded(self) -> bool:
        """Whether fewer and larger events would be welcome."""
        return (
            self.num_events > CROWDED_SHARE * self.max_events
            or self.num_bytes > CROWDED_SHARE * self.max_bytes
        )

    def append(self, event: bytes) -> None:
        """Take the event with the number `following`, encoded."""
        self._events.append(event)
        self.num_bytes += len(event)
        while self.num_events > self.max_events or (
            self.num_bytes > self.max_bytes and self.num_events > 1
        ):
            self._drop_oldest()

    def read(self, after: int, max_bytes: int) -> list[bytes]:
        """Return events that follow the one with the number `after`, in order.

        Args:
            after: -1 to read from the beginning. It may lie ahead of what there is.
            max_bytes: About how much to return; one event at least, if there is one.

        Returns:
            The encoded events with the numbers `after + 1` and up; empty if there are none yet.

        Raises:
            EventsDropped: the first of them is gone.
        """
        start = after + 1 - self.first
        if start < 0:
            raise EventsDropped(self.first)
        found: list[bytes] = []
        size = 0
        for position in range(self._head + start, len(self._events)):
            event = self._events[position]
            size += len(event)
            if found and size > max_bytes:
                break
            found.append(event)
        return found

    def _drop_oldest(self) -> None:
        self.num_bytes -= len(self._events[self._head])
        self._events[self._head] = b""
        self._head += 1
        self.first += 1
        if self._head > len(self._events) // 2:
            # Half of the list is moved for as many events that went: a constant for each.
            del self._events[: self._head]
            self._head = 0
