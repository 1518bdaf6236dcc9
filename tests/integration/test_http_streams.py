"""Streams over real sockets that last: comments in the silence, and clients that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec import structs
from openai import AsyncOpenAI
from tests.integration.recorder import Transcript
from tests.integration.serving import Serving, config, eventually, shipped
from tests.integration.sockets import stalled, talking
from tests.integration.wire import connect, read_sse, write_request

from turnwire.config import SseConfig
from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.models.sim_model import SimModel
from turnwire.models.token_model import TokenModel
from turnwire.server.app import serve

COMMENT = b": keep-alive\n\n"


@asynccontextmanager
async def streaming(folder: Path, sse: SseConfig) -> AsyncIterator[Serving]:
    """A server whose streams are looked after often."""
    renderer, vocabulary, author = shipped()
    engine = SimEngine(vocabulary, SimProfile(), author)
    told = structs.replace(config(folder), sse=sse)
    models = [SimModel(TokenModel("sim", renderer, engine))]
    async with serve(told, models=models, beat_sec=0.01) as server:
        yield Serving(server, {"sim": engine})


async def test_a_silent_stream(tmp_path: Path) -> None:
    """While the model says nothing the stream has comments, each a chunk of its own."""
    async with streaming(tmp_path, SseConfig(keepalive_sec=0.03)) as server:
        async with connect(server.url) as wire:
            body = json.dumps(stalled(stream=True)).encode()
            await wire.send(write_request("POST", "/v1/responses", body))
            assert 200 == (await wire.read_head()).status
            for kind in ("response.created", "response.in_progress"):
                assert f"event: {kind}\n" in (await wire.read_chunk()).decode()
            for _ in range(3):
                assert COMMENT == await wire.read_chunk()
        await server.idle()


async def test_a_stream_with_comments_is_read_as_ever(tmp_path: Path) -> None:
    """The official client sees the events and no comment; a strict reader sees them in between."""
    async with streaming(tmp_path, SseConfig(keepalive_sec=0.01)) as server:
        fields = talking(16, metadata={"sim.fault": "stall:0.1", "sim.output_tokens": "16"})
        async with connect(server.url) as wire:
            answer = await wire.create(**fields, stream=True)
            comments = [chunk for chunk in answer.chunks if chunk == COMMENT]
            assert comments
            events = [chunk for chunk in answer.chunks if chunk != COMMENT]
            assert "completed" == Transcript(read_sse(events), sse=True).status
            # The connection goes on, without a comment between two answers.
            assert 200 == (await wire.create(**talking(4))).status
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as official:
            stream = await official.responses.create(**fields, stream=True)
            kinds = [event.type async for event in stream]
        assert ["response.created", "response.completed"] == [kinds[0], kinds[-1]]


async def test_comments_over_http_1_0(tmp_path: Path) -> None:
    """Where there are no chunks the comment is there without one."""
    async with (
        streaming(tmp_path, SseConfig(keepalive_sec=0.01)) as server,
        connect(server.url) as wire,
    ):
        fields = talking(4, metadata={"sim.fault": "stall:0.1", "sim.output_tokens": "4"})
        body = json.dumps({**fields, "stream": True}).encode()
        request = write_request("POST", "/v1/responses", body)
        await wire.send(request.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        whole = await wire.read_all()
        assert b"\n\n" + COMMENT in whole
        assert whole.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("num_tokens", [30_000, 1200])
async def test_a_client_that_does_not_read(tmp_path: Path, num_tokens: int) -> None:
    """It is cut off in time, in the midst of its answer or behind it; others are served."""
    async with streaming(tmp_path, SseConfig(stalled_sec=0.3)) as server:
        place = urlsplit(server.url)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, (place.hostname, place.port))
            body = json.dumps({**talking(num_tokens), "stream": True}).encode()
            await loop.sock_sendall(sock, write_request("POST", "/v1/responses", body))
            await eventually(lambda: len(server.server._streams) == 1)
            if num_tokens == 1200:
                await server.idle()  # all of it is made, and waits for the client
            async with connect(server.url) as other:
                assert 200 == (await other.create(**talking(4))).status
            await eventually(lambda: len(server.server._streams) == 0)
            await server.idle()
            taken = b""
            while some := await loop.sock_recv(sock, 65_536):
                taken += some
            assert b"event: response.output_text.delta" in taken
            assert b"[DONE]" not in taken


async def test_a_client_that_does_not_read_a_plain_answer(tmp_path: Path) -> None:
    """It is cut off in time too, and what it was sent is not whole."""
    async with streaming(tmp_path, SseConfig(stalled_sec=0.3)) as server:
        async with connect(server.url) as wire:
            item = {"role": "user", "content": "x" * 1_000_000}
            made = await wire.request("POST", "/v1/conversations", {"items": [item] * 20})
            path = f"/v1/conversations/{made.json()['id']}/items"
        place = urlsplit(server.url)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, (place.hostname, place.port))
            await loop.sock_sendall(sock, write_request("GET", path))
            await eventually(lambda: len(server.server._streams) == 1)
            await eventually(lambda: len(server.server._streams) == 0)
            num_bytes = 0
            with suppress(ConnectionError):
                while some := await loop.sock_recv(sock, 65_536):
                    num_bytes += len(some)
            assert 0 < num_bytes < 20_000_000


async def test_a_stream_that_is_read_is_let_go(tmp_path: Path) -> None:
    """A stream that was taken to its end leaves nothing behind."""
    async with (
        streaming(tmp_path, SseConfig(stalled_sec=0.3)) as server,
        connect(server.url) as wire,
    ):
        for _ in range(3):
            assert 200 == (await wire.create(**talking(8), stream=True)).status
        await eventually(lambda: len(server.server._streams) == 0)
        assert 200 == (await wire.create(**talking(8))).status
