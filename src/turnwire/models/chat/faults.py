"""What an endpoint says went wrong, as what a client is told.

Whose fault it is decides: a request that the endpoint finds wrong is the client's, with the
endpoint's own words; a key that it refuses is the operator's, and nobody is told more than that.
Words of an endpoint are cut, kept on one line, and never quoted where they are not the client's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from turnwire.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    Overloaded,
    ServiceError,
    TooManyRequests,
    TurnwireError,
)

__all__ = ["RETRIED", "in_stream", "refused", "retry_after_of"]

RETRIED: Final = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses of requests that were not served, and may be a moment later."""

MAX_WORDS_CHARS: Final = 300
MAX_RETRY_AFTER_SEC: Final = 86_400

_TOO_LONG: Final = re.compile(
    r"context[ _](?:length|window|size)|maximum context|context limit"
    r"|exceed_context_size|prompt is too long|input is too long|too many (?:input )?tokens"
    r"|exceeds? the (?:available )?context|larger than the context"
    r"|max_new_tokens.{0,9}must be <=|reduce the length of the (?:messages|prompt|input)",
    re.IGNORECASE,
)
_NO_QUOTA: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


def refused(
    name: str,
    status: int,
    body: bytes,
    *,
    retry_after_sec: int | None = None,
    secret: str | None = None,
) -> TurnwireError:
    """The error for a status other than 200.

    Args:
        name: The model, as clients know it.
        status: The endpoint's.
        body: As much of the body as was read.
        retry_after_sec: What the endpoint's `Retry-After` says.
        secret: Taken out of the endpoint's words, should it quote it.
    """
    words, code = _words(body, secret)
    if retry_after_sec is not None:
        retry_after_sec = max(retry_after_sec, 1)  # what clients are told is at least that
    if status in (400, 413, 422):
        if code == "context_length_exceeded" or _TOO_LONG.search(words):
            return _too_long(name)
        said = f": {words}" if words else "."
        return InvalidRequest(f"The model {name!r} refused the request{said}")
    if status == 429:
        if code in _NO_QUOTA:
            return ServiceError(
                f"The account of this server at the endpoint of {name!r} has no quota left."
            )
        return _limited(name, retry_after_sec)
    if status in (401, 403):
        return ServiceError(
            f"The endpoint of {name!r} refuses this server's key ({status}). That is for the "
            "operator of this server to mend."
        )
    if status == 404 or 300 <= status < 400:
        return ServiceError(
            f"The endpoint of {name!r} is not where this server looks for it, or does not know "
            f"the model ({status}). That is for the operator of this server to mend."
        )
    if status == 503:
        return Overloaded(
            f"The endpoint of {name!r} is overloaded.", retry_after_sec=retry_after_sec or 1
        )
    return EngineUnavailable(f"it answered with the status {status}")


def in_stream(name: str, error: bytes, *, secret: str | None = None) -> TurnwireError:
    """The error for an `error` in the middle of a stream; what was said before stands.

    Args:
        name: The model, as clients know it.
        error: Its JSON value.
        secret: Taken out of the endpoint's words, should it quote it.
    """
    words, code = _words(b'{"error":' + error + b"}", secret)
    if code == "context_length_exceeded" or _TOO_LONG.search(words):
        return _too_long(name)
    if code in ("429", "rate_limit_exceeded"):
        return _limited(name, None)
    return EngineError("it reported an error in the middle of its answer")


def retry_after_of(headers: Mapping[str, str]) -> int | None:
    """Whole seconds of a `Retry-After` header; None without one, or if it is a date."""
    try:
        sec = math.ceil(float(headers.get("Retry-After", "")))
    except (ValueError, OverflowError):
        return None
    return min(max(sec, 0), MAX_RETRY_AFTER_SEC)


def _too_long(name: str) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"The input is too long for the model {name!r}. Send less, or compact.", param="input"
    )


def _limited(name: str, retry_after_sec: int | None) -> TooManyRequests:
    # In the message too: a response that failed has no field for it, and Codex reads it there.
    again = "" if retry_after_sec is None else f" Please try again in {retry_after_sec}s."
    return TooManyRequests(
        f"The endpoint of {name!r} takes no more requests now.{again}",
        retry_after_sec=retry_after_sec,
    )


def _words(body: bytes, secret: str | None) -> tuple[str, str]:
    """The message and the code of an error body, in any of its shapes."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    code = ""
    message: Any = ""
    for _ in range(2):
        if isinstance(found, dict):
            for key in ("type", "code"):
                if isinstance(found.get(key), str | int):
                    code = str(found[key])
            message = found.get("message") or found.get("detail") or message
            found = found.get("error", found)
        if isinstance(found, str):
            message = found
    if isinstance(message, list | dict):  # FastAPI lists what it found
        message = msgspec.json.encode(message).decode()
    text = " ".join(str(message).split())
    if secret:
        text = text.replace(secret, "***")
    return text[:MAX_WORDS_CHARS], code
