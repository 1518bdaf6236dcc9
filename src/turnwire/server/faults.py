"""Errors to HTTP answers, and the headers of every answer (protocol.md section 16)."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from turnwire.errors import InvalidRequest, NotFound, ServiceError, UpgradeRequired, WireError
from turnwire.ids import new_id
from turnwire.protocol.codec import error_body
from turnwire.telemetry.logs import get_logger
from turnwire.telemetry.metrics import Metrics

__all__ = ["answer", "fault_middleware", "stamp", "stamp_prepared"]

log = get_logger()

BEGAN: Final = web.RequestKey("began", float)
HANDSHAKE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
}
"""What a 426 has to say (RFC 9110 section 15.5.22, RFC 6455 section 4.4)."""
OPENAI_VERSION: Final = "2020-10-01"
ROOTS: Final = ("/responses", "/models", "/conversations")
CLIENT_CLOSED_REQUEST: Final = 499  # nginx's name for it; only the access log could show it


def answer(error: WireError) -> web.Response:
    """The HTTP answer of an error: its status, its JSON body, when and whether to try again."""
    # What a client sent in its headers is quoted in some messages. Bytes there that are not UTF-8
    # arrive as lone surrogates, which JSON in UTF-8 cannot hold.
    error.message = error.message.encode("utf-8", "backslashreplace").decode()
    headers = {}
    if error.retry_after_sec is not None or error.status in (429, 503):
        # Clients that find none wait by a rule of their own, and not always for long.
        headers["Retry-After"] = str(max(1, error.retry_after_sec or 1))
    if error.should_retry is not None:
        headers["x-should-retry"] = str(error.should_retry).lower()
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, UpgradeRequired) and error.offered:
        headers |= HANDSHAKE
    return web.Response(
        body=error_body(error),
        status=error.status,
        headers=headers,
        content_type="application/json",
    )


def fault_middleware(metrics: Metrics) -> Middleware:
    """Make the middleware that answers every fault in the protocol's shape."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[BEGAN] = time.perf_counter()
        try:
            return await handler(request)
        except WireError as error:
            metrics.error(error.code)
            return answer(error)
        except web.HTTPException as refusal:
            return _translate(request, refusal)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if isinstance(error, ConnectionError) and _is_gone(request):
                # Nobody reads this; raising would have the library log a fault of ours.
                return web.Response(status=CLIENT_CLOSED_REQUEST)
            log.error("request_failed", path=request.rel_url.raw_path, exc_info=error)
            metrics.error("server_error")
            return answer(ServiceError("The server failed; its log says where."))

    return middleware


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _translate(request: web.Request, refusal: web.HTTPException) -> web.StreamResponse:
    if refusal.status == 404:
        where = f"{request.method} {request.path}"
        return answer(NotFound(f"Unknown request URL: {where}.{_direction(request.path)}"))
    if refusal.status == 405:
        body = answer(
            InvalidRequest(
                f"Not allowed to {request.method} on {request.path}.", code="method_not_allowed"
            )
        )
        body.set_status(405)
        body.headers["Allow"] = refusal.headers.get("Allow", "")
        return body
    if refusal.status < 400:
        raise refusal
    body = answer(InvalidRequest(refusal.reason, code="invalid_request"))
    body.set_status(refusal.status)
    return body


def _direction(path: str) -> str:
    """The way, for clients that were pointed at this server with the wrong address or API."""
    if path.endswith("/completions"):
        return " This server has the Responses API: POST to /v1/responses."
    if path.startswith(ROOTS):
        return " The base address of this API ends in /v1."
    return ""


def stamp(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Put the headers of every answer on one that is about to be sent."""
    headers = response.headers
    headers["x-request-id"] = new_id("req")
    headers["openai-version"] = OPENAI_VERSION
    headers["Server"] = "turnwire"  # which library in which version helps nobody but an attacker
    began = request.get(BEGAN)  # None if it was refused before anything was done for it
    spent_sec = 0.0 if began is None else time.perf_counter() - began
    headers["openai-processing-ms"] = str(int(1000 * spent_sec))


async def stamp_prepared(request: web.Request, response: web.StreamResponse) -> None:
    """`stamp`, as a signal of the application."""
    stamp(request, response)
