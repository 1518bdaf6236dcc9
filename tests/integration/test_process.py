"""How the command `turnwire serve` ends when somebody at a terminal presses Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.wire import CLOSE, frame, open_websocket

PATIENCE_SEC = 30.0
READY = b"Turnwire is ready at "
STALLED = {"model": "sim", "input": "Tell me.", "metadata": {"sim.fault": "stall:3600"}}


@asynccontextmanager
async def started(folder: Path, told: str) -> AsyncIterator[Process]:
    """The command, in a group of processes as a shell would give it."""
    file = folder / "turnwire.toml"
    file.write_text(told)
    env = {name: value for name, value in os.environ.items() if not name.startswith("TURNWIRE")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "turnwire.cli.main", "serve", "--port", "0"),
        *("--config", str(file), "--data-dir", str(folder / "data")),
        stdout=PIPE,
        stderr=PIPE,
        env=env,
        start_new_session=True,
        # A test run in the background inherits that SIGINT is ignored, and so would the server.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        async with asyncio.timeout(PATIENCE_SEC):
            yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def ready(process: Process) -> str:
    """Where it listens, once it says so."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line.startswith(READY), line
    return line.removeprefix(READY).split(b"/v1")[0].decode()


def press_ctrl_c(process: Process) -> None:
    """Do what a terminal does: tell every process of the group."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("num_workers", [1, 3])
async def test_nothing_is_said_about_an_idle_server(tmp_path: Path, num_workers: int) -> None:
    """Ctrl-C ends it with 0 and without a word, workers too, which hear of it twice."""
    async with started(tmp_path, f"[server]\nworkers = {num_workers}\n") as process:
        await ready(process)
        press_ctrl_c(process)
        assert (b"", b"") == await process.communicate()
        assert 0 == process.returncode


async def test_a_supervisor_that_tells_everybody(tmp_path: Path) -> None:
    """SIGTERM to every process of a server with workers ends it in order: what runs may end."""
    async with (
        started(tmp_path, "[server]\nworkers = 2\nshutdown_grace_sec = 3600\n") as process,
        open_websocket(await ready(process)) as wire,
    ):
        await wire.send_create(
            model="sim-65", input="Tell me.", metadata={"sim.output_tokens": "100"}
        )
        assert "response.created" == (await wire.read_event())["type"]
        os.killpg(process.pid, signal.SIGTERM)
        events = await wire.read_response()
        assert "response.completed" == events[-1]["type"]
        assert 1012 == await wire.read_close()
        await wire.send(frame(CLOSE, (1012).to_bytes(2, "big")))
        assert 0 == await process.wait()


@pytest.mark.parametrize("num_workers", [1, 2])
async def test_who_cannot_wait(tmp_path: Path, num_workers: int) -> None:
    """The second signal ends it with 1, whatever runs."""
    told = f"[server]\nworkers = {num_workers}\nshutdown_grace_sec = 3600\n"
    async with started(tmp_path, told) as process:
        url = await ready(process)
        async with open_websocket(url) as busy, open_websocket(url) as idle:
            await busy.send_create(**STALLED)
            assert "response.created" == (await busy.read_event())["type"]
            process.send_signal(signal.SIGTERM)
            assert 1012 == await idle.read_close()  # so it has heard the first one
            process.send_signal(signal.SIGTERM)
            assert 1 == await process.wait()


async def test_what_is_waited_for_is_said(tmp_path: Path) -> None:
    """While a response runs a line says so, and Ctrl-C once more ends it with 1."""
    async with (
        started(tmp_path, "[server]\nshutdown_grace_sec = 3600\n") as process,
        open_websocket(await ready(process)) as wire,
    ):
        await wire.send_create(**STALLED)
        assert "response.created" == (await wire.read_event())["type"]
        press_ctrl_c(process)
        assert process.stderr is not None
        expected = b"Turnwire waits up to 3600 s for 1 response to end; Ctrl-C again ends it now.\n"
        assert expected == await process.stderr.readline()
        press_ctrl_c(process)
        assert 1 == await process.wait()


async def test_a_start_can_be_called_off(tmp_path: Path) -> None:
    """Ctrl-C while a model is fetched from a hub that says nothing ends the command with 0."""
    asked = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    hub = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = hub.sockets[0].getsockname()[1]
    told = (
        f'[models]\nhub_url = "http://127.0.0.1:{port}"\n'
        '[engine.far]\nkind = "llamacpp"\nhf = "owner/name/file.gguf"\n'
        '[model.far]\nengine = "far"\n'
    )
    async with hub, started(tmp_path, told) as process:
        await asked.wait()
        press_ctrl_c(process)
        assert (b"", b"") == await process.communicate()
        assert 0 == process.returncode
