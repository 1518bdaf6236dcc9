"""Ids that a server sampled and did not tell, found again from the text that it did.

llama-server streams a token only when the text so far ends with a whole character. The tokens
that a character outside the vocabulary is made of (an emoji is often three) therefore arrive as
one event: the text of all of them, and the id of the last. What is kept of an output must be
every id, or the next prompt would not be what the engine has in its cache; so the others are
found from their bytes. They are the sampled ones wherever the bytes can be cut in one way only,
or were cut as the tokenizer would; else they are others with the same bytes.
"""

from __future__ import annotations

from typing import Final

from turnwire.engines.vocabulary import Vocabulary

__all__ = ["Withheld"]

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


class Withheld:
    """Finds such ids, over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._special = frozenset(vocabulary.special.values())
        self._by_bytes: dict[bytes, int] | None = None
        self._longest = max(map(len, vocabulary.token_bytes), default=1)

    def before(self, last: int, text: str, num_ids: int) -> list[int]:
        """The ids whose text, with that of `last` behind it, is `text`.

        Args:
            last: The id that was told.
            text: Of all of them. Bytes that are no UTF-8 are in it as U+FFFD, and then come
                back as the ids of that character.
            num_ids: How many ids there should be; a hint, because servers that draft tokens
                count differently. An empty answer says that `text` is that of `last` alone.
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
            body = text.removesuffix(_REPLACEMENT).encode()  # the end of a broken character
        usual = self._vocabulary.encode(text)
        if len(usual) == num_ids + 1 and usual[-1] == last:
            return list(usual[:-1])
        return self._cut(body, num_ids) or self._cut(body, None) or []

    def _cut(self, body: bytes, num_ids: int | None) -> list[int] | None:
        """Cut bytes into tokens, the longest first; into so many if a number is given."""
        if self._by_bytes is None:
            # Some hundred milliseconds for the largest vocabularies, at the first odd character.
            self._by_bytes = {
                spelling: id_
                for id_, spelling in enumerate(self._vocabulary.token_bytes)
                if spelling and id_ not in self._special
            }
        known = self._by_bytes
        # By (place, ids left): no way from here, so that no dead end is walked twice.
        dead: set[tuple[int, int | None]] = set()
        path: list[int] = []

        def walk(at: int, left: int | None) -> bool:
            if at == len(body):
                return not left
            if left == 0 or (at, left) in dead:
                return False
            for end in range(min(len(body), at + self._longest), at, -1):
                id_ = known.get(body[at:end])
                if id_ is not None:
                    path.append(id_)
                    if walk(end, None if left is None else left - 1):
                        return True
                    path.pop()
            dead.add((at, left))
            return False

        # Withheld text is a character or two; a long one would be a server's nonsense.
        return path if len(body) <= _MAX_BYTES and walk(0, num_ids) else None


_MAX_BYTES: Final = 512
