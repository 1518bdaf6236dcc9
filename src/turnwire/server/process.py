"""The process of a server, or of several that share a port: signals, start and exit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import uvloop

from turnwire.config import Config
from turnwire.engines.sim import SIM_PROFILES
from turnwire.errors import TurnwireError
from turnwire.hub import Progress
from turnwire.server.app import Server, serve
from turnwire.server.heap import settle_heap
from turnwire.server.listening import shared_listeners
from turnwire.server.workers import ALONE, Workers
from turnwire.telemetry import logs

__all__ = ["WorkerFailed", "run"]

ENDING: Final = (signal.SIGTERM, signal.SIGINT)


class WorkerFailed(TurnwireError):
    """A worker ended before it was told to, and so did all."""


def run(config: Config, progress: Progress | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. A second one does not wait for anything.

    Args:
        config: What to serve.
        progress: As for `serve`.

    Raises:
        ConfigError, StoreError, AddressUnavailable: as `serve`.
        WorkerFailed: one of several processes ended by itself.
    """
    logs.configure(config.logging.level, config.logging.format)
    if config.server.workers == 1:
        uvloop.run(_serve_until_told(config, _announce_server, progress=progress))
        return
    # Not in the data directory: the path of a socket may have 107 bytes.
    folder = Path(mkdtemp(prefix="turnwire-"))
    parent = os.getpid()
    try:
        _fork_workers(config, folder)
    finally:
        if os.getpid() == parent:  # a worker that fails comes this way too
            shutil.rmtree(folder, ignore_errors=True)


async def _serve_until_told(
    config: Config,
    ready: Callable[[Server], None],
    listener: socket.socket | None = None,
    workers: Workers = ALONE,
    progress: Progress | None = None,
) -> None:
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    told = asyncio.Event()

    def end() -> None:
        if told.is_set():
            if workers.count == 1:
                os._exit(1)
            return  # who told the first process may have told this one too
        told.set()
        if starting is not None:  # models may take minutes
            starting.cancel()

    for number in ENDING if workers.count == 1 else (signal.SIGTERM,):
        loop.add_signal_handler(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    try:
        async with serve(config, listener=listener, workers=workers, progress=progress) as server:
            starting = None
            settle_heap()
            ready(server)
            await told.wait()
            if workers.count == 1 and server.num_running:
                _announce_end(server.num_running, config.server.shutdown_grace_sec)
    except asyncio.CancelledError:
        if not told.is_set():
            raise


def _announce_server(server: Server) -> None:
    _announce(server.url, server.registry.names())


def _announce(url: str, models: Iterable[str]) -> None:
    """Print the one line that says the server is ready."""
    print(f"Turnwire is ready at {url}/v1 (models: {', '.join(models)})", flush=True)


def _announce_end(num_running: int, grace_sec: float) -> None:
    """Tell whoever pressed Ctrl-C why it is not over yet."""
    what = "1 response" if num_running == 1 else f"{num_running} responses"
    print(
        f"Turnwire waits up to {grace_sec:g} s for {what} to end; Ctrl-C again ends it now.",
        file=sys.stderr,
        flush=True,
    )


def _fork_workers(config: Config, folder: Path) -> None:
    """Run workers that share the port; end when told, or when one of them dies."""
    told = config.server
    listeners = shared_listeners(told.host, told.port, told.workers)
    port = listeners[0].getsockname()[1]
    hear_ready, tell_ready = os.pipe()
    # Until each process has handlers of its own, so that none is ended by what ends all of them.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    children = set()
    for index, listener in enumerate(listeners):
        child = os.fork()
        if child == 0:
            os.close(hear_ready)
            _work(config, listener, Workers(index, len(listeners), folder), tell_ready)
        children.add(child)
    os.close(tell_ready)
    for listener in listeners:
        listener.close()

    num_told = 0

    def pass_on(number: int, frame: object) -> None:
        nonlocal num_told
        num_told += 1
        _tell_all(children, signal.SIGTERM if num_told == 1 else signal.SIGKILL)

    for number in ENDING:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    if _all_ready(hear_ready, len(children)):
        shipped = SIM_PROFILES if config.models.embedded is None else config.models.embedded
        host = f"[{told.host}]" if ":" in told.host else told.host
        _announce(f"http://{host}:{port}", [*config.model, *shipped])
    failed = _wait_for(children)
    if num_told > 1:
        sys.exit(1)
    if failed:
        raise WorkerFailed("A worker ended with an error; its own lines above say why.")


def _work(config: Config, listener: socket.socket, workers: Workers, tell_ready: int) -> None:
    """Be a worker, and leave the process; an error of the start is raised."""
    # Ctrl-C reaches every process of a terminal; the first one passes it on, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(
        _serve_until_told(
            config, lambda _: _tell_ready(tell_ready), listener=listener, workers=workers
        )
    )
    sys.stdout.flush()
    os._exit(0)


def _tell_ready(pipe: int) -> None:
    os.write(pipe, b".")
    os.close(pipe)


def _all_ready(pipe: int, count: int) -> bool:
    """Wait for so many workers; return whether none of them ended before it was ready."""
    told = 0
    while byte := os.read(pipe, 1):
        told += len(byte)
    os.close(pipe)
    return told == count


def _wait_for(children: set[int]) -> bool:
    """Wait until all have ended; whether one failed, upon which the others are told to end too."""
    failed = False
    while children:
        child, status = os.wait()
        children.discard(child)
        if status != 0 and not failed:
            failed = True
            _tell_all(children, signal.SIGTERM)
    return failed


def _tell_all(children: Iterable[int], number: int) -> None:
    for child in children:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody has noticed yet
            os.kill(child, number)
