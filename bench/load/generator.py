"""Clients that ask for one small turn after the other, as cheaply as that can be done.

They are raw asyncio protocols that look at a reply no more than they must: frame lengths, the
type of each event, the response's id. A real client costs ten times the server; this one has to
cost less than the server, or it would be what is measured.

It says `"begin"` and `"end"` on standard output when the measured seconds begin and end, then
what it saw. Run by the load benches: python -m bench.load.generator --url http://... --arm ws
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import uvloop
from msgspec import Struct

from bench.load.server import pin

__all__ = ["OUTPUT_TOKENS", "TURNS_OF_CONVERSATION", "Seen"]

OUTPUT_TOKENS = 17
"""created, in_progress, item added, part added; 17 deltas; text, part and item done, completed."""
TURNS_OF_CONVERSATION = 50
"""Then a new conversation begins, so that contexts stay as small as they are in a task."""

GOODBYE_SEC = 10.0

HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = (
    b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n"
)
TURNS_OF_LOOP = 20
CALL_ID = b"CALL-ID"
CALL_ID_AT = b'"call_id":"'
EVENT_OF_CALL = 2  # behind created and in_progress
ID_AT = b'"id":"resp_'
ID_BYTES = len("resp_") + 48


class Seen(Struct, kw_only=True):
    """What the clients saw in the measured seconds.

    Attributes:
        turns: Turns that ended.
        events: Their events.
        whole_turns: Turns of exactly 25 events; a character of two tokens makes one delta less.
        wall_sec: How long it was measured.
        cpu_sec: What this process spent.
        latency_ms: Of a turn, from request to terminal event: median and 99th percentile.
    """

    turns: int
    events: int
    whole_turns: int
    wall_sec: float
    cpu_sec: float
    latency_ms: tuple[float, float]


class Tally:
    """Counts of all clients."""

    def __init__(self) -> None:
        self.turns = 0
        self.events = 0
        self.whole_turns = 0
        self.latencies_sec: list[float] = []
        self.failure: str | None = None
        self.over = False  # set when it was measured: clients go after the turn they are in
        self.num_clients = 0
        self.all_gone = asyncio.Event()

    def add(self, events: int, sec: float) -> None:
        """One turn ended."""
        self.turns += 1
        self.events += events
        self.whole_turns += events == 25
        self.latencies_sec.append(sec)


class Client(asyncio.Protocol):
    """One connection. Subclasses read one transport's framing and call `_ended`."""

    def __init__(self, tally: Tally, script: Script) -> None:
        self._tally = tally
        self._script = script
        self._transport: asyncio.Transport
        self._rest = b""  # of what was received: the beginning of something unfinished
        self._events = 0  # of the turn so far
        self._id = b""  # of the turn's response
        self._call_id = b""  # of the turn's call, where it makes one
        self._turn = 0  # number in its conversation
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._tally.num_clients += 1
        self._begin()

    def connection_lost(self, error: Exception | None) -> None:
        self._tally.num_clients -= 1
        if not self._tally.num_clients:
            self._tally.all_gone.set()
        if self._tally.failure is None and not self._tally.over:
            self._tally.failure = f"the server closed the connection: {error}"

    def _begin(self) -> None:
        self._ask()

    def _ask(self) -> None:
        self._events = 0
        script = self._script
        if self._turn == script.num_turns:
            self._turn = 0
        if self._turn:
            parent = b'"previous_response_id":"' + self._id + b'",'
            message = script.head + parent + script.following.replace(CALL_ID, self._call_id)
        else:
            message = script.head + script.first
        self._turn += 1
        self._sent_at = time.perf_counter()
        self._transport.write(self._framed(message))

    def _framed(self, message: bytes) -> bytes:
        raise NotImplementedError

    def _saw(self, data: bytes, at: int, size: int) -> None:
        """Count one event, which is `data[at : at + size]`."""
        if not self._events:
            found = data.find(ID_AT, at, at + size)
            if found < 0:
                self._tally.failure = data[at : at + size].decode("utf-8", "replace")
                self._transport.abort()
                return
            start = found + len(b'"id":"')
            self._id = data[start : start + ID_BYTES]
        elif self._events == EVENT_OF_CALL and self._script.calls:
            found = data.find(CALL_ID_AT, at, at + size)
            if found >= 0:
                start = found + len(CALL_ID_AT)
                self._call_id = data[start : data.index(b'"', start)]
        self._events += 1

    def _ended(self) -> None:
        self._tally.add(self._events, time.perf_counter() - self._sent_at)
        if self._tally.over:
            self._transport.close()
        else:
            self._ask()


class WebSocketClient(Client):
    """Frames: RFC 6455 section 5.2."""

    def __init__(self, tally: Tally, script: Script) -> None:
        super().__init__(tally, script)
        self._open = False

    def _begin(self) -> None:
        self._transport.write(HANDSHAKE)

    def _framed(self, message: bytes) -> bytes:
        size = len(message)
        # A mask of zeros is a mask, and leaves the bytes as they are.
        if size < 126:
            return b"\x81" + (0x80 | size).to_bytes(1, "big") + bytes(4) + message
        if size < 65536:
            return b"\x81\xfe" + size.to_bytes(2, "big") + bytes(4) + message
        return b"\x81\xff" + size.to_bytes(8, "big") + bytes(4) + message

    def data_received(self, data: bytes) -> None:
        if not self._open:
            if not data.startswith(b"HTTP/1.1 101 "):
                self._tally.failure = data.decode("latin-1")
                self._transport.abort()
                return
            self._open = True
            self._ask()
            return
        if self._rest:
            data = self._rest + data
        at, total = 0, len(data)
        while at + 4 <= total:
            size = data[at + 1]
            begin = at + 2
            if size == 126:
                size = data[at + 2] << 8 | data[at + 3]
                begin = at + 4
            if begin + size > total:
                break
            self._saw(data, begin, size)
            at = begin + size
            if data.startswith(b'{"type":"response.completed"', begin):
                self._ended()
        self._rest = data[at:]


class SseClient(Client):
    """Chunks (RFC 9112 section 7.1), each of them one event; an empty one is the end."""

    def __init__(self, tally: Tally, script: Script) -> None:
        super().__init__(tally, script)
        self._in_body = False

    def _framed(self, message: bytes) -> bytes:
        return POST % len(message) + message

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0
        if not self._in_body:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 200 "):
                self._tally.failure = data.decode("latin-1")
                self._transport.abort()
                return
            self._in_body = True
            at = end + 4
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line], 16)
            begin = line + 2
            if begin + size + 2 > len(data):
                break
            at = begin + size + 2
            if not size:
                self._in_body = False
                self._ended()
            elif data.startswith(b"event: ", begin):
                self._saw(data, begin, size)
        self._rest = data[at:]


class Script(Struct, frozen=True, kw_only=True):
    """What a client sends.

    Attributes:
        head: Of every message.
        first: The rest of the one that begins a conversation.
        following: The rest of the others, behind `previous_response_id`.
        num_turns: Of a conversation.
        calls: Each turn but the last of a conversation makes a call, which the next answers.
    """

    head: bytes
    first: bytes
    following: bytes
    num_turns: int
    calls: bool


def _talk(*, store: bool) -> Script:
    """Questions to the simulated model."""
    head = {
        "type": "response.create",
        "model": "sim",
        "stream": True,
        "store": store,
        "metadata": {"sim.output_tokens": str(OUTPUT_TOKENS)},
    }
    text = "The tests pass now. Read the report and tell me which of the files is to go first."
    tail = _tail({"type": "message", "role": "user", "content": text})
    return Script(
        head=_head(head),
        first=tail,
        following=tail,
        num_turns=TURNS_OF_CONVERSATION,
        calls=False,
    )


def _loop(*, store: bool, context_chars: int) -> Script:
    """A tool loop with a model behind chat completions."""
    parameters = {"type": "object", "properties": {"cmd": {"type": "string"}}}
    tool = {"type": "function", "name": "run", "parameters": parameters, "strict": False}
    head = {
        "type": "response.create",
        "model": "chat",
        "stream": True,
        "store": store,
        "instructions": "You are a coding agent. Work in small steps.",
        "tools": [tool],
    }
    text = "Make the tests pass. " + "These are the files: one two three. " * (context_chars // 36)
    output = "src/parser.py:12: def parse(self, text: str) -> Tree:\nPASSED in 12 ms\n" * 3
    answer: dict[str, object] = {
        "type": "function_call_output",
        "call_id": CALL_ID.decode(),
        "output": output,
    }
    return Script(
        head=_head(head),
        first=_tail({"type": "message", "role": "user", "content": text}),
        following=_tail(answer),
        num_turns=TURNS_OF_LOOP,
        calls=True,
    )


def _head(fields: dict[str, object]) -> bytes:
    return json.dumps(fields)[:-1].encode() + b","


def _tail(item: dict[str, object]) -> bytes:
    return json.dumps({"input": [item]})[1:].encode()


def _say(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def _load(
    url: str, client: Callable[[Tally], Client], connections: int, warm_sec: float, sec: float
) -> Seen:
    loop = asyncio.get_running_loop()
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 80
    tally = Tally()
    for _ in range(connections):
        await loop.create_connection(lambda: client(tally), host, port)
    await asyncio.sleep(warm_sec)
    turns, events, whole = tally.turns, tally.events, tally.whole_turns
    tally.latencies_sec.clear()
    begin, cpu = time.perf_counter(), time.process_time()
    _say("begin")
    await asyncio.sleep(sec)
    wall_sec, cpu_sec = time.perf_counter() - begin, time.process_time() - cpu
    _say("end")
    turns, events, whole = tally.turns - turns, tally.events - events, tally.whole_turns - whole
    latencies = tally.latencies_sec[:]
    tally.over = True
    async with asyncio.timeout(GOODBYE_SEC):
        await tally.all_gone.wait()
    failure = tally.failure
    if failure is None and len(latencies) < 2:
        failure = "no turn ended in time"
    if failure is not None:
        raise SystemExit(f"the load failed: {failure}")
    cuts = statistics.quantiles(latencies, n=100)
    return Seen(
        turns=turns,
        events=events,
        whole_turns=whole,
        wall_sec=wall_sec,
        cpu_sec=cpu_sec,
        latency_ms=(1e3 * cuts[49], 1e3 * cuts[98]),
    )


def main() -> None:
    """Load the server for some seconds and say what was seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--arm", choices=["ws", "sse"], default="ws")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--loop", action="store_true", help="tools and the model `chat`")
    parser.add_argument("--context-chars", type=int, default=0)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--warm-sec", type=float, default=1.0)
    parser.add_argument("--sec", type=float, default=3.0)
    parser.add_argument("--core", type=int, default=1)
    args = parser.parse_args()
    pin(args.core)
    gc.disable()  # nothing here is cyclic, and a pause would be charged to the server
    kind = WebSocketClient if args.arm == "ws" else SseClient
    if args.loop:
        script = _loop(store=args.store, context_chars=args.context_chars)
    else:
        script = _talk(store=args.store)
    seen = uvloop.run(
        _load(
            args.url,
            lambda tally: kind(tally, script),
            args.connections,
            args.warm_sec,
            args.sec,
        )
    )
    _say({name: getattr(seen, name) for name in seen.__struct_fields__})


if __name__ == "__main__":
    main()
