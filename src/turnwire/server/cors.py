"""Which web pages may call this server from a browser (CORS, Fetch standard section 3.2).

Off unless origins are configured. A page that is allowed sends its key like any other client:
cookies play no part here, and so `Access-Control-Allow-Credentials` is never sent.

This is about what a browser shows to a page. What a server without keys takes at all is decided
in `local`, which lets the origins configured here in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from turnwire.errors import PermissionDenied

__all__ = ["Cors"]

EXPOSED: Final = ", ".join(
    (
        "openai-processing-ms",
        "openai-version",
        "retry-after",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-request-id",
        "x-should-retry",
    )
)
METHODS: Final = "GET, POST, DELETE"
HEADERS: Final = "authorization, content-type"
MAX_AGE_SEC: Final = "600"
"""For how long a browser need not ask again; Chromium takes at most 7200."""

NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,4096}")
"""A list of field names (RFC 9110 section 5.1)."""


class Cors:
    """The origins that are allowed.

    Attributes:
        is_on: Whether there are any.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        """Allow these: `https://example.com`, with its port if it is not the scheme's; or `*`."""
        self._origins: Final = frozenset(origin.lower() for origin in origins)
        self.is_on: Final = bool(self._origins)

    def allows(self, origin: str) -> bool:
        """Whether the page of this origin is allowed."""
        return "*" in self._origins or origin.lower() in self._origins

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """What an answer says to a browser.

        Args:
            origin: Where the request came from, or None if it does not say.
        """
        if not self.is_on:
            return {}
        # A cache must not hand what one origin was told to another.
        told = {"Vary": "Origin"}
        if origin is not None and self.allows(origin):
            told["Access-Control-Allow-Origin"] = origin
            told["Access-Control-Expose-Headers"] = EXPOSED
        return told

    def preflight(self, requested: str, private: bool) -> Mapping[str, str]:
        """What an allowed page is told that asks before it sends.

        Args:
            requested: The header names it wants to send.
            private: Whether it is a public page that asks for a server in a private network.
        """
        told = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": requested if NAMES.fullmatch(requested) else HEADERS,
            "Access-Control-Max-Age": MAX_AGE_SEC,
        }
        if private:
            told["Access-Control-Allow-Private-Network"] = "true"
        return told

    async def stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        """Put the headers on an answer that is about to be sent, errors included."""
        response.headers.update(self.headers(request.headers.get("Origin")))

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer what a browser asks before it sends; hand on everything else.

        Raises:
            PermissionDenied: the page that asks is not allowed.
        """
        headers = request.headers
        origin = headers.get("Origin")
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in headers
        if not asks or origin is None:
            return await handler(request)
        if not self.allows(origin):
            raise PermissionDenied(f"The origin {origin[:80]!r} is not in server.allowed_origins.")
        private = headers.get("Access-Control-Request-Private-Network") == "true"
        requested = headers.get("Access-Control-Request-Headers", HEADERS)
        return web.Response(status=204, headers=self.preflight(requested, private))
