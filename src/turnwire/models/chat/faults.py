"""What an endpoint says went wrong, as what a client is told.

Whose fault it is decides: a request that the endpoint finds wrong is the client's, with the
endpoint's own words; a key that it refuses is the operator's, and nobody is told more than that.
Words of an endpoint are cut, kept on one line, and never quoted where they are not the client's;
whoever runs this server finds them in the error's `detail`.

An error in the middle of a stream has a status of its own from some servers (llama-server, vLLM,
OpenRouter): then it is what it would have been as a refusal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

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

__all__ = ["RETRIED", "Loading", "in_stream", "refused", "retry_after_of"]

RETRIED: Final = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses of requests that were not served, and may be a moment later."""

MAX_WORDS_CHARS: Final = 300
MAX_DETAIL_CHARS: Final = 3000  # lists of what is wrong begin with what it is about
_STATUS: Final = re.compile(r"[1-5]\d\d")
_OPERATOR: Final = "That is for the operator of this server to mend."
MAX_RETRY_AFTER_SEC: Final = 86_400

_TOO_LONG: Final = re.compile(
    r"context[ _](?:length|window|size)|maximum context|context limit"
    r"|exceed_context_size|prompt is too long|input is too long|too many (?:input )?tokens"
    r"|exceeds? the (?:available )?context|larger than the context"
    r"|max_new_tokens.{0,9}must be <=|reduce the length of the (?:messages|prompt|input)",
    re.IGNORECASE,
)
# What servers say with a status that would be their own fault, and is the request's.
_EXCEEDED: Final = re.compile(r"context size has been exceeded|exceed_context_size", re.IGNORECASE)
_TEMPLATE: Final = re.compile(
    r"jinja|chat template|roles must alternate|system message must", re.IGNORECASE
)
_LOADING: Final = re.compile(r"loading (?:the )?model|model is (?:still )?loading", re.IGNORECASE)
_NO_QUOTA: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


class Loading(Overloaded):
    """The endpoint is there, and reads its model into memory."""


class _Said(Struct, frozen=True):
    """An error body, in any of its shapes.

    Attributes:
        words: The message, on one line.
        names: Its type and code.
        status: Of HTTP, where the body has it.
    """

    words: str
    names: frozenset[str]
    status: int | None

    @property
    def too_long(self) -> bool:
        return "context_length_exceeded" in self.names or bool(_TOO_LONG.search(self.words))


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
    if retry_after_sec is not None:
        retry_after_sec = max(retry_after_sec, 1)  # what clients are told is at least that
    said = _said(body, secret)
    error = _refused(name, status, said, retry_after_sec)
    error.detail = said.words
    return error


def _refused(name: str, status: int, said: _Said, retry_after_sec: int | None) -> TurnwireError:
    at_fault = status in (400, 413, 422)
    if (at_fault and said.too_long) or (status == 500 and _EXCEEDED.search(said.words)):
        return _too_long(name)
    if at_fault or (status == 500 and _TEMPLATE.search(said.words)):
        words = f": {said.words[:MAX_WORDS_CHARS]}" if said.words else "."
        return InvalidRequest(f"The model {name!r} refused the request{words}")
    if status == 402 or (status == 429 and said.names & _NO_QUOTA):
        return ServiceError(
            f"The account of this server at the endpoint of {name!r} has no quota left."
        )
    if status == 429:
        return _limited(name, retry_after_sec)
    if status in (401, 403):
        return ServiceError(
            f"The endpoint of {name!r} refuses this server's key ({status}). {_OPERATOR}"
        )
    if status == 404 or 300 <= status < 400:
        return ServiceError(
            f"The endpoint of {name!r} is not where this server looks for it, or does not know "
            f"the model ({status}). {_OPERATOR}"
        )
    if status == 503:
        if _LOADING.search(said.words):
            text = f"The endpoint of {name!r} is still loading its model."
            return Loading(text, retry_after_sec=retry_after_sec or 1)
        text = f"The endpoint of {name!r} is overloaded."
        return Overloaded(text, retry_after_sec=retry_after_sec or 1)
    return EngineUnavailable(f"it answered with the status {status}")


def in_stream(name: str, error: bytes, *, secret: str | None = None) -> TurnwireError:
    """The error for an `error` in the middle of a stream; what was said before stands.

    Args:
        name: The model, as clients know it.
        error: Its JSON value.
        secret: Taken out of the endpoint's words, should it quote it.
    """
    said = _said(b'{"error":' + error + b"}", secret)
    fault: TurnwireError
    if said.too_long:
        fault = _too_long(name)
    elif "rate_limit_exceeded" in said.names:
        fault = _limited(name, None)
    elif said.status is not None and (said.status < 500 or said.status == 503):
        fault = _refused(name, said.status, said, None)
    else:
        fault = EngineError("it reported an error in the middle of its answer")
    fault.detail = said.words
    return fault


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


def _said(body: bytes, secret: str | None) -> _Said:
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Said("", frozenset(), None)
    if isinstance(found, list) and found:  # Gemini
        found = found[0]
    names: set[str] = set()
    message: Any = ""
    for _ in range(2):
        if isinstance(found, dict):
            names |= {str(found[key]) for key in ("type", "code") if found.get(key) is not None}
            message = found.get("message") or found.get("detail") or message
            if (raw := _from_behind(found)) is not None:
                message = raw
            found = found.get("error", found)
        if isinstance(found, str):
            message = found
    if isinstance(message, list | dict):  # FastAPI lists what it found
        message = msgspec.json.encode(message).decode()
    text = " ".join(str(message).split())
    if secret:
        text = text.replace(secret, "***")
    status = next((int(one) for one in names if _STATUS.fullmatch(one)), None)
    return _Said(text[:MAX_DETAIL_CHARS], frozenset(names), status)


def _from_behind(error: Mapping[str, Any]) -> str | None:
    """What the provider behind OpenRouter said; its own message is the same for all of them."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return raw if isinstance(raw, str) and raw else None
