"""What a connection remembers of its conversations: the latest response of each lane.

Memory only, so that chains of store:false responses work on one socket and nothing of them
outlives it (protocol.md section 8.5).
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

__all__ = ["ConnectionCache"]

T = TypeVar("T")


class ConnectionCache(Generic[T]):
    """Latest response by lane. `T` is what a continuation needs; opaque here.

    Attributes:
        max_bytes: When the entries together are larger, lanes unused for longest lose theirs;
            the newest entry always stays.
        num_bytes: Size of all entries, as they were declared.
    """

    __slots__ = ("_latest", "max_bytes", "num_bytes")

    def __init__(self, max_bytes: int = 1 << 62) -> None:
        self.max_bytes: Final = max_bytes
        self.num_bytes = 0
        # By use, the lane unused for longest first.
        self._latest: dict[str | None, tuple[str, T, int]] = {}

    def remember(self, lane: str | None, response_id: str, entry: T, num_bytes: int = 0) -> None:
        """Make a response the lane's latest; it replaces the one before.

        Args:
            lane: The lane's name, None for the default one.
            response_id: The response.
            entry: What continuing it needs.
            num_bytes: What it weighs.
        """
        self._drop(lane)
        self._latest[lane] = (response_id, entry, num_bytes)
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes and len(self._latest) > 1:
            self._drop(next(iter(self._latest)))

    def _drop(self, lane: str | None) -> None:
        found = self._latest.pop(lane, None)
        if found is not None:
            self.num_bytes -= found[2]

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
        return any(known == response_id for known, _, _ in self._latest.values())

    def find(self, lane: str | None, response_id: str) -> T | None:
        """Look a response up: the own lane first, then the others."""
        own = self._latest.get(lane)
        if own is not None and own[0] == response_id:
            return own[1]
        for known, entry, _ in self._latest.values():
            if known == response_id:
                return entry
        return None

    def entries(self) -> list[T]:
        """What every lane's latest response left, the lane used last first."""
        return [entry for _, entry, _ in reversed(self._latest.values())]

    def evict(self, lane: str | None, response_id: str) -> None:
        """Forget a response that a continuation on its own lane failed to continue.

        "A same-lane continuation that fails with 4xx/5xx evicts the referenced id; a cross-lane
        fork that fails keeps the parent."
        """
        own = self._latest.get(lane)
        if own is not None and own[0] == response_id:
            self._drop(lane)

    def clear(self) -> None:
        """Forget everything: the connection is over."""
        self._latest.clear()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._latest)
