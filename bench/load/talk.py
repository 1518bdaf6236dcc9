"""Two clients of one conversation, with blocking sockets and as little else as can be.

`Talk` speaks to Turnwire, and sends what is new. `Direct` speaks to the llama-server below it, and
sends requests that were written before: it has nothing to do at all, so that what it takes is what
the engine takes. `Relay` stands between the two, once, to write those requests down.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

__all__ = ["Direct", "Relay", "Talk", "Timed"]

READ_BYTES: Final = 1 << 18
HANDSHAKE: Final = (
    b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FIRST_DELTA: Final = b'{"type":"response.output_text.delta"'
TERMINALS: Final = (b'{"type":"response.completed"', b'{"type":"response.incomplete"')
FIRST_TOKEN: Final = b'"tokens_predicted":1,'
END_OF_CHUNKS: Final = b"\r\n0\r\n\r\n"


class Timed(Struct, frozen=True, kw_only=True):
    """One turn.

    Attributes:
        wall_sec: From the request to the end of the answer.
        first_sec: From the request to the first token.
        num_prompt: Tokens of prompt.
        num_cached: How many of them were not computed again.
        num_output: Tokens of output.
    """

    wall_sec: float
    first_sec: float
    num_prompt: int
    num_cached: int
    num_output: int


class Talk:
    """A conversation over WebSocket."""

    def __init__(self, url: str, model: str, *, output_tokens: int) -> None:
        """Connect.

        Args:
            url: Of the server.
            model: Who answers.
            output_tokens: Where an answer is cut, or how long a simulated one is.
        """
        self._socket = _connect(url)
        self._socket.sendall(HANDSHAKE)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._read()
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(answer.decode("latin-1"))
        self._fields: dict[str, Any] = {
            "type": "response.create",
            "model": model,
            "store": False,
            "temperature": 0,
            "max_output_tokens": output_tokens,
            "metadata": {"sim.output_tokens": str(output_tokens - 1)},
        }

    def turn(self, text: str) -> Timed:
        """Say something; return when the answer has ended.

        Raises:
            ConnectionError: it failed.
        """
        item = {"type": "message", "role": "user", "content": text}
        message = json.dumps({**self._fields, "input": [item]}).encode()
        begin = time.perf_counter()
        self._socket.sendall(_framed(message))
        data, at, first_sec = b"", 0, 0.0
        while True:
            data += self._read()
            while (frame := _frame(data, at)) is not None:
                start, at = frame
                if data.startswith(FIRST_DELTA, start) and not first_sec:
                    first_sec = time.perf_counter() - begin
                elif data.startswith(TERMINALS, start):
                    return self._ended(data[start:at], time.perf_counter() - begin, first_sec)
                elif not data.startswith(b'{"type":"response.', start):
                    raise ConnectionError(data[start:at].decode())

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def _ended(self, event: bytes, wall_sec: float, first_sec: float) -> Timed:
        response = json.loads(event)["response"]
        self._fields["previous_response_id"] = response["id"]
        usage = response["usage"]
        return Timed(
            wall_sec=wall_sec,
            first_sec=first_sec,
            num_prompt=usage["input_tokens"],
            num_cached=usage["input_tokens_details"]["cached_tokens"],
            num_output=usage["output_tokens"],
        )

    def _read(self) -> bytes:
        return _read(self._socket)


class Direct:
    """Requests to a llama-server that were written before."""

    def __init__(self, url: str, key: str) -> None:
        """Prepare.

        Args:
            url: Of the server.
            key: Of its API.
        """
        self._url = url
        self._head = (
            "POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {key}\r\nContent-Length: "
        ).encode()

    def turn(self, body: bytes) -> Timed:
        """Send a request; return when the answer has ended."""
        whole = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        begin = time.perf_counter()
        # It closes a connection behind an answer that streams.
        with _connect(self._url) as connection:
            connection.sendall(whole)
            data, first_sec = b"", 0.0
            while not data.endswith(END_OF_CHUNKS):
                data += _read(connection)
                if not first_sec and FIRST_TOKEN in data:
                    first_sec = time.perf_counter() - begin
            wall_sec = time.perf_counter() - begin
        last = data[data.rindex(b"data: ") : data.rindex(b"}") + 1]
        timings = json.loads(last[6:])["timings"]
        return Timed(
            wall_sec=wall_sec,
            first_sec=first_sec,
            num_prompt=timings["cache_n"] + timings["prompt_n"],
            num_cached=timings["cache_n"],
            num_output=timings["predicted_n"],
        )


class Relay:
    """Passes requests on to a llama-server, and keeps the bodies of those to `/completion`.

    Attributes:
        url: Where it listens.
        bodies: In order.
    """

    def __init__(self, url: str) -> None:
        """Listen.

        Args:
            url: Of the server.
        """
        self._upstream = url
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url: Final = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bodies: Final[list[bytes]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = _connect(self._upstream)
        threading.Thread(target=_pump, args=(server, client), daemon=True).start()
        data = b""
        with suppress(OSError), client, server:
            while piece := client.recv(READ_BYTES):
                server.sendall(piece)
                data += piece
                head, _, body = data.partition(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                if len(body) == size:
                    if head.startswith(b"POST /completion "):
                        self.bodies.append(body)
                    data = b""


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(READ_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


def _connect(url: str) -> socket.socket:
    address = urlsplit(url)
    made = socket.create_connection((address.hostname or "", address.port or 80))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _read(connection: socket.socket) -> bytes:
    data = connection.recv(READ_BYTES)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def _framed(message: bytes) -> bytes:
    # A mask of zeros is a mask, and leaves the bytes as they are.
    return b"\x81\xff" + len(message).to_bytes(8, "big") + bytes(4) + message


def _frame(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `at` begins and ends; None if it is not whole."""
    if len(data) < at + 10:
        return None
    size, start = data[at + 1], at + 2
    if size == 126:
        size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
    elif size == 127:
        size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
    return (start, start + size) if start + size <= len(data) else None
