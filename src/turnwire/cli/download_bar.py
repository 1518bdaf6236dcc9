"""How far a download is, for whoever waits at a terminal or reads a log."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["DownloadBar"]

STEP: Final = 0.1
"""Where there is no terminal, a line is written each time so much more is there."""


class DownloadBar:
    """A bar for each file on standard error; a context manager. Shows nothing until called."""

    def __init__(self, console: Console | None = None) -> None:
        """
        Args:
            console: Instead of standard error.
        """
        self._console: Final = console or Console(stderr=True)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> DownloadBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def __call__(self, name: str, num_bytes: int, total: int | None) -> None:
        """Show that so many bytes of a file are there."""
        if not self._console.is_terminal:
            self._tell(name, num_bytes, total)
            return
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bars.start()
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = self._bars.add_task(name.rpartition("/")[2], total=total)
        self._bars.update(task, completed=num_bytes, total=total)
        if num_bytes == total:
            self._stop()  # what follows may write to the terminal

    def _tell(self, name: str, num_bytes: int, total: int | None) -> None:
        share = num_bytes / total if total else 0.0
        told = self._told.get(name)
        if told is None or share >= told + STEP or (share >= 1.0 > told):
            self._told[name] = share
            of = f" of {total / 1e6:,.1f}" if total else ""
            self._console.print(f"{name}: {num_bytes / 1e6:,.1f}{of} MB", soft_wrap=True)

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()
