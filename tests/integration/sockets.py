"""What the tests of WebSocket mode share: a server told in detail, and readers of its sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from msgspec import structs
from tests.integration.recorder import Transcript
from tests.integration.serving import PROFILES, Serving, config
from tests.integration.wire import (
    TERMINAL,
    TEXT,
    Json,
    WebSocketConnection,
    frame,
    handshake,
)

from turnwire.config import KeyConfig, LimitsConfig, WebSocketConfig
from turnwire.engines.author import Author
from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.engines.vocabulary import Vocabulary
from turnwire.history import History
from turnwire.models.sim_model import SimModel
from turnwire.models.token_model import TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.server.app import serve

__all__ = [
    "Lanes",
    "Narrow",
    "hold_the_store",
    "open_narrow",
    "plain",
    "served",
    "stalled",
    "talking",
]

LINGER_OFF: Final = struct.pack("ii", 1, 0)
ASIDE: Final = ("response.steer.accepted", "response.steer.pending", "response.steer.failed")


@cache
def _parts() -> tuple[Renderer, Vocabulary, Author]:
    tokenizer = Tokenizer.shipped()
    vocabulary = Vocabulary(
        token_bytes=tokenizer.token_bytes(), special=tokenizer.special, encode=tokenizer.encode
    )
    return Renderer(tokenizer), vocabulary, Author(vocabulary)


@asynccontextmanager
async def served(
    data_dir: Path,
    *,
    profiles: Mapping[str, SimProfile] = PROFILES,
    keys: Sequence[KeyConfig] = (),
    limits: LimitsConfig | None = None,
    websocket: WebSocketConfig | None = None,
    beat_sec: float = 0.02,
    **server: Any,
) -> AsyncIterator[Serving]:
    """Serve while the context is open, with timers that are looked at often."""
    renderer, vocabulary, author = _parts()
    engines = {name: SimEngine(vocabulary, one, author) for name, one in profiles.items()}
    models = [SimModel(TokenModel(name, renderer, engine)) for name, engine in engines.items()]
    told = config(data_dir, keys=keys, limits=limits)
    told = structs.replace(
        told,
        server=structs.replace(told.server, **server),
        websocket=websocket or told.websocket,
    )
    async with serve(told, models=models, beat_sec=beat_sec) as running:
        yield Serving(running, engines)


def talking(num_tokens: int, **fields: Any) -> Json:
    """Fields of a create whose answer is a message of so many tokens."""
    return {
        "model": "sim",
        "input": "Tell me.",
        "store": False,
        "metadata": {"sim.output_tokens": f"{num_tokens}"},
        **fields,
    }


def stalled(**fields: Any) -> Json:
    """Fields of a create that begins and then says nothing for an hour."""
    return {
        "model": "sim",
        "input": "Wait.",
        "store": False,
        "metadata": {"sim.fault": "stall:3600"},
        **fields,
    }


def plain(events: Sequence[Json], *, stream_id: str | None = None) -> Transcript:
    """A response's transcript without what may be said beside it: steers and keep-alives.

    Raises:
        AssertionError: with all of them the numbering has a gap, or one is not as it must be.
    """
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    assert {stream_id} == {event.get("stream_id") for event in events}
    begun = events[1]
    kept = []
    for event in events:
        if event["type"] == "response.in_progress" and event is not begun:
            assert {**begun, "sequence_number": event["sequence_number"]} == event
        elif event["type"] not in ASIDE:
            kept.append(event)
    renumbered = [{**event, "sequence_number": number} for number, event in enumerate(kept)]
    return Transcript(renumbered, stream_id=stream_id)


class Lanes:
    """Reads one socket and sorts what comes by lane.

    Attributes:
        wire: The socket.
        events: By lane, those not taken yet; None is the default lane.
        order: Lane and type of every event so far, as they came.
    """

    def __init__(self, wire: WebSocketConnection) -> None:
        self.wire: Final = wire
        self.events: Final[dict[str | None, list[Json]]] = {}
        self.order: Final[list[tuple[str | None, str]]] = []

    async def read(self) -> Json:
        """Read one event."""
        event = await self.wire.read_event()
        lane = event.get("stream_id")
        self.events.setdefault(lane, []).append(event)
        self.order.append((lane, event["type"]))
        return event

    async def until(self, lane: str | None, *kinds: str) -> Json:
        """Read until the lane has an event of one of these types; return the first."""
        while True:
            for event in self.events.get(lane, ()):
                if event["type"] in kinds:
                    return event
            await self.read()

    async def take(self, lane: str | None) -> list[Json]:
        """The events of the lane's next response, up to its terminal one, or its error."""
        last = await self.until(lane, *TERMINAL, "error")
        events = self.events[lane]
        end = events.index(last) + 1
        taken, self.events[lane] = events[:end], events[end:]
        return taken

    async def response(self, lane: str | None) -> Transcript:
        """The lane's next response, which must not be an error."""
        return plain(await self.take(lane), stream_id=lane)


class Narrow:
    """A client in WebSocket mode that does not read, and whose socket takes little by itself."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket: Final = sock
        self._loop: Final = asyncio.get_running_loop()
        self._wire: WebSocketConnection | None = None

    async def send(self, data: bytes) -> None:
        """Write bytes as they are; waits for ever if the server does not read."""
        await self._loop.sock_sendall(self._socket, data)

    async def create(self, **fields: Any) -> None:
        """Send `response.create`."""
        body = json.dumps({"type": "response.create", **fields}).encode()
        await self.send(frame(TEXT, body))

    async def sip(self, num_bytes: int = 1) -> bytes:
        """Take a little; b"" at the end."""
        return await self._loop.sock_recv(self._socket, num_bytes)

    async def read_on(self) -> WebSocketConnection:
        """Begin to read like any client; from now on through what this returns."""
        reader, writer = await asyncio.open_connection(sock=self._socket, limit=2**20)
        self._wire = WebSocketConnection(reader, writer)
        return self._wire

    def reset(self) -> None:
        """Go away without a word."""
        if self._wire is not None:
            self._wire.reset()
            return
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        self._socket.close()


@asynccontextmanager
async def open_narrow(url: str) -> AsyncIterator[Narrow]:
    """A client that reads nothing of what it is sent."""
    place = urlsplit(url)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (place.hostname, place.port))
    narrow = Narrow(sock)
    await narrow.send(handshake())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await narrow.sip()
    assert head.startswith(b"HTTP/1.1 101 ")
    try:
        yield narrow
    finally:
        narrow.reset()


def hold_the_store(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Have whoever keeps a response wait; return what says that one does, and what frees them."""
    asked, free = asyncio.Event(), asyncio.Event()
    keep = History.keep

    async def held(self: History, *given: Any, **told: Any) -> None:
        asked.set()
        await free.wait()
        await keep(self, *given, **told)

    monkeypatch.setattr(History, "keep", held)
    return asked, free
