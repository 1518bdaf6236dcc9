"""Token ids to text while they arrive, never splitting a character.

A token is a run of bytes and a character may span tokens. Nearly every token is whole
characters, and those cost one table look-up each. The others go through Python's incremental
decoder, so the result equals decoding all bytes at once, with U+FFFD for what is no UTF-8.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

__all__ = ["Detokenizer", "TokenTable"]

_new_decoder = codecs.getincrementaldecoder("utf-8")


class TokenTable:
    """What each token id stands for.

    Attributes:
        bytes: By id.
        texts: By id: the text of a token that is whole characters, None for others. It may be
            used as it stands where no half character waits before it.
    """

    __slots__ = ("bytes", "texts")

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self.bytes = token_bytes
        self.texts: tuple[str | None, ...] = tuple(map(_whole, token_bytes))


def _whole(token: bytes) -> str | None:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None


class Detokenizer:
    """The text of one stream of tokens.

    Attributes:
        pending: Whether the bytes of an unfinished character are held back.
    """

    __slots__ = ("_bytes", "_decoder", "_texts", "pending")

    def __init__(self, table: TokenTable) -> None:
        self._bytes = table.bytes
        self._texts = table.texts
        self._decoder: codecs.IncrementalDecoder | None = None
        self.pending = False

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is certain now, after `ids`; "" while a character is unfinished."""
        if not self.pending:
            texts = self._texts
            if len(ids) == 1:
                text = texts[ids[0]]
                if text is not None:
                    return text
            else:
                found = [texts[token_id] for token_id in ids]
                if None not in found:
                    return "".join(found)  # type: ignore[arg-type]  # no None is in it
        return self._decode(b"".join([self._bytes[token_id] for token_id in ids]))

    def flush(self) -> str:
        """The end of the stream, or of a run in it: U+FFFD if a character is unfinished."""
        if self._decoder is None or not self.pending:
            return ""
        self.pending = False
        return self._decoder.decode(b"", final=True)

    def _decode(self, data: bytes) -> str:
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = _new_decoder("replace")
        text = decoder.decode(data)
        self.pending = bool(decoder.getstate()[0])
        return text
