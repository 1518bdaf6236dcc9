"""Which of the processes that share a file are alive? By the locks that they hold.

A process that runs responses holds a lock on a small file of its own beside the database. The
system takes the lock away when the process ends, by whatever signal, so nobody has to guess
from a time stamp: a process that was stopped for an hour is still alive, and one that was killed
is gone at once, also when another has got its process id since. All who share the database are
on one machine (its WAL mode demands that), and so they see one another's locks.

The file is locked before it gets its name: who finds it unlocked knows that its process is gone.
Everything here blocks.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["RunnerLock"]


class RunnerLock:
    """This process's lock, and a look at those of others.

    Attributes:
        name: Of this process among all that ever used the file; fresh in every object.
    """

    def __init__(self, database: Path) -> None:
        """Choose a name; nothing is created.

        Args:
            database: The file that is shared.
        """
        self.name: Final = os.urandom(12).hex()
        self._database: Final = database
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Be alive to the others from now on, until `release` or the end of the process.

        Raises:
            OSError: the lock cannot be made.
        """
        if self._descriptor is not None:
            return
        path = self._path(self.name)
        draft = path.with_suffix(".draft")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(path)
        except BaseException:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Be gone. Idempotent."""
        if self._descriptor is not None:
            with suppress(FileNotFoundError):
                self._path(self.name).unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def is_alive(self, name: str) -> bool:
        """Whether the process of that name is there, this one included."""
        if name == self.name:
            return self._descriptor is not None
        return _is_locked(self._path(name))

    def sweep(self) -> None:
        """Remove what killed processes have left of their locks."""
        pattern = f"{self._database.name}.*.runner"
        for path in self._database.parent.glob(pattern):
            if not _is_locked(path):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._database.with_name(f"{self._database.name}.{name}.runner")


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who look at the same moment do not take each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
