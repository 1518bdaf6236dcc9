"""Worker processes share a port, and a background response lives in one of them.

Whoever asks for it may reach any worker. So its id says where it lives: of random ids one is taken
whose digits, divided by the number of workers, leave the worker's own number. Each worker listens
on a socket in the file system, and hands on to the others what is theirs; there it is also asked
for its metrics. This is all there is between workers; what is stored any of them can read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    UnixConnector,
    web,
)
from aiohttp.typedefs import Handler
from msgspec import Struct, field
from yarl import URL

from turnwire.ids import new_id
from turnwire.server.streams import StreamedAnswer, Streams
from turnwire.server.writer import http_chunk

__all__ = ["ALONE", "Siblings", "Workers"]

DIGITS: Final = slice(5, 13)  # of `resp_` and 48 hex digits
PASSED_ON: Final = ("Authorization", "Accept")
PASSED_BACK: Final = ("Content-Type", "Retry-After", "x-should-retry", "WWW-Authenticate")
TIMEOUT: Final = ClientTimeout(total=None, sock_connect=5.0)
GLANCE: Final = ClientTimeout(total=5.0)
"""For what a worker has at hand; a scraper gives up after 10 seconds, unless told otherwise."""


class Workers(Struct, frozen=True):
    """One of several processes that share a port.

    Attributes:
        index: Which one this is, from 0.
        count: How many there are.
        folder: Where their sockets are; nobody else may enter it.
        parent: Id of the process that started them, and ends them.
    """

    index: int = 0
    count: int = 1
    folder: Path = Path()
    parent: int = field(default_factory=os.getppid)

    def is_orphan(self) -> bool:
        """Whether nobody is left to end this worker: its parent was killed."""
        return self.count > 1 and os.getppid() != self.parent

    def new_response_id(self) -> str:
        """Return a fresh id of a response that lives here."""
        while True:
            response_id = new_id("resp")
            if self.home(response_id) == self.index:
                return response_id

    def home(self, response_id: str) -> int:
        """Return where a response lives if it runs in the background; of others it says nothing."""
        try:
            return int(response_id[DIGITS], 16) % self.count
        except ValueError:
            return self.index  # no id of ours

    def socket(self, index: int) -> Path:
        """Where a worker listens for the others."""
        return self.folder / f"{index}.sock"


ALONE: Final = Workers()
"""The only process of a server."""


class Siblings:
    """The other workers, as this one asks them."""

    def __init__(self, workers: Workers, streams: Streams) -> None:
        self._workers: Final = workers
        self._streams: Final = streams
        self._sessions: Final[dict[int, ClientSession]] = {}

    def at_home(
        self, handler: Handler, lives_in_memory: Callable[[web.Request], Awaitable[bool]]
    ) -> Handler:
        """Wrap the handler of a response so that it runs where the response lives.

        Args:
            handler: Of a route with an `id`.
            lives_in_memory: Whether the response may be known to one worker better than to all.
        """
        if self._workers.count == 1:
            return handler

        async def routed(request: web.Request) -> web.StreamResponse:
            home = self._workers.home(request.match_info["id"])
            if home == self._workers.index or not await lives_in_memory(request):
                return await handler(request)
            try:
                theirs = await self._ask(request, home)
            except ClientError:
                return await handler(request)  # it is gone, and with it what it remembered
            async with theirs:
                return await self._hand_back(request, theirs)

        return routed

    def are_asking(self, request: web.Request) -> bool:
        """Whether a request came from another worker."""
        return not isinstance(request.get_extra_info("sockname"), tuple)

    async def glance(self, path: str) -> dict[int, bytes]:
        """What the others answer to GET at once, by their numbers; who does not is left out."""
        others = [index for index in range(self._workers.count) if index != self._workers.index]
        answers = await asyncio.gather(*(self._glance(index, path) for index in others))
        return {
            index: answer
            for index, answer in zip(others, answers, strict=True)
            if answer is not None
        }

    async def aclose(self) -> None:
        """Close the connections to the others."""
        for session in self._sessions.values():
            await session.close()

    def _session(self, worker: int) -> ClientSession:
        session = self._sessions.get(worker)
        if session is None:
            connector = UnixConnector(str(self._workers.socket(worker)), limit=0)
            session = ClientSession(connector=connector, timeout=TIMEOUT)
            self._sessions[worker] = session
        return session

    async def _glance(self, worker: int, path: str) -> bytes | None:
        url = URL(f"http://localhost{path}")
        try:
            async with self._session(worker).get(url, timeout=GLANCE) as answer:
                return await answer.read()
        except (ClientError, TimeoutError):
            return None  # it is about to end, or too busy to say so

    async def _ask(self, request: web.Request, home: int) -> ClientResponse:
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        url = URL(f"http://localhost{request.rel_url.raw_path_qs}", encoded=True)
        return await self._session(home).request(request.method, url, headers=headers)

    async def _hand_back(self, request: web.Request, theirs: ClientResponse) -> web.StreamResponse:
        if theirs.content_type != "text/event-stream":
            kept = {name: theirs.headers[name] for name in PASSED_BACK if name in theirs.headers}
            return web.Response(body=await theirs.read(), status=theirs.status, headers=kept)
        async with self._streams.answer(request) as answer:
            try:
                await _copy(theirs, answer)
            except ClientError as error:
                answer.outbox.abort()  # half a stream must not look whole
                raise ConnectionAbortedError("the other worker is gone") from error
        return answer.response


async def _copy(theirs: ClientResponse, answer: StreamedAnswer) -> None:
    """Write the other worker's chunks, each as one of ours."""
    outbox = answer.outbox
    frame = b""
    async for data, is_whole in theirs.content.iter_chunks():
        frame += data
        if not is_whole:
            continue
        outbox.write(http_chunk(frame) if answer.chunked else frame)
        frame = b""
        if outbox.congested:
            await outbox.drain()
