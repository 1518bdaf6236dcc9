"""Ends that nobody planned, and those that were: killed clients, SIGTERM, a second SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import sys
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.recorder import Transcript
from tests.integration.serving import Serving, eventually
from tests.integration.sockets import Lanes, hold_the_store, plain, served, stalled, talking
from tests.integration.wire import (
    CLOSE,
    Json,
    WebSocketConnection,
    connect,
    frame,
    handshake,
    open_websocket,
    read_sse,
    write_request,
)

from turnwire.config import LimitsConfig

NUM_KILLED = 200
GENEROUS_SEC = 10.0


def num_files() -> int:
    """Descriptors that this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def test_many_clients_are_killed(tmp_path: Path) -> None:
    """When 200 clients die in mid-stream, in a moment nothing is left of them."""
    limits = LimitsConfig(max_in_flight=1000)
    async with served(tmp_path, limits=limits) as server:
        tasks, files = asyncio.all_tasks(), num_files()
        async with AsyncExitStack() as clients:
            wires: list[WebSocketConnection] = []
            for number in range(NUM_KILLED):
                wire = await clients.enter_async_context(open_websocket(server.url))
                fields = talking(100_000, model="sim-slow") if number % 2 else stalled()
                await wire.send_create(**fields)
                wires.append(wire)
            await eventually(
                lambda: sum(one.num_running for one in server.engines.values()) == NUM_KILLED
            )
            assert NUM_KILLED == server.count("responses_in_flight")
            began = time.monotonic()
            for wire in wires:
                wire.reset()
            await server.idle()
            took = time.monotonic() - began
        print(f"{NUM_KILLED} clients were gone after {1e3 * took:.0f} ms")
        assert took < GENEROUS_SEC
        await eventually(lambda: server.count("websocket_connections") == 0)
        await eventually(lambda: asyncio.all_tasks() == tasks)
        await eventually(lambda: num_files() == files)
        aborted = server.count("responses_total", status="aborted", transport="websocket")
        assert NUM_KILLED == aborted


async def test_what_a_killed_client_held_is_freed(server: Serving) -> None:
    """A connection that is gone leaves no object behind that only a collection would find."""
    for busy in (False, True):
        async with open_websocket(server.url) as wire:
            lanes = Lanes(wire)
            await wire.send_create(**talking(8, stream_id="a"))
            await lanes.response("a")
            if busy:
                await wire.send_create(**stalled(stream_id="b"))
                await lanes.until("b", "response.in_progress")
            (one,) = server.server._sockets
            entry = one.connection.cache.latest("a")
            assert entry is not None
            view: Any = entry.context.view
            # Looking after a connection must not keep it either.
            await server.server._look_after(asyncio.get_running_loop().time())
            held = [weakref.ref(it) for it in (one, one.connection, one._ws, view.tokens)]
            gc.collect()
            gc.disable()
            try:
                del one, entry, view
                wire.reset()
                await eventually(lambda: [None] * 4 == [ref() for ref in held])  # noqa: B023
            finally:
                gc.enable()


async def test_half_closed(server: Serving) -> None:
    """A client that shuts its sending side without a word is gone, with all that it asked for."""
    async with open_websocket(server.url) as wire:
        await wire.send_create(**stalled())
        await Lanes(wire).until(None, "response.in_progress")
        wire.writer.write_eof()
        await server.idle()
        await eventually(lambda: server.count("websocket_connections") == 0)


async def test_a_connection_that_expires_while_an_end_is_stored(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response that is ending says how, whatever else ends meanwhile."""
    at_the_store, stored = hold_the_store(monkeypatch)
    async with open_websocket(server.url) as wire:
        await wire.send_create(**stalled(store=True))
        lanes = Lanes(wire)
        await lanes.until(None, "response.in_progress")
        await wire.send_event(type="response.cancel")
        await at_the_store.wait()
        (one,) = server.server._sockets
        one.beat(asyncio.get_running_loop().time() + 100_000)
        await eventually(lambda: one.connection.draining)
        stored.set()
        assert "cancelled" == (await lanes.response(None)).status
        error = await wire.read_error()
        assert "websocket_connection_limit_reached" == error["error"]["code"]
        assert 1001 == await wire.read_close()
        await wire.send(frame(CLOSE, (1001).to_bytes(2, "big")))


class Process:
    """`turnwire serve`, as people run it.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def exit_code(self) -> int:
        """Wait for its end."""
        async with asyncio.timeout(20):
            return await self._process.wait()


@asynccontextmanager
async def process(folder: Path, *, grace_sec: float) -> AsyncIterator[Process]:
    """A server in a process of its own."""
    (folder / "turnwire.toml").write_text(
        f'[server]\nport = 0\ndata_dir = "{folder}"\nshutdown_grace_sec = {grace_sec}\n'
        '[models]\nembedded = ["sim", "sim-65"]\n'
    )
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "turnwire.cli.main", "serve"),
        *("--config", str(folder / "turnwire.toml")),
        stdout=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("TURNWIRE")},
    )
    try:
        assert started.stdout is not None
        async with asyncio.timeout(20):
            line = (await started.stdout.readline()).decode()
        ready = re.search(r"ready at (http://[^/]+)/v1", line)
        assert ready is not None, line
        yield Process(started, ready[1])
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def until_draining(url: str) -> None:
    """Wait until the server says that it is not ready."""
    async with asyncio.timeout(20):
        while True:
            async with connect(url) as http:
                answer = await http.request("GET", "/ready")
            if answer.status == 503:
                assert {"status": "draining"} == answer.json()
                return
            await asyncio.sleep(0.01)


async def test_sigterm(tmp_path: Path) -> None:
    """Nothing new begins, idle sockets close, what ends in time ends well, the rest fails."""
    async with process(tmp_path, grace_sec=2.0) as server, AsyncExitStack() as clients:
        idle, busy, endless, both = [
            await clients.enter_async_context(open_websocket(server.url)) for _ in range(4)
        ]
        streaming = await clients.enter_async_context(connect(server.url))
        plain_answer = await clients.enter_async_context(connect(server.url))
        await idle.send_create(**talking(4))
        await Lanes(idle).response(None)
        # Half a second at 65 tokens a second.
        ends: Json = talking(32, model="sim-65")
        await busy.send_create(**ends)
        busy_lanes, endless_lanes, lanes = Lanes(busy), Lanes(endless), Lanes(both)
        await endless.send_create(**stalled())
        await both.send_create(**ends, stream_id="ends")
        await both.send_create(**stalled(stream_id="endless"))
        body = encoded({**ends, "stream": True})
        await streaming.send(write_request("POST", "/v1/responses", body))
        await plain_answer.send(write_request("POST", "/v1/responses", encoded(stalled())))
        await busy_lanes.until(None, "response.in_progress")
        await endless_lanes.until(None, "response.in_progress")
        await lanes.until("ends", "response.in_progress")
        await lanes.until("endless", "response.in_progress")
        assert 200 == (await streaming.read_head()).status

        server.tell(signal.SIGTERM)
        await until_draining(server.url)
        for data in (handshake(), write_request("POST", "/v1/responses", encoded(ends))):
            async with connect(server.url) as refused:
                await refused.send(data)
                answer = await refused.read_answer()
                assert (503, "server_is_overloaded") == (answer.status, answer.error()["code"])
                assert int(answer.headers["retry-after"]) > 0
        assert 1012 == await goodbye(idle)

        await both.send_create(**talking(4), stream_id="late")
        late = await lanes.until("late", "error")
        assert 503 == late["status"]

        assert "completed" == (await busy_lanes.response(None)).status
        assert 1012 == await goodbye(busy)
        assert "completed" == (await lanes.response("ends")).status
        chunks = []
        while chunk := await streaming.read_chunk():
            chunks.append(chunk)
        assert "completed" == Transcript(read_sse(chunks), sse=True).status

        for one, lane, wire in ((endless_lanes, None, endless), (lanes, "endless", both)):
            failed = plain(await one.take(lane), stream_id=lane)
            assert ("failed", "server_error") == (failed.status, failed.response["error"]["code"])
            assert 1012 == await goodbye(wire)
        answer = await plain_answer.read_answer()
        assert (500, "server_error") == (answer.status, answer.error()["code"])
        assert 0 == await server.exit_code()


def encoded(fields: dict[str, Any]) -> bytes:
    """A body."""
    return json.dumps(fields).encode()


async def goodbye(wire: WebSocketConnection) -> int:
    """Read the server's close and answer it; the code."""
    code = await wire.read_close()
    await wire.send(frame(CLOSE, code.to_bytes(2, "big")))
    assert await wire.at_end()
    return code


async def test_a_second_sigterm(tmp_path: Path) -> None:
    """Who cannot wait says it twice."""
    async with (
        process(tmp_path, grace_sec=60.0) as server,
        open_websocket(server.url) as wire,
    ):
        await wire.send_create(**stalled())
        await Lanes(wire).until(None, "response.in_progress")
        server.tell(signal.SIGTERM)
        await until_draining(server.url)
        server.tell(signal.SIGTERM)
        assert 1 == await server.exit_code()


async def test_sigterm_and_a_client_that_does_not_answer(tmp_path: Path) -> None:
    """Clients that ignore the close cannot hold up the end for longer than the grace."""
    async with (
        process(tmp_path, grace_sec=0.5) as server,
        open_websocket(server.url) as wire,
    ):
        server.tell(signal.SIGTERM)
        assert 1012 == await wire.read_close()
        assert 0 == await server.exit_code()
