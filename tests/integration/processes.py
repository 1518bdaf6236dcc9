"""A server as its users run it: processes of its own, that can be killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["kill", "process"]

PATIENCE_SEC = 20.0


@asynccontextmanager
async def process(
    folder: Path, num_workers: int, models: Sequence[str] = ("sim",)
) -> AsyncIterator[tuple[Process, str]]:
    """A server in processes of its own: the first of them, and where it listens.

    Args:
        folder: Its data directory; what an earlier one left there is found again.
        num_workers: How many processes serve.
        models: The embedded models that it has.
    """
    names = ", ".join(f'"{name}"' for name in models)
    (folder / "turnwire.toml").write_text(
        f'[server]\nport = 0\ndata_dir = "{folder}"\nworkers = {num_workers}\n'
        f"[models]\nembedded = [{names}]\n"
    )
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "turnwire.cli.main", "serve"),
        *("--config", str(folder / "turnwire.toml")),
        stdout=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("TURNWIRE")},
        start_new_session=True,  # a group of its own, so that all of it can be killed at once
    )
    try:
        assert started.stdout is not None
        async with asyncio.timeout(PATIENCE_SEC):
            line = (await started.stdout.readline()).decode()
        ready = re.search(r"ready at (http://[^/]+)/v1", line)
        assert ready is not None, line
        yield started, ready[1]
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
        await started.wait()


async def kill(started: Process) -> None:
    """Kill a server, its workers too, without a word: nothing of it has time to tidy up."""
    os.killpg(started.pid, signal.SIGKILL)
    await started.wait()
