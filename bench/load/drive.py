"""One load: a server process on one core, its clients on another, and what both spent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import msgspec
from msgspec import Struct

from bench.load.generator import Seen

__all__ = ["Arm", "Load", "LoadFailed", "cpu_sec", "load", "process_of", "read_line"]

ROOT = Path(__file__).parents[2]


class LoadFailed(RuntimeError):
    """A process of the load said something else than it should, or nothing."""


class Arm(Struct, frozen=True, kw_only=True):
    """What the clients do.

    Attributes:
        transport: Over which they ask.
        store: Whether responses are stored; over SSE a continuation needs it.
        connections: How many clients there are, each with one turn at a time.
        canned: The server answers with bytes that it recorded: transport and framing alone.
        loop: The turns are a tool loop, with a model that a chat-completions endpoint in a third
            process serves; it shares the clients' core and is not counted.
        context_chars: With `loop`, how much text a conversation begins with.
        between_ms: With `loop`, time between two tokens of the endpoint; 0 for none.
    """

    transport: Literal["ws", "sse"] = "ws"
    store: bool = False
    connections: int = 1
    canned: bool = False
    loop: bool = False
    context_chars: int = 0
    between_ms: float = 0.0

    def __str__(self) -> str:
        if self.loop:
            behind = f" behind {self.context_chars // 1000} kB" if self.context_chars else ""
            pace = f", a token each {self.between_ms:g} ms" if self.between_ms else ""
            return f"{self.transport} tool loop{behind}{pace}, {self.connections} conn."
        name = "canned bytes" if self.canned else f"store:{str(self.store).lower()}"
        return f"{self.transport} {name}, {self.connections} conn."


class Load(Struct, frozen=True, kw_only=True):
    """What an arm cost.

    Attributes:
        seen: By the clients.
        server_cpu_sec: CPU of the server process in the measured seconds.
    """

    seen: Seen
    server_cpu_sec: float

    @property
    def turns_per_sec(self) -> float:
        """Turns a second, as measured."""
        return self.seen.turns / self.seen.wall_sec

    @property
    def turns_per_core_sec(self) -> float:
        """Turns for one second of the server's CPU: what a core of its own would give."""
        return self.seen.turns / self.server_cpu_sec

    @property
    def cpu_ms_per_turn(self) -> float:
        """Milliseconds of the server's CPU for one turn."""
        return 1e3 * self.server_cpu_sec / self.seen.turns

    @property
    def events_per_turn(self) -> float:
        """Mean events of a turn."""
        return self.seen.events / self.seen.turns

    @property
    def client_share(self) -> float:
        """CPU of the clients for one second of the server's; below 1 they do not limit it."""
        return self.seen.cpu_sec / self.server_cpu_sec


def load(arm: Arm, *, warm_sec: float = 1.0, sec: float = 3.0, profile: Path | None = None) -> Load:
    """Start a server and clients, measure, and end both.

    Args:
        arm: What the clients do.
        warm_sec: Before anything is counted.
        sec: How long is counted.
        profile: Run the server under cProfile and leave its numbers here.

    Raises:
        LoadFailed: a request failed, or a process ended early.
    """
    server = ["bench.load.server", "--core", "0"]
    server += ["--canned"] if arm.canned else []
    server += ["--profile", str(profile)] if profile else []
    clients = ["bench.load.generator", "--core", "1", "--arm", arm.transport]
    clients += ["--connections", str(arm.connections), "--warm-sec", str(warm_sec)]
    clients += ["--sec", str(sec), *(["--store"] if arm.store else [])]
    clients += ["--loop", "--context-chars", str(arm.context_chars)] if arm.loop else []
    with ExitStack() as running:
        if arm.loop:
            upstream = ["bench.load.upstream", "--core", "1", "--between-ms", str(arm.between_ms)]
            endpoint = running.enter_context(process_of(upstream))
            server += ["--upstream", read_line(endpoint)["url"]]
        serving = running.enter_context(process_of(server))
        url = read_line(serving)["url"]
        with process_of([*clients, "--url", url]) as asking:
            _expect(asking, "begin")
            before = cpu_sec(serving)
            _expect(asking, "end")
            spent = cpu_sec(serving) - before
            seen = msgspec.convert(read_line(asking), Seen)
    return Load(seen=seen, server_cpu_sec=spent)


@contextmanager
def process_of(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m` with these arguments; when it is left, its input ends, and so does it."""
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    ) as process:
        try:
            yield process
            _pipe(process.stdin).close()
            process.wait(timeout=30)
        finally:
            process.kill()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def read_line(process: subprocess.Popen[bytes]) -> Any:
    """The next line of JSON that it prints.

    Raises:
        LoadFailed: it ended instead.
    """
    line = _pipe(process.stdout).readline()
    if not line:
        raise LoadFailed(f"{process.args!r} ended early; its own lines above say why")
    return msgspec.json.decode(line)


def _expect(process: subprocess.Popen[bytes], word: str) -> None:
    said = read_line(process)
    if said != word:
        raise LoadFailed(f"{said!r} instead of {word!r}")


def cpu_sec(process: subprocess.Popen[bytes]) -> float:
    """What a process of `bench.load.server` has spent so far."""
    pipe = _pipe(process.stdin)
    pipe.write(b"cpu\n")
    pipe.flush()
    return float(read_line(process)["cpu_sec"])
