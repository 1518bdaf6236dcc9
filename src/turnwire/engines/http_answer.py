"""An HTTP/1.1 answer as its bytes come in (RFC 9112, sections 4, 6 and 7).

Pure: bytes in, bytes of the body out, whatever pieces they come in.

    HEAD -> LENGTH     a body of so many bytes
    HEAD -> SIZE -> CHUNK -> SIZE ... -> TRAILERS     a chunked one
    HEAD -> REST       one that ends with the connection
    any of them -> ENDED

What an answer is allowed to be is kept narrow: who asks here knows whom.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["AnswerReader", "BadAnswer"]

_MAX_HEAD_BYTES: Final = 65_536
_MAX_SIZE_LINE_BYTES: Final = 256
_NO_BODY: Final = (204, 304)


class BadAnswer(ConnectionError):
    """What came is no HTTP, or breaks off."""


class _State(Enum):
    HEAD = "head"
    LENGTH = "length"
    SIZE = "size"
    CHUNK = "chunk"
    TRAILERS = "trailers"
    REST = "rest"
    ENDED = "ended"


class AnswerReader:
    """Reads one answer.

    Attributes:
        status: 0 until the head is there.
        content_type: In lower case, without parameters; "" if there is none.
        keeps: Whether the connection can serve another request once this answer has ended.
    """

    __slots__ = ("_left", "_rest", "_state", "content_type", "keeps", "status")

    def __init__(self) -> None:
        """Wait for the head."""
        self.status = 0
        self.content_type = ""
        self.keeps = False
        self._state = _State.HEAD
        self._left = 0  # bytes of the body, or of the chunk with its line end, still to come
        self._rest = b""  # what came and is not whole yet

    @property
    def ended(self) -> bool:
        """Whether all of it was read."""
        return self._state is _State.ENDED

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has come; return what it has of the body, in order.

        Raises:
            BadAnswer: it is no answer.
        """
        found: list[bytes] = []
        at = 0
        if self._rest:
            data = self._rest + data
            self._rest = b""
        while at < len(data):
            match self._state:
                case _State.SIZE:
                    end = self._size(data, at)
                case _State.CHUNK:
                    end = self._chunk(data, at, found)
                case _State.HEAD:
                    end = self._head(data, at)
                case _State.LENGTH:
                    end = self._length(data, at, found)
                case _State.TRAILERS:
                    end = self._trailers(data, at)
                case _State.REST:
                    found.append(data[at:])
                    end = len(data)
                case _State.ENDED:  # it does not know what it does: no more of that
                    self.keeps = False
                    end = len(data)
            if end < 0:
                self._rest = data[at:]
                break
            at = end
        return found

    def feed_end(self) -> None:
        """The connection has ended.

        Raises:
            BadAnswer: in the middle of the answer.
        """
        if self._state is _State.REST:
            self._state = _State.ENDED
        elif self._state is not _State.ENDED:
            raise BadAnswer("it broke off")

    # Each takes data and where to read; returns where it stopped, or -1 to wait for more.

    def _head(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            if len(data) - at > _MAX_HEAD_BYTES:
                raise BadAnswer("a head without an end")
            return -1
        line, *lines = data[at:end].split(b"\r\n")
        version, _, status = line.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not status[:3].isdigit():
            raise BadAnswer("no HTTP")
        code = int(status[:3])
        if code == 101 or code < 100:
            raise BadAnswer("a status that was not asked for")
        if code >= 200:  # before it there may be others, which only announce it
            self._begin(code, version, dict(map(_header, lines)))
        return end + 4

    def _begin(self, status: int, version: bytes, headers: dict[bytes, bytes]) -> None:
        self.status = status
        kind = headers.get(b"content-type", b"").partition(b";")[0]
        self.content_type = kind.strip().lower().decode("latin-1")
        connection = headers.get(b"connection", b"").lower()
        self.keeps = connection != b"close" and version == b"HTTP/1.1"
        length = headers.get(b"content-length")
        coding = headers.get(b"transfer-encoding", b"").lower()
        if status in _NO_BODY:
            self._state = _State.ENDED
        elif coding == b"chunked":
            self._state = _State.SIZE
        elif coding:
            raise BadAnswer("an unknown transfer coding")
        elif length is None:
            self._state = _State.REST
            self.keeps = False
        elif length.isdigit():
            self._left = int(length)
            self._state = _State.LENGTH if self._left else _State.ENDED
        else:
            raise BadAnswer("a length that is none")

    def _length(self, data: bytes, at: int, found: list[bytes]) -> int:
        piece = data[at : at + self._left]
        found.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._state = _State.ENDED
        return at + len(piece)

    def _size(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > _MAX_SIZE_LINE_BYTES:
                raise BadAnswer("a chunk without a size")
            return -1
        try:
            size = int(data[at:end].partition(b";")[0], 16)
        except ValueError:
            size = -1
        if size < 0:
            raise BadAnswer("a chunk without a size")
        self._left = size + 2
        self._state = _State.CHUNK if size else _State.TRAILERS
        # The last chunk is empty, and what follows it are lines up to an empty one.
        return end + 2

    def _chunk(self, data: bytes, at: int, found: list[bytes]) -> int:
        left = self._left
        end = at + left
        if end <= len(data):
            if data[end - 2 : end] != b"\r\n":
                raise BadAnswer("a chunk that is longer than its size")
            if left > 2:
                found.append(data[at : end - 2])
            self._state = _State.SIZE
            return end
        if left > 2 and len(data) > at:  # its beginning is worth reading now
            piece = data[at : min(len(data), end - 2)]
            found.append(piece)
            self._left -= len(piece)
            at += len(piece)
        self._rest = data[at:]
        return len(data)

    def _trailers(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > _MAX_HEAD_BYTES:
                raise BadAnswer("trailers without an end")
            return -1
        if end == at:
            self._state = _State.ENDED
        return end + 2


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon:
        raise BadAnswer("a header that is none")
    return name.lower(), value.strip()
