"""Answers whose body is JSON already."""

from __future__ import annotations

from aiohttp import web

__all__ = ["json_answer"]


def json_answer(body: bytes, status: int = 200) -> web.Response:
    """One JSON object, as it is.

    Args:
        body: Its bytes.
        status: The HTTP status.
    """
    return web.Response(body=body, status=status, content_type="application/json")
