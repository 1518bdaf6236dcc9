"""What every event of a response carries: the number that it gets, and the lane it is on."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, UnsetType

__all__ = ["Numbering"]


class Numbering:
    """Counts the events of one response, from 0 and without gaps.

    Attributes:
        lane: Name of the lane, unset on the default one.
        next: The number of the next event.
    """

    __slots__ = ("lane", "next")

    def __init__(self, stream_id: str | None = None) -> None:
        """
        Args:
            stream_id: Name of the lane; None on the default lane.
        """
        self.lane: Final[str | UnsetType] = UNSET if stream_id is None else stream_id
        self.next = 0

    def take(self) -> int:
        """Return the number of an event that is being made; the next one gets the next."""
        number = self.next
        self.next = number + 1
        return number
