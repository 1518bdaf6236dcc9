"""What a client is told about its limit, in the header names of protocol.md section 16.

This server limits how many responses of an owner run at a time, not how many it may ask for per
minute. So `limit` and `remaining` count places, and `reset` is when asking again makes sense.
Without a limit there are no such headers: a number that bounds nothing would slow down clients
that obey it. Tokens are not limited, and so their three headers are never sent. Nor is the
limit of the whole server, whose use is none of a single client's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["rate_headers"]

RETRY_SEC: Final = 1
"""When to ask again for a place; nobody knows when one will be free."""


def rate_headers(limit: int, num_running: int) -> Mapping[str, str]:
    """The headers of an answer to an owner.

    Args:
        limit: Responses that the owner may have running; 0 for no limit.
        num_running: Responses of the owner that run now.
    """
    if not limit:
        return {}
    reset = f"{RETRY_SEC}s" if num_running else "0s"
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(max(0, limit - num_running)),
        "x-ratelimit-reset-requests": reset,
    }
