"""A server without keys serves this machine only, and no web page that happens to be open on it.

Listening on loopback keeps other machines out, but a browser on this machine reaches loopback
for any page it shows: by a cross-site request or WebSocket (which names the page in `Origin`),
or under a name of the page's own that resolves to 127.0.0.1 (which shows in `Host`). Both are
refused here, but for pages that the configuration allows by name. With keys configured the key
decides, and this check is not installed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from turnwire.errors import PermissionDenied

__all__ = ["is_local", "local_guard"]


def is_local(authority: str) -> bool:
    """Whether `host[:port]` names this machine's loopback."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def local_guard(allows: Callable[[str], bool]) -> Middleware:
    """Make the middleware that refuses what does not come from a program on this machine.

    Args:
        allows: Whether a page's origin was let in by whoever configured the server.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not is_local(host):
            raise PermissionDenied(
                f"This server has no keys and answers to localhost only, not to {host!r}. "
                "Configure a key to serve it under other names."
            )
        origin = request.headers.get("Origin")
        if origin is not None and not (is_local(origin.partition("://")[2]) or allows(origin)):
            raise PermissionDenied(
                f"This server has no keys and takes no requests of the web page {origin!r}. "
                "Configure a key, or name it in server.allowed_origins."
            )
        return await handler(request)

    return middleware
