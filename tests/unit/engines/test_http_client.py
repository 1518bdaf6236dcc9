"""Tests of `turnwire.engines.http_client`, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from turnwire.engines.http_answer import BadAnswer
from turnwire.engines.http_client import HttpClient, NoConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; x\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

Serving = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def asked(self) -> tuple[list[str], bytes]:
        """The next request: its lines and its body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        sizes = [line.partition(":")[2] for line in head if line.startswith("Content-Length")]
        return head, await self.reader.readexactly(int(sizes[0]))

    def say(self, *pieces: bytes) -> None:
        """Write them."""
        self.writer.writelines(pieces)


class Server:
    """Serves each connection with the next of some scripts, and the last one again."""

    def __init__(self, *scripts: Serving) -> None:
        self.scripts = list(scripts)
        self.url = ""
        self.num_connections = 0
        self.num_left = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        script = self.scripts[min(self.num_connections, len(self.scripts) - 1)]
        self.num_connections += 1
        try:
            await script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.num_left += 1
            writer.close()


@asynccontextmanager
async def running(*scripts: Serving) -> AsyncIterator[Server]:
    """A server with these scripts."""
    made = Server(*scripts)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as listener:
        made.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield made
        async with asyncio.timeout(10):
            while made.num_left < made.num_connections:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)


@asynccontextmanager
async def client_of(
    url: str,
    headers: dict[str, str] | None = None,
    *,
    silence_sec: float = 10.0,
    keep_alive_sec: float = 10.0,
) -> AsyncIterator[HttpClient]:
    """A client of it."""
    client = HttpClient(
        headers or {}, connect_sec=5.0, silence_sec=silence_sec, keep_alive_sec=keep_alive_sec
    )
    client.aim(url)
    try:
        yield client
    finally:
        await client.aclose()


async def ask(client: HttpClient, *body: bytes, path: str = "/ask") -> bytes:
    """Send a request and read its answer."""
    reply = await client.request("POST", path, body)
    try:
        return await reply.read_all(1 << 20)
    finally:
        reply.close()


def answers(*pieces: bytes, times: int = 1000) -> Serving:
    """Answer each request in this way, so many times."""

    async def script(peer: Peer) -> None:
        for _ in range(times):
            await peer.asked()
            peer.say(*pieces)

    return script


async def silent(peer: Peer) -> None:
    """Read, say nothing, and stay until the client goes."""
    await peer.reader.read()


async def test_what_is_sent() -> None:
    """Method, paths, headers and the pieces of the body, in order."""
    seen: list[tuple[list[str], bytes]] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.asked())
            peer.say(OK)

    async with (
        running(script) as server,
        client_of(f"{server.url}/behind/", {"X-One": "1"}) as client,
    ):
        assert b"ok" == await ask(client, b"a", b"", b"bc")
        reply = await client.request("GET", "/health")
        assert (200, "text/plain") == (reply.status, reply.content_type)
        reply.close()
    address = server.url.removeprefix("http://")
    assert ["POST /behind/ask HTTP/1.1", f"Host: {address}", "X-One: 1", "Content-Length: 3"] == (
        seen[0][0]
    )
    assert b"abc" == seen[0][1]
    assert "GET /behind/health HTTP/1.1" == seen[1][0][0]


async def test_user_and_password() -> None:
    """Those of the URL are sent as such; a header that was given goes first."""
    seen: list[list[str]] = []

    async def script(peer: Peer) -> None:
        seen.append((await peer.asked())[0])
        peer.say(OK)

    async with running(script) as server:
        url = server.url.replace("//", "//me:a%3Ab@")
        for headers in (None, {"Authorization": "Bearer key"}):
            async with client_of(url, headers) as client:
                await ask(client)
    assert "Authorization: Basic bWU6YTpi" in seen[0]
    assert "Authorization: Bearer key" in seen[1]
    assert f"Host: {server.url.removeprefix('http://')}" in seen[0]


async def test_a_large_body() -> None:
    """More than any buffer holds arrives whole."""
    body = [bytes([n % 251]) * 4096 for n in range(2000)]
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append((await peer.asked())[1])
        peer.say(OK)

    async with running(script) as server, client_of(server.url) as client:
        assert b"ok" == await ask(client, *body)
    assert [b"".join(body)] == seen


async def test_an_answer_is_read_as_it_comes() -> None:
    """Each piece can be read before the next was said."""
    said = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.asked()
        peer.say(STREAM)
        for piece in (b"1\r\na\r\n", b"2\r\nbc\r\n", END):
            await said.acquire()
            peer.say(piece)

    async with running(script) as server, client_of(server.url) as client:
        reply = await client.request("POST", "/", (b"x",))
        for expected in (b"a", b"bc", b"", b""):
            said.release()
            assert expected == await reply.read()
        reply.close()


async def test_connections_are_kept() -> None:
    """Requests one after the other use one connection; two at a time use two."""
    async with running(answers(OK)) as server, client_of(server.url) as client:
        for _ in range(5):
            await ask(client)
        assert 1 == server.num_connections
        first, second = [await client.request("POST", "/", ()) for _ in range(2)]
        first.close()
        second.close()
        assert 2 == server.num_connections


@pytest.mark.parametrize(
    "scripts",
    [
        pytest.param((answers(OK.replace(b"Content-T", b"Connection: close\r\nT")),), id="told"),
        pytest.param((answers(OK, times=1),), id="closed"),
        pytest.param((answers(OK + b"HTTP/1.1 408 Late\r\n\r\n"),), id="more than was asked for"),
    ],
)
async def test_a_connection_that_cannot_be_kept(scripts: tuple[Serving, ...]) -> None:
    """It is replaced without anybody's notice, whenever that is seen."""
    async with running(*scripts) as server, client_of(server.url) as client:
        for n in range(3):
            reply = await client.request("POST", "/ask")
            assert (200, b"ok") == (reply.status, (await reply.read()))
            reply.close()
            assert n + 1 == server.num_connections
            await asyncio.sleep(0.01 * (n % 2))


async def test_a_farewell_is_no_answer() -> None:
    """What a server says to a connection that waits is not taken for what is asked next."""
    told = asyncio.Event()

    async def parting(peer: Peer) -> None:
        await peer.asked()
        peer.say(OK)
        await told.wait()
        peer.say(b"HTTP/1.1 408 Too Late\r\nContent-Length: 0\r\n\r\n")
        await peer.reader.read()

    async with running(parting, answers(OK)) as server, client_of(server.url) as client:
        await ask(client)
        told.set()
        async with asyncio.timeout(10):
            while not server.num_left:  # noqa: ASYNC110  # the client hangs up
                await asyncio.sleep(0.001)
        assert b"ok" == await ask(client)


async def test_a_server_that_always_hangs_up() -> None:
    """Nothing is sent any more on connections that it is about to close; others are kept."""
    async with (
        running(answers(OK, times=1), answers(OK, times=1), answers(OK)) as server,
        client_of(server.url) as client,
    ):
        for n in range(2):
            await ask(client)
            async with asyncio.timeout(10):
                while client._idle:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.001)
            assert n + 1 == server.num_connections
        for n in range(2):
            await ask(client)
            assert ([], n + 3) == (client._idle, server.num_connections)


async def test_connections_that_rested_too_long() -> None:
    """They are closed, not used."""
    async with (
        running(answers(OK)) as server,
        client_of(server.url, keep_alive_sec=0.0) as client,
    ):
        for n in range(3):
            await ask(client)
            assert n + 1 == server.num_connections


@pytest.mark.parametrize("ends", [True, False], ids=["its end comes", "it does not"])
async def test_an_answer_that_is_whole_but_for_its_end(ends: bool) -> None:
    """Its connection is kept if the end comes; if not, it does not stay for ever."""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.asked()
            peer.say(STREAM, b"1\r\na\r\n")
            await closed.wait()
            if ends:
                peer.say(END)
        await peer.reader.read()

    async with running(script) as server, client_of(server.url) as client:
        reply = await client.request("POST", "/")
        assert b"a" == await reply.read()
        reply.close(whole=True)
        assert 1 == len(client._lingering)
        closed.set()
        async with asyncio.timeout(10):
            while client._lingering:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)
        assert ends is bool(client._idle)


async def test_leaving_is_seen() -> None:
    """A server whose answer is closed before its end sees the connection end."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.asked()
        peer.say(STREAM, b"1\r\na\r\n")
        try:
            await peer.reader.read()
        finally:
            gone.set()

    async with running(script) as server, client_of(server.url) as client:
        reply = await client.request("POST", "/")
        assert b"a" == await reply.read()
        reply.close()
        await asyncio.wait_for(gone.wait(), 10)
        with pytest.raises(ConnectionError, match="closed"):
            await reply.read()


@pytest.mark.parametrize("begun", [False, True], ids=["before", "after"])
async def test_silence(begun: bool) -> None:
    """Nothing for too long is a timeout, before the head and behind it."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        if begun:
            peer.say(STREAM, b"1\r\na\r\n")
        await peer.reader.read()

    async with running(script) as server, client_of(server.url, silence_sec=0.05) as client:
        if not begun:
            with pytest.raises(TimeoutError):
                await client.request("POST", "/")
            return
        reply = await client.request("POST", "/")
        assert b"a" == await reply.read()
        with pytest.raises(TimeoutError):
            await reply.read()
        reply.close()


async def test_a_slow_reader_is_no_silence() -> None:
    """What was said in time is read in full, however late."""
    body = b"x" * 65_536

    async def script(peer: Peer) -> None:
        await peer.asked()
        peer.say(STREAM, b"10000\r\n", body, b"\r\n", END)
        await peer.reader.read()

    async with running(script) as server, client_of(server.url, silence_sec=0.05) as client:
        reply = await client.request("POST", "/")
        await asyncio.sleep(0.2)
        assert body == await reply.read_all(1 << 20)
        reply.close()


async def test_a_reader_that_does_not_read_has_the_server_wait() -> None:
    """What is kept of an answer that nobody reads is bounded; later all of it comes."""
    sent, whole = 0, 64 << 20

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.asked()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % whole)
        while sent < whole:
            peer.say(bytes(1 << 20))
            await peer.writer.drain()
            sent += 1 << 20

    async with running(script) as server, client_of(server.url) as client:
        reply = await client.request("POST", "/")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < whole // 2
        found = 0
        while piece := await reply.read():
            found += len(piece)
        assert whole == found
        reply.close()


@pytest.mark.parametrize(
    "said",
    [b"", STREAM + b"5\r\nab", b"SSH-2.0\r\n\r\n"],
    ids=["nothing", "the beginning", "nonsense"],
)
async def test_one_that_breaks_off(said: bytes) -> None:
    """It fails, once: a new connection is no reason to ask again."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        peer.say(said)
        await peer.writer.drain()

    async with running(script) as server, client_of(server.url) as client:
        with pytest.raises(BadAnswer):
            await ask(client)
        assert 1 == server.num_connections


async def test_nobody_there() -> None:
    """A port that nobody listens on is told apart from a server that fails."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with client_of(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(NoConnection):
            await ask(client)


async def test_a_host_that_is_none() -> None:
    """A name that cannot be one is not there."""
    async with client_of(f"http://{'a' * 70}.invalid") as client:
        with pytest.raises(NoConnection):
            await ask(client)


async def test_closing() -> None:
    """Whoever reads is told, and nothing is asked any more."""
    async with running(silent) as server, client_of(server.url) as client:
        asking = asyncio.create_task(client.request("POST", "/"))
        while not server.num_connections:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await client.aclose()
        with pytest.raises(ConnectionError, match="closed"):
            await client.request("POST", "/")
