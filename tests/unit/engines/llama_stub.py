"""A server on a real socket that says what a llama-server says, or what it should not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from turnwire.engines.vocabulary import Vocabulary

__all__ = ["Stub", "event", "last", "progress", "stub", "token"]

Handler = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def event(**fields: Any) -> bytes:
    """One event as it is on the wire."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def progress(cache: int = 0) -> bytes:
    """The report that comes first; with the token that nobody sampled."""
    return event(content="", tokens=[0], stop=False, prompt_progress={"cache": cache, "total": 9})


def token(id_: int, count: int, text: str = "x") -> bytes:
    """One sampled token, the `count`-th."""
    return event(content=text, tokens=[id_], stop=False, tokens_predicted=count)


def last(stop_type: str = "limit", **fields: Any) -> bytes:
    """The last event."""
    return event(tokens=[], stop=True, stop_type=stop_type, **fields)


class Stub:
    """What the server does; change it while it runs.

    Attributes:
        url: Where it listens.
        window: Of a slot.
        slots: How many.
        grammar: What it makes of a JSON schema; None if it cannot.
        obeys: Whether it obeys a grammar that names a token.
        model: What it calls its model in answers to probes.
        loading: How often it still answers that it loads its model.
        loaded: Called when it says that it does not load any more.
        key: The API key that it wants, or None.
        answer: What it does for `/completion`, but not for probes.
        bodies: Every request to `/completion` that was no probe.
        addresses: Where they came from: one for each connection.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.url = ""
        self.window = 64
        self.slots = 2
        self.grammar: str | None = 'root ::= "{}"'
        self.obeys = True
        self.model = "one.gguf"
        self.loading = 0
        self.loaded: Callable[[], None] = lambda: None
        self.key: str | None = None
        self.answer: Handler = self.say(progress(), token(20, 1), last())
        self.bodies: list[dict[str, Any]] = []
        self.addresses: list[Any] = []
        self.status = 200
        self.refusal = b'{"error":{"code":400,"message":"no  such\\n thing","type":"x"}}'

    @staticmethod
    def say(*chunks: bytes) -> Handler:
        """An answer that is these bytes."""

        async def handler(request: web.Request, response: web.StreamResponse) -> None:
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)

        return handler

    @staticmethod
    def cut(*chunks: bytes) -> Handler:
        """The same, and then the connection is gone."""

        async def handler(request: web.Request, response: web.StreamResponse) -> None:
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            await asyncio.sleep(0.05)  # what was written is to arrive
            assert request.transport is not None
            request.transport.abort()
            await asyncio.Event().wait()

        return handler

    @staticmethod
    def stall(*chunks: bytes) -> Handler:
        """The same, and then silence."""

        async def handler(request: web.Request, response: web.StreamResponse) -> None:
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            await asyncio.Event().wait()

        return handler

    def routes(self) -> list[web.RouteDef]:
        """What it serves."""
        return [
            web.get("/health", self._health),
            web.get("/props", self._props),
            web.post("/detokenize", self._detokenize),
            web.post("/completion", self._completion),
        ]

    async def _health(self, request: web.Request) -> web.Response:
        self.loading -= 1
        if self.loading < 0:
            self.loaded()
        return web.Response(status=503 if self.loading >= 0 else 200)

    async def _props(self, request: web.Request) -> web.Response:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "Invalid API Key"}}, status=401)
        settings = {"n_ctx": self.window}
        return web.json_response(
            {"default_generation_settings": settings, "total_slots": self.slots}
        )

    async def _detokenize(self, request: web.Request) -> web.Response:
        told = await request.json()
        text = self.vocabulary.decode(told["tokens"]).decode("utf-8", "replace")
        return web.json_response({"content": text})

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        told = await request.json()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if "json_schema" in told:
            if self.grammar is None:
                return web.Response(status=400, body=self.refusal)
            told = {"generation_settings/grammar": self.grammar, "model": self.model}
            await self.say(token(20, 1), last(**told))(request, response)
        elif told["prompt"] == [0]:
            obeyed = token(0 if self.obeys else 21, 1)
            await self.say(obeyed, last(model=self.model))(request, response)
        else:
            self.bodies.append(told)
            assert request.transport is not None
            self.addresses.append(request.transport.get_extra_info("peername"))
            if self.status != 200:
                return web.Response(status=self.status, body=self.refusal)
            await self.answer(request, response)
        return response


@asynccontextmanager
async def stub(vocabulary: Vocabulary) -> AsyncIterator[Stub]:
    """Run one."""
    made = Stub(vocabulary)
    app = web.Application(client_max_size=1 << 26)
    app.add_routes(made.routes())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
