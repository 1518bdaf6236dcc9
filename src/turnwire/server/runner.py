"""The library's server, where what it does before there is a request is not what we want.

What cannot be read as HTTP never becomes a request: no route, middleware or signal sees it. The
library answers it in plain text that quotes what came. Here it gets an error like any other, with
the headers of every answer; nothing of what came is quoted, as it may hold a key. And who connects
and asks for nothing is let go after some time, not never: anybody could hold every connection.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from turnwire.errors import InvalidRequest, ServiceError, WireError
from turnwire.server.faults import answer, stamp

__all__ = ["HEAD_SEC", "Runner"]

HEAD_SEC: Final = 60.0
"""How long a client may take to send its first request's head; the library limits later ones."""


class Runner(web.AppRunner):
    """Runs an application; see `web.AppRunner`."""

    async def _make_server(self) -> web.Server:
        # The library has no public way to choose the protocol; tests notice if this one changes.
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )


class _Server(web.Server):
    """Makes a protocol for each connection."""

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._kwargs)


class _Protocol(web.RequestHandler):
    """The server's side of one connection."""

    __slots__ = ("_patience",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(HEAD_SEC, self.close_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait no more."""
        self._patience.cancel()
        super().connection_lost(exc)

    def close_if_silent(self) -> None:
        """Let the client go if it has never asked for anything."""
        if not self._request_count:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the library could not read, or a fault that escaped every handler.

        Raises:
            ConnectionError: an answer was begun already.
        """
        super().handle_error(request, status, exc, message)  # logs it, and raises that
        error: WireError
        if status < 500:
            error = InvalidRequest(
                f"The request cannot be read: {_reason(message)}.", code="invalid_request"
            )
        else:
            error = ServiceError("The server failed; its log says where.")
        made = answer(error)
        made.set_status(status)
        stamp(request, made)
        made.force_close()
        return made


def _reason(message: str | None) -> str:
    """What the library's message says before it quotes."""
    reason = (message or "").partition("\n")[0].partition(":")[0].partition(" b'")[0]
    return reason.rstrip(". ") or "it is not HTTP/1.1"
