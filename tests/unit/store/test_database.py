from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.contracts.store import make_turn

from turnwire.errors import ParentNotKept, StoreError
from turnwire.store.conversation_tables import DropConversation, DropItem, KeepConversation
from turnwire.store.conversations import ConversationItem, StoredConversation
from turnwire.store.database import (
    MAX_SWEPT,
    TIDY_SEC,
    Begun,
    Database,
    Deletion,
    Finished,
    Write,
)
from turnwire.store.sqlite_file import MIGRATIONS

LINGER = 100.0


def open_database(path: Path) -> Database:
    return Database.open(path, num_readers=1, linger_sec=LINGER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = open_database(path)
    yield opened
    opened.close()


def connect(path: Path, *, timeout: float = 5.0) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=timeout)


def held(path: Path) -> list[str]:
    """The ids of all nodes in the file."""
    with closing(connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM node ORDER BY key")]


# --- opening -----------------------------------------------------------------------------------


def test_files_are_private(tmp_path: Path) -> None:
    """The file and what SQLite puts beside it are the user's alone, whatever the umask."""
    before = os.umask(0)
    try:
        database = open_database(tmp_path / "data" / "turns.db")
        database.commit([make_turn("a")], 0.0)
        modes = {
            entry.name: stat.S_IMODE(entry.stat().st_mode)
            for entry in (tmp_path / "data").iterdir()
        }
        database.close()
    finally:
        os.umask(before)
    assert 0o700 == stat.S_IMODE((tmp_path / "data").stat().st_mode)
    names = ("turns.db", "turns.db-wal", "turns.db-shm", "turns.db.epoch")
    assert dict.fromkeys(names, 0o600) == modes


@pytest.mark.parametrize(
    ("version", "newer"),
    [(1, ["running", "conversation_item", "conversation"]), (2, ["running"])],
)
def test_a_file_of_an_earlier_schema(path: Path, version: int, newer: list[str]) -> None:
    """A file that an earlier version wrote keeps its turns and gets the tables it lacks."""
    database = open_database(path)
    database.commit([make_turn("a")], 0.0)
    database.close()
    with closing(connect(path)) as connection:
        for table in newer:
            connection.execute(f"DROP TABLE {table}")
        connection.execute(f"PRAGMA user_version = {version}")
    database = open_database(path)
    writes: list[Write] = [
        KeepConversation(StoredConversation(id="conv_x", owner="ann", created_at=1), []),
        Begun(make_turn("b")),
        Finished(make_turn("b")),
    ]
    outcomes = database.commit(writes, 0.0).outcomes
    turn = database.get("ann", "resp_a")
    database.close()
    assert ([True, True, True], make_turn("a")) == (outcomes, turn)


def test_reopen(path: Path) -> None:
    """What was committed is there when the file is opened again, and closing leaves no log."""
    database = open_database(path)
    database.commit([make_turn("a")], 0.0)
    database.close()
    assert ["turns.db", "turns.db.epoch"] == sorted(os.listdir(path.parent))
    database = open_database(path)
    turn = database.get("ann", "resp_a")
    database.close()
    assert make_turn("a") == turn


def test_file_says_what_it_is(database: Database, path: Path) -> None:
    """The file is marked as ours, with its schema version, in WAL mode."""
    with closing(connect(path)) as connection:
        told = [
            connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            for pragma in ("application_id", "user_version", "journal_mode")
        ]
    assert [int.from_bytes(b"Twir"), len(MIGRATIONS), "wal"] == told


def test_newer_schema_is_refused(path: Path) -> None:
    """A file of a newer version is refused with both versions named, and is not touched."""
    open_database(path).close()
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"schema version 99.*Upgrade"):
        open_database(path)
    assert before == path.read_bytes()


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE cats (name TEXT)", "PRAGMA application_id = 5"], ids=["table", "id"]
)
def test_another_programs_database_is_refused(path: Path, statement: str) -> None:
    """A database that is not ours is refused and is not touched."""
    with closing(connect(path)) as connection:
        connection.execute(statement)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's"):
        open_database(path)
    assert before == path.read_bytes()


def test_not_a_database(path: Path) -> None:
    """A file that is no database is refused by name, and is not touched."""
    path.write_text("Dear diary, " * 100)
    with pytest.raises(StoreError, match=r"turns\.db.*not an SQLite database") as caught:
        open_database(path)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert "Dear diary, " * 100 == path.read_text()


def test_cannot_be_created(tmp_path: Path) -> None:
    """Where no file can be, the error names the file and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/turns\.db") as caught:
        open_database(tmp_path / "file" / "turns.db")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(StoreError, match="cannot be opened"):
        open_database(tmp_path)
    assert ["file"] == os.listdir(tmp_path)


def test_half_made_file_is_finished(path: Path) -> None:
    """An empty file, left by a process that died while it opened, becomes a store."""
    path.write_bytes(b"")
    database = open_database(path)
    outcomes = database.commit([make_turn("a")], 0.0).outcomes
    database.close()
    assert [True] == outcomes


# --- committing --------------------------------------------------------------------------------


def test_one_transaction(database: Database, path: Path) -> None:
    """All writes of a commit share one transaction."""
    statements: list[str] = []
    with closing(connect(path)) as writer, closing(connect(path)) as reader:
        traced = Database(path, writer, [reader], LINGER)
        writer.set_trace_callback(statements.append)
        traced.commit([make_turn(f"{n}") for n in range(50)], 0.0)
        writer.set_trace_callback(None)
    assert ["BEGIN IMMEDIATE", "COMMIT"] == [
        statement for statement in statements if statement.startswith(("BEGIN", "COMMIT"))
    ]
    assert 50 == len(held(path))


def test_outcomes_are_in_order(database: Database, path: Path) -> None:
    """Each write has its outcome; those that are refused leave no trace, later ones see earlier."""
    too_late = structs.replace(make_turn("z"), created_at=2**70)
    writes: list[Write] = [
        make_turn("a"),
        make_turn("a"),
        make_turn("b", "a"),
        make_turn("c", "nobody"),
        too_late,
        structs.replace(make_turn("y"), id="\ud800"),
        Deletion("ann", "resp_a"),
        Deletion("bob", "resp_b"),
        Deletion("ann", "\ud800"),
    ]
    outcomes = database.commit(writes, 0.0).outcomes
    kinds = [one if isinstance(one, bool) else type(one) for one in outcomes]
    expected = [True, StoreError, True, ParentNotKept, StoreError, StoreError, True, False, False]
    assert expected == kinds
    assert ["resp_a", "resp_b"] == held(path)
    with closing(connect(path)) as connection:
        assert [(2,)] == connection.execute("SELECT node FROM response").fetchall()


def test_refused_halfway(database: Database, path: Path) -> None:
    """A turn whose response cannot be held leaves nothing behind, not even its items."""
    with closing(connect(path)) as writer, closing(connect(path)) as reader:
        writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
        narrow = Database(path, writer, [reader], LINGER)
        large = structs.replace(make_turn("large"), response=bytes(20_000))
        refused, kept = narrow.commit([large, make_turn("a")], 0.0).outcomes
    assert isinstance(refused, StoreError)
    assert isinstance(refused.__cause__, sqlite3.DataError)
    assert kept is True
    assert ["resp_a"] == held(path)


def test_broken_commit(database: Database, path: Path) -> None:
    """A commit that breaks halfway keeps nothing, and the next one starts anew."""
    not_bytes = structs.replace(make_turn("b"), items=object())
    with pytest.raises(StoreError, match=r"turns\.db"):
        database.commit([make_turn("a"), not_bytes], 0.0)
    assert [] == held(path)
    assert [True] == database.commit([make_turn("a")], 0.0).outcomes


def test_disk_full(database: Database, path: Path) -> None:
    """When the disk is full none of the writes is kept, and later ones work again."""
    with closing(connect(path)) as writer, closing(connect(path)) as reader:
        full = Database(path, writer, [reader], LINGER)
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        large = structs.replace(make_turn("large"), items=bytes(1_000_000))
        with pytest.raises(StoreError, match=r"turns\.db.*disk is full") as caught:
            full.commit([make_turn("a"), large, make_turn("b")], 0.0)
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        assert [] == held(path)
        assert [True] == full.commit([make_turn("a")], 0.0).outcomes
    assert ["resp_a"] == held(path)


def test_locked(database: Database, path: Path) -> None:
    """When another process does not let go of the file, the error says so; then it works again."""
    with (
        closing(connect(path, timeout=0)) as writer,
        closing(connect(path)) as reader,
        closing(connect(path)) as other,
    ):
        locked = Database(path, writer, [reader], LINGER)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"turns\.db.*kept it locked"):
            locked.commit([make_turn("a")], 0.0)
        other.execute("ROLLBACK")
        assert [True] == locked.commit([make_turn("a")], 0.0).outcomes


def test_damaged(path: Path) -> None:
    """Reading damaged pages is an error that says what to do, never a wrong answer."""
    database = open_database(path)
    database.commit([make_turn(f"{n}") for n in range(200)], 0.0)
    database.close()
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18])
    content[page:] = b"\xa5" * (len(content) - page)
    path.write_bytes(content)
    with (
        closing(open_database(path)) as damaged,
        pytest.raises(StoreError, match=r"turns\.db.*damaged"),
    ):
        damaged.get("ann", "resp_7")


# --- forgetting --------------------------------------------------------------------------------


def test_sweep_at(database: Database) -> None:
    """A commit says when the next deleted turn has lingered long enough."""
    assert database.commit([make_turn("a"), make_turn("b")], 0.0).sweep_at is None
    assert 5 + LINGER == database.commit([Deletion("ann", "resp_a")], 5.0).sweep_at
    assert 5 + LINGER == database.commit([Deletion("ann", "resp_b")], 9.0).sweep_at
    assert 9 + LINGER == database.commit([], 5 + LINGER).sweep_at
    assert database.commit([], 9 + LINGER).sweep_at is None


def bytes_of(path: Path) -> bytes:
    """Every byte of the file and of what is beside it."""
    return b"".join(one.read_bytes() for one in path.parent.iterdir())


def test_what_was_deleted_is_off_the_disk(database: Database, path: Path) -> None:
    """Some time after the last of it was removed, neither file nor log hold any of it."""
    secret = b'"Canary7Tweety"'
    database.commit([structs.replace(make_turn("a"), response=secret, items=secret)], 0.0)
    assert secret in bytes_of(path)
    deleted = database.commit([Deletion("ann", "resp_a")], 5.0)
    assert 5 + TIDY_SEC == deleted.again_at
    assert 5 + LINGER == database.commit([], 5 + TIDY_SEC).again_at
    late = 5 + LINGER + TIDY_SEC
    assert late == database.commit([], 5 + LINGER).again_at
    with closing(connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM node").fetchall()
        assert late + TIDY_SEC == database.commit([make_turn("b")], late).again_at
        assert secret in bytes_of(path)
    assert database.commit([], late + TIDY_SEC).again_at is None
    assert secret not in bytes_of(path)


def test_conversations_are_off_the_disk(database: Database, path: Path) -> None:
    """The same for items of conversations, which do not linger."""
    secret = b'"Canary7Tweety"'
    conversation = StoredConversation(id="conv_x", owner="ann", created_at=1)
    items = [ConversationItem(id=name, body=secret) for name in "ab"]
    database.commit([KeepConversation(conversation, items)], 0.0)
    one: Write = DropItem("ann", "conv_x", "a")
    assert TIDY_SEC == database.commit([one], 0.0).again_at
    assert TIDY_SEC == database.commit([DropConversation("ann", "conv_x")], 1.0).again_at
    assert database.commit([], TIDY_SEC).again_at is None
    assert secret not in bytes_of(path)


def test_mass_deletion_is_spread(database: Database, path: Path) -> None:
    """One commit removes a bounded number of turns, and the rest is due at once."""
    names = [f"{n}" for n in range(MAX_SWEPT + 10)]
    database.commit([make_turn(name) for name in names], 0.0)
    database.commit([Deletion("ann", f"resp_{name}") for name in names], 0.0)
    assert LINGER == database.commit([], LINGER).sweep_at
    assert 10 == len(held(path))
    assert database.commit([], LINGER).sweep_at is None
    assert [] == held(path)


@settings(max_examples=40, deadline=None)
@given(
    forest=st.lists(st.tuples(st.integers(0, 11), st.booleans()), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_no_orphan_remains(
    tmp_path_factory: pytest.TempPathFactory, forest: list[tuple[int, bool]], order: Random
) -> None:
    """Whatever is deleted in whatever order, in the end there is what live turns continue."""
    path = tmp_path_factory.mktemp("forest") / "turns.db"
    parents = [parent if parent < n else None for n, (parent, _) in enumerate(forest)]
    writes = [
        make_turn(f"{n}", f"{parent}" if parent is not None else None)
        for n, parent in enumerate(parents)
    ]
    doomed = [n for n, (_, deleted) in enumerate(forest) if deleted]
    order.shuffle(doomed)
    needed: set[int] = set()
    for n in sorted(set(range(len(forest))) - set(doomed)):
        one: int | None = n
        while one is not None:
            needed.add(one)
            one = parents[one]
    database = open_database(path)
    try:
        database.commit(writes, 0.0)
        for moment, n in enumerate(doomed):
            database.commit([Deletion("ann", f"resp_{n}")], moment * 0.7 * LINGER)
        last = database.commit([], 100 * LINGER)
        left = held(path)
    finally:
        database.close()
    assert last.sweep_at is None
    assert [f"resp_{n}" for n in sorted(needed)] == left


# --- reading -----------------------------------------------------------------------------------


def test_long_chain(database: Database) -> None:
    """A chain of a thousand turns comes back whole and in order."""
    turns = [make_turn(f"{n}", f"{n - 1}" if n else None) for n in range(1000)]
    database.commit(turns, 0.0)
    assert turns == database.chain("ann", "resp_999")


def test_reads_do_not_wait(database: Database, path: Path) -> None:
    """While another process writes, a read sees the last commit."""
    database.commit([make_turn("a")], 0.0)
    with closing(connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("DELETE FROM response")
        assert make_turn("a") == database.get("ann", "resp_a")
        other.execute("ROLLBACK")
