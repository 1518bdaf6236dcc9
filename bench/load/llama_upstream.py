"""A llama-server without a model: it says what a real one says, as cheaply as that can be done.

Every `/completion` is answered at once with the same twenty tokens; the prompt is counted and
thrown away. So what is measured is who asks. It says `{"url": ...}` on standard output once it
listens; the end of standard input ends it. Run by the load benches:
python -m bench.load.llama_upstream --core 1
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

import uvloop

from bench.load.server import pin
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["OUTPUT_TOKENS"]

OUTPUT_TOKENS: Final = 20
WINDOW: Final = 1 << 20
SLOTS: Final = 256

STREAM: Final = (
    b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nContent-Type: text/event-stream\r\n"
    b"Server: llama.cpp\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def _event(**fields: Any) -> bytes:
    data = f"data: {json.dumps(fields)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def _answer(table: Sequence[bytes]) -> bytes:
    """A whole answer: the report of progress, tokens, and the last event."""
    ids = [id_ for id_, one in enumerate(table) if one.isalpha()][100 : 100 + OUTPUT_TOKENS]
    report = {"total": 9, "cache": 9, "processed": 9, "time_ms": 0}
    first = {"content": "", "tokens": [0], "tokens_predicted": 0, "prompt_progress": report}
    last = {"tokens": [], "stop_type": "eos", "tokens_predicted": len(ids)}
    tokens = [
        {"content": table[id_].decode(), "tokens": [id_], "tokens_predicted": n}
        for n, id_ in enumerate(ids, 1)
    ]
    events = [_event(stop=False, **one) for one in (first, *tokens)]
    return b"".join([STREAM, *events, _event(stop=True, **last), b"0\r\n\r\n"])


class Endpoint(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, table: Sequence[bytes], answer: bytes) -> None:
        """
        Args:
            table: Bytes of each token of the vocabulary that it claims to serve.
            answer: What it says to `/completion`.
        """
        self._table: Final = table
        self._answer: Final = answer
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._path = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._missing and self._path == b"/completion":
            self._missing -= len(data)
        else:
            self._received += data
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end])
            self._path = head.split(b" ", 2)[1]
            size = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            self._missing = int(size or 0) - (len(self._received) - end - 4)
        if not self._missing:
            body = bytes(self._received).partition(b"\r\n\r\n")[2]
            self._received.clear()
            self._answer_it(body)

    def _answer_it(self, body: bytes) -> None:
        write = self._transport.write
        match self._path:
            case b"/completion":
                # In one piece: how many wake-ups an answer is, is the machine's business.
                write(self._answer)
                self._transport.close()  # as a real one does, whatever it says of keeping it
            case b"/props":
                settings = {"n_ctx": WINDOW}
                write(_plain({"total_slots": SLOTS, "default_generation_settings": settings}))
            case b"/detokenize":
                spelt = [self._table[id_] for id_ in json.loads(body)["tokens"]]
                write(_plain({"content": b"".join(spelt).decode()}))
            case _:
                write(_plain({"status": "ok"}))


def _plain(message: object) -> bytes:
    data = json.dumps(message).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(data) + data


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    table = Tokenizer.shipped().token_bytes()
    answer = _answer(table)
    server = await loop.create_server(lambda: Endpoint(table, answer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    await orders.read()
    server.close()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--core", type=int, default=1)
    args = parser.parse_args()
    pin(args.core)
    gc.disable()
    uvloop.run(_serve())


if __name__ == "__main__":
    main()
