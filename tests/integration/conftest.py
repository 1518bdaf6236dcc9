"""Servers on real sockets, and clients for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop
from openai import AsyncOpenAI
from tests.integration.serving import ALICE, BOB, Serving, config, serving
from tests.integration.wire import HttpConnection, WebSocketConnection, connect, open_websocket
from tests.judges.judge import warm_up
from tests.judges.witness import watching

from turnwire.config import KeyConfig


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test here runs on the loop that serves in production."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def judged() -> Iterator[None]:
    """What the official clients read is judged, like all that the tests read themselves."""
    warm_up()
    with watching():
        yield


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server without keys, its store in memory."""
    async with serving(config(tmp_path)) as running:
        yield running


@pytest.fixture
async def keyed_server(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server with one key each for two owners; Bob's is for `sim` only."""
    keys = (
        KeyConfig(owner="alice", key=ALICE),
        KeyConfig(owner="bob", key=BOB, models=("sim",)),
    )
    async with serving(config(tmp_path, keys=keys), names=("sim", "sim-slow")) as running:
        yield running


@pytest.fixture
async def http(server: Serving) -> AsyncIterator[HttpConnection]:
    """One keep-alive connection to `server`."""
    async with connect(server.url) as wire:
        yield wire


@pytest.fixture
async def websocket(server: Serving) -> AsyncIterator[WebSocketConnection]:
    """One WebSocket to `server`."""
    async with open_websocket(server.url) as wire:
        yield wire


@pytest.fixture
async def client(server: Serving) -> AsyncIterator[AsyncOpenAI]:
    """The official client, as it comes, pointed at `server`."""
    async with AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=20
    ) as official:
        yield official
