"""A WebSocket to a server, and perhaps the server too, behind the back of whoever types.

Reading a line from a terminal blocks, and is best left to the main thread, where Ctrl-C arrives.
So the event loop has a thread of its own here, and hands events over through a queue.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from secrets import token_urlsafe
from types import TracebackType
from typing import Any, Final, TypeVar

import aiohttp
from msgspec import structs

from turnwire.cli.connect import base_url
from turnwire.cli.download_bar import DownloadBar
from turnwire.config import Config, KeyConfig, StoreConfig
from turnwire.errors import TurnwireError
from turnwire.server.listening import reason_of

__all__ = ["Event", "Link", "LinkError", "Lost"]

T = TypeVar("T")

CONNECT_SEC: Final = 10.0
PING_SEC: Final = 20.0


class LinkError(TurnwireError):
    """The server cannot be reached or refuses; the message says why."""


class Lost(str):
    """In place of an event: the connection ended, and why."""

    __slots__ = ()


Event = dict[str, Any] | Lost


class Link:
    """A connection; a context manager. Methods are for the main thread, and wait."""

    def __init__(self, url: str | None, key: str, config: Config) -> None:
        """
        Args:
            url: Of a server that runs, with or without `/v1`; None to run one here.
            key: For that server.
            config: For one that is run here: its models. It stores nothing, and listens on a
                port of loopback that takes one key, which is told to nobody.

        Raises:
            ConfigError: `url` is no address.
        """
        self.events: Final[queue.SimpleQueue[Event]] = queue.SimpleQueue()
        self._url = base_url(url).removesuffix("/v1") if url is not None else None
        self._key = key
        self._config = config
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._stack = AsyncExitStack()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[Any] | None = None

    def __enter__(self) -> Link:
        """
        Raises:
            LinkError: the server cannot be reached.
            ConfigError, OSError: it cannot be run.
        """
        self._thread.start()
        try:
            self._wait(self._open())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def models(self) -> list[str]:
        """What the server offers.

        Raises:
            LinkError: it does not say.
        """
        return self._wait(self._models())

    def send(self, event: dict[str, Any]) -> bool:
        """Send an event; connect first if need be.

        Returns:
            Whether it went over a connection that was there already.

        Raises:
            LinkError: the server cannot be reached.
        """
        return self._wait(self._send(event))

    def cancel(self) -> None:
        """End the answer that is running, soon; may be called by a signal's handler."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # -- in the thread

    async def _open(self) -> None:
        self._opening = asyncio.current_task()
        if self._url is None:
            # Here, because it takes a second, and a server elsewhere does not need it.
            from turnwire.server.app import serve

            self._key = token_urlsafe(24)
            private = _private(self._config, self._key)
            server = await self._stack.enter_async_context(
                serve(private, progress=self._stack.enter_context(DownloadBar()))
            )
            self._url = server.url
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._key}"},
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SEC),
            )
        )
        await self._connect()

    async def _connect(self) -> None:
        url = f"{self._url}/v1/responses"
        try:
            socket = await self._session.ws_connect(url, heartbeat=PING_SEC, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as error:
            raise LinkError(_refusal(error.status, url)) from error
        except OSError as error:  # TimeoutError, and most of aiohttp's, are too
            raise LinkError(
                f"Cannot reach {self._url}: {reason_of(error)}. Is `turnwire serve` running there?"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise LinkError(f"Cannot reach {self._url}: {error}.") from error
        self._socket = socket
        self._reader = asyncio.create_task(self._read(socket), name="link-reader")

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.events.put(json.loads(message.data))
        self.events.put(Lost(f"The server closed the connection ({socket.close_code})."))

    async def _send(self, event: dict[str, Any]) -> bool:
        known = self._socket is not None and not self._socket.closed
        if not known:
            await self._connect()
        if self._socket is None:
            raise AssertionError("connecting makes one")
        await self._socket.send_str(json.dumps(event))
        return known

    def _cancel(self) -> None:
        socket = self._socket
        if socket is not None and not socket.closed:
            text = json.dumps({"type": "response.cancel"})
            self._cancelling = asyncio.create_task(socket.send_str(text), name="link-cancel")

    async def _models(self) -> list[str]:
        try:
            async with self._session.get(f"{self._url}/v1/models") as answer:
                if answer.status != 200:
                    raise LinkError(_refusal(answer.status, f"{self._url}/v1/models"))
                return [model["id"] for model in (await answer.json())["data"]]
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
            raise LinkError(f"{self._url} does not say which models it has.") from error

    async def _close(self) -> None:
        if self._opening is not None and not self._opening.done():
            # Whoever waited does not any more; what is half open is closed first.
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            await self._reader
        await self._stack.aclose()


def _private(config: Config, key: str) -> Config:
    server = structs.replace(config.server, host="127.0.0.1", port=0, workers=1)
    return structs.replace(
        config,
        server=server,
        keys=(KeyConfig(owner="local", key=key),),
        store=StoreConfig(kind="memory"),
    )


def _refusal(status: int, url: str) -> str:
    if status == 401:
        return f"{url} wants a key: put one of its keys into TURNWIRE_KEY."
    return f"{url} refuses ({status}); is it a Responses API with WebSocket mode?"
