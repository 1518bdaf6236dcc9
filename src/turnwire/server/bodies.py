"""Request bodies: read whole, up to a size."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from turnwire.errors import InvalidRequest, PayloadTooLarge

__all__ = ["Bodies"]


class Bodies:
    """Reads request bodies.

    Attributes:
        max_bytes: Size of the largest body that is taken.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes: Final = max_bytes

    async def read(self, request: web.Request) -> bytes:
        """Return the body.

        Raises:
            PayloadTooLarge: it is larger than `max_bytes`, or says that it will be.
            InvalidRequest: it cannot be read.
        """
        if request.content_length is not None and request.content_length > self.max_bytes:
            raise self._too_large()
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise self._too_large() from error
        except web.RequestPayloadError as error:
            raise InvalidRequest(
                "The request body cannot be read: its chunks, its length or its compression are "
                "not what the headers say.",
                code="invalid_request",
            ) from error

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The request body is larger than {self.max_bytes} bytes. Send less, or raise "
            "server.max_body_bytes."
        )
