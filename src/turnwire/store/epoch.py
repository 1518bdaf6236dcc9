"""Was anything deleted since? A few bytes that all processes of a database see change.

Whoever remembers what it read from the store may go on from its memory as long as nothing was
deleted. Asking the database costs a thread's turn; looking at memory that the processes share
costs nothing. The bytes are random, so that two who change them at once need no lock, and one who
reads them half changed takes them for other ones.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

__all__ = ["Epoch"]

SIZE_BYTES: Final = 16


class Epoch:
    """The epoch of one database, in a file beside it that this process has mapped."""

    def __init__(self, database: Path) -> None:
        """Map the file, or create it readable by this user only.

        Raises:
            OSError: it cannot be opened or created.
        """
        path = database.with_name(f"{database.name}.epoch")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < SIZE_BYTES:
                os.ftruncate(descriptor, SIZE_BYTES)
            self._memory: Final = mmap.mmap(descriptor, SIZE_BYTES)
        finally:
            os.close(descriptor)

    def now(self) -> bytes:
        """The epoch; the same bytes as before if nothing was deleted in between."""
        return self._memory[:]

    def end(self) -> None:
        """Begin another epoch, for every process: call it before a deletion is acknowledged."""
        self._memory[:] = os.urandom(SIZE_BYTES)

    def close(self) -> None:
        """Give the memory back; neither method may be called afterwards."""
        self._memory.close()
