"""llama.cpp for a GGUF file, in a child process that is started anew when it dies."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from turnwire.engines.llamacpp import LlamaCppEngine
from turnwire.engines.llamacpp_host import Settings, Started
from turnwire.engines.llamacpp_server import LlamaCppOptions
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import ConfigError, EngineUnavailable
from turnwire.gguf import read_gguf

__all__ = ["LlamaCppModel", "LlamaCppProcess", "start_llamacpp"]

_MAX_LINES: Final = 64
_MAX_REASON_CHARS: Final = 300
# What stands before a reason in llama.cpp's log; what says most comes first.
_SIGNS: Final = ("error loading model:", "failed to allocate", "rror: ", " E ")
# That it could not be loaded is known, and is no reason.
_NO_REASON: Final = "failed to load model"
# Of the reasons for which a file that is not whole cannot be loaded.
_CUT: Final = ("file bounds", "file size", "failed to read", "end of file")
_MAX_LINE_BYTES: Final = 65_536
_CLOSE_SEC: Final = 5.0
_LAST_BREATH_SEC: Final = 0.5
_MAX_WINDOW: Final = 32_768
# A server that died is started at once; one that cannot be started is not tried all the time.
_FIRST_PAUSE_SEC: Final = 1.0
_LAST_PAUSE_SEC: Final = 60.0


class LlamaCppModel(Struct, frozen=True, kw_only=True):
    """How to run a GGUF file.

    Attributes:
        window: Tokens of prompt and output together; None for what the file says, but at most
            32,768, because memory is set aside for all of them in every slot.
        slots: Generations at the same time; each keeps its conversation in memory.
        threads: Threads that compute; None for llama.cpp's own choice.
        gpu_layers: Layers on a GPU, if there is one; -1 for as many as fit.
        cache_ram_mib: Memory for conversations that have no slot at the moment; 0 for none.
    """

    window: int | None = None
    slots: int = 4
    threads: int | None = None
    gpu_layers: int = -1
    cache_ram_mib: int = 2048

    def __post_init__(self) -> None:
        if self.slots < 1 or self.cache_ram_mib < 0:
            raise ValueError("slots must be at least 1, cache_ram_mib at least 0")
        if (self.window is not None and self.window < 2) or (
            self.threads is not None and self.threads < 1
        ):
            raise ValueError("window must be at least 2, threads at least 1")


class _Child:
    """A running process, and what it said last."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AssertionError("all three are pipes")
        self.process = process
        self.stdin = process.stdin
        self.stdout = process.stdout
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._reader = asyncio.create_task(self._read(process.stderr), name="llamacpp-stderr")

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    async def stays(self) -> bool:
        """Whether it runs, asked by somebody who lost it: it may be dying at this moment."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _LAST_BREATH_SEC)
        return self.runs

    async def ask(self, settings: Settings) -> Started | None:
        """Tell it what to serve; return its answer, or None if it dies instead."""
        try:
            self.stdin.write(msgspec.json.encode(settings) + b"\n")
            await self.stdin.drain()
            line = await self.stdout.readline()
        except ConnectionError:
            return None
        return msgspec.json.decode(line, type=Started) if line else None

    async def end(self) -> int:
        """See it end, soon; return its exit code."""
        self.stdin.close()
        try:
            code = await asyncio.wait_for(self.process.wait(), _CLOSE_SEC)
        except TimeoutError:  # it is still loading, or stuck
            with suppress(ProcessLookupError):
                self.process.kill()
            code = await self.process.wait()
        await self._reader
        return code

    def reason(self) -> str:
        """The line of its last words that says most."""
        for sign in _SIGNS:
            for line in self._lines:
                _, found, reason = line.partition(sign)
                if found and _NO_REASON not in reason:
                    cut = any(sign in reason for sign in _CUT)
                    hint = "; was it copied whole?" if cut else ""
                    return reason.strip()[:_MAX_REASON_CHARS] + hint
        return "it does not say why"

    async def _read(self, stderr: asyncio.StreamReader) -> None:
        # An unread pipe would stop the process in the end.
        rest = ""
        while chunk := await stderr.read(_MAX_LINE_BYTES):
            *lines, rest = (rest + chunk.decode("utf-8", "replace")).split("\n")
            self._lines.extend(lines)
            rest = rest[-_MAX_LINE_BYTES:]
        self._lines.append(rest)


class LlamaCppProcess:
    """The child process, started anew when it has died: a `Host` for the engine."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; `locate` starts it."""
        self._settings = settings
        self._child: _Child | None = None
        self._url = ""
        self._pause_sec = 0.0
        self._not_before = 0.0
        self._closed = False

    @classmethod
    def of(cls, path: str | Path, model: LlamaCppModel) -> LlamaCppProcess:
        """Prepare to run a file, with an API key that nobody else has.

        Raises:
            ConfigError: the file is none, or breaks off in its head.
        """
        header = read_gguf(path)
        return cls(
            Settings(
                path=str(path),
                api_key=secrets.token_urlsafe(32),
                window=model.window or min(header.context_length or _MAX_WINDOW, _MAX_WINDOW),
                slots=model.slots,
                threads=model.threads,
                gpu_layers=model.gpu_layers,
                cache_ram_mib=model.cache_ram_mib,
            )
        )

    @property
    def name(self) -> str:
        """By its file; the process is an affair of ours."""
        return f"llama.cpp of {Path(self._settings.path).name}"

    @property
    def api_key(self) -> str:
        """What it asks of every request."""
        return self._settings.api_key

    @property
    def url(self) -> str:
        """Where it listens, or did before it died."""
        return self._url

    @property
    def pid(self) -> int | None:
        """Of the process that serves now."""
        child = self._child
        return None if child is None or not child.runs else child.process.pid

    async def locate(self) -> str:
        """Return where it listens; start it if it does not run.

        Raises:
            EngineUnavailable: it does not start, or did not a moment ago.
        """
        child = self._child
        if child is not None and await child.stays():
            return self._url
        if self._closed:
            raise EngineUnavailable("the engine was closed")
        clock = asyncio.get_running_loop().time
        if clock() < self._not_before:
            raise EngineUnavailable("llama.cpp did not start; it will be tried again in a while")
        await self._stop()
        try:
            self._url = await self._start()
        except EngineUnavailable:
            self._pause_sec = min(_LAST_PAUSE_SEC, max(_FIRST_PAUSE_SEC, 2 * self._pause_sec))
            self._not_before = clock() + self._pause_sec
            raise
        self._pause_sec = 0.0
        return self._url

    async def aclose(self) -> None:
        """End the process."""
        self._closed = True
        await self._stop()

    async def _start(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "turnwire.engines.llamacpp_host"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        child = self._child = _Child(process)
        started = await child.ask(self._settings)
        if started is not None and started.url:
            return started.url
        code = await child.end()
        name = Path(self._settings.path).name
        what = "cannot load" if started is not None else f"died with code {code} while it loaded"
        raise EngineUnavailable(f"llama.cpp {what} {name}: {child.reason()}")

    async def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()


async def start_llamacpp(
    path: str | Path,
    vocabulary: Vocabulary,
    *,
    model: LlamaCppModel | None = None,
    options: LlamaCppOptions | None = None,
) -> LlamaCppEngine:
    """Load a GGUF file and return the engine; closing it ends the process.

    Args:
        path: The file; of a model in several files, the first.
        vocabulary: The file's.
        model: How to run it.
        options: How to use it.

    Raises:
        ConfigError: the file cannot be loaded, has another vocabulary, or the extra
            `llamacpp` is not installed; names the file and the reason.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError("GGUF models need llama.cpp: pip install 'turnwire[llamacpp]'")
    process = await asyncio.to_thread(LlamaCppProcess.of, path, model or LlamaCppModel())
    try:
        return await LlamaCppEngine.connect_to(
            process, vocabulary, api_key=process.api_key, options=options
        )
    except EngineUnavailable as error:
        raise ConfigError(f"{path}: {error}") from error
