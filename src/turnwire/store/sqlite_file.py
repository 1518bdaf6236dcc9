"""The SQLite file of a store: whose it is, what schema it has, and what its errors mean.

Everything here blocks.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from turnwire.errors import StoreError
from turnwire.store.statements import script

__all__ = ["BUSY_TIMEOUT_SEC", "MIGRATIONS", "connect", "create", "explain", "prepare", "use_wal"]

APPLICATION_ID: Final = int.from_bytes(b"Twir")
"""Marks the file as ours; `file` shows it, and no other program's database is mistaken for it."""

MIGRATIONS: Final = ("schema_1.sql", "schema_2.sql", "schema_3.sql")
"""From an empty file to the newest schema; a file's `user_version` is how many of them it has."""

BUSY_TIMEOUT_SEC: Final = 10.0
"""How long a commit waits for the other processes'. They take milliseconds; a checkpoint on a
slow disk may take seconds."""

JOURNAL_SIZE_LIMIT: Final = 64 * 1024 * 1024
"""The log is cut back to this many bytes after it had to grow."""


def create(path: Path) -> None:
    """Make an empty file of mode 0600, as SQLite would with the umask's; it copies the mode.

    Under its own name the file is never opened but by SQLite: closing any descriptor of a file
    gives up all locks that this process holds on it (sqlite.org/howtocorrupt.html, 2.2).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with suppress(FileExistsError):  # another process was faster
            os.link(draft, path)
    finally:
        draft.unlink()


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection of the kind that all are."""
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_SEC,
        isolation_level=None,  # transactions are begun in words
        check_same_thread=False,  # a connection serves one thread at a time, not always the same
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check whose file it is, bring its schema up to date, and set the writer's ways."""
    _migrate_if_ours(connection, path)
    use_wal(connection)  # kept in the file from then on, so not before it is known to be ours
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}")
    # Deletions are rare, and what a user deleted should not be read from free pages.
    connection.execute("PRAGMA secure_delete = ON")


def use_wal(connection: sqlite3.Connection) -> None:
    """Turn the file to WAL mode, once nobody else uses it in another mode.

    When two processes want to turn it at the same time, SQLite refuses one of them instead of
    waiting, since neither would let go. So waiting is done here.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SEC
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate_if_ours(connection: sqlite3.Connection, path: Path) -> None:
    # The transaction makes processes that open a new file at once take turns here.
    connection.execute("BEGIN IMMEDIATE")
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (num_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application_id != APPLICATION_ID and (application_id or version or num_tables):
            raise StoreError(
                f"{path} is another program's SQLite database; choose another file for the store."
            )
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} has schema version {version}, and this program knows versions up to "
                f"{len(MIGRATIONS)}: a newer Turnwire wrote it. Upgrade, or choose another file."
            )
        for file in MIGRATIONS[version:]:
            for statement in script(file):
                connection.execute(statement)
        if version < len(MIGRATIONS):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process has kept it locked for "
    f"{BUSY_TIMEOUT_SEC:g} seconds; find and stop it",
    sqlite3.SQLITE_LOCKED: "another process has kept it locked; find and stop it",
    sqlite3.SQLITE_FULL: "the disk is full; free space on its file system",
    sqlite3.SQLITE_READONLY: "it cannot be written; check its owner, its mode and its file system",
    sqlite3.SQLITE_PERM: "access is denied; check its owner and its mode",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check its directory's owner and mode",
    sqlite3.SQLITE_IOERR: "reading or writing it failed; check the disk and the space on it",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; move it away or choose another file",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a backup, or move it away to start anew",
}
"""What to do about SQLite's primary result codes (sqlite.org/rescode.html)."""


def explain(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """Say which file it is and what to do; the caller chains the error itself."""
    if isinstance(error, OSError):
        return StoreError(f"The store's file {path} cannot be opened: {error.strerror}.")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    advice = ADVICE.get(code & 0xFF, "SQLite refused")
    return StoreError(f"The store's file {path} failed: {advice} ({error}).")
