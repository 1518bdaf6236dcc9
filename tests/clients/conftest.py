"""A server for real clients, the wire between them on tape, and the table of what was proven."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec import structs
from tests.clients.matrix import MATRIX, Proof, write_matrix
from tests.clients.steady import SteadyModel
from tests.clients.tape import Tape, taping
from tests.integration.serving import config, shipped

from turnwire.config import LimitsConfig
from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.server.app import serve

PATIENCE_SEC = 300.0  # some take half a minute to start where much else runs

# Tools of agents that read or show something of their own, and do nothing else.
HARMLESS = ("get_goal", "team_status", "todowrite")

Program = Callable[..., Awaitable[str]]
Proven = Callable[[str, str, str, str], None]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The server runs on the loop that it runs on in production."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to write what was proven."""
    parser.addoption("--matrix", type=Path, help="Write the table of clients here, if all pass.")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with nothing proven."""
    config.stash[MATRIX] = []


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the table, when every client was tried and none failed."""
    path = session.config.getoption("--matrix")
    chosen = session.config.getoption("keyword") or session.config.getoption("markexpr")
    if path is not None and exitstatus == 0 and not chosen:
        proofs = session.config.stash[MATRIX]
        write_matrix(path, proofs)


@pytest.fixture
async def tape(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Tape]:
    """A tape in front of a server: `sim` for programs, `harmless` for agents that have a shell.

    Parametrised with a `WebSocketConfig` (`indirect`), the server has that one.
    """
    _, vocabulary, author = shipped()
    told = config(tmp_path / "data", limits=LimitsConfig())
    told = structs.replace(told, websocket=getattr(request, "param", told.websocket))
    models = steady_models(SimEngine(vocabulary, SimProfile(), author))
    async with serve(told, models=models) as server, taping(server.url) as recording:
        recording.metrics = server.metrics
        yield recording
    assert [] == recording.wrong


def steady_models(engine: SimEngine) -> list[SteadyModel]:
    """`sim` and `harmless`, on an engine with the shipped vocabulary."""
    renderer, _, _ = shipped()
    return [
        SteadyModel("sim", renderer, engine),
        SteadyModel("harmless", renderer, engine, HARMLESS),
    ]


@pytest.fixture
def proven(request: pytest.FixtureRequest) -> Proven:
    """Add a line to the table: client, version, transport, what was proven."""

    def add(client: str, version: str, transport: str, fact: str) -> None:
        request.config.stash[MATRIX].append(Proof(client, version, transport, fact))

    return add


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run a client as a process of its own, in an empty folder, with nothing of this machine."""
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()

    async def run(
        command: Sequence[str | Path], env: Mapping[str, str] | None = None, code: int = 0
    ) -> str:
        """Return what it printed; where it is to fail, what it complained of too.

        Args:
            command: The program and its arguments.
            env: Variables beside PATH and HOME.
            code: How it is to end.
        """
        surroundings = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONFAULTHANDLER": "1",
            # Whatever it wants beside the server of the test is not there.
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
            **(env or {}),
        }
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            cwd=work,
            env=surroundings,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_SEC):
                printed, complained = await process.communicate()
        except TimeoutError:
            process.send_signal(signal.SIGABRT)  # Python says where it was
            printed, complained = await process.communicate()
            pytest.fail(f"no end: {printed.decode()}\n{complained.decode()}")
        everything = f"{printed.decode()}\n{complained.decode()}"
        assert code == process.returncode, everything
        return everything if code else printed.decode()

    return run


def last_line(printed: str) -> Any:
    """The JSON on the last line."""
    return json.loads(printed.strip().splitlines()[-1])
