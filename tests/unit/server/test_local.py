"""A server without keys answers to programs on this machine, not to web pages."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from turnwire.errors import PermissionDenied
from turnwire.server.local import is_local, local_guard


@pytest.mark.parametrize(
    ("authority", "local"),
    [
        ("localhost", True),
        ("localhost:8787", True),
        ("LOCALHOST:1", True),
        ("app.localhost:3000", True),
        ("127.0.0.1:8787", True),
        ("127.8.9.1", True),
        ("[::1]:8787", True),
        ("example.com", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com:80", False),
        ("192.168.0.7:8787", False),
        ("0.0.0.0", False),  # noqa: S104
        ("[::1", False),
        ("", False),
    ],
)
def test_what_is_local(authority: str, local: bool) -> None:
    """Loopback addresses and localhost names are, whatever merely looks like them is not."""
    assert local is is_local(authority)


async def answer(request: web.Request) -> web.StreamResponse:
    """A handler."""
    return web.Response(text="ok")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:1"}, 200),
        ({"Host": "127.0.0.1", "Origin": "http://localhost:3000"}, 200),
        ({"Host": "127.0.0.1", "Origin": "https://example.com"}, 403),
        ({"Host": "127.0.0.1", "Origin": "null"}, 403),
        ({"Host": "127.0.0.1", "Origin": "https://friend.example"}, 200),
        ({"Host": "friend.example", "Origin": "https://friend.example"}, 403),
        ({"Host": "example.com"}, 403),
    ],
)
async def test_pages_and_foreign_names_are_refused(headers: dict[str, str], status: int) -> None:
    """The page's origin and the name the server is called by decide."""
    guard = local_guard(lambda origin: origin == "https://friend.example")
    request = make_mocked_request("POST", "/v1/responses", headers=headers)
    if status == 403:
        with pytest.raises(PermissionDenied):
            await guard(request, answer)
    else:
        assert status == (await guard(request, answer)).status
