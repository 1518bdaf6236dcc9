"""Do thousands of quiet connections cost little, and does a server stay as it is for minutes?

A server process, and here its clients: most of them idle after one turn that left a conversation
on the connection, some of them busy. Busy clients continue their conversations, begin new ones,
and now and then vanish in the middle of an answer and come back. It is bounded in number and in
time, and in the end everyone leaves, one half without a word.

Run: python -m bench soak [--idle N] [--busy N] [--seconds S] [--json]
Exit status 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast
from urllib.parse import urlsplit
from urllib.request import urlopen

import msgspec
import uvloop
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from bench.load.server import pin
from bench.measure import Bench, Result
from bench.report import print_table, record

__all__ = ["main"]

ROOT: Final = Path(__file__).parents[1]

IDLE_BYTES: Final = 25_000
"""Wanted of a quiet connection, with a conversation of one turn on it."""
GROWTH_KB_PER_MIN: Final = 1024
"""Beyond this a server could not run for weeks. Asked only of runs long enough to tell."""
TELLING_SEC: Final = 60.0
CONNECTIONS_PER_ADDRESS: Final = 20_000
"""A loopback address has some 28,000 ports to call from."""
BATCH: Final = 100
"""Handshakes at the same time."""
THINK_SEC: Final = 0.1
TURNS_OF_CONVERSATION: Final = 20
TURNS_OF_CONNECTION: Final = 50
"""Then a busy client vanishes in mid-answer, and comes back."""
LEAVE_SEC: Final = 20.0
LINGER_OFF: Final = struct.pack("ii", 1, 0)

HANDSHAKE: Final = (
    b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MTYgb2N0ZXRzIGluIGFsbA==\r\n\r\n"
)
QUESTION: Final = "The tests pass now. Which of the files that are left is to go first, and why?"


class Sample(Struct, frozen=True):
    """The server at one moment.

    Attributes:
        at_sec: When, by this process's clock.
        rss_bytes: Memory that it holds.
        num_files: Descriptors that it has open.
    """

    at_sec: float
    rss_bytes: int
    num_files: int


class Gauges(Struct, frozen=True):
    """What the server says of itself."""

    connections: float
    in_flight: float
    slots: float


class SoakFailed(RuntimeError):
    """The server did something else than it should."""


class Server:
    """The server's process, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._pipes: Final = (_pipe(process.stdin), _pipe(process.stdout))
        self._proc: Final = Path(f"/proc/{process.pid}")
        self.url: Final[str] = self._read()["url"]

    def sample(self) -> Sample:
        """Look at it now."""
        pages = int((self._proc / "statm").read_text().split()[1])
        return Sample(
            at_sec=time.monotonic(),
            rss_bytes=pages * resource.getpagesize(),
            num_files=len(os.listdir(self._proc / "fd")),
        )

    def cpu_sec(self) -> float:
        """Processor seconds so far."""
        self._pipes[0].write(b"cpu\n")
        self._pipes[0].flush()
        return float(self._read()["cpu_sec"])

    def gauges(self) -> Gauges:
        """Ask for its metrics."""
        with urlopen(f"{self.url}/metrics", timeout=LEAVE_SEC) as answer:  # noqa: S310  # ours
            page = answer.read().decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(page):
            for one in family.samples:
                sums[one.name] = sums.get(one.name, 0.0) + one.value
        return Gauges(
            connections=sums["turnwire_websocket_connections"],
            in_flight=sums["turnwire_responses_in_flight"],
            slots=sums["turnwire_engine_slots"],
        )

    def _read(self) -> Any:
        line = self._pipes[1].readline()
        if not line:
            raise SoakFailed("the server ended; its own lines above say why")
        return msgspec.json.decode(line)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


@contextmanager
def _server() -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.load.server", "--core", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        try:
            yield Server(process)
            _pipe(process.stdin).close()
            process.wait(timeout=30)
        finally:
            process.kill()


class Client(asyncio.Protocol):
    """One connection with one conversation; reads no more of an answer than it must."""

    __slots__ = ("_begun", "_ended", "_rest", "_transport", "response_id")

    def __init__(self) -> None:
        self.response_id: str | None = None
        self._transport: asyncio.Transport
        self._rest = b""
        loop = asyncio.get_running_loop()
        # Of the handshake or the turn that is awaited.
        self._begun: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(HANDSHAKE)

    def connection_lost(self, error: Exception | None) -> None:
        for waiting in (self._begun, self._ended):
            if not waiting.done():
                waiting.set_exception(SoakFailed(f"the server closed the connection: {error}"))
                waiting.exception()  # whoever awaits it gets it too

    def data_received(self, data: bytes) -> None:
        if not self._begun.done() and self._rest == b"" and data.startswith(b"HTTP/1.1 "):
            if data.startswith(b"HTTP/1.1 101 "):
                self._begun.set_result(None)
            else:
                self._begun.set_exception(SoakFailed(data.decode("latin-1")))
            return
        if self._rest:
            data = self._rest + data
        at, total = 0, len(data)
        while at + 4 <= total or (at + 2 <= total and data[at + 1] < 2):
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(data[begin : begin + 2], "big"), begin + 2
            if begin + size > total:
                break
            self._take(data[at] & 0x0F, data[begin : begin + size])
            at = begin + size
        self._rest = data[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 0x9:
            self._transport.write(b"\x8a" + bytes((0x80 | len(payload),)) + bytes(4) + payload)
        elif payload.startswith(b'{"type":"response.created"'):
            self.response_id = json.loads(payload)["response"]["id"]
            if not self._begun.done():
                self._begun.set_result(None)
        elif payload.startswith(b'{"type":"response.completed"') and not self._ended.done():
            self._ended.set_result(None)
        elif payload.startswith(b'{"type":"error"') and not self._ended.done():
            self._ended.set_exception(SoakFailed(payload.decode()))

    async def open(self) -> None:
        """Wait until the handshake is done."""
        await self._begun

    async def turn(self, num_tokens: int, *, go_on: bool) -> None:
        """Ask, and wait for the whole answer."""
        self.ask(num_tokens, go_on=go_on)
        await self._ended

    def ask(self, num_tokens: int, *, go_on: bool) -> asyncio.Future[None]:
        """Ask; return what becomes done when the answer begins."""
        message = json.dumps(
            {
                "type": "response.create",
                "model": "sim",
                "store": False,
                "input": QUESTION,
                "previous_response_id": self.response_id if go_on else None,
                "metadata": {"sim.output_tokens": f"{num_tokens}"},
            }
        ).encode()
        loop = asyncio.get_running_loop()
        self._begun, self._ended = loop.create_future(), loop.create_future()
        # A mask of zeros is a mask, and leaves the bytes as they are.
        size = len(message).to_bytes(2, "big")
        self._transport.write(b"\x81\xfe" + size + bytes(4) + message)
        return self._begun

    def leave(self, *, politely: bool) -> None:
        """Go: with a close frame, or like a process that is killed."""
        for waiting in (self._begun, self._ended):
            waiting.cancel()
        if politely:
            self._transport.write(b"\x88\x82" + bytes(4) + (1000).to_bytes(2, "big"))
            return
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        self._transport.abort()


class Crowd:
    """All clients of one server.

    Attributes:
        num_turns: Turns that ended.
        num_vanished: Answers that a busy client did not wait for.
        latencies_sec: Of the busy clients' turns.
    """

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._place: Final = (place.hostname or "", place.port or 0)
        self._num_opened = 0
        self._clients: Final[set[Client]] = set()
        self.num_turns = 0
        self.num_vanished = 0
        self.latencies_sec: Final[list[float]] = []

    async def open(self) -> Client:
        """One more connection."""
        number, self._num_opened = self._num_opened, self._num_opened + 1
        address = f"127.0.0.{1 + len(self._clients) // CONNECTIONS_PER_ADDRESS}"
        for attempt in range(5):
            try:
                _, client = await asyncio.get_running_loop().create_connection(
                    Client, *self._place, local_addr=(address, 0)
                )
                break
            except OSError:
                if attempt == 4:
                    raise
                await asyncio.sleep(0.1 * (number % 7))
        self._clients.add(client)
        await client.open()
        return client

    async def idle(self, num: int) -> None:
        """So many more connections, each with a conversation of one turn."""

        async def one() -> None:
            client = await self.open()
            await client.turn(16, go_on=False)
            self.num_turns += 1

        for begin in range(0, num, BATCH):
            await asyncio.gather(*(one() for _ in range(min(BATCH, num - begin))))

    async def busy(self, number: int) -> None:
        """One client that works until it is cancelled."""
        thoughts = random.Random(number)  # all at the same moment is another question
        while True:
            client = await self.open()
            for turn in range(TURNS_OF_CONNECTION):
                began = time.perf_counter()
                await client.turn(32, go_on=turn % TURNS_OF_CONVERSATION > 0)
                self.latencies_sec.append(time.perf_counter() - began)
                self.num_turns += 1
                await asyncio.sleep(THINK_SEC * thoughts.uniform(0.5, 1.5))
            await client.ask(5000, go_on=False)
            self._clients.discard(client)
            client.leave(politely=False)
            self.num_vanished += 1

    def leave(self) -> None:
        """Everyone goes, one half without a word."""
        for number, client in enumerate(self._clients):
            client.leave(politely=number % 2 == 0)
        self._clients.clear()


async def _soak(server: Server, num_idle: int, num_busy: int, seconds: float) -> list[Result]:
    await _warm(server)
    base = server.sample()
    crowd = Crowd(server.url)
    await crowd.idle(num_idle)
    await asyncio.sleep(1.0)
    quiet = server.sample()
    cpu, began = server.cpu_sec(), time.monotonic()
    await asyncio.sleep(2.0)
    quiet_share = (server.cpu_sec() - cpu) / (time.monotonic() - began)

    cpu, began, turns = server.cpu_sec(), time.monotonic(), crowd.num_turns
    working = [asyncio.create_task(crowd.busy(number)) for number in range(num_busy)]
    samples: list[Sample] = []
    while time.monotonic() - began < seconds:
        await asyncio.sleep(min(1.0, seconds / 10))
        samples.append(server.sample())
        for task in working:
            if task.done():
                task.result()
    busy_sec = time.monotonic() - began
    busy_share = (server.cpu_sec() - cpu) / busy_sec
    rate = (crowd.num_turns - turns) / busy_sec
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    crowd.leave()
    left, gone_sec = await _until_gone(server, base.num_files)
    return [
        Result(case="connections, idle and busy", value=num_idle + num_busy, unit="connections"),
        Result(
            case="memory of an idle one",
            value=(quiet.rss_bytes - base.rss_bytes) / num_idle,
            unit="bytes",
            bar=IDLE_BYTES,
        ),
        Result(case="CPU while all are idle", value=100 * quiet_share, unit="% of a core"),
        Result(case="CPU while some are busy", value=100 * busy_share, unit="% of a core"),
        Result(case="turns of the busy ones", value=rate, unit="turns/s"),
        Result(
            case="latency of a turn, median",
            value=1e3 * statistics.median(crowd.latencies_sec),
            unit="ms",
        ),
        Result(
            case="latency of a turn, 99th percentile",
            value=1e3 * statistics.quantiles(crowd.latencies_sec, n=100)[98],
            unit="ms",
        ),
        Result(case="answers that nobody waited for", value=crowd.num_vanished, unit="responses"),
        Result(
            case="growth of memory, second half",
            value=_slope(samples[len(samples) // 2 :]) * 60 / 1024,
            unit="KiB/min",
            bar=GROWTH_KB_PER_MIN if seconds >= TELLING_SEC else None,
        ),
        Result(
            case="descriptors at most",
            value=max(one.num_files for one in samples),
            unit="descriptors",
            bar=base.num_files + num_idle + 2 * num_busy + 8,
        ),
        Result(case="all gone after", value=gone_sec, unit="s", bar=5.0),
        *_leftovers(server, base, left),
    ]


async def _warm(server: Server) -> None:
    """Make what is made once: what a later client costs is another's question."""
    crowd = Crowd(server.url)
    await crowd.idle(64)
    crowd.leave()
    server.gauges()
    await asyncio.sleep(1.0)


async def _until_gone(server: Server, num_files: int) -> tuple[Gauges, float]:
    """Wait until the server has let go of everyone, or has had time enough."""
    began = time.monotonic()
    while True:
        left = await asyncio.to_thread(server.gauges)
        gone_sec = time.monotonic() - began
        done = left == Gauges(0, 0, 0) and server.sample().num_files <= num_files
        if done or gone_sec > LEAVE_SEC:
            return left, gone_sec
        await asyncio.sleep(0.05)


def _leftovers(server: Server, base: Sample, left: Gauges) -> list[Result]:
    after = server.sample()
    return [
        Result(case="left: connections", value=left.connections, unit="connections", bar=0),
        Result(case="left: responses in flight", value=left.in_flight, unit="responses", bar=0),
        Result(case="left: engine slots", value=left.slots, unit="slots", bar=0),
        Result(
            case="left: descriptors",
            value=after.num_files - base.num_files,
            unit="descriptors",
            bar=0,
        ),
        Result(case="left: memory", value=(after.rss_bytes - base.rss_bytes) / 2**20, unit="MiB"),
    ]


def _slope(samples: Sequence[Sample]) -> float:
    """Bytes a second by which memory grows, the least squares over all samples."""
    at = [one.at_sec for one in samples]
    return statistics.linear_regression(at, [one.rss_bytes for one in samples]).slope


def _allow_files(num: int) -> None:
    """Let this process, and the server that it starts, have so many descriptors.

    Raises:
        SoakFailed: the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < num:
        raise SoakFailed(f"this needs {num} descriptors; `ulimit -Hn` says {hard}")
    if soft != resource.RLIM_INFINITY and soft < num:
        resource.setrlimit(resource.RLIMIT_NOFILE, (num, hard))


def main(arguments: Sequence[str]) -> int:
    """Soak a server; the exit status says whether every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=main.__doc__)
    parser.add_argument("--idle", type=int, default=5000, help="quiet connections")
    parser.add_argument("--busy", type=int, default=64, help="connections with turns")
    parser.add_argument("--seconds", type=float, default=180.0, help="how long those are busy")
    parser.add_argument("--json", action="store_true", help="one JSON line, no table")
    args = parser.parse_args(arguments)
    if args.idle < 1 or args.busy < 1 or args.seconds < 1:
        parser.error("at least one idle and one busy connection, for a second")
    bench = Bench(
        name="soak",
        question="Do quiet connections cost little, and does a server stay as it is?",
        fixed=f"model sim, store:false, SQLite store open, {args.seconds:g} s, one core each",
        varies=f"nothing: {args.idle} idle connections, {args.busy} busy ones",
        run=lambda quick: [],
    )
    _allow_files(args.idle + 2 * args.busy + 200)
    pin(1)
    with _server() as server:
        results = uvloop.run(_soak(server, args.idle, args.busy, args.seconds))
    if args.json:
        print(record(bench, results, quick=args.seconds < TELLING_SEC).decode(), flush=True)
    else:
        print_table(bench, results, Console(width=120))
    return int(any(one.holds is False for one in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
