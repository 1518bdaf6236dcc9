"""Turns and conversations in an SQLite file: the store of a single machine and its workers.

This is the shell around `database.Database`, which does the work and blocks. Writes queue here
and one writer thread commits everything that is queued as one transaction; while it does, the
next ones gather, so the busier it is, the more turns share a commit. Reads run beside it on a
few threads of their own. The event loop only hands over and picks up; the queue and its
bookkeeping live on the loop, so they need no lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from msgspec import Struct

from turnwire.errors import StoreError
from turnwire.store.base import LINGER_SEC, StoredTurn
from turnwire.store.database import Begun, Committed, Database, Deletion, Finished, Write
from turnwire.store.sqlite_conversations import SqliteConversations

__all__ = ["MAX_QUEUED", "NUM_READERS", "SqliteStore"]

P = ParamSpec("P")
T = TypeVar("T")

MAX_QUEUED: Final = 1024
"""Writes on their way; one more waits until one is done. At 20 KB a turn, 20 MB."""

NUM_READERS: Final = 4
"""A read takes some tens of microseconds unless its pages are on the disk."""


class _Queued(Struct, frozen=True):
    """A write and the caller that waits for it, unless it was cancelled."""

    write: Write
    done: asyncio.Future[bool]


class SqliteStore:
    """A `Store` in a file. Make it with `open`; it belongs to the event loop that opened it.

    Attributes:
        path: The file.
        max_queued: Writes on their way before `write` waits.
        conversations: The conversations in the same file; writes of both share their commits.
    """

    def __init__(
        self,
        database: Database,
        writer: ThreadPoolExecutor,
        *,
        num_readers: int,
        max_queued: int,
        clock: Callable[[], float],
    ) -> None:
        self.path: Final = database.path
        self.max_queued: Final = max_queued
        self.conversations: Final = SqliteConversations(
            self.write, lambda statement, values: self.read(database.rows, statement, values)
        )
        self._database: Final = database
        self._clock: Final = clock
        self._loop: Final = asyncio.get_running_loop()
        self._writer: Final = writer
        # Its queue has no bound of its own: each entry is a caller that waits for it.
        self._readers: Final = ThreadPoolExecutor(num_readers, "turnwire-store-read")
        self._places: Final = asyncio.Semaphore(max_queued)  # first come, first served
        self._queue: list[_Queued] = []
        self._is_committing = False
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str],
        *,
        linger_sec: float = LINGER_SEC,
        num_readers: int = NUM_READERS,
        max_queued: int = MAX_QUEUED,
        clock: Callable[[], float] = time.time,
    ) -> SqliteStore:
        """Open a file, or create it (mode 0600) and its directory (mode 0700).

        Several processes may have it open. Open it in each of them, not before they fork.

        Args:
            linger_sec: How long what a deleted turn added stays for turns in the making.
            num_readers: Threads, each with a connection, that serve reads.
            max_queued: Writes on their way before `put` and `delete` wait.
            clock: Tells Unix seconds.

        Raises:
            StoreError: it cannot be created or read, is not ours, or is newer than this program.
        """
        writer = ThreadPoolExecutor(1, "turnwire-store-write")
        open_file = partial(
            Database.open, Path(path), num_readers=num_readers, linger_sec=linger_sec
        )
        try:
            database = await asyncio.get_running_loop().run_in_executor(writer, open_file)
        except BaseException:
            writer.shutdown(wait=False)
            raise
        store = cls(database, writer, num_readers=num_readers, max_queued=max_queued, clock=clock)
        store._sweep()  # turns may have lingered while nobody had the file open
        return store

    async def put(self, turn: StoredTurn) -> None:
        """See `Store.put`."""
        await self.write(turn)

    async def begin(self, turn: StoredTurn) -> None:
        """See `Store.begin`."""
        await self.write(Begun(turn))

    async def finish(self, turn: StoredTurn) -> bool:
        """See `Store.finish`."""
        return await self.write(Finished(turn))

    async def abandoned(self) -> list[StoredTurn]:
        """See `Store.abandoned`."""
        return await self.read(self._database.abandoned)

    @property
    def epoch(self) -> bytes:
        """See `Store.epoch`."""
        self._refuse_if_closed()
        return self._database.epoch.now()

    async def get(self, owner: str, response_id: str) -> StoredTurn | None:
        """See `Store.get`."""
        return await self.read(self._database.get, owner, response_id)

    async def chain(self, owner: str, response_id: str) -> list[StoredTurn] | None:
        """See `Store.chain`."""
        return await self.read(self._database.chain, owner, response_id)

    async def delete(self, owner: str, response_id: str) -> bool:
        """See `Store.delete`."""
        return await self.write(Deletion(owner, response_id))

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(), name="store-close")
        await asyncio.shield(self._closing)

    async def read(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that reads the database on a thread; return what it returns.

        Raises:
            StoreError: the call's own, or the store is closed.
        """
        self._refuse_if_closed()
        return await self._loop.run_in_executor(self._readers, partial(call, *args, **kwargs))

    async def write(self, write: Write) -> bool:
        """Have one write committed with all that wait; return its outcome.

        Raises:
            StoreError: it was refused, or the store is closed.
        """
        self._refuse_if_closed()
        await self._places.acquire()
        done: asyncio.Future[bool] = self._loop.create_future()
        self._queue.append(_Queued(write, done))
        if len(self._queue) == 1:
            # Not at once: writes of other callers that are ready now belong into this commit.
            self._loop.call_soon(self._commit)
        return await done

    def _commit(self) -> None:
        if self._queue and not self._is_committing:
            self._hand_over()

    def _hand_over(self) -> None:
        batch, self._queue = self._queue, []
        self._is_committing = True
        writes = [queued.write for queued in batch]
        self._loop.run_in_executor(
            self._writer, self._database.commit, writes, self._clock()
        ).add_done_callback(partial(self._settle, batch))

    def _settle(self, batch: list[_Queued], commit: asyncio.Future[Committed]) -> None:
        self._is_committing = False
        error = commit.exception()
        for position, queued in enumerate(batch):
            self._places.release()
            if queued.done.cancelled():
                continue
            if error is not None:
                # One exception object per caller: each adds its own traceback to it.
                failure = StoreError(str(error)) if isinstance(error, StoreError) else error
                failure.__cause__ = error.__cause__
                queued.done.set_exception(failure)
                continue
            outcome = commit.result().outcomes[position]
            if isinstance(outcome, StoreError):
                queued.done.set_exception(outcome)
            else:
                queued.done.set_result(outcome)
        if error is None:
            self._sweep_at(commit.result().again_at)
        # After the callers above have run: what they write next joins this commit.
        self._loop.call_soon(self._commit)

    def _sweep_at(self, when: float | None) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        if when is not None and self._closing is None:
            self._sweep_timer = self._loop.call_later(when - self._clock(), self._sweep)

    def _sweep(self) -> None:
        # Every commit sweeps. One that is running will set the timer again when it is done; one
        # that fails leaves it to the next.
        if self._closing is None and not self._is_committing:
            self._hand_over()

    def _refuse_if_closed(self) -> None:
        if self._closing is not None:
            raise StoreError(f"The store in {self.path} is closed.")

    async def _close(self) -> None:
        self._sweep_at(None)
        # Who holds every place knows that nothing is on its way. Callers that already waited
        # for a place are served first.
        for _ in range(self.max_queued):
            await self._places.acquire()
        await self._loop.run_in_executor(self._writer, self._shut)
        self._writer.shutdown(wait=False)

    def _shut(self) -> None:
        self._readers.shutdown(wait=True)  # reads that have begun are answered
        self._database.close()
