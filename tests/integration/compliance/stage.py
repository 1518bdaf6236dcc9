"""Where a case is played: a server, and clients that hold it to the specification alone.

All that the tests read is judged anyway (`tests/judges`), with leave for what is OpenAI's alone.
Here there is none: an event, an item or a field that Open Responses does not have is a complaint.
A stage also notes which transports were used, so that nobody can claim another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from msgspec import Struct
from tests.integration.recorder import Transcript
from tests.integration.serving import ALICE, Serving, bearer
from tests.integration.wire import (
    Answer,
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    open_websocket,
    read_sse,
)
from tests.judges.schemas import open_responses

__all__ = ["TRANSPORTS", "Line", "Stage", "Told", "Transport"]

Transport = Literal["json", "sse", "websocket"]
TRANSPORTS: Final[tuple[Transport, ...]] = ("json", "sse", "websocket")

ENDED: Final = ("response.completed", "response.incomplete", "response.failed")


class Told(Struct):
    """What a server answered.

    Attributes:
        response: The response object.
        events: The events that led to it; none if it came as JSON.
    """

    response: Json
    events: list[Json]

    @property
    def id(self) -> str:
        """The response's id."""
        identity = self.response["id"]
        assert isinstance(identity, str)
        return identity

    @property
    def output(self) -> list[Json]:
        """The output items."""
        items = self.response["output"]
        assert isinstance(items, list)
        return items

    @property
    def types(self) -> list[str]:
        """The types of the output items."""
        return [item["type"] for item in self.output]

    @property
    def text(self) -> str:
        """What the messages say."""
        return "".join(
            part["text"]
            for item in self.output
            if item["type"] == "message"
            for part in item["content"]
        )


class Line:
    """One WebSocket, used without lanes, as the specification has it."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket: Final = socket

    async def send(self, **fields: Any) -> None:
        """Ask for a response."""
        await self._socket.send_create(model="sim", **fields)

    async def read(self) -> Told:
        """Read a response to its end."""
        return _told(await self._socket.read_response())

    async def ask(self, **fields: Any) -> Told:
        """Ask for a response, and read it."""
        await self.send(**fields)
        return await self.read()

    async def read_all(self) -> list[Json]:
        """Read events up to the one that ends a response, errors among them."""
        events = [await self._socket.read_event()]
        while events[-1]["type"] not in ENDED:
            events.append(await self._socket.read_event())
        return _held(events)

    async def refused(self, **fields: Any) -> Json:
        """Ask for a response that is refused; the error."""
        event = await self._socket.refused(model="sim", **fields)
        assert [] == open_responses().complaints("WebSocketError", event)
        assert isinstance(event["error"], dict)
        return {"status": event["status"], **event["error"]}


class Stage:
    """A server that asks for keys, and the transports over which it was asked so far.

    Attributes:
        server: The server.
        used: The transports.
    """

    def __init__(self, server: Serving) -> None:
        self.server: Final = server
        self.used: Final[set[Transport]] = set()

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        """A WebSocket of its own."""
        self.used.add("websocket")
        async with open_websocket(self.server.url, bearer(ALICE)) as socket:
            yield Line(socket)

    @asynccontextmanager
    async def wire(self, transport: Transport) -> AsyncIterator[HttpConnection]:
        """A TCP connection of its own, on which nothing is sent yet."""
        self.used.add(transport)
        async with connect(self.server.url) as wire:
            yield wire

    async def post(self, path: str, body: Json) -> Answer:
        """Post JSON over a connection of its own."""
        async with self.wire("json") as wire:
            return await wire.request("POST", path, body, bearer(ALICE))

    async def compact(self, **fields: Any) -> Json:
        """Compact a conversation; what comes out."""
        answer = await self.post("/v1/responses/compact", {"model": "sim", **fields})
        made = answer.json()
        assert 200 == answer.status, made
        assert [] == open_responses().complaints("Compacted", made)
        return made

    async def ask(self, transport: Transport, **fields: Any) -> Told:
        """Create a response over a connection of its own."""
        if transport == "websocket":
            async with self.line() as line:
                return await line.ask(**fields)
        if transport == "sse":
            return _told(await self.stream(**fields), sse=True)
        answer = await self.post("/v1/responses", {"model": "sim", **fields})
        response = answer.json()
        assert 200 == answer.status, response
        assert [] == open_responses().complaints("Response", response)
        return Told(response, [])

    async def stream(self, **fields: Any) -> list[Json]:
        """Create a response over HTTP, and read its events."""
        answer = await self.raw_stream(**fields)
        assert 200 == answer.status, answer.body
        return _held(read_sse(answer.chunks))

    async def raw_stream(self, **fields: Any) -> Answer:
        """Ask for an event stream; the answer as it came."""
        async with self.wire("sse") as wire:
            return await wire.create(bearer(ALICE), model="sim", stream=True, **fields)

    async def refused(self, transport: Transport, **fields: Any) -> Json:
        """Ask for a response that is refused; the error, with its status."""
        if transport == "websocket":
            async with self.line() as line:
                return await line.refused(**fields)
        if transport == "sse":
            answer = await self.raw_stream(**fields)
        else:
            answer = await self.post("/v1/responses", {"model": "sim", **fields})
        return {"status": answer.status, **answer.error()}


def _held(events: list[Json]) -> list[Json]:
    """The events, if the specification has them as they are."""
    for event in events:
        assert [] == open_responses().event_complaints(event)
    return events


def _told(events: list[Json], *, sse: bool = False) -> Told:
    return Told(Transcript(_held(events), sse=sse).response, events)
