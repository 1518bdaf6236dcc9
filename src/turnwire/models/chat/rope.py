"""Bytes that grow at their end and share everything before it.

A conversation's messages are the messages before plus a few new ones. Each addition is a link,
so that keeping it costs what it adds; the whole is joined only to be sent.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Rope"]


class Rope:
    """An immutable sequence of bytes: `parent`'s, then `tail`.

    Attributes:
        parent: The bytes before, or None.
        tail: What this link adds.
        size: Bytes in all.
    """

    __slots__ = ("parent", "size", "tail")

    def __init__(self, parent: Rope | None, tail: bytes) -> None:
        self.parent: Final = parent
        self.tail: Final = tail
        self.size: Final[int] = len(tail) + (parent.size if parent is not None else 0)

    def extend(self, tail: bytes) -> Rope:
        """These bytes followed by `tail`; itself if there are none."""
        return Rope(self, tail) if tail else self

    def pieces(self) -> list[bytes]:
        """The tails, oldest first: O(links), no byte is copied."""
        found: list[bytes] = []
        link: Rope | None = self
        while link is not None:
            found.append(link.tail)
            link = link.parent
        found.reverse()
        return found
