"""Compressed request bodies to plain ones, up to a size: bytes in, bytes out.

Nothing is trusted: decompression stops one byte beyond the limit, whatever a header promises
and however small the compressed form is. A zstd frame may ask for a window of 8 MiB at most
(RFC 9659, which made that the limit for HTTP). gzip and zstd may come in several members; their
number is bounded, because each one costs a copy of what follows it.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["CODINGS", "BrokenBody", "TooMuch", "decompressed"]

MAX_MEMBERS: Final = 16
WINDOW_LOG: Final = 23


class TooMuch(Exception):
    """The plain body is larger than it may be."""


class BrokenBody(Exception):
    """The bytes are not what the coding says; the text of the exception says why."""


class _Stream(Protocol):
    """One member: what `zlib` and `zstd` have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


def _deflate(data: bytes) -> _Stream:
    # RFC 9110 section 8.4.1.2: "deflate" is the zlib format, but some senders leave its frame out.
    framed = data[0] & 0x0F == 8 and len(data) > 1 and (data[0] << 8 | data[1]) % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)


def _gzip(data: bytes) -> _Stream:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _zstd(data: bytes) -> _Stream:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})


CODINGS: Final[dict[str, Callable[[bytes], _Stream]]] = {
    "deflate": _deflate,
    "gzip": _gzip,
    "x-gzip": _gzip,  # "should be considered equivalent", RFC 9110 section 8.4.1.3
    "zstd": _zstd,
}
"""What a body may be compressed with: names as in `Content-Encoding`, in lower case."""


def decompressed(data: bytes, coding: str, max_bytes: int) -> bytes:
    """Return the plain body.

    Args:
        data: The body as it came.
        coding: One of `CODINGS`.
        max_bytes: Size of the largest plain body that is taken.

    Raises:
        TooMuch: it is larger.
        BrokenBody: it is cut short, altered, or has something behind its end.
    """
    pieces: list[bytes] = []
    room = max_bytes + 1
    for _ in range(MAX_MEMBERS):
        if not data:
            return b"".join(pieces)
        stream = CODINGS[coding](data)
        try:
            piece = stream.decompress(data, max_length=room)
        except (zlib.error, zstd.ZstdError) as error:
            raise BrokenBody(str(error)) from error
        room -= len(piece)
        if room <= 0:
            raise TooMuch
        if not stream.eof:
            raise BrokenBody("it ends too early")
        pieces.append(piece)
        data = stream.unused_data
    if data:
        raise BrokenBody(f"it has more than {MAX_MEMBERS} members, or something behind its end")
    return b"".join(pieces)
