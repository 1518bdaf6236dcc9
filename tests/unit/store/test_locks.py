"""Who holds its lock is alive, and nobody else."""

from __future__ import annotations

import fcntl
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from turnwire.store.locks import RunnerLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


def test_alive_while_held(path: Path) -> None:
    """A lock is seen by others from `hold` to `release`, and leaves nothing behind."""
    lock, other = RunnerLock(path), RunnerLock(path)
    seen = [(other.is_alive(lock.name), lock.is_alive(lock.name))]
    for step in (lock.hold, lock.hold, lock.release, lock.release):
        step()
        seen.append((other.is_alive(lock.name), lock.is_alive(lock.name)))
    assert [(False, False), (True, True), (True, True), (False, False), (False, False)] == seen
    assert [] == list(path.parent.iterdir())


def test_names_differ() -> None:
    """No two locks have one name, so that a new process is never taken for an old one."""
    assert RunnerLock(Path("a")).name != RunnerLock(Path("a")).name


def test_the_file_is_private(path: Path) -> None:
    """A lock's file is its user's alone."""
    lock = RunnerLock(path)
    lock.hold()
    (file,) = path.parent.iterdir()
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    lock.release()


def test_onlookers_do_not_take_each_other_for_the_owner(path: Path) -> None:
    """Looking takes a lock itself for a moment; two who look at once still see that it is free."""
    gone = path.with_name("turns.db.0123.runner")
    gone.write_bytes(b"")
    lock, other = RunnerLock(path), RunnerLock(path)
    with gone.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not lock.is_alive("0123")
    assert not other.is_alive("0123")


def test_sweep(path: Path) -> None:
    """What dead processes left is removed; locks that are held, and other files, stay."""
    lock = RunnerLock(path)
    lock.hold()
    path.with_name("turns.db.0123.runner").write_bytes(b"")
    others = ["turns.db", "turns.db-wal", "other.db.0123.runner"]
    for name in others:
        path.with_name(name).write_bytes(b"")
    RunnerLock(path).sweep()
    assert {*others, f"turns.db.{lock.name}.runner"} == {
        file.name for file in path.parent.iterdir()
    }
    lock.release()


def test_cannot_be_held(tmp_path: Path) -> None:
    """Where no file can be, holding fails and the lock is not alive."""
    lock = RunnerLock(tmp_path / "nowhere" / "turns.db")
    with pytest.raises(OSError, match="nowhere"):
        lock.hold()
    assert not lock.is_alive(lock.name)


HOLDER = """
import pathlib, sys, time
from turnwire.store.locks import RunnerLock
lock = RunnerLock(pathlib.Path(sys.argv[1]))
lock.hold()
print(lock.name, flush=True)
time.sleep(3600)
"""


def test_a_killed_process_is_gone_at_once(path: Path) -> None:
    """SIGSTOP leaves a process alive, however long; SIGKILL ends it for all to see."""
    lock = RunnerLock(path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        process.send_signal(signal.SIGSTOP)
        stopped = lock.is_alive(name)
        process.kill()
        process.wait()
    assert stopped
    assert not lock.is_alive(name)
