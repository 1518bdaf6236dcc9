"""What the official clients read is seen: a server that says something wrong is found out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from openai import AsyncOpenAI, OpenAIError
from tests.judges.samples import STREAMS, Json, response
from tests.judges.witness import watching

TEXT = STREAMS["text"]


class Liar:
    """A server that says what it is told to.

    Attributes:
        says: The events of every stream, and of every WebSocket; the last one's response is the
            answer to what is not streamed.
        url: Where it listens.
    """

    def __init__(self) -> None:
        self.says = TEXT
        self.url = ""

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/responses."""
        if not (await request.json()).get("stream"):
            return web.json_response(self.says[-1]["response"])
        frames = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in self.says]
        body = "".join([*frames, "data: [DONE]\n\n"])
        return web.Response(text=body, content_type="text/event-stream")

    async def upgrade(self, request: web.Request) -> web.WebSocketResponse:
        """Answer the first message of a WebSocket."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        for event in self.says:
            await socket.send_json(event)
        await socket.close()
        return socket


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    """A server that is no part of ours."""
    liar = Liar()
    app = web.Application()
    app.router.add_post("/v1/responses", liar.post)
    app.router.add_get("/v1/responses", liar.upgrade)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port, *_ = runner.addresses[0]
    liar.url = f"http://{host}:{port}/v1"
    yield liar
    await runner.cleanup()


async def ask(url: str, transport: str) -> None:
    """Read one answer through the official client; what it makes of it is its own affair."""
    async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
        try:
            if transport == "websocket":
                async with client.responses.connect() as connection:
                    await connection.response.create(model="m", input="Hi")
                    async for _ in connection:
                        pass
            elif transport == "sse":
                async for _ in await client.responses.create(model="m", input="Hi", stream=True):
                    pass
            else:
                await client.responses.create(model="m", input="Hi")
        except OpenAIError:
            pass


WRONG: list[tuple[str, list[Json]]] = [
    ("a wrong type", [*TEXT[:-1], {**TEXT[-1], "response": response(store="yes")}]),
    ("no sense", [*TEXT[:-1], {**TEXT[-1], "response": response(id="x")}]),
]


@pytest.mark.parametrize("transport", ["json", "sse", "websocket"])
async def test_what_is_right(liar: Liar, transport: str) -> None:
    """Nothing happens where nothing is wrong."""
    with watching():
        await ask(liar.url, transport)


@pytest.mark.parametrize("transport", ["json", "sse", "websocket"])
@pytest.mark.parametrize("events", [one[1] for one in WRONG], ids=[one[0] for one in WRONG])
async def test_what_is_wrong(liar: Liar, transport: str, events: list[Json]) -> None:
    """A wrong object is found in any transport, whatever the client says to it."""
    liar.says = events
    with pytest.raises(AssertionError), watching():
        await ask(liar.url, transport)
