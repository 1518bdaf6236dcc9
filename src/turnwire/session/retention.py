"""Which background responses are in memory, and until when?

Running ones always; ended ones for some time, so that their events can be replayed and those
that are not stored can be read at all. Memory is bounded: when a new response finds it full, ended
ones that can be read elsewhere go before their time, oldest first; if that does not make room, the
new one is refused. What is known already is never refused: a running response may grow beyond the
bound, by as much as its own log allows.

No clock: whoever calls says what time it is.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from msgspec import Struct

from turnwire.errors import Overloaded

__all__ = ["Retention"]

T = TypeVar("T")

RETRY_SEC: Final = 5


class _Entry(Struct, Generic[T], eq=False):
    owner: str
    value: T
    num_bytes: int = 0
    # When it may go. None while it runs.
    until: float | None = None
    expendable: bool = False


class Retention(Generic[T]):
    """What is in memory, by response id.

    Attributes:
        max_running: Responses that run at the same time.
        max_bytes: Bytes above which nothing new begins.
        keep_sec: How long an ended response stays.
        num_running: Responses that run.
        num_bytes: Bytes of all that is held.
    """

    def __init__(self, *, max_running: int, max_bytes: int, keep_sec: float) -> None:
        self.max_running: Final = max_running
        self.max_bytes: Final = max_bytes
        self.keep_sec: Final = keep_sec
        self.num_running = 0
        self.num_bytes = 0
        self._running: Final[dict[str, _Entry[T]]] = {}
        self._ended: Final[dict[str, _Entry[T]]] = {}  # first to end comes first

    def __len__(self) -> int:
        return len(self._running) + len(self._ended)

    def admit(self, owner: str, response_id: str, value: T, num_bytes: int = 0) -> None:
        """Take in a response that begins to run.

        Args:
            owner: Whose it is.
            response_id: Its id.
            value: What is held of it.
            num_bytes: How much that is, until it is resized.

        Raises:
            Overloaded: too many run, or they hold too much; nothing changed but for ended ones
                that went before their time.
        """
        if self.num_running >= self.max_running:
            raise Overloaded(
                f"{self.num_running} background responses run already, the limit of this server.",
                retry_after_sec=RETRY_SEC,
            )
        self._make_room()
        if self.num_bytes >= self.max_bytes:
            raise Overloaded(
                "Background responses hold as much memory as this server has for them.",
                retry_after_sec=RETRY_SEC,
            )
        self._running[response_id] = _Entry(owner, value, num_bytes)
        self.num_running += 1
        self.num_bytes += num_bytes

    def find(self, owner: str, response_id: str) -> T | None:
        """Return what is held of a response; another owner's looks like none."""
        entry = self._running.get(response_id) or self._ended.get(response_id)
        return entry.value if entry is not None and entry.owner == owner else None

    def resize(self, response_id: str, num_bytes: int) -> None:
        """Say how many bytes a response holds now; nothing if it is not held."""
        entry = self._running.get(response_id) or self._ended.get(response_id)
        if entry is not None:
            self.num_bytes += num_bytes - entry.num_bytes
            entry.num_bytes = num_bytes

    def end(self, response_id: str, now: float, *, expendable: bool) -> None:
        """Say that a running response has ended.

        Args:
            now: Seconds of a clock that never goes back.
            expendable: It can be read elsewhere, and may go when memory is short.
        """
        entry = self._running.pop(response_id)
        self.num_running -= 1
        entry.until = now + self.keep_sec
        entry.expendable = expendable
        self._ended[response_id] = entry

    def drop(self, response_id: str) -> bool:
        """Forget a response, running or ended; return whether it was held."""
        entry = self._running.pop(response_id, None)
        if entry is not None:
            self.num_running -= 1
        else:
            entry = self._ended.pop(response_id, None)
        if entry is None:
            return False
        self.num_bytes -= entry.num_bytes
        return True

    def expire(self, now: float) -> None:
        """Forget what ended long enough ago."""
        due = []
        for response_id, entry in self._ended.items():
            if entry.until is None or entry.until > now:
                break
            due.append(response_id)
        for response_id in due:
            self.drop(response_id)

    def _make_room(self) -> None:
        if self.num_bytes < self.max_bytes:
            return
        for response_id in [name for name, entry in self._ended.items() if entry.expendable]:
            self.drop(response_id)
            if self.num_bytes < self.max_bytes:
                return
