"""A process that serves one GGUF file with llama.cpp, on a loopback port, for its parent.

It is a process of its own because llama.cpp, in the way of C, ends the process it is in when
something goes badly wrong; because loading a model holds the interpreter for as long as it
takes; and because its constrained decoding knows one vocabulary at a time.

On standard input it is told `Settings`, as one line of JSON; it answers with one line on standard
output, `Started`. It lives until its standard input ends, which is also when its parent dies. While
it loads it cannot look, so Linux is asked to end it with its parent: memory of a GPU that an orphan
holds is missing to whoever comes next.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Final

import msgspec
from msgspec import Struct

__all__ = ["Settings", "Started", "main"]

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class Settings(Struct, frozen=True, kw_only=True):
    """What to serve.

    Attributes:
        path: The GGUF file.
        api_key: Asked of every request.
        window: Tokens of prompt and output together, in each slot.
        slots: Generations at the same time.
        threads: Threads that compute; None for llama.cpp's own choice.
        gpu_layers: Layers on a GPU, if there is one; -1 for as many as fit.
        cache_ram_mib: Memory for prompts that have no slot at the moment; 0 for none.
    """

    path: str
    api_key: str
    window: int
    slots: int
    threads: int | None = None
    gpu_layers: int = -1
    cache_ram_mib: int = 0


class Started(Struct, frozen=True, kw_only=True):
    """How it went.

    Attributes:
        url: Where it listens, or "" if it does not; standard error says why.
    """

    url: str = ""


def main() -> None:
    """Serve until standard input ends."""
    # A Ctrl-C in the terminal is the parent's, which lets its turns end first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings)
    try:
        server = _serve(settings)
        started = Started(url=server.listening_address)
    except RuntimeError:
        started = Started()
    sys.stdout.buffer.write(msgspec.json.encode(started) + b"\n")
    sys.stdout.flush()
    if not started.url:
        return  # through destructors: the library writes its log, with the reason, in a thread
    sys.stdin.buffer.read()
    # Not that way: they would wait for generations that nobody reads.
    os._exit(0)


def _serve(settings: Settings) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings.path
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings.api_key]
    params.n_ctx = settings.window * settings.slots
    params.n_parallel = settings.slots
    params.n_gpu_layers = settings.gpu_layers
    params.cache_ram_mib = settings.cache_ram_mib
    if settings.threads is not None:
        params.cpuparams.n_threads = settings.threads
        params.cpuparams_batch.n_threads = settings.threads
    params.ui = False
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.verbosity = 1  # errors; more would log what is said
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
