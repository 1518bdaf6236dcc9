"""A chat-completions endpoint for tests: a real HTTP server that answers as it is told.

async with endpoint(lambda asked: Reply(sse(text("Hel"), text("lo"), end()))) as one:
    ChatModel("m", ChatOptions(base_url=one.url, model="upstream"))
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from msgspec import Struct, field

__all__ = ["Asked", "Endpoint", "Reply", "call", "end", "endpoint", "sse", "text", "usage"]

Json = dict[str, Any]


class Asked(Struct, frozen=True):
    """A request that arrived."""

    raw: bytes
    headers: Mapping[str, str]

    @property
    def body(self) -> Json:
        """Its JSON."""
        found: Json = json.loads(self.raw)
        return found


class Reply(Struct):
    """What to answer.

    Attributes:
        pieces: Written one after the other.
        status: Of HTTP.
        headers: Besides those that HTTP needs.
        kind: The content type.
        cut: Abort the connection instead of ending the body.
        gate: If given, only the first piece is written before it opens.
    """

    pieces: Sequence[bytes] | AsyncIterator[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "text/event-stream; charset=utf-8"
    cut: bool = False
    gate: asyncio.Event | None = None


class Endpoint(Struct):
    """An endpoint that runs.

    Attributes:
        url: Its base URL.
        asked: Every request, in order.
        peers: The connections they came on, each by its client's port.
        num_left: Requests whose client went away before the answer was whole.
    """

    url: str
    asked: list[Asked] = field(default_factory=list)
    peers: list[int] = field(default_factory=list)
    num_left: int = 0


@asynccontextmanager
async def endpoint(script: Callable[[Asked], Reply]) -> AsyncIterator[Endpoint]:
    """Serve while the context is open."""
    one = Endpoint("")

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = Asked(await request.read(), dict(request.headers))
        transport = request.transport
        assert transport is not None
        one.asked.append(asked)
        one.peers.append(transport.get_extra_info("peername")[1])
        reply = script(asked)
        if reply.status == 0:
            transport.abort()
            return web.Response()
        response = web.StreamResponse(
            status=reply.status, headers={**reply.headers, "Content-Type": reply.kind}
        )
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            first = True
            async for piece in _each(reply.pieces):
                if not first and reply.gate is not None:
                    await reply.gate.wait()
                first = False
                await response.write(piece)
            if reply.cut:
                transport.abort()
            else:
                await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            one.num_left += 1
            raise
        return response

    app = web.Application(client_max_size=256 * 1024 * 1024)
    app.add_routes([web.post("/v1/chat/completions", answer), web.get("/v1/models", answer)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield one
    finally:
        await runner.cleanup()


async def _each(pieces: Sequence[bytes] | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(pieces, Sequence):
        for piece in pieces:
            yield piece
    else:
        async for piece in pieces:
            yield piece


def sse(*chunks: Json, done: bool = True) -> list[bytes]:
    """Chunks as events, a piece each."""
    pieces = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    return [*pieces, b"data: [DONE]\n\n"] if done else pieces


def _chunk(delta: Json, finish_reason: str | None = None) -> Json:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "upstream",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def text(content: str, **more: Any) -> Json:
    """A chunk with text."""
    return _chunk({"content": content, **more})


def call(index: int | None, name: str | None, arguments: str | None, id_: str | None) -> Json:
    """A chunk with one entry of `tool_calls`; None leaves a field out."""
    function = {
        key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None
    }
    entry: Json = {"type": "function", "function": function}
    if index is not None:
        entry["index"] = index
    if id_ is not None:
        entry["id"] = id_
    return _chunk({"tool_calls": [entry]})


def end(reason: str = "stop") -> Json:
    """The chunk that says how it ended."""
    return _chunk({}, reason)


def usage(prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> Json:
    """The last chunk, with token counts."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        },
    }
