"""A client of bytes: HTTP/1.1 and RFC 6455 by hand, so that a test decides what is on the wire.

It checks what it reads as strictly as it can: whatever is read here is judged (`tests/judges`)
before a test sees it. It waits for nothing longer than `PATIENCE_SEC`: a bound that a healthy
server never comes near, and that decides no test.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct
from tests.judges.judge import SocketJudge, StreamJudge, judge_body

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TERMINAL",
    "TEXT",
    "Answer",
    "HttpConnection",
    "Json",
    "WebSocketConnection",
    "connect",
    "frame",
    "handshake",
    "open_websocket",
    "read_sse",
    "write_request",
]

Json = dict[str, Any]

PATIENCE_SEC: Final = 20.0
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
KEY: Final = base64.b64encode(b"sixteen  octets!").decode()
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
LINGER_OFF: Final = struct.pack("ii", 1, 0)


class Answer(Struct, kw_only=True):
    """One HTTP answer.

    Attributes:
        status: As in the status line.
        headers: By lower-case name.
        body: All of it.
        chunks: The HTTP chunks it came in; empty if it was not chunked.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    chunks: list[bytes] = []

    def json(self) -> Json:
        """The body, which must be one JSON object and say so."""
        assert self.headers["content-type"].partition(";")[0] == "application/json"
        decoded = json.loads(self.body)
        assert isinstance(decoded, dict)
        return decoded

    def error(self) -> Json:
        """The error of the body; the body must hold it in full and nothing else."""
        body = self.json()
        assert ["error"] == list(body)
        error = body["error"]
        assert isinstance(error, dict)
        assert {"message", "type", "param", "code"} == set(error)
        assert isinstance(error["message"], str)
        assert error["message"]
        return error


def write_request(
    method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def handshake(headers: Mapping[str, str] | None = None, path: str = "/v1/responses") -> bytes:
    """The bytes that ask for WebSocket mode."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    return write_request("GET", path, headers={**upgrade, **(headers or {})})


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """One frame of a client (RFC 6455 section 5.2), masked."""
    flag = 0x80
    first = (0x80 if fin else 0) | opcode
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    mask = os.urandom(4)
    stream = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ stream).to_bytes(size, "big")


class Wire:
    """A TCP connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader: Final = reader
        self.writer: Final = writer

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_SEC):
            await self.writer.drain()

    async def send_split(self, data: bytes, position: int) -> None:
        """Write bytes in two packets that the server reads one after the other."""
        await self.send(data[:position])
        await let_server_read()
        await self.send(data[position:])

    async def read_line(self) -> bytes:
        """Read one line as it is."""
        async with asyncio.timeout(PATIENCE_SEC):
            return await self.reader.readuntil(b"\n")

    async def read_all(self) -> bytes:
        """Read until the server closes."""
        async with asyncio.timeout(PATIENCE_SEC):
            return await self.reader.read()

    async def read_head(self) -> Answer:
        """Read status line and headers."""
        async with asyncio.timeout(PATIENCE_SEC):
            head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")[:-2]
        version, code, _ = status.split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines:
            name, separator, value = line.partition(":")
            assert separator
            assert name.lower() not in headers
            headers[name.lower()] = value.strip()
        answer = Answer(status=int(code), headers=headers)
        self.began(answer)
        return answer

    def began(self, answer: Answer) -> None:
        """The head of an answer was read; its body comes next."""

    async def at_end(self) -> bool:
        """Whether the server has closed, with nothing unread."""
        async with asyncio.timeout(PATIENCE_SEC):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def reset(self) -> None:
        """Go away without a word: RST, as of a process that was killed."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        self.writer.transport.abort()

    def close(self) -> None:
        """Close this end."""
        self.writer.close()


class HttpConnection(Wire):
    """A keep-alive connection."""

    _stream: StreamJudge | None = None  # of the event stream that is being read

    def began(self, answer: Answer) -> None:
        """Have an event stream judged as it comes."""
        kind = answer.headers.get("content-type", "").partition(";")[0]
        self._stream = StreamJudge() if kind == "text/event-stream" else None

    async def read_chunk(self) -> bytes:
        """Read one chunk of a chunked body; b"" is its end."""
        async with asyncio.timeout(PATIENCE_SEC):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        if self._stream is not None:
            self._stream.feed(data)
        return data

    async def read_answer(self) -> Answer:
        """Read one whole answer."""
        answer = await self.read_head()
        if answer.headers.get("transfer-encoding") == "chunked":
            while chunk := await self.read_chunk():
                answer.chunks.append(chunk)
            answer.body = b"".join(answer.chunks)
        else:
            async with asyncio.timeout(PATIENCE_SEC):
                size = int(answer.headers["content-length"])
                answer.body = await self.reader.readexactly(size)
        if answer.headers.get("content-type", "").partition(";")[0] == "application/json":
            judge_body(answer.json())
        return answer

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and read its answer."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        await self.send(write_request(method, path, body, headers))
        return await self.read_answer()

    async def create(self, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        """POST /v1/responses with these fields."""
        return await self.request("POST", "/v1/responses", fields, headers)


def read_sse(chunks: Iterable[bytes]) -> list[Json]:
    """The events of a stream; checks the framing of protocol.md section 7 on the way."""
    *frames, last = chunks
    assert last == b"data: [DONE]\n\n"
    events = []
    for data in frames:
        assert b"\r" not in data
        event, payload, *rest = data.split(b"\n")
        assert rest == [b"", b""]
        assert event.startswith(b"event: ")
        assert payload.startswith(b"data: ")
        decoded = json.loads(payload.removeprefix(b"data: "))
        assert event.removeprefix(b"event: ").decode() == decoded["type"]
        events.append(decoded)
    return events


class WebSocketConnection(Wire):
    """A connection in WebSocket mode."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        judge: SocketJudge | None = None,
    ) -> None:
        super().__init__(reader, writer)
        self._judge: Final = judge or SocketJudge()

    async def send_event(self, **fields: Any) -> None:
        """Send one event as a text frame."""
        await self.send(frame(TEXT, json.dumps(fields).encode()))

    async def send_create(self, **fields: Any) -> None:
        """Send `response.create` with these fields."""
        await self.send_event(type="response.create", **fields)

    async def read_frame(self) -> tuple[int, bytes]:
        """Read one frame; it must be final and unmasked, as those of this server are."""
        async with asyncio.timeout(PATIENCE_SEC):
            first, second = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80
            assert second < 128
            size = second
            if second == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif second == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            opcode, payload = first & 0x0F, await self.reader.readexactly(size)
        if opcode == TEXT:
            self._judge.take(payload)
        return opcode, payload

    async def read_event(self) -> Json:
        """Read one event; anything else fails."""
        opcode, payload = await self.read_frame()
        assert opcode == TEXT, f"opcode {opcode}: {payload!r}"
        decoded = json.loads(payload)
        assert isinstance(decoded, dict)
        return decoded

    async def read_response(self) -> list[Json]:
        """Read the events of one response up to its terminal one."""
        events = [await self.read_event()]
        while events[-1]["type"] not in TERMINAL:
            assert events[-1]["type"] != "error", events[-1]
            events.append(await self.read_event())
        return events

    async def create(self, **fields: Any) -> list[Json]:
        """Create a response and read all of its events."""
        await self.send_create(**fields)
        return await self.read_response()

    async def refused(self, **fields: Any) -> Json:
        """Create a response that is refused; the error event."""
        await self.send_create(**fields)
        return await self.read_error()

    async def read_error(self) -> Json:
        """Read one event, which must be an error in the shape that every client takes."""
        event = await self.read_event()
        assert event["type"] == "error", event
        assert isinstance(event["status"], int)
        assert event["sequence_number"] == 0
        error = event["error"]
        assert {"type", "code", "message", "param"} <= set(error)
        assert error["code"]
        assert error["message"]
        # The flat form of the same error, for readers of that one (protocol.md section 5.3).
        assert [error[name] for name in ("code", "message", "param")] == [
            event[name] for name in ("code", "message", "param")
        ]
        return event

    async def read_close(self) -> int:
        """Read a close frame; its code."""
        opcode, payload = await self.read_frame()
        assert opcode == CLOSE, f"opcode {opcode}: {payload!r}"
        return int.from_bytes(payload[:2], "big")


async def let_server_read() -> None:
    """Give the server the loop, which both ends share, until it has read what was sent."""
    for _ in range(3):
        await asyncio.sleep(0)


async def _dial(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    async with asyncio.timeout(PATIENCE_SEC):
        return await asyncio.open_connection(place.hostname, place.port, limit=2**26)


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[HttpConnection]:
    """A fresh HTTP connection."""
    wire = HttpConnection(*await _dial(url))
    try:
        yield wire
    finally:
        wire.close()


@asynccontextmanager
async def open_websocket(
    url: str, headers: Mapping[str, str] | None = None, *, chunks: Sequence[bytes] | None = None
) -> AsyncIterator[WebSocketConnection]:
    """A fresh connection in WebSocket mode.

    Args:
        url: Of the server.
        headers: To send with the handshake.
        chunks: What to send instead of the handshake, one after the other.
    """
    wire = WebSocketConnection(*await _dial(url))
    try:
        for chunk in chunks or [handshake(headers)]:
            await wire.send(chunk)
            await let_server_read()
        check_accepted(await wire.read_head())
        yield wire
    finally:
        wire.close()


def check_accepted(answer: Answer) -> None:
    """The handshake was accepted, with the right proof and nothing negotiated."""
    assert answer.status == 101
    assert answer.headers["upgrade"].lower() == "websocket"
    # The protocol asks for SHA-1.
    proof = base64.b64encode(hashlib.sha1(KEY.encode() + GUID).digest())  # noqa: S324
    assert proof.decode() == answer.headers["sec-websocket-accept"]
    assert not {"sec-websocket-protocol", "sec-websocket-extensions"} & set(answer.headers)
