"""Turns and conversations in memory: for tests, and for servers that keep nothing on disk.

Bounded: `max_turns` responses, and as many deleted ones that still linger. When a new one has
no room, the oldest response goes, exactly as if its owner had deleted it. So what an old turn
added stays while a kept turn continues it, and memory is bounded by the kept responses times
the longest conversation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from msgspec import structs

from turnwire.errors import ParentNotKept, StoreError
from turnwire.store.base import LINGER_SEC, StoredTurn
from turnwire.store.memory_conversations import MemoryConversations

__all__ = ["MAX_TURNS", "MemoryStore"]

MAX_TURNS: Final = 10_000
"""At some 20 KB a turn (response, items, token ids) about 200 MB."""


class MemoryStore:
    """A `Store` that forgets when the process ends.

    Its methods never wait, so each one is atomic.

    Args:
        max_turns: Responses kept, at least 1.
        linger_sec: How long what a deleted turn added stays for turns in the making.
        clock: Tells Unix seconds.

    Attributes:
        conversations: The conversations beside the turns.
    """

    def __init__(
        self,
        max_turns: int = MAX_TURNS,
        *,
        linger_sec: float = LINGER_SEC,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_turns < 1:
            raise ValueError("max_turns must be at least 1")
        self.max_turns: Final = max_turns
        self.linger_sec: Final = linger_sec
        self._clock: Final = clock
        self._closed = False
        self._num_retired = 0
        self.conversations: Final = MemoryConversations(self.keep, self.end)
        # Every turn that something still needs, by id. A turn's role is where else its id is:
        # live (may be got), lingering (deleted not long ago), or only continued by others.
        self._turns: Final[dict[str, StoredTurn]] = {}
        self._num_children: Final[dict[str, int]] = {}
        self._live: Final[dict[str, None]] = {}  # oldest first
        self._running: Final[set[str]] = set()  # those of the live ones that were begun
        self._lingering: Final[dict[str, float]] = {}  # id -> until when; soonest first

    async def put(self, turn: StoredTurn) -> None:
        """See `Store.put`."""
        self.keep(turn)

    def keep(self, turn: StoredTurn) -> None:
        """Keep a turn, or raise as `Store.put` does and change nothing."""
        self._begin_write()
        if turn.id in self._turns:
            raise StoreError(f"A turn with the id {turn.id!r} is stored already.")
        if turn.parent is not None:
            parent = self._turns.get(turn.parent)
            if parent is None or parent.owner != turn.owner:
                raise ParentNotKept(
                    f"The turn {turn.id!r} continues {turn.parent!r}, which is not stored."
                )
            self._num_children[turn.parent] += 1
        self._turns[turn.id] = turn
        self._num_children[turn.id] = 0
        self._live[turn.id] = None
        if len(self._live) > self.max_turns:
            self._retire(next(iter(self._live)))

    async def begin(self, turn: StoredTurn) -> None:
        """See `Store.begin`."""
        self.keep(turn)
        self._running.add(turn.id)

    async def finish(self, turn: StoredTurn) -> bool:
        """See `Store.finish`."""
        return self.end(turn)

    def end(self, turn: StoredTurn) -> bool:
        """Give a begun turn its end, as `Store.finish` does."""
        self._begin_write()
        begun = self._find(turn.owner, turn.id)
        if begun is None or turn.id not in self._running:
            return False
        self._running.discard(turn.id)
        self._turns[turn.id] = structs.replace(
            begun, response=turn.response, output=turn.output, tokens=turn.tokens
        )
        return True

    async def abandoned(self) -> list[StoredTurn]:
        """See `Store.abandoned`; what this process abandons, it takes along."""
        self._refuse_if_closed()
        return []

    @property
    def epoch(self) -> bytes:
        """See `Store.epoch`."""
        return b"%d" % self._num_retired

    async def get(self, owner: str, response_id: str) -> StoredTurn | None:
        """See `Store.get`."""
        self._refuse_if_closed()
        return self._find(owner, response_id)

    async def chain(self, owner: str, response_id: str) -> list[StoredTurn] | None:
        """See `Store.chain`."""
        self._refuse_if_closed()
        turn = self._find(owner, response_id)
        if turn is None:
            return None
        turns = [turn]
        while turn.parent is not None:
            turn = self._turns[turn.parent]
            turns.append(turn)
        turns.reverse()
        return turns

    async def delete(self, owner: str, response_id: str) -> bool:
        """See `Store.delete`."""
        self._begin_write()
        if self._find(owner, response_id) is None:
            return False
        self._retire(response_id)
        return True

    async def aclose(self) -> None:
        """See `Store.aclose`; what was kept is gone."""
        self._closed = True
        self.conversations.close()
        for kept in (self._turns, self._num_children, self._live, self._lingering, self._running):
            kept.clear()

    @property
    def num_held(self) -> int:
        """Turns whose items are in memory: live, lingering, or continued by one that is."""
        return len(self._turns)

    def _find(self, owner: str, response_id: str) -> StoredTurn | None:
        turn = self._turns.get(response_id) if response_id in self._live else None
        return turn if turn is not None and turn.owner == owner else None

    def _retire(self, response_id: str) -> None:
        del self._live[response_id]
        self._num_retired += 1
        self._running.discard(response_id)
        self._turns[response_id] = structs.replace(self._turns[response_id], response=b"")
        self._lingering[response_id] = self._clock() + self.linger_sec
        if len(self._lingering) > self.max_turns:
            self._end_linger(next(iter(self._lingering)))

    def _end_linger(self, response_id: str) -> None:
        del self._lingering[response_id]
        # Upwards: a turn that goes may have been the last one that needed its parent.
        doomed: str | None = response_id
        while (
            doomed is not None
            and not self._num_children[doomed]
            and doomed not in self._live
            and doomed not in self._lingering
        ):
            del self._num_children[doomed]
            doomed = self._turns.pop(doomed).parent
            if doomed is not None:
                self._num_children[doomed] -= 1

    def _begin_write(self) -> None:
        self._refuse_if_closed()
        now = self._clock()
        while self._lingering:
            response_id, until = next(iter(self._lingering.items()))
            if until > now:
                break
            self._end_linger(response_id)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreError("The store is closed.")
