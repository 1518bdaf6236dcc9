"""HTTP to one server, whose answers stream: requests in pieces, answers as they arrive.

What a general client does for every request (redirects, cookies, proxies, parsing of URLs, a
body that is joined and copied) costs more than all the rest of a turn on an engine, so this one
does without: docs/experiments.md. A request's pieces go to the socket as they are.

Every failure is an `OSError`: `NoConnection` or another of its kinds, or `TimeoutError`.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from turnwire.engines.http_answer import AnswerReader, BadAnswer

__all__ = ["HttpClient", "NoConnection", "Reply"]

# What a server says before anybody reads it; then its connection is left full.
_HIGH_BYTES: Final = 1 << 20
_MAX_IDLE: Final = 64
_RESOLVED_SEC: Final = 10.0  # how long a name stands for the same addresses
# A server that ends connections so soon behind its answers keeps none, whatever it says: some
# llama-servers do that behind every stream. Twice in a row is believed.
_HUNG_UP_SEC: Final = 1.0
_HUNG_UP_TIMES: Final = 2
# On the same machine, room for the largest prompts: to wait for the reader costs a millisecond.
_SEND_BYTES: Final = 4 << 20
_LINGER_SEC: Final = 1.0  # for the end of an answer of which nothing is wanted any more


class NoConnection(ConnectionError):
    """The server cannot be reached."""


class HttpClient:
    """Connections to one server. For one event loop."""

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        connect_sec: float,
        silence_sec: float,
        keep_alive_sec: float,
    ) -> None:
        """Prepare; nothing is opened before the first request.

        Args:
            headers: Of every request, beside `Host` and `Content-Length`.
            connect_sec: Longest wait for a connection.
            silence_sec: Longest wait for the next byte of an answer, its first one included.
            keep_alive_sec: How long a connection may wait for its next request.
        """
        self._headers: Final = dict(headers)
        self._connect_sec: Final = connect_sec
        self._silence_sec: Final = silence_sec
        self._keep_alive_sec: Final = keep_alive_sec
        self._host, self._port = "", 0
        self._prefix = ""
        self._tls: ssl.SSLContext | None = None
        self._addresses: list[str] = []
        self._resolve_at = 0.0  # on the loop's clock
        self._fixed = b""  # header lines of every request, up to the length of its body
        self._idle: list[_Connection] = []  # the one that was used last is at the end
        self._lingering: set[_Connection] = set()
        self._num_hung_up = 0  # connections in a row that the server closed at once
        self._closed = False

    def aim(self, url: str) -> None:
        """Send what follows to this server; connections to another one are closed."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if tls else None
        headers = {"Host": parts.netloc.rpartition("@")[2], **self._headers}
        if parts.username is not None and "Authorization" not in headers:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._fixed = f"{lines}Content-Length: ".encode("latin-1")
        self._addresses = []
        self._close_idle()

    async def request(self, method: str, path: str, body: Sequence[bytes] = ()) -> Reply:
        """Send a request; return its answer once the head is there. Close it in any case.

        A connection that was kept, and that the server closed in the same moment, is replaced
        by another one.

        Args:
            method: `GET` or `POST`.
            path: Behind the path of the server's URL.
            body: In pieces.

        Raises:
            NoConnection: the server cannot be reached.
            OSError: it did not answer; `TimeoutError` if it was silent for too long.
        """
        size = sum(map(len, body))
        line = f"{method} {self._prefix}{path} HTTP/1.1\r\n".encode("ascii")
        pieces = [b"%b%b%d\r\n\r\n" % (line, self._fixed, size), *body]
        while True:
            if self._closed:
                raise ConnectionError("closed")
            kept = self._take()
            connection = await self._connect() if kept is None else kept
            reply = Reply(self, connection)
            try:
                connection.send(pieces)
                await reply.begin()
            except BadAnswer:
                reply.close()
                if kept is None or connection.heard:
                    raise
                self._num_hung_up += 1
            except BaseException:
                reply.close()
                raise
            else:
                if kept is not None:
                    self._num_hung_up = 0
                return reply

    async def aclose(self) -> None:
        """Close what waits for a request; answers that stream are for their owners to close."""
        self._closed = True
        self._close_idle()
        for connection in list(self._lingering):
            connection.abort()

    def give_back(self, connection: _Connection, *, whole: bool) -> None:
        """A connection that nobody reads from waits for its next request, or is closed.

        Args:
            connection: Of this client.
            whole: Whether the rest of its answer is worth waiting for.
        """
        if connection.reusable:
            self._keep(connection)
        elif whole and not connection.gone:
            self._lingering.add(connection)
            connection.linger(self._lingered)
        else:
            connection.abort()

    def _lingered(self, connection: _Connection) -> None:
        self._lingering.discard(connection)
        if connection.reusable:
            self._keep(connection)

    def _keep(self, connection: _Connection) -> None:
        useless = self._num_hung_up >= _HUNG_UP_TIMES or len(self._idle) >= _MAX_IDLE
        if self._closed or useless:
            connection.abort()
            return
        connection.rest(self._hung_up)
        connection.rests_since = connection.loop.time()
        self._idle.append(connection)

    def _hung_up(self, connection: _Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
            if connection.loop.time() - connection.rests_since < _HUNG_UP_SEC:
                self._num_hung_up += 1

    def _take(self) -> _Connection | None:
        idle = self._idle
        if not idle:
            return None
        too_long = idle[-1].loop.time() - self._keep_alive_sec
        if idle[-1].rests_since > too_long:
            return idle.pop()
        self._close_idle()  # the others have waited even longer
        return None

    def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        fault: Exception | None = None
        try:
            async with asyncio.timeout(self._connect_sec):
                for address in await self._resolve(loop):
                    try:
                        _, connection = await loop.create_connection(
                            lambda: _Connection(loop, self._silence_sec),
                            address,
                            self._port,
                            ssl=self._tls,
                            server_hostname=self._host if self._tls else None,
                        )
                    except TimeoutError:
                        raise
                    except OSError as error:
                        fault = error
                    else:
                        return connection
        except TimeoutError as error:
            raise TimeoutError("no connection in time") from error
        except (OSError, UnicodeError) as error:  # of the name, which may be none
            fault = error
        self._addresses = []
        raise NoConnection("no connection") from fault

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        """The host's addresses. A name is not looked up for every request."""
        if not self._addresses or loop.time() > self._resolve_at:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._addresses = [str(address[0]) for *_, address in found]
            self._resolve_at = loop.time() + _RESOLVED_SEC
        return self._addresses


class Reply:
    """An answer that streams.

    Attributes:
        status: As in its head.
        content_type: In lower case, without parameters.
    """

    def __init__(self, client: HttpClient, connection: _Connection) -> None:
        """Made by `HttpClient.request`."""
        self.status = 0
        self.content_type = ""
        self._client: Final = client
        self._connection: _Connection | None = connection

    async def begin(self) -> None:
        """Wait for the head."""
        connection = self._open()
        await connection.wait(for_body=False)
        self.status = connection.answer.status
        self.content_type = connection.answer.content_type

    async def read(self) -> bytes:
        """What has arrived since the last read, at least a byte; nothing at the end.

        Raises:
            OSError: the answer broke off; `TimeoutError` if nothing came for too long.
        """
        connection = self._open()
        await connection.wait(for_body=True)
        return connection.take()

    async def read_all(self, max_bytes: int) -> bytes:
        """The body, or its beginning if it is longer; as `read`."""
        found = b""
        while len(found) < max_bytes and (piece := await self.read()):
            found += piece
        return found[:max_bytes]

    def close(self, *, whole: bool = False) -> None:
        """Be done with it; before its end, the server sees that nobody reads any more.

        Args:
            whole: Nothing of interest can follow: its end is let come, and the connection is
                kept for another request.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.give_back(connection, whole=whole)

    def _open(self) -> _Connection:
        if self._connection is None:
            raise ConnectionError("closed")
        return self._connection


class _Connection(asyncio.Protocol):
    """One connection, one request at a time.

    Attributes:
        answer: To the request.
        heard: Whether anything of it has come.
        gone: Nothing can be sent any more.
        rests_since: Time on the loop's clock at which its last answer ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, silence_sec: float) -> None:
        self.loop: Final = loop
        self._silence_sec: Final = silence_sec
        self._transport: asyncio.Transport
        self.gone = False
        self.rests_since = 0.0
        self._paused = False
        self._watch: asyncio.TimerHandle | None = None
        self.rest()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow: the answer has come to its end."""
        return not self.gone and self.answer.ended and self.answer.keeps

    def rest(self, left: Callable[[_Connection], None] | None = None) -> None:
        """Be as new.

        Args:
            left: To be told when it can serve nobody any more.
        """
        self.answer = AnswerReader()
        self.heard = False
        self._pieces: list[bytes] = []
        self._num_unread = 0
        self._error: OSError | None = None
        self._asked = False
        self._left = left  # to be told of the end of what nobody waits for
        self._waiter: asyncio.Future[None] | None = None
        self._quiet_since = 0.0
        self._stop_watching()
        self._go_on_reading()

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send a request: the pieces are not copied, where the loop can help it."""
        if self.gone:
            raise BadAnswer("it broke off")
        self._asked = True
        self._left = None
        self._transport.writelines(pieces)
        self._quiet_since = self.loop.time()
        self._watch = self.loop.call_later(self._silence_sec, self._look)

    async def wait(self, *, for_body: bool) -> None:
        """Wait for the head, or for something of the body or its end.

        Raises:
            OSError: it broke off; `TimeoutError` if nothing came for too long.
        """
        while not (self._pieces or self.answer.ended or (self.answer.status and not for_body)):
            if self._error is not None:
                raise self._error
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def take(self) -> bytes:
        """What of the body has come and was not taken."""
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        self._num_unread = 0
        self._go_on_reading()
        self._quiet_since = self.loop.time()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def linger(self, left: Callable[[_Connection], None]) -> None:
        """Let the end of the answer come, for a while; `left` is called in any case."""
        self._left = left
        self._go_on_reading()
        self._stop_watching()
        self._watch = self.loop.call_later(_LINGER_SEC, self.abort)

    def abort(self) -> None:
        """Close it at once, whatever was still to be sent."""
        self._stop_watching()
        self._break(ConnectionError("closed"))

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        if address is not None and address[0] in ("127.0.0.1", "::1"):
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        try:
            if not self._asked:  # a farewell, say, to one that waited for too long
                raise BadAnswer("nothing was asked")
            found = self.answer.feed(data)
        except BadAnswer as error:
            self._break(error)
            return
        if self._left is not None:
            if self.answer.ended:
                self._leave()
        elif found:
            self._pieces += found
            self._num_unread += len(data)
            if self._num_unread > _HIGH_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        self._quiet_since = self.loop.time()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self._stop_watching()
        try:
            self.answer.feed_end()
        except BadAnswer as broken:
            broken.__cause__ = error
            self._fail(broken)
        self._wake()
        self._leave()

    # --

    def _look(self) -> None:
        """One timer looks after the whole answer: one for each read would cost more."""
        left_sec = self._silence_sec
        if self._waiter is not None:  # nobody can say that nothing came who does not listen
            left_sec += self._quiet_since - self.loop.time()
        if left_sec > 0:
            self._watch = self.loop.call_later(left_sec, self._look)
            return
        self._break(TimeoutError("nothing came for too long"))

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _go_on_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _break(self, error: OSError) -> None:
        self._fail(error)
        self._transport.abort()

    def _fail(self, error: OSError) -> None:
        if self._error is None:
            self._error = error
        self.gone = True
        self._wake()
        self._leave()

    def _leave(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left(self)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
