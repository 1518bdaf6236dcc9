"""Servers on real sockets, and clients for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from tests.integration.serving import ALICE, BOB, Serving, config, serving
from tests.integration.wire import HttpConnection, WebSocketConnection, connect, open_websocket

from turnwire.config import KeyConfig

Open = Callable[[], AbstractAsyncContextManager[HttpConnection]]


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
