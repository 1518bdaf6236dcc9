from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from msgspec import structs
from tests.contracts.store import Clock, make_turn

from turnwire.errors import StoreError
from turnwire.store.base import LINGER_SEC
from turnwire.store.database import Committed, Database, Write
from turnwire.store.sqlite import SqliteStore


def epoch_of(path: Path) -> Path:
    """The file that stays beside a database."""
    return path.with_name(f"{path.name}.epoch")


class SlowDatabase(Database):
    """A database whose commits wait until the test lets them go on, and may be told to fail."""

    batches: list[int]
    begun: threading.Semaphore
    may_go_on: threading.Semaphore
    failure: Exception | None

    def commit(self, writes: Sequence[Write], now: float) -> Committed:
        self.batches.append(len(writes))
        self.begun.release()
        self.may_go_on.acquire()
        if self.failure is not None:
            raise self.failure
        return super().commit(writes, now)

    async def has_begun(self) -> None:
        """Return when the next commit has begun."""
        await asyncio.to_thread(self.begun.acquire)


@asynccontextmanager
async def slow_store(
    path: Path, *, max_queued: int = 1024, linger_sec: float = LINGER_SEC
) -> AsyncIterator[tuple[SqliteStore, SlowDatabase]]:
    database = SlowDatabase.open(path, num_readers=1, linger_sec=linger_sec)
    database.batches = []
    database.begun = threading.Semaphore(0)
    database.may_go_on = threading.Semaphore(0)
    database.failure = None
    store = SqliteStore(
        database,
        ThreadPoolExecutor(1),
        num_readers=1,
        max_queued=max_queued,
        clock=Clock(),
    )
    try:
        yield store, database
    finally:
        database.may_go_on.release(1000)
        await store.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


def num_nodes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        counted: int = connection.execute("SELECT count(*) FROM node").fetchone()[0]
        return counted


# --- the writer --------------------------------------------------------------------------------


async def test_group_commit(path: Path) -> None:
    """Turns that are put at once share a commit; those put meanwhile share the next."""
    async with slow_store(path) as (store, database):
        first = [asyncio.create_task(store.put(make_turn(f"{n}"))) for n in range(5)]
        await database.has_begun()
        second = [asyncio.create_task(store.put(make_turn(f"{n}"))) for n in range(5, 50)]
        await asyncio.sleep(0)
        database.may_go_on.release(2)
        await asyncio.gather(*first, *second)
        assert [5, 45] == database.batches


async def test_reads_go_on_beside_a_commit(path: Path) -> None:
    """While a commit takes its time, reads are answered from the one before."""
    async with slow_store(path) as (store, database):
        database.may_go_on.release()
        await store.put(make_turn("a"))
        await database.has_begun()
        put = asyncio.create_task(store.put(make_turn("b")))
        await database.has_begun()
        assert make_turn("a") == await store.get("ann", "resp_a")
        assert await store.get("ann", "resp_b") is None
        database.may_go_on.release()
        await put
        assert make_turn("b") == await store.get("ann", "resp_b")


async def test_full_queue(path: Path) -> None:
    """Who finds the queue full waits for a place, and gets it in order of arrival."""
    async with slow_store(path, max_queued=2) as (store, database):
        puts = [asyncio.create_task(store.put(make_turn(f"{n}"))) for n in range(5)]
        for _ in range(3):
            await database.has_begun()
            database.may_go_on.release()
        await asyncio.gather(*puts)
        assert [2, 2, 1] == database.batches


async def test_cancelled_put_is_kept(path: Path) -> None:
    """Cancelling a caller undoes neither its own turn nor the others of the commit."""
    async with slow_store(path) as (store, database):
        puts = [asyncio.create_task(store.put(make_turn(name))) for name in "abc"]
        await database.has_begun()
        puts[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await puts[1]
        database.may_go_on.release()
        await asyncio.gather(puts[0], puts[2])
        kept = [await store.get("ann", f"resp_{name}") for name in "abc"]
        assert [make_turn(name) for name in "abc"] == kept


async def test_cancelled_while_waiting_for_a_place(path: Path) -> None:
    """A put that is cancelled before it has a place leaves nothing, and takes no place."""
    async with slow_store(path, max_queued=1) as (store, database):
        first = asyncio.create_task(store.put(make_turn("a")))
        await database.has_begun()
        second = asyncio.create_task(store.put(make_turn("b")))
        third = asyncio.create_task(store.put(make_turn("c")))
        await asyncio.sleep(0)
        second.cancel()
        database.may_go_on.release(2)
        await asyncio.gather(first, third)
        assert await store.get("ann", "resp_b") is None
        assert make_turn("c") == await store.get("ann", "resp_c")


async def test_failed_commit(path: Path) -> None:
    """When a commit fails each of its callers learns why, and the next commit is made."""
    async with slow_store(path) as (store, database):
        cause = OSError("the disk is gone")
        database.failure = StoreError("It failed.")
        database.failure.__cause__ = cause
        puts = [store.put(make_turn(name)) for name in "ab"]
        database.may_go_on.release()
        first, second = await asyncio.gather(*puts, return_exceptions=True)
        assert isinstance(first, StoreError)
        assert isinstance(second, StoreError)
        assert first is not second
        assert [cause, cause] == [first.__cause__, second.__cause__]
        database.failure = None
        database.may_go_on.release()
        await store.put(make_turn("a"))
        assert make_turn("a") == await store.get("ann", "resp_a")


async def test_threads_are_few_and_stay(path: Path) -> None:
    """However many calls, the store works on its one writer and its readers."""
    before = set(threading.enumerate())
    store = await SqliteStore.open(path, num_readers=2)
    for _ in range(3):
        await asyncio.gather(*(store.get("ann", f"{n}") for n in range(50)))
        await asyncio.gather(*(store.delete("ann", f"{n}") for n in range(50)))
    names = sorted(thread.name for thread in set(threading.enumerate()) - before)
    await store.aclose()
    assert ["turnwire-store-read_0", "turnwire-store-read_1", "turnwire-store-write_0"] == names


# --- forgetting by itself ----------------------------------------------------------------------


async def test_sweeps_when_idle(path: Path) -> None:
    """A deleted turn goes after it has lingered, although nobody calls the store."""
    async with slow_store(path, linger_sec=0) as (store, database):
        database.may_go_on.release(2)
        await store.put(make_turn("a"))
        await store.delete("ann", "resp_a")
        for _ in range(3):
            await database.has_begun()
        assert [1, 1, 0] == database.batches
        assert 1 == num_nodes(path)
    assert 0 == num_nodes(path)


async def test_sweeps_when_opened(path: Path) -> None:
    """A turn that lingered while nobody had the file open goes when it is opened."""
    clock = Clock()
    store = await SqliteStore.open(path, clock=clock)
    await store.put(make_turn("a"))
    await store.delete("ann", "resp_a")
    await store.aclose()
    assert 1 == num_nodes(path)
    clock.now += LINGER_SEC
    store = await SqliteStore.open(path, clock=clock)
    await store.aclose()
    assert 0 == num_nodes(path)


# --- opening and closing -----------------------------------------------------------------------


async def test_closing_finishes_what_was_begun(path: Path) -> None:
    """Every put that came before closing is kept, also those that waited for a place."""
    store = await SqliteStore.open(path, max_queued=2)
    puts = [asyncio.create_task(store.put(make_turn(f"{n}"))) for n in range(9)]
    await asyncio.sleep(0)
    await asyncio.gather(store.aclose(), store.aclose())
    await asyncio.gather(*puts)
    assert 9 == num_nodes(path)
    assert {path, epoch_of(path)} == set(path.parent.iterdir())


async def test_closing_outlives_its_caller(path: Path) -> None:
    """A cancelled close goes on, and the next call waits for it."""
    async with slow_store(path) as (store, database):
        put = asyncio.create_task(store.put(make_turn("a")))
        await database.has_begun()
        close = asyncio.create_task(store.aclose())
        await asyncio.sleep(0)
        close.cancel()
        with pytest.raises(asyncio.CancelledError):
            await close
        database.may_go_on.release()
        await store.aclose()
        await put
        assert {path, epoch_of(path)} == set(path.parent.iterdir())


async def test_open_fails(tmp_path: Path) -> None:
    """A file that cannot be opened is a StoreError, and leaves no thread behind."""
    (tmp_path / "turns.db").write_text("Dear diary, " * 100)
    before = set(threading.enumerate())
    with pytest.raises(StoreError, match="not an SQLite database"):
        await SqliteStore.open(tmp_path / "turns.db")
    for thread in set(threading.enumerate()) - before:
        thread.join()


# --- several processes -------------------------------------------------------------------------

WRITER = """
import asyncio, itertools, json, sys
from turnwire.store.base import StoredTurn
from turnwire.store.sqlite import SqliteStore

def body(id):
    return json.dumps([id] * 100).encode()

async def talk(store, lane, num_turns):
    parent = None
    for n in range(num_turns) if num_turns else itertools.count():
        id = f"resp_{lane}_{n}"
        await store.put(StoredTurn(
            id=id, owner="ann", parent=parent, created_at=n,
            response=body(id), items=body(id), output=body(id), tokens=body(id),
        ))
        print(id, flush=True)
        parent = id

async def main(path, name, num_lanes, num_turns):
    store = await SqliteStore.open(path)
    await asyncio.gather(*(talk(store, f"{name}{n}", num_turns) for n in range(num_lanes)))
    await store.aclose()

path, name, num_lanes, num_turns = sys.argv[1:]
sys.stdin.read()
asyncio.run(main(path, name, int(num_lanes), int(num_turns)))
"""


def start_writer(path: Path, name: str, num_lanes: int, num_turns: int) -> subprocess.Popen[str]:
    """Start a process that puts turns and prints the id of each once `put` has returned.

    It begins when its standard input is closed; 0 turns is without end.
    """
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(num_lanes), str(num_turns)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None  # so that `communicate` leaves it alone


async def assert_whole(path: Path, ids: Sequence[str]) -> None:
    """Every one of these turns can be read, and so can all that it continues."""
    store = await SqliteStore.open(path)
    chains = [await store.chain("ann", response_id) for response_id in ids]
    await store.aclose()
    for response_id, chain in zip(ids, chains, strict=True):
        lane, number = response_id.rsplit("_", 1)
        past = [f"{lane}_{n}" for n in range(int(number) + 1)]
        bodies = [[json.dumps([one] * 100).encode()] * 4 for one in past]
        assert past == [turn.id for turn in chain or ()]
        assert bodies == [
            [turn.response, turn.items, turn.output, turn.tokens] for turn in chain or ()
        ]


@pytest.mark.parametrize("num_lanes", [1, 8], ids=["single puts", "group commits"])
async def test_nothing_acknowledged_is_lost(path: Path, num_lanes: int) -> None:
    """After SIGKILL every turn whose put had returned is there, whole, with its past."""
    process = start_writer(path, "a", num_lanes, 0)
    assert process.stdout is not None
    go(process)
    with process:
        seen = list(itertools.islice(process.stdout, 100))
        process.kill()
        seen += process.stdout.readlines()
    assert -signal.SIGKILL == process.returncode
    acknowledged = [line.strip() for line in seen if line.endswith("\n")]
    assert len(acknowledged) >= 100
    await assert_whole(path, acknowledged)


async def test_processes_share_a_file(path: Path) -> None:
    """Processes that create, open and fill one file at the same time lose nothing."""
    processes = [start_writer(path, name, 4, 10) for name in "abc"]
    for process in processes:
        go(process)
    printed = [process.communicate()[0].split() for process in processes]
    assert [0, 0, 0] == [process.returncode for process in processes]
    ids = sorted(itertools.chain.from_iterable(printed))
    assert 120 == len(ids) == num_nodes(path)
    await assert_whole(path, ids)


# --- what a process leaves running -------------------------------------------------------------

RUNNER = """
import asyncio, sys
sys.path[:0] = sys.argv[2:]
from tests.contracts.store import make_turn
from turnwire.store.sqlite import SqliteStore

async def main(path):
    store = await SqliteStore.open(path)
    await store.put(make_turn("parent"))
    await store.begin(make_turn("a", "parent"))
    await store.begin(make_turn("b", owner="bob"))
    await store.begin(make_turn("done"))
    await store.finish(make_turn("done"))
    print("ready", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1]))
"""


def start_runner(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(path), *sys.path], stdout=subprocess.PIPE, text=True
    )


async def test_a_killed_process_abandons_what_it_ran(path: Path) -> None:
    """What a live process runs is nobody else's; when it is killed, it is there to be finished."""
    first = await SqliteStore.open(path)
    await first.begin(make_turn("ours"))
    process = start_runner(path)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [] == await first.abandoned()
        process.send_signal(signal.SIGSTOP)
        assert [] == await first.abandoned()
        process.kill()
    second = await SqliteStore.open(path)
    expected = [make_turn("a", "parent"), make_turn("b", owner="bob")]
    assert expected == await first.abandoned() == await second.abandoned()
    a, b = (structs.replace(turn, response=b"{}") for turn in expected)
    assert [True, False, True] == [
        await first.finish(a),
        await second.finish(a),
        await second.finish(b),
    ]
    assert [] == await first.abandoned()
    assert a == await second.get("ann", "resp_a")
    # The end of a process by its own will is no different, and leaves no file behind.
    await first.aclose()
    assert [make_turn("ours")] == await second.abandoned()
    assert await second.finish(make_turn("ours"))
    await second.aclose()
    assert {path, epoch_of(path)} == set(path.parent.iterdir())
