"""Response objects that are bytes already: what they say, without decoding all of it."""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct
from msgspec.json import Decoder, encode

from turnwire.protocol.responses import ResponseError, ResponseStatus

__all__ = ["Outline", "failed", "outline"]


class Outline(Struct, frozen=True):
    """The fields of an encoded response that decide what may be done with it."""

    status: ResponseStatus
    background: bool = False

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status in ("queued", "in_progress")


_OUTLINE: Final = Decoder(Outline)
_FIELDS: Final = Decoder(dict[str, Raw])


def outline(response: bytes | Raw) -> Outline:
    """Read an encoded response object no further than is needed."""
    return _OUTLINE.decode(response)


def failed(response: bytes | Raw, code: str, message: str) -> bytes:
    """Return the object of a response that was running, as one that failed.

    Args:
        response: The object, queued or in progress.
        code: One of the protocol's response error codes, such as `server_error`.
        message: What a person can act on.
    """
    fields = _FIELDS.decode(response)
    fields["status"] = Raw(encode("failed"))
    fields["error"] = Raw(encode(ResponseError(code=code, message=message)))
    return encode(fields)
