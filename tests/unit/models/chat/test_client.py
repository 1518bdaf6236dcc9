"""The shell around an endpoint, against a real one that misbehaves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from tests.contracts.endpoint import Asked, Endpoint, Reply, end, endpoint, sse, text

from turnwire.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineError,
    EngineUnavailable,
    Overloaded,
    ServiceError,
    TooManyRequests,
)
from turnwire.models.chat.client import ChatClient
from turnwire.models.chat.options import ChatOptions, Patience

KEY = "sk-very-secret"
WHOLE = sse(text("hi"), end())
AT_ONCE = Patience(backoff_sec=0.0)
BODY = (b'{"model":"m",', b'"messages":[]}')


def scripted(replies: Sequence[Reply]) -> Callable[[Asked], Reply]:
    """Each request gets the next reply; the last one is repeated."""
    left: Iterator[Reply] = iter(replies[:-1])
    return lambda asked: next(left, replies[-1])


@asynccontextmanager
async def asking(
    *replies: Reply, patience: Patience = AT_ONCE, **options: Any
) -> AsyncIterator[tuple[ChatClient, Endpoint]]:
    async with endpoint(scripted(replies)) as one:
        chosen = ChatOptions(base_url=one.url, model="m", api_key=KEY, patience=patience, **options)
        client = ChatClient("m", chosen)
        try:
            yield client, one
        finally:
            await client.aclose()


async def read_all(client: ChatClient) -> bytes:
    """Ask once and read the answer to its end."""
    answer = await client.ask(BODY)
    data = b""
    try:
        while piece := await answer.read():
            data += piece
    finally:
        answer.close(whole=True)
    return data


async def settled(holds: Callable[[], bool]) -> None:
    """Wait for what the endpoint sees a moment later."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # what is watched has no event to wait for
            await asyncio.sleep(0.002)


async def test_a_request_is_what_was_given() -> None:
    """The pieces arrive as one body, with the key and what further headers there are."""
    async with asking(Reply(WHOLE), headers={"X-Team": "blue"}) as (client, one):
        assert b"".join(WHOLE) == await read_all(client)
        [asked] = one.asked
        assert b"".join(BODY) == asked.raw
        assert f"Bearer {KEY}" == asked.headers["Authorization"]
        assert "application/json" == asked.headers["Content-Type"]
        assert ("identity", "blue") == (asked.headers["Accept-Encoding"], asked.headers["X-Team"])


async def test_a_large_request() -> None:
    """Several megabytes arrive whole, and nobody warns about them."""
    big = b"x" * 3_000_000
    async with asking(Reply(WHOLE)) as (client, one):
        answer = await client.ask((big, big))
        answer.close()
        assert 6_000_000 == len(one.asked[0].raw)


async def test_connections_are_used_again() -> None:
    """Also where the end of a body comes after all that is of interest in it."""
    gate = asyncio.Event()
    late = Reply([b"".join(WHOLE), b"\n"], gate=gate)
    async with asking(late, Reply(WHOLE)) as (client, one):
        answer = await client.ask(BODY)
        await answer.read()
        answer.close(whole=True)
        gate.set()
        await settled(lambda: not client._resting)
        await read_all(client)
        await read_all(client)
        assert 1 == len(set(one.peers))


async def test_an_answer_that_is_left_is_stopped() -> None:
    """The endpoint sees the connection close, so that it can stop its model."""
    async with asking(Reply([b"".join(WHOLE), b"never"], gate=asyncio.Event())) as (client, one):
        answer = await client.ask(BODY)
        await answer.read()
        answer.close()
        await settled(lambda: one.num_left == 1)


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
async def test_what_was_not_served_is_asked_again(status: int) -> None:
    """A bounded number of times, and the answer that comes then is the answer."""
    async with asking(Reply(status=status), Reply(status=status), Reply(WHOLE)) as (client, one):
        assert await read_all(client)
        assert 3 == len(one.asked)
    async with asking(Reply(status=status)) as (client, one):
        with pytest.raises((EngineUnavailable, Overloaded, TooManyRequests)):
            await client.ask(BODY)
        assert 1 + AT_ONCE.max_retries == len(one.asked)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 418, 500])
async def test_what_would_be_the_same_again_is_not_asked_again(status: int) -> None:
    """Nor is a redirect followed: it would take the key somewhere else."""
    away = {"Location": "http://127.0.0.1:9/v1"}
    async with asking(Reply([b"no"], status=status, headers=away)) as (client, one):
        with pytest.raises(Exception, match="'m'|status"):  # noqa: RUF043
            await client.ask(BODY)
        assert 1 == len(one.asked)


async def test_a_quota_that_is_spent_is_not_asked_again() -> None:
    """It says 429 too, but no waiting helps."""
    spent = Reply([b'{"error":{"code":"insufficient_quota"}}'], status=429)
    async with asking(spent) as (client, one):
        with pytest.raises(ServiceError, match="no quota"):
            await client.ask(BODY)
        assert 1 == len(one.asked)


async def test_a_refusal_is_read_to_its_end() -> None:
    """Also when it comes in pieces: its words decide what it is."""
    words = b'{"error":{"message":"maximum context length is 9"}}'

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(words), 20):
            yield words[at : at + 20]
            await asyncio.sleep(0.01)  # so that they are pieces

    async with asking(Reply(pieces(), status=400)) as (client, _):
        with pytest.raises(ContextLengthExceeded):
            await client.ask(BODY)


async def test_a_retry_after_is_obeyed_or_passed_on() -> None:
    """One that is too long to wait for is the client's to wait for."""
    long = Reply(status=429, headers={"Retry-After": "30"})
    async with asking(long) as (client, one):
        with pytest.raises(TooManyRequests) as raised:
            await client.ask(BODY)
        assert (30, 1) == (raised.value.retry_after_sec, len(one.asked))
    short = Reply(status=429, headers={"Retry-After": "0"})
    async with asking(short, Reply(WHOLE)) as (client, one):
        assert await read_all(client)


LOADING = Reply([b'{"error":{"message":"Loading model","code":503}}'], status=503)


async def test_a_model_that_loads_is_waited_for() -> None:
    """More often than other tries are made, but no longer than for a first byte."""
    async with asking(*[LOADING] * 5, Reply(WHOLE)) as (client, one):
        assert await read_all(client)
        assert 6 == len(one.asked)
    async with asking(LOADING, patience=Patience(first_byte_sec=50.0, backoff_sec=51.0)) as (
        client,
        one,
    ):
        with pytest.raises(Overloaded, match="'m' is still loading its model"):
            await client.ask(BODY)
        assert 1 == len(one.asked)


async def test_a_connection_that_was_closed_in_the_meantime_is_replaced() -> None:
    """An endpoint may close a connection that is kept alive at the moment it is used again."""
    async with asking(
        Reply(WHOLE), Reply(status=0), Reply(WHOLE), patience=Patience(max_retries=0)
    ) as (client, one):
        await read_all(client)
        assert await read_all(client)
        assert 3 == len(one.asked)


async def test_an_endpoint_that_is_not_there() -> None:
    """The error names neither address nor key."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    client = ChatClient("m", ChatOptions(base_url=url, model="m", api_key=KEY, patience=AT_ONCE))
    with pytest.raises(EngineUnavailable, match="could not be reached") as raised:
        await client.ask(BODY)
    assert str(port) not in str(raised.value)
    await client.aclose()


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """A port that accepts by itself, in the kernel, and says nothing but `answer`."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(16)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


async def test_an_endpoint_that_says_nothing() -> None:
    """It is given up after the time it has, and not asked again: it may be at work."""
    with listening(b"") as url:
        patience = Patience(first_byte_sec=0.05)
        client = ChatClient("m", ChatOptions(base_url=url, model="m", patience=patience))
        with pytest.raises(EngineUnavailable, match="did not begin to answer in time"):
            await client.ask(BODY)
        await client.aclose()


@pytest.mark.parametrize(
    "patience", [Patience(idle_sec=0.05), Patience(first_byte_sec=0.05)], ids=["idle", "first-byte"]
)
async def test_an_answer_that_stalls(patience: Patience) -> None:
    """Headers alone are no byte of an answer; after the first each read has its own time."""
    first = [b""] if patience.first_byte_sec == 0.05 else [b"data: {}\n\n"]
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        for piece in first:
            yield piece
        await never.wait()

    async with asking(Reply(pieces()), patience=patience) as (client, _):
        with pytest.raises(EngineError, match=r"nothing for too long|not begin"):
            await read_all(client)


async def test_a_slow_reader_is_no_silence() -> None:
    """Nobody can say that nothing came who does not listen; what was said is read, however late."""
    body = [b"x" * 65_536] * 16
    patience = Patience(idle_sec=0.05, first_byte_sec=0.05)
    async with asking(Reply(body), patience=patience) as (client, _):
        answer = await client.ask(BODY)
        try:
            size = len(await answer.read())
            await asyncio.sleep(0.2)
            while data := await answer.read():
                size += len(data)
        finally:
            answer.close(whole=True)
        assert len(b"".join(body)) == size


async def test_an_answer_that_breaks_off() -> None:
    """Aborted in the middle, it is an error and not an end."""
    async with asking(Reply(WHOLE[:1], cut=True)) as (client, _):
        with pytest.raises(EngineError, match="broke off"):
            await read_all(client)


@pytest.mark.parametrize(
    "said", [b"nonsense\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nA"]
)
async def test_an_endpoint_that_speaks_no_http(said: bytes) -> None:
    """Whatever it says, it is an engine that is not there; no error of a library gets out."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):  # the client does not wait for more of this
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = ChatOptions(
            base_url=f"http://127.0.0.1:{port}/v1", model="m", api_key=KEY, patience=AT_ONCE
        )
        client = ChatClient("m", options)
        with pytest.raises(EngineUnavailable, match=r"^(it|the connection) "):
            await client.ask(BODY)
        await client.aclose()


@pytest.mark.parametrize(
    ("base_url", "asked"),
    [
        ("http://h:1/v1", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
        ("http://h:1", "http://h:1/chat/completions"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1/chat/completions"),
        (
            "http://h/d%2Fe?api-version=2024&x=a%26b",
            "http://h/d%2Fe/chat/completions?api-version=2024&x=a%26b",
        ),
    ],
)
def test_where_it_asks(base_url: str, asked: str) -> None:
    """Behind the path of the address; a query stays a query."""
    client = ChatClient("m", ChatOptions(base_url=base_url, model="m"))
    assert asked == str(client._url)


async def test_names_of_what_is_there() -> None:
    """As far as the endpoint says; nothing that it does instead is a failure."""
    listed = [b'{"object":"list","data":[{"id":"a","object":"model"},', b'{"id":"b"}]}']
    others = Reply(status=404), Reply([b'{"data":7}']), Reply(status=0)
    async with asking(Reply(listed), *others) as (client, one):
        assert ["a", "b"] == await client.names()
        assert f"Bearer {KEY}" == one.asked[0].headers["Authorization"]
        for _ in others:
            assert [] == await client.names()


async def test_a_closed_client_refuses() -> None:
    """Closing ends what runs; asking afterwards is an engine that is not there."""
    async with asking(Reply([WHOLE[0], b"x"], gate=asyncio.Event())) as (client, _):
        answer = await client.ask(BODY)
        await answer.read()
        await client.aclose()
        with pytest.raises(EngineError):
            await answer.read()
        answer.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await client.ask(BODY)


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        ("127.0.0.1:80/v1", {}),
        ("ftp://host/v1", {}),
        ("http:///v1", {}),
        ("http://[::1/v1", {}),
        (f"http://user:{KEY}@host/v1", {}),
        ("http://host/v1", {"api_key": f"{KEY}\n"}),
        ("http://host/v1", {"headers": {"X": "ü"}}),
    ],
    ids=["no-scheme", "ftp", "no-host", "brackets", "credentials", "key", "header"],
)
def test_what_cannot_be_used_is_said_at_once(url: str, fields: dict[str, Any]) -> None:
    """Before anything is asked, naming the model, and without the key."""
    with pytest.raises(ConfigError, match="'m'") as raised:
        ChatClient("m", ChatOptions(base_url=url, model="x", **fields))
    assert KEY not in str(raised.value)
