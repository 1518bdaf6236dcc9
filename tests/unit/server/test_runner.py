"""Connections on which nothing is asked; what cannot be read is tried in the integration tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from turnwire.server import runner
from turnwire.server.runner import Runner

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(request: web.Request) -> web.Response:
    """Answers everybody."""
    return web.Response(text="hello")


@pytest.fixture
async def running() -> AsyncIterator[Runner]:
    """A server that runs."""
    app = web.Application()
    app.add_routes([web.get("/", hello)])
    made = Runner(app)
    await made.setup()
    await web.TCPSite(made, "127.0.0.1", 0).start()
    try:
        yield made
    finally:
        await made.cleanup()


@pytest.mark.parametrize("head", [b"", GET[:20]], ids=["nothing", "half a head"])
async def test_who_asks_nothing(
    running: Runner, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    """A connection on which no request comes is closed without a word."""
    monkeypatch.setattr(runner, "HEAD_SEC", 0.01)
    reader, writer = await asyncio.open_connection(*running.addresses[0][:2])
    writer.write(head)
    assert b"" == await reader.read()
    writer.close()


async def test_who_has_asked(running: Runner) -> None:
    """A connection that is kept after a request is not taken for one on which nothing came."""
    reader, writer = await asyncio.open_connection(*running.addresses[0][:2])
    for _ in range(2):
        writer.write(GET)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        assert running.server is not None
        (connection,) = running.server.connections
        connection.close_if_silent()  # type: ignore[attr-defined]
    writer.close()
