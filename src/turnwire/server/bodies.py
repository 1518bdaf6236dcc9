"""Request bodies: JSON, perhaps compressed, read whole, up to a size.

The library is told not to decompress, because the limit has to hold for what comes out.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import HttpVersion11, StreamReader, web

from turnwire.errors import (
    ExpectationFailed,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from turnwire.server.compression import CODINGS, BrokenBody, TooMuch, decompressed
from turnwire.server.faults import answer

__all__ = ["Bodies", "coding_of", "require_json"]

STALLED_SEC: Final = 60.0
"""As for a client that does not read (`websocket.stalled_sec`): slow networks stop for seconds."""

CHARSETS: Final = ("utf-8", "utf8", "us-ascii")


def require_json(content_type: str | None) -> None:
    """Check the header `Content-Type`; one that is absent passes.

    Raises:
        UnsupportedMediaType: it is not JSON in UTF-8.
    """
    if content_type is None:
        return
    kind, *parameters = content_type.split(";")
    if kind.strip().lower() != "application/json":
        raise UnsupportedMediaType(
            f"The body must be JSON: send 'Content-Type: application/json', not "
            f"'{content_type[:80]}'."
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' "').lower() not in CHARSETS:
            raise UnsupportedMediaType("JSON is in UTF-8; no other charset is taken.")


def coding_of(content_encoding: str) -> str | None:
    """What the body is compressed with, by the header `Content-Encoding`; None for nothing.

    Raises:
        UnsupportedMediaType: it is unknown, or compressed more than once, which saves nothing
            and is how small bodies become huge.
    """
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name not in CODINGS:
        raise UnsupportedMediaType(
            "The body may be compressed once, with gzip, deflate or zstd, and not with "
            f"'{content_encoding[:80]}'."
        )
    return name


class Bodies:
    """Reads request bodies.

    Attributes:
        max_bytes: Size of the largest body that is taken, before and after decompression.
        stalled_sec: How long a client may send nothing before its body is whole.
    """

    def __init__(self, max_bytes: int, *, stalled_sec: float = STALLED_SEC) -> None:
        self.max_bytes: Final = max_bytes
        self.stalled_sec: Final = stalled_sec

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect`, before the body is read: ask for it, unless it is too large.

        Returns:
            A final answer, or None to go on; what is too large is then refused unread.
        """
        if request.version < HttpVersion11:
            return None  # RFC 9110 section 10.1.1: ignored in HTTP/1.0
        if request.headers["Expect"].lower() != "100-continue":
            return answer(ExpectationFailed("The only known Expect is '100-continue'."))
        if (request.content_length or 0) <= self.max_bytes:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # nothing of the answer itself is sent
        return None

    async def read(self, request: web.Request) -> bytes:
        """Return the body, decompressed.

        Raises:
            UnsupportedMediaType: it is not JSON by its headers, or compressed in a way that is
                not taken.
            PayloadTooLarge: it is larger than `max_bytes`, or says that it will be.
            RequestTimeout: it stopped coming for `stalled_sec`.
            InvalidRequest: it cannot be read.
        """
        headers = request.headers
        require_json(headers.get("Content-Type"))
        coding = coding_of(", ".join(headers.getall("Content-Encoding", ())))
        if request.content_length is not None and request.content_length > self.max_bytes:
            raise self._too_large()
        try:
            body = await self._whole(request.content)
            if coding is not None:
                body = await asyncio.to_thread(decompressed, body, coding, self.max_bytes)
        except TooMuch as error:
            raise self._too_large() from error
        except TimeoutError as error:
            raise RequestTimeout(
                f"The rest of the request body did not come: nothing for {self.stalled_sec:g} "
                "seconds. Send the request again."
            ) from error
        except (web.RequestPayloadError, BrokenBody) as error:
            raise InvalidRequest(
                "The request body cannot be read: its chunks, its length or its compression are "
                "not what the headers say.",
                code="invalid_request",
            ) from error
        return body

    async def _whole(self, content: StreamReader) -> bytes:
        pieces: list[bytes] = []
        num_bytes = 0
        while True:
            async with asyncio.timeout(self.stalled_sec):
                piece = await content.readany()
            if not piece:
                return b"".join(pieces)
            num_bytes += len(piece)
            if num_bytes > self.max_bytes:
                raise TooMuch
            pieces.append(piece)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The request body is larger than {self.max_bytes} bytes. Send less, or raise "
            "server.max_body_bytes."
        )
