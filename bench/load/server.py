"""The server under load, in a process of its own, pinned to one core.

It says `{"url": ...}` on standard output once it listens. Each line on standard input is
answered with its CPU seconds so far (user and system, all threads); the end of the input ends
it. Run by the load benches, not by hand: python -m bench.load.server --core 0
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from aiohttp import WSMsgType, web

from turnwire.config import Config, ServerConfig
from turnwire.engines.llamacpp import LlamaCppEngine, LlamaCppOptions
from turnwire.engines.llamacpp_grammar import Dialect
from turnwire.engines.vocabulary import Vocabulary
from turnwire.models.base import Model
from turnwire.models.chat.model import ChatModel
from turnwire.models.chat.options import ChatOptions
from turnwire.models.token_model import TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.server.app import serve
from turnwire.server.heap import settle_heap
from turnwire.telemetry import logs

__all__ = ["pin"]


def pin(core: int) -> None:
    """Keep this process on one core, where the system can; cores are counted modulo ours."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


@asynccontextmanager
async def _turnwire(
    folder: Path, upstream: str | None, llama: str | None, key: str | None
) -> AsyncIterator[str]:
    server = ServerConfig(port=0, data_dir=folder, shutdown_grace_sec=1.0)
    models: list[Model] | None = None
    if upstream is not None:
        options = ChatOptions(base_url=upstream, model="mock", max_concurrent=1024)
        models = [ChatModel("chat", options)]
    if llama is not None:
        models = [await _on_llama(llama, key)]
    async with serve(Config(server=server), models=models) as one:
        yield one.url


async def _on_llama(url: str, key: str | None) -> Model:
    tokenizer = Tokenizer.shipped()
    vocabulary = Vocabulary(tokenizer.token_bytes(), tokenizer.special, tokenizer.encode)
    options = LlamaCppOptions(dialect=Dialect.LLGUIDANCE)
    engine = await LlamaCppEngine.connect(url, vocabulary, api_key=key, options=options)
    return TokenModel("llama", Renderer(tokenizer), engine)


@asynccontextmanager
async def _canned() -> AsyncIterator[str]:
    """The ceiling: a WebSocket that answers every message with the bytes of a whole turn."""

    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, decode_text=False)
        await socket.prepare(request)
        transport = request.transport
        assert transport is not None
        while (await socket.receive()).type is WSMsgType.TEXT:
            transport.write(CANNED)
        return socket

    app = web.Application()
    app.add_routes([web.get("/v1/responses", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _frame(kind: str, size: int) -> bytes:
    start = f'{{"type":"response.{kind}","id":"resp_{48 * "0"}",'.encode()
    payload = start + b" " * (size - len(start) - 1) + b"}"
    return b"\x81\x7e" + size.to_bytes(2, "big") + payload


# As many frames as a turn has, of the sizes they have.
CANNED: Final = b"".join(
    [
        _frame("created", 1400),
        _frame("in_progress", 1400),
        *(22 * [_frame("output_text.delta", 230)]),
        _frame("completed", 1800),
    ]
)


async def _run(serving: AbstractAsyncContextManager[str]) -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with serving as url:
        settle_heap()  # as `turnwire serve` does
        _say({"url": url})
        while await orders.readline():
            _say({"cpu_sec": time.process_time()})


def _say(message: object) -> None:
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--canned", action="store_true", help="measure the transport alone")
    parser.add_argument("--upstream", help="serve the model `chat` from this endpoint")
    parser.add_argument("--llama", help="serve the model `llama` from this llama-server")
    parser.add_argument("--llama-key", help="its API key")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the whole run here")
    args = parser.parse_args()
    pin(args.core)
    logs.configure("warning", "json")
    with tempfile.TemporaryDirectory() as folder:
        told = (args.upstream, args.llama, args.llama_key)
        main_task = _run(_canned() if args.canned else _turnwire(Path(folder), *told))
        if args.profile is None:
            uvloop.run(main_task)
        else:
            profile = cProfile.Profile()
            profile.runcall(uvloop.run, main_task)
            profile.dump_stats(args.profile)


if __name__ == "__main__":
    main()
