"""What a file needs before it is a store's; the rest of opening is in `test_database`."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from turnwire.store.sqlite_file import use_wal


def test_switch_to_wal_waits(tmp_path: Path) -> None:
    """SQLite refuses to switch a file that is in use to WAL; we go on asking until it is free."""
    path = tmp_path / "turns.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, timeout=0, check_same_thread=False)) as switching,
        ThreadPoolExecutor(1) as threads,
    ):
        other.execute("CREATE TABLE one (two)")
        other.execute("BEGIN EXCLUSIVE")
        switched = threads.submit(use_wal, switching)
        with pytest.raises(TimeoutError):
            switched.result(timeout=0.05)  # however long it is, it cannot succeed
        other.execute("COMMIT")
        switched.result()
        assert ("wal",) == switching.execute("PRAGMA journal_mode").fetchone()
