"""A proxy that passes every byte on as it is, and notes what was said.

It stands between a client and the server, so that a test can tell what the client did on the
wire: which HTTP requests it made, how many WebSockets it opened, and each event on them. Bytes
are copied before they are read, so that what cannot be read still arrives.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct, field
from tests.integration.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TERMINAL, TEXT
from tests.judges.judge import SocketJudge, StreamJudge, judge_body

from turnwire.resent import Outcome
from turnwire.telemetry.metrics import Metrics

__all__ = ["Exchange", "Json", "Tape", "Upgraded", "taping"]

Json = dict[str, Any]


class Upgraded(Struct, eq=False):
    """A WebSocket, from its handshake on.

    Attributes:
        headers: Of the handshake, by lower-case name.
        sent: Events of the client, in order.
        received: Events of the server, in order.
        num_binary: Binary messages, either way; there should be none.
        num_compressed: Compressed messages, either way.
        closes: Close codes, as they were sent.
    """

    headers: dict[str, str]
    sent: list[Json] = []
    received: list[Json] = []
    num_binary: int = 0
    num_compressed: int = 0
    closes: list[int] = []

    @property
    def creates(self) -> list[Json]:
        """The `response.create` events."""
        return [event for event in self.sent if event["type"] == "response.create"]

    @property
    def responses(self) -> list[Json]:
        """The terminal response objects."""
        return [event["response"] for event in self.received if event["type"] in TERMINAL]

    @property
    def errors(self) -> list[Json]:
        """The error events."""
        return [event for event in self.received if event["type"] == "error"]


class Exchange(Struct, eq=False):
    """An HTTP request and the status of its answer.

    Attributes:
        method: As in the request line.
        path: The same.
        headers: Of the request, by lower-case name.
        body: Of the request.
        status: Of the answer; 0 until there is one.
        answer: Body of the answer; empty for an accepted handshake.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0
    answer: bytes = b""
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def create(self) -> Json:
        """Its body, which must be one JSON object."""
        decoded = json.loads(self.body)
        assert isinstance(decoded, dict)
        return decoded


class Tape:
    """What was said to a server and by it.

    Attributes:
        url: Where clients connect.
        upstream: Where new connections lead, the server's address.
        exchanges: HTTP requests in order, handshakes too.
        sockets: WebSockets that were opened, in order.
        unreadable: What could not be read, as errors; there should be none.
        wrong: What the server said and should not have, as the judges' errors; the fixture that
            plays the tape fails a test if there are any.
        metrics: What the server counted.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.upstream = upstream
        self._gates: Final[set[_Gate]] = set()
        self.metrics = Metrics()
        self.exchanges: Final[list[Exchange]] = []
        self.sockets: Final[list[Upgraded]] = []
        self.unreadable: Final[list[Exception]] = []
        self.wrong: Final[list[AssertionError]] = []

    def hold(self) -> None:
        """Keep back what the server says on each open connection, until it closes a WebSocket.

        So the client learns at once what was said last and that it was the last.
        """
        for gate in self._gates:
            gate.shut = True

    def judge(self, rule: Callable[[Any], None], said: Any) -> None:
        """Have something judged that the server said, and go on."""
        try:
            rule(said)
        except AssertionError as error:
            self.wrong.append(error)

    @property
    def posts(self) -> list[Exchange]:
        """HTTP requests that create a response."""
        return [e for e in self.exchanges if (e.method, e.path) == ("POST", "/v1/responses")]

    @property
    def creates(self) -> list[Json]:
        """The `response.create` events of all sockets."""
        return [event for socket in self.sockets for event in socket.creates]

    @property
    def responses(self) -> list[Json]:
        """The terminal response objects of all sockets."""
        return [response for socket in self.sockets for response in socket.responses]

    @property
    def refused(self) -> list[tuple[str, str, int, bytes]]:
        """HTTP requests that were refused: method, path, status and answer."""
        return [(e.method, e.path, e.status, e.answer) for e in self.exchanges if e.status > 399]

    @property
    def errors(self) -> list[Json]:
        """The error events of all sockets."""
        return [event for socket in self.sockets for event in socket.errors]

    def known(self, outcome: Outcome) -> float:
        """How many whole conversations came of which so much was known."""
        labels: dict[str, str] = {"outcome": outcome}
        return (
            self.metrics.registry.get_sample_value("turnwire_resent_histories_total", labels) or 0
        )

    def check_clean(self, *, num_cancelled: int = 0) -> None:
        """Nobody said what the other could not take, and what was not cancelled is complete."""
        assert [] == self.unreadable, self.unreadable
        assert [] == self.refused, self.refused
        for socket in self.sockets:
            assert [] == socket.errors, socket.errors
            assert 0 == socket.num_binary
            # 1000 and 1001: done, going away. Anything else blames somebody.
            assert {1000, 1001, 1005} >= set(socket.closes)
        statuses = [response["status"] for response in self.responses]
        assert num_cancelled == statuses.count("cancelled")
        assert {"completed", "cancelled"} >= set(statuses)

    async def _listen_to_client(
        self, reader: asyncio.StreamReader, asked: asyncio.Queue[Exchange]
    ) -> None:
        while head := await _read_head(reader):
            line, headers = head
            method, path, _ = line.split(" ", 2)
            exchange = Exchange(method, path, headers)
            self.exchanges.append(exchange)
            asked.put_nowait(exchange)
            exchange.body = await _read_body(reader, headers, until_end=False)
            if exchange.upgrade:
                await exchange.answered.wait()
                if exchange.status == 101:
                    socket = next(s for s in self.sockets if s.headers is headers)
                    await _read_messages(reader, socket, socket.sent.append)

    async def _listen_to_server(
        self, reader: asyncio.StreamReader, asked: asyncio.Queue[Exchange], gate: _Gate
    ) -> None:
        try:
            while head := await _read_head(reader):
                exchange = await asked.get()
                exchange.status = int(head[0].split(" ", 2)[1])
                if exchange.status == 101:
                    socket = Upgraded(exchange.headers)
                    self.sockets.append(socket)
                    exchange.answered.set()
                    await _read_messages(reader, socket, self._hearing(socket), gate.open)
                    return
                exchange.answered.set()
                if exchange.method != "HEAD" and exchange.status not in (204, 304):
                    exchange.answer = await _read_body(reader, head[1], until_end=True)
                    kind = head[1].get("content-type", "").partition(";")[0]
                    if kind == "text/event-stream":
                        self.judge(StreamJudge().feed, exchange.answer)
                    elif kind == "application/json":
                        self.judge(judge_body, json.loads(exchange.answer))
        finally:
            while not asked.empty():  # what was never answered, so that nobody waits for it
                asked.get_nowait().answered.set()

    def _hearing(self, socket: Upgraded) -> Callable[[Json], None]:
        judge = SocketJudge()

        def hear(event: Json) -> None:
            socket.received.append(event)
            self.judge(judge.take_event, event)

        return hear

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = urlsplit(self.upstream)
        upstream_reader, upstream_writer = await asyncio.open_connection(place.hostname, place.port)
        asked: asyncio.Queue[Exchange] = asyncio.Queue()
        client, server = _copy(), _copy()
        gate = _Gate(writer)
        self._gates.add(gate)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._guard(self._listen_to_client(client, asked)))
            tasks.create_task(self._guard(self._listen_to_server(server, asked, gate)))
            tasks.create_task(_pump(reader, _Gate(upstream_writer), client))
            tasks.create_task(_pump(upstream_reader, gate, server))

    async def _guard(self, listening: Coroutine[Any, Any, None]) -> None:
        try:
            await listening
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one of them left in the middle of a word, as killed processes do
        except Exception as error:
            self.unreadable.append(error)


class _Gate:
    """What goes to one side of a connection; while it is shut, it waits here."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.shut = False
        self._writer: Final = writer
        self._held = b""

    async def write(self, data: bytes) -> None:
        if self.shut:
            self._held += data
            return
        self._writer.write(data)
        await self._writer.drain()

    def open(self) -> None:
        self.shut = False
        held, self._held = self._held, b""
        self._writer.write(held)

    def close(self) -> None:
        self.open()
        self._writer.close()


def _copy() -> asyncio.StreamReader:
    return asyncio.StreamReader(limit=2**26)


async def _pump(reader: asyncio.StreamReader, gate: _Gate, copy: asyncio.StreamReader) -> None:
    try:
        while data := await reader.read(65_536):
            copy.feed_data(data)
            await gate.write(data)
    except ConnectionError:
        pass
    finally:
        copy.feed_eof()
        gate.close()


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    """First line and headers, by lower-case name; None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = (each.partition(":") for each in lines)
    return line, {name.lower(): value.strip() for name, _, value in pairs}


async def _read_body(
    reader: asyncio.StreamReader, headers: dict[str, str], *, until_end: bool
) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        chunks = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            chunks.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return b"".join(chunks)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read() if until_end else b""


async def _read_messages(
    reader: asyncio.StreamReader,
    socket: Upgraded,
    hear: Callable[[Json], None],
    closed: Callable[[], None] = lambda: None,
) -> None:
    """Read frames (RFC 6455 section 5.2) until the end, compressed ones (RFC 7692) too."""
    # One inflater serves senders that keep their window and those that begin anew each time.
    inflate = zlib.decompressobj(-15).decompress
    opcode, compressed, parts = 0, False, list[bytes]()
    while True:
        try:
            first, second = await reader.readexactly(2)
        except asyncio.IncompleteReadError:
            return
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        mask = await reader.readexactly(4) if second & 0x80 else b""
        payload = await reader.readexactly(size)
        if mask:
            stream = (mask * (size // 4 + 1))[:size]
            both = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
            payload = both.to_bytes(size, "big")
        kind = first & 0x0F
        if kind == CLOSE:
            socket.closes.append(int.from_bytes(payload[:2], "big") or 1005)
            closed()
        if kind in (CLOSE, PING, PONG):
            continue
        if kind != CONTINUATION:
            opcode, compressed, parts = kind, bool(first & 0x40), []
        parts.append(payload)
        if not first & 0x80:
            continue
        message = b"".join(parts)
        if compressed:
            socket.num_compressed += 1
            message = inflate(message + b"\x00\x00\xff\xff")
        if opcode == BINARY:
            socket.num_binary += 1
        elif opcode == TEXT:
            hear(json.loads(message))


@asynccontextmanager
async def taping(url: str) -> AsyncIterator[Tape]:
    """Record what goes to the server at `url`, while the context is open."""
    tape = Tape(url)
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await tape._serve(reader, writer)
        finally:
            connections.discard(task)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    tape.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield tape
    finally:
        listener.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
