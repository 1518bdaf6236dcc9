"""One SQLite file of turns and conversations: reading, and committing many writes at once.

Theory of operation. The file is in WAL mode: readers see the last commit and never wait for a
writer; writers, of this and of other processes, take turns. `synchronous=NORMAL` appends a
commit to the log without waiting for the disk: it is in the operating system's hands, so killing
this process loses nothing, while a power cut may lose the last moments (never the file).

Everything here blocks and belongs on a worker thread: `commit` on one thread at a time, `get`,
`chain` and `rows` on as many as there are reader connections. Nothing here knows an event loop.

A commit is one transaction for all writes that were waiting. Each write runs in a savepoint, so
that one which is refused leaves the others alone; what breaks the transaction (a full disk)
breaks all of them.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Self

from msgspec import Struct

from turnwire.errors import ParentNotKept, StoreError
from turnwire.store.base import StoredTurn
from turnwire.store.conversation_tables import (
    ConversationWrite,
    DropConversation,
    DropItem,
    KeepConversation,
    KeepItems,
    KeepMetadata,
    apply,
)
from turnwire.store.conversations import StoredConversation
from turnwire.store.epoch import Epoch
from turnwire.store.locks import RunnerLock
from turnwire.store.sqlite_file import BUSY_TIMEOUT_SEC, connect, create, explain, prepare
from turnwire.store.statements import named

__all__ = ["Begun", "Committed", "Database", "Deletion", "Finished", "Write"]

MAX_SWEPT: Final = 256
"""Lingering turns that one commit removes, so that a mass deletion does not stall the puts."""

TIDY_SEC: Final = 60.0
"""How long what was deleted may stand in the log; emptying that takes the disk milliseconds."""

TIDY_WAIT_MSEC: Final = 100

SQL: Final = named("queries.sql")


class Deletion(Struct, frozen=True):
    """Remove this owner's response."""

    owner: str
    response_id: str


class Begun(Struct, frozen=True):
    """Keep a turn that this process runs."""

    turn: StoredTurn


class Finished(Struct, frozen=True):
    """Give a begun turn its end."""

    turn: StoredTurn


DELETIONS: Final = (Deletion, DropItem, DropConversation)

Write = StoredTurn | Deletion | Begun | Finished | ConversationWrite


class Committed(Struct, frozen=True):
    """What became of a commit's writes.

    Attributes:
        outcomes: One per write, in order. Of a turn, begun or whole: True, or why it was refused.
            Of a deletion or an end: whether there was something to remove or to finish. Of a
            conversation's: as `apply` returns, or why it was refused.
        sweep_at: Unix seconds from which on another commit, an empty one will do, has a
            lingering turn to remove. None if none lingers.
        tidy_at: Unix seconds from which on another commit empties the log of what was deleted.
            None if nothing was since it last did.
    """

    outcomes: list[bool | StoreError]
    sweep_at: float | None
    tidy_at: float | None = None

    @property
    def again_at(self) -> float | None:
        """When the next commit is due, though nobody may have anything to write."""
        return min((at for at in (self.sweep_at, self.tidy_at) if at is not None), default=None)


class Database:
    """An open file.

    Args:
        path: Absolute.
        writer: Connection that `commit` uses.
        readers: Connections that reads use, at least 1.
        linger_sec: How long what a deleted turn added stays for turns in the making.

    Attributes:
        epoch: Ends with every commit that deletes a response.
    """

    def __init__(
        self,
        path: Path,
        writer: sqlite3.Connection,
        readers: Sequence[sqlite3.Connection],
        linger_sec: float,
    ) -> None:
        self.path: Final = path
        self.epoch: Final = Epoch(path)
        self.linger_sec: Final = linger_sec
        self._writer: Final = writer
        self._readers: Final = deque(readers)  # those at rest; its ends are thread-safe
        self._lock: Final = RunnerLock(path)
        self._tidy_at: float | None = None

    @classmethod
    def open(cls, path: Path, *, num_readers: int, linger_sec: float) -> Self:
        """Open a file, or create it and its directory readable by this user only.

        Modes of what exists already stay as they are.

        Raises:
            StoreError: it cannot be created or read, is not ours, or is newer than this program.
        """
        path = path.absolute()
        opened: list[sqlite3.Connection] = []
        try:
            create(path)
            RunnerLock(path).sweep()
            for _ in range(1 + num_readers):
                opened.append(connect(path))
                if len(opened) == 1:
                    prepare(opened[0], path)
            for reader in opened[1:]:
                reader.execute("PRAGMA query_only = ON")
            return cls(path, opened[0], opened[1:], linger_sec)
        except BaseException as error:
            for connection in opened:
                connection.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise explain(error, path) from error
            raise

    def commit(self, writes: Sequence[Write], now: float) -> Committed:
        """Apply all writes in one transaction; on return they are kept.

        Args:
            writes: Applied in order; may be empty.
            now: Unix seconds.

        Raises:
            StoreError: none of them was kept.
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            has_deleted = self._sweep(now) or any(isinstance(write, DELETIONS) for write in writes)
            outcomes = [self._apply(write, now) for write in writes]
            sweep_at: float | None = self._writer.execute(SQL["next_linger"]).fetchone()[0]
            self._writer.execute("COMMIT")
        except BaseException as error:
            # SQLite has rolled back by itself after some errors, and not after others.
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise explain(error, self.path) from error
            raise
        if any(type(write) is Deletion for write in writes):
            self.epoch.end()
        if has_deleted and self._tidy_at is None:
            self._tidy_at = now + TIDY_SEC
        if self._tidy_at is not None and now >= self._tidy_at:
            self._tidy(now)
        return Committed(outcomes, sweep_at, self._tidy_at)

    def get(self, owner: str, response_id: str) -> StoredTurn | None:
        """See `Store.get`."""
        rows = self._read(SQL["get"], owner, response_id)
        return _turn(rows[0]) if rows else None

    def chain(self, owner: str, response_id: str) -> list[StoredTurn] | None:
        """See `Store.chain`."""
        rows = self._read(SQL["chain"], owner, response_id)
        rows.sort(key=lambda row: row[0])  # a parent's key is smaller than its child's
        turns: list[StoredTurn] = []
        for _, id_, owner_, created_at, body, items, output, tokens in rows:
            turn = StoredTurn(
                id=id_,
                owner=owner_,
                parent=turns[-1].id if turns else None,
                created_at=created_at,
                response=b"" if body is None else body,
                items=items,
                output=output,
                tokens=tokens,
            )
            turns.append(turn)
        return turns or None

    def abandoned(self) -> list[StoredTurn]:
        """See `Store.abandoned`."""
        gone = [name for (name,) in self.rows(SQL["runners"], {}) if not self._lock.is_alive(name)]
        return [_turn(row) for name in gone for row in self.rows(SQL["run_by"], {"runner": name})]

    def close(self) -> None:
        """Close every connection. No other method may be running, or be called afterwards."""
        for connection in (*self._readers, self._writer):
            connection.close()
        self.epoch.close()
        self._lock.release()

    def _read(self, statement: str, owner: str, response_id: str) -> list[tuple[Any, ...]]:
        return self.rows(statement, {"owner": owner, "id": response_id})

    def rows(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Return what a statement that reads gives; nothing for an id that no text can have."""
        connection = self._readers.pop()
        try:
            with closing(connection.execute(statement, values)) as rows:
                return rows.fetchall()
        except UnicodeEncodeError:
            return []  # half of a surrogate pair, from a client's JSON: nothing has such an id
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        finally:
            self._readers.append(connection)

    def _apply(self, write: Write, now: float) -> bool | StoreError:
        self._writer.execute("SAVEPOINT one_write")
        outcome: bool | StoreError
        try:
            match write:
                case Deletion():
                    outcome = self._delete(write, now)
                case StoredTurn():
                    self._put(write)
                    outcome = True
                case Begun(turn):
                    self._begin(turn)
                    outcome = True
                case Finished(turn):
                    outcome = self._finish(turn)
                case _:
                    outcome = apply(self._writer.execute, write, self._put, self._finish)
        except StoreError as error:
            outcome = error
        except sqlite3.IntegrityError:
            outcome = StoreError(f"{_about(write)} is stored already.")
        except OSError as error:
            outcome = explain(error, self.path)
            outcome.__cause__ = error
        except (UnicodeEncodeError, OverflowError, sqlite3.DataError) as error:
            # A value that SQLite cannot hold: half of a surrogate pair, more than a gigabyte.
            outcome = StoreError(f"{_about(write)} cannot be stored: {error}.")
            outcome.__cause__ = error
        if isinstance(outcome, StoreError):
            self._writer.execute("ROLLBACK TO one_write")
        self._writer.execute("RELEASE one_write")
        return outcome

    def _begin(self, turn: StoredTurn) -> None:
        node = self._put(turn)
        self._lock.hold()  # before anybody can read our name
        self._writer.execute(SQL["begin"], {"node": node, "runner": self._lock.name})

    def _finish(self, turn: StoredTurn) -> bool:
        execute = self._writer.execute
        ended = execute(SQL["end_run"], {"id": turn.id, "owner": turn.owner}).fetchall()
        for (node,) in ended:
            execute(
                SQL["finish_node"], {"node": node, "output": turn.output, "tokens": turn.tokens}
            )
            execute(SQL["finish_response"], {"node": node, "body": turn.response})
        return bool(ended)

    def _put(self, turn: StoredTurn) -> int | None:
        execute = self._writer.execute
        parent: int | None = None
        if turn.parent is not None:
            row = execute(SQL["find_node"], {"id": turn.parent, "owner": turn.owner}).fetchone()
            if row is None:
                raise ParentNotKept(
                    f"The turn {turn.id!r} continues {turn.parent!r}, which is not stored."
                )
            parent = row[0]
        node = execute(
            SQL["add_node"],
            {
                "id": turn.id,
                "owner": turn.owner,
                "parent": parent,
                "created_at": turn.created_at,
                "items": turn.items,
                "output": turn.output,
                "tokens": turn.tokens,
            },
        ).lastrowid
        execute(SQL["add_response"], {"node": node, "body": turn.response})
        return node

    def _delete(self, deletion: Deletion, now: float) -> bool:
        execute = self._writer.execute
        which = {"id": deletion.response_id, "owner": deletion.owner}
        try:
            if not execute(SQL["delete_response"], which).rowcount:
                return False
        except UnicodeEncodeError:
            return False  # as in `_read`
        execute(SQL["end_run"], which).fetchall()
        until = now + self.linger_sec
        execute(SQL["begin_linger"], {"id": deletion.response_id, "until": until})
        return True

    def _tidy(self, now: float) -> None:
        """Empty the log, where what was deleted still stands as it was written."""
        execute = self._writer.execute
        # Readers end in a moment. One that does not, of another program, must not hold up commits.
        execute(f"PRAGMA busy_timeout = {TIDY_WAIT_MSEC}")
        try:
            (busy, _, _) = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            busy = True  # nothing is lost, and a commit will tell what is wrong
        finally:
            execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_TIMEOUT_SEC)}")
        self._tidy_at = now + TIDY_SEC if busy else None

    def _sweep(self, now: float) -> bool:
        """Remove turns that have lingered; return whether there were any."""
        execute = self._writer.execute
        lingered = execute(SQL["find_lingered"], {"now": now, "limit": MAX_SWEPT}).fetchall()
        for (node,) in lingered:
            execute(SQL["end_linger"], {"node": node})
            # Upwards: a node that goes may have been the last one that needed its parent.
            doomed: int | None = node
            while doomed is not None:
                gone = execute(SQL["drop_node"], {"node": doomed}).fetchall()
                doomed = gone[0][0] if gone else None
        return bool(lingered)


def _about(write: Write) -> str:
    match write:
        case StoredTurn(id=id_) | KeepItems(turn=StoredTurn(id=id_)):
            return f"The turn {id_!r}"
        case Begun(StoredTurn(id=id_)) | Finished(StoredTurn(id=id_)):
            return f"The turn {id_!r}"
        case Deletion(response_id=id_):
            return f"The turn {id_!r}"
        case KeepConversation(conversation=StoredConversation(id=id_)):
            return f"The conversation {id_!r}"
        case KeepMetadata(id=id_) | KeepItems(id=id_) | DropItem(id=id_) | DropConversation(id=id_):
            return f"What is to be changed in the conversation {id_!r}"


def _turn(row: tuple[Any, ...]) -> StoredTurn:
    id_, owner, parent, created_at, body, items, output, tokens = row
    return StoredTurn(
        id=id_,
        owner=owner,
        parent=parent,
        created_at=created_at,
        response=body,
        items=items,
        output=output,
        tokens=tokens,
    )
