"""Judges what the official clients read, from underneath: they are not changed, nor told.

They read through two libraries. Where these hand on what has come, it is shown to the judges too.
A complaint is raised where it is found, and kept, since a client may take it for a failure of the
network and say so instead.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import httpx2
import pytest
from tests.judges.judge import SocketJudge, StreamJudge, judge_body
from websockets.asyncio.connection import Connection
from websockets.typing import Data

__all__ = ["watching"]


class Body(httpx2.AsyncByteStream):
    """A body that is judged as it is read."""

    def __init__(
        self, stream: httpx2.AsyncByteStream, kind: str, complaints: list[AssertionError]
    ) -> None:
        self._stream = stream
        self._kind = kind
        self._complaints = complaints

    async def __aiter__(self) -> AsyncIterator[bytes]:
        judge = StreamJudge()
        whole = b""
        async for data in self._stream:
            if self._kind == "text/event-stream":
                with noting(self._complaints):
                    judge.feed(data)
            else:
                whole += data
            yield data
        if self._kind == "application/json":
            with noting(self._complaints):
                judge_body(json.loads(whole))

    async def aclose(self) -> None:
        """Leave the stream."""
        await self._stream.aclose()


@contextmanager
def noting(complaints: list[AssertionError]) -> Iterator[None]:
    """Keep what is raised inside, and let it go on."""
    try:
        yield
    except AssertionError as error:
        complaints.append(error)
        raise


@contextmanager
def watching() -> Iterator[None]:
    """Judge all that the HTTP and WebSocket libraries of the official clients read meanwhile.

    Raises:
        AssertionError: something that was read is not as it must be.
    """
    complaints: list[AssertionError] = []
    judges: WeakKeyDictionary[Connection, SocketJudge] = WeakKeyDictionary()
    ask, receive = httpx2.AsyncHTTPTransport.handle_async_request, Connection.recv

    async def asked(
        transport: httpx2.AsyncHTTPTransport, request: httpx2.Request
    ) -> httpx2.Response:
        response = await ask(transport, request)
        kind = response.headers.get("content-type", "").partition(";")[0]
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Body(response.stream, kind, complaints)
        return response

    async def received(connection: Connection, decode: bool | None = None) -> Data:
        data: Data = await receive(connection, decode)
        with noting(complaints):
            judges.setdefault(connection, SocketJudge()).take(data)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", asked)
        patch.setattr(Connection, "recv", received)
        yield
    assert [] == complaints
