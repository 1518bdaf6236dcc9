"""What a connection remembers of its conversations: the latest response of each lane.

Memory only, so that chains of store:false responses work on one socket and nothing of them
outlives it (protocol.md section 8.5).
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["ConnectionCache"]

T = TypeVar("T")


class ConnectionCache(Generic[T]):
    """Latest response by lane. `T` is what a continuation needs; opaque here."""

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest: dict[str | None, tuple[str, T]] = {}

    def remember(self, lane: str | None, response_id: str, entry: T) -> None:
        """Make a response the lane's latest; it replaces the one before."""
        self._latest[lane] = (response_id, entry)

    def latest(self, lane: str | None) -> T | None:
        """What the lane's latest response left, whichever it was."""
        found = self._latest.get(lane)
        return found[1] if found else None

    def latest_id(self, lane: str | None) -> str | None:
        """The id of the lane's latest response."""
        found = self._latest.get(lane)
        return found[0] if found else None

    def holds(self, response_id: str) -> bool:
        """Whether the response is some lane's latest."""
        return any(known == response_id for known, _ in self._latest.values())

    def find(self, lane: str | None, response_id: str) -> T | None:
        """Look a response up: the own lane first, then the others."""
        own = self._latest.get(lane)
        if own is not None and own[0] == response_id:
            return own[1]
        for known, entry in self._latest.values():
            if known == response_id:
                return entry
        return None

    def evict(self, lane: str | None, response_id: str) -> None:
        """Forget a response that a continuation on its own lane failed to continue.

        "A same-lane continuation that fails with 4xx/5xx evicts the referenced id; a cross-lane
        fork that fails keeps the parent."
        """
        own = self._latest.get(lane)
        if own is not None and own[0] == response_id:
            del self._latest[lane]

    def clear(self) -> None:
        """Forget everything: the connection is over."""
        self._latest.clear()

    def __len__(self) -> int:
        return len(self._latest)
