"""Ids that a server sampled and did not tell, found again from the text that it did.

llama-server streams a token only when the text so far ends with a whole character. The tokens
that a character outside the vocabulary is made of (an emoji is often three) therefore arrive as
one event: the text of all of them, and the id of the last. What is kept of an output must be
every id, or the next prompt would not be what the engine has in its cache; so the others are
found from their bytes. They are the sampled ones wherever the bytes can be cut in one way only,
or were cut as the tokenizer would; else they are others with the same bytes.
"""

from __future__ import annotations

import re
from typing import Final

from turnwire.engines.vocabulary import Vocabulary

__all__ = ["Withheld"]

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_RUN: Final = re.compile(f"{_REPLACEMENT}+")


class Withheld:
    """Finds such ids, over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._special = frozenset(vocabulary.special.values())
        self._by_bytes: dict[bytes, int] | None = None
        # Tokens that are not whole characters.
        self._odd = [
            id_ for id_, spelling in enumerate(vocabulary.token_bytes) if not _is_text(spelling)
        ]
        self._longest = max(map(len, vocabulary.token_bytes), default=1)

    def before(self, last: int, text: str, num_ids: int) -> list[int]:
        """The ids whose text, with that of `last` behind it, is `text`.

        Args:
            last: The id that was told.
            text: Of all of them. Bytes that are no UTF-8 are in it as U+FFFD; where they cannot
                be told, the ids are those of that character.
            num_ids: How many ids there should be, at least 1; there are never more. There may
                be fewer: servers that draft tokens count differently.
        """
        whole = text.encode()
        own = self._vocabulary.token_bytes[last] if last < len(self._vocabulary) else b""
        if whole == own or not whole:
            return []
        if whole.endswith(own):
            body = whole[: len(whole) - len(own)]
        elif last in self._special:
            body = whole  # control tokens have no text
        else:
            return self._broken(last, text, num_ids)
        usual = self._vocabulary.encode(text)
        if len(usual) == num_ids + 1 and usual[-1] == last:
            return list(usual[:-1])
        return self._cut(body, num_ids) or self._broken(last, text, num_ids)

    def _broken(self, last: int, text: str, num_ids: int) -> list[int]:
        """Where the text is not what the tokens' bytes are."""
        own = self._vocabulary.token_bytes[last]
        seen = _plain(text)
        if num_ids == 1:
            for id_ in self._odd:
                both = self._vocabulary.token_bytes[id_] + own
                if _plain(both.decode("utf-8", "replace")) == seen:
                    return [id_]
        return list(self._vocabulary.encode(text.removesuffix(own.decode("utf-8", "replace"))))[
            :num_ids
        ]

    def _cut(self, body: bytes, num_ids: int) -> list[int] | None:
        """Cut bytes into so many tokens, the longest first; None if that is not possible."""
        if self._by_bytes is None:
            # Some hundred milliseconds for the largest vocabularies, at the first odd character.
            self._by_bytes = {
                spelling: id_
                for id_, spelling in enumerate(self._vocabulary.token_bytes)
                if spelling and id_ not in self._special
            }
        known = self._by_bytes
        # By (place, ids left): no way from here, so that no dead end is walked twice.
        dead: set[tuple[int, int]] = set()
        path: list[int] = []

        def walk(at: int, left: int) -> bool:
            if at == len(body):
                return not left
            if left == 0 or (at, left) in dead:
                return False
            for end in range(min(len(body), at + self._longest), at, -1):
                id_ = known.get(body[at:end])
                if id_ is not None:
                    path.append(id_)
                    if walk(end, left - 1):
                        return True
                    path.pop()
            dead.add((at, left))
            return False

        # Withheld text is a character or two; a long one would be a server's nonsense.
        return path if len(body) <= _MAX_BYTES and walk(0, num_ids) else None


_MAX_BYTES: Final = 512


def _is_text(spelling: bytes) -> bool:
    try:
        spelling.decode()
    except UnicodeDecodeError:
        return False
    return True


def _plain(text: str) -> str:
    """The text with each run of U+FFFD as one: how many stand for some bytes is a custom."""
    return _RUN.sub(_REPLACEMENT, text)
