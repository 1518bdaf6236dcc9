"""The shell around one endpoint: connections, retries, timeouts.

Nothing of aiohttp or the operating system gets out of here: every failure is one of our errors.
That matters, because to a turn a `ConnectionError` means that its own client is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from turnwire.errors import (
    ConfigError,
    EngineError,
    EngineUnavailable,
    TooManyRequests,
    TurnwireError,
)
from turnwire.models.chat.faults import RETRIED, Loading, refused, retry_after_of
from turnwire.models.chat.options import ChatOptions

__all__ = ["Answer", "ChatClient"]

MAX_ERROR_BYTES: Final = 65_536
MAX_NAMES_BYTES: Final = 4 << 20  # some hosted APIs have hundreds, each with a description
KEEP_ALIVE_SEC: Final = 60.0
LOADING_SEC: Final = 2.0  # between two looks at an endpoint that loads its model
REST_SEC: Final = 1.0  # for the end of a body whose last chunk was read
_FAILURES: Final = (
    aiohttp.ClientError,
    aiohttp.http_exceptions.HttpProcessingError,  # what the parser says, should it get through
    OSError,
    TimeoutError,
    ValueError,
    RuntimeError,  # a connection or session that was closed in the meantime
)


class _Missed(Struct, frozen=True):
    """A try without an answer.

    Attributes:
        fault: Why.
        again: Whether another try may have one.
        after_sec: When, if the endpoint said.
        stale: The connection may have been one that was kept alive for too long.
    """

    fault: TurnwireError
    again: bool = False
    after_sec: int | None = None
    stale: bool = False


class _Name(Struct):
    id: str


class _Names(Struct):
    data: list[_Name]


class ChatClient:
    """Asks one endpoint. For one event loop, the one that it is first used in."""

    def __init__(self, name: str, options: ChatOptions) -> None:
        """
        Args:
            name: The model, as clients know it.
            options: Where to ask, and how patiently.

        Raises:
            ConfigError: the URL, the key or a header cannot be used.
        """
        self._name: Final = name
        self._options: Final = options
        self._url: Final = _endpoint(name, options.base_url)
        self._headers: Final = _headers(name, options)
        self._session: aiohttp.ClientSession | None = None
        self._resting: dict[asyncio.Task[None], aiohttp.ClientResponse] = {}
        self._closed = False

    async def ask(self, body: Sequence[bytes]) -> Answer:
        """Send a request; return when the endpoint has begun to answer.

        Args:
            body: JSON, in pieces.

        Raises:
            EngineUnavailable: it cannot be reached, or did not answer.
            WireError: it refused; see `faults`.
        """
        patience = self._options.patience
        wait_sec = patience.backoff_sec
        num_left = patience.max_retries
        may_be_stale = True
        loaded_by = asyncio.get_running_loop().time() + patience.first_byte_sec
        while True:
            tried = await self._try(body)
            if isinstance(tried, Answer):
                return tried
            if tried.stale and may_be_stale:
                # What was kept alive is closed by its endpoint sooner or later: no try was made.
                may_be_stale = False
                continue
            if isinstance(tried.fault, Loading):
                # As if it had taken the request, and were slow: some servers do that instead.
                if asyncio.get_running_loop().time() + wait_sec > loaded_by:
                    raise tried.fault
                await asyncio.sleep(wait_sec)
                wait_sec = min(2 * wait_sec, LOADING_SEC)
                continue
            again_sec = wait_sec if tried.after_sec is None else tried.after_sec
            if not tried.again or not num_left or again_sec > patience.max_retry_after_sec:
                raise tried.fault
            num_left -= 1
            wait_sec *= 2
            if again_sec:
                await asyncio.sleep(again_sec)

    async def names(self) -> list[str]:
        """The models that the endpoint says it has; none where it does not say."""
        url = (self._url.parent.parent / "models").with_query(self._url.query)
        try:
            async with (
                asyncio.timeout(self._options.patience.connect_sec),
                self._open().get(
                    url, headers=self._headers, allow_redirects=False, proxy=self._options.proxy
                ) as response,
            ):
                data = await _read(response, MAX_NAMES_BYTES)
                return [one.id for one in msgspec.json.decode(data, type=_Names).data]
        except (*_FAILURES, msgspec.DecodeError):
            return []

    async def aclose(self) -> None:
        """Close every connection; requests that run fail."""
        self._closed = True
        for task, response in list(self._resting.items()):
            task.cancel()
            response.close()  # a task that had not begun yet cannot do it
        if self._session is not None:
            await self._session.close()

    async def _try(self, body: Sequence[bytes]) -> Answer | _Missed:
        patience = self._options.patience
        try:
            async with asyncio.timeout(patience.first_byte_sec):
                response = await self._open().post(
                    self._url,
                    data=_Pieces(body),
                    headers=self._headers,
                    allow_redirects=False,
                    proxy=self._options.proxy,
                )
        except aiohttp.ConnectionTimeoutError:
            return _Missed(EngineUnavailable("it could not be reached in time"), again=True)
        except aiohttp.ClientConnectorError:
            return _Missed(EngineUnavailable("it could not be reached"), again=True)
        except TimeoutError:
            return _Missed(EngineUnavailable("it did not begin to answer in time"))
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
            if not self._closed:
                gone = EngineUnavailable("it closed the connection")
                return _Missed(gone, again=True, stale=True)
            return _Missed(EngineUnavailable("the model was closed"))
        except _FAILURES as error:
            if self._closed:
                return _Missed(EngineUnavailable("the model was closed"))
            return _Missed(EngineUnavailable(_kind(error)))
        if response.status == 200:
            return Answer(response, self)
        return await self._refused(response)

    async def _refused(self, response: aiohttp.ClientResponse) -> _Missed:
        try:
            async with asyncio.timeout(self._options.patience.connect_sec):
                said = await _read(response, MAX_ERROR_BYTES)
        except _FAILURES:
            said = b""
        finally:
            response.close()
        after_sec = retry_after_of(response.headers)
        fault = refused(
            self._name,
            response.status,
            said,
            retry_after_sec=after_sec,
            secret=self._options.api_key,
        )
        spent = response.status == 429 and not isinstance(fault, TooManyRequests)  # no quota left
        again = response.status in RETRIED and not spent
        return _Missed(fault, again=again, after_sec=after_sec)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise aiohttp.ClientConnectionError("closed")
        if self._session is None:
            patience = self._options.patience
            self._session = aiohttp.ClientSession(
                # Slots say how many there are at a time; nobody queues here.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SEC),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=patience.connect_sec),
            )
        return self._session

    def rest(self, response: aiohttp.ClientResponse) -> None:
        """Read a body to its end aside, so that its connection can be used again."""
        task = asyncio.create_task(_rest(response), name="chat-rest")
        self._resting[task] = response
        task.add_done_callback(self._resting.pop)


class Answer:
    """A body that arrives. Close it."""

    def __init__(self, response: aiohttp.ClientResponse, client: ChatClient) -> None:
        self._response: Final = response
        self._client: Final = client
        self._content: Final = response.content
        self._patience: Final = client._options.patience
        self._loop: Final = asyncio.get_running_loop()
        self._listens = False
        self._listens_since = 0.0
        self._limit_sec = self._patience.first_byte_sec
        self._late = False
        self._watch = self._loop.call_later(self._soon(), self._look)

    async def read(self) -> bytes:
        """What came since the last read, at least a byte; none at the end.

        Raises:
            EngineError: the answer broke off, or nothing came for too long.
        """
        self._listens_since = self._loop.time()
        self._listens = True
        try:
            data = await self._content.readany()
        except _FAILURES as error:
            if self._late:
                raise EngineError("it said nothing for too long") from None
            raise EngineError("its answer broke off") from error
        finally:
            self._listens = False
        self._limit_sec = self._patience.idle_sec
        return data

    def close(self, *, whole: bool = False) -> None:
        """Be done with it; unless it is whole, the endpoint is told to stop.

        Args:
            whole: Nothing of interest can follow; the connection is kept for the next request.
        """
        self._watch.cancel()
        if whole and not self._content.at_eof():
            self._client.rest(self._response)
        elif whole:
            self._response.release()
        else:
            self._response.close()

    def _soon(self) -> float:
        return min(self._patience.first_byte_sec, self._patience.idle_sec)

    def _look(self) -> None:
        """One timer looks after the whole answer: to set one for each read would cost more."""
        left_sec = self._limit_sec
        if self._listens:  # nobody can say that nothing came who does not listen
            left_sec += self._listens_since - self._loop.time()
        if left_sec > 0:
            self._watch = self._loop.call_later(min(left_sec, self._soon()), self._look)
        else:
            self._late = True
            self._response.close()


class _Pieces(Payload):
    """A body that is joined only when it is written."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        super().__init__(pieces, content_type="application/json")
        self._pieces: Final = pieces
        self._size = sum(map(len, pieces))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text, for whoever wants to show it."""
        return b"".join(self._pieces).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it at once."""
        await writer.write(b"".join(self._pieces))

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write all of it; its length was announced."""
        await self.write(writer)


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """A body, or its beginning if it is longer."""
    found = b""
    while len(found) < max_bytes and (piece := await response.content.readany()):
        found += piece
    return found[:max_bytes]


async def _rest(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(REST_SEC):
            while await response.content.readany():
                pass
        response.release()
    except (*_FAILURES, asyncio.CancelledError):
        response.close()


def _endpoint(name: str, base_url: str) -> URL:
    try:
        parts = urlsplit(base_url)
        host, user = parts.hostname, parts.username or parts.password
    except ValueError as error:
        raise ConfigError(f"The URL of the model {name!r} is none.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            f"The URL of the model {name!r} must be http:// or https:// and name a host."
        )
    if user:
        raise ConfigError(
            f"The URL of the model {name!r} must not hold a key or password; give the key apart."
        )
    base = URL(base_url)
    if base.path.rstrip("/").endswith("/chat/completions"):
        return base  # people copy it whole
    # A query stays where it is: Azure has a version in it.
    return (base / "chat" / "completions").with_query(base.query)


def _headers(name: str, options: ChatOptions) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict(
        {
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "turnwire",
        }
    )
    if options.api_key is not None:
        headers["Authorization"] = f"Bearer {options.api_key}"
    headers.update(options.headers)
    for key, value in headers.items():
        if not (key + value).isascii() or not (key + value).isprintable():
            raise ConfigError(f"The header {key!r} of the model {name!r} cannot be sent.")
    return headers


def _kind(error: BaseException) -> str:
    """What went wrong, without the library's words: they hold addresses."""
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError | ValueError):
        return "it does not speak HTTP as it should"
    return "the connection failed"
