"""A chat-completions endpoint without a model: every request is answered with the same call.

As cheap as it can be, so that what is measured is who asks; its tokens come at once, or one by
one. It says
`{"url": ...}` on standard output once it listens; the end of standard input ends it. Run by the
load benches: python -m bench.load.upstream --core 1
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
from typing import Any, Final, cast

import uvloop

from bench.load.server import pin

__all__ = ["OUTPUT_TOKENS"]

OUTPUT_TOKENS: Final = 20

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nServer: mock\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
CALL_ID: Final = b"call_%032d"


def _chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1763700000,
        "model": "mock",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
    }
    return _framed(f"data: {json.dumps(chunk)}\n\n".encode())


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _arguments(text: str) -> bytes:
    return _chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})


def _first() -> bytes:
    function = {"name": "run", "arguments": ""}
    entry = {"index": 0, "id": (CALL_ID % 0).decode(), "type": "function", "function": function}
    return _chunk({"role": "assistant", "content": None, "tool_calls": [entry]})


USAGE: Final = _framed(
    b'data: {"choices":[],"usage":{"prompt_tokens":900,"completion_tokens":20,'
    b'"total_tokens":920,"prompt_tokens_details":{"cached_tokens":880}}}\n\ndata: [DONE]\n\n'
)
FIRST: Final = _first()
ARGUMENTS: Final = [
    _arguments('{"cmd": "'),
    *(_arguments(f"word{n} ") for n in range(OUTPUT_TOKENS - 2)),
    _arguments('"}'),
]
LAST: Final = _chunk({}, "tool_calls") + USAGE + b"0\r\n\r\n"


class Endpoint(asyncio.Protocol):
    """One connection, one request at a time."""

    num_calls = 0

    def __init__(self, between_sec: float) -> None:
        """
        Args:
            between_sec: Time between two tokens; 0 for none.
        """
        self._between_sec = between_sec
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._received += data
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            self._missing = size - (len(self._received) - end - 4)
            self._received.clear()
        if not self._missing:
            self._answer()

    def _answer(self) -> None:
        Endpoint.num_calls += 1
        write = self._transport.write
        write(HEAD + FIRST.replace(CALL_ID % 0, CALL_ID % Endpoint.num_calls))
        if self._between_sec:
            self._go_on(0)
            return
        for piece in ARGUMENTS:  # a write each, as a server that streams does
            write(piece)
        write(LAST)

    def _go_on(self, place: int) -> None:
        if place == len(ARGUMENTS):
            self._transport.write(LAST)
            return
        self._transport.write(ARGUMENTS[place])
        loop = asyncio.get_running_loop()
        loop.call_later(self._between_sec, self._go_on, place + 1)


async def _serve(between_sec: float) -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    server = await loop.create_server(lambda: Endpoint(between_sec), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}/v1"}) + "\n")
    sys.stdout.flush()
    await orders.read()
    server.close()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--between-ms", type=float, default=0.0)
    args = parser.parse_args()
    pin(args.core)
    gc.disable()
    uvloop.run(_serve(args.between_ms / 1e3))


if __name__ == "__main__":
    main()
