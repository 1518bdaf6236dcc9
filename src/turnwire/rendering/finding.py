"""Words in a text of which more may come."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["first_of", "overlap"]


def overlap(text: str, word: str) -> int:
    """How many characters at the end of a text may be the beginning of a word; not all of it."""
    if word[:1] not in text[1 - len(word) :]:
        return 0  # which is most of the time
    for size in range(min(len(word) - 1, len(text)), 0, -1):
        if text.endswith(word[:size]):
            return size
    return 0


def first_of(words: Sequence[str], text: str) -> tuple[int, str]:
    """Where the first word stands, and which; else where the beginning of one may, and ""."""
    found = [(at, word) for word in words if (at := text.find(word)) >= 0]
    if found:
        return min(found)
    held = 0
    for word in words:
        held = max(held, overlap(text, word))
    return len(text) - held, ""
