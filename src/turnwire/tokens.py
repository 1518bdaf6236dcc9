"""A sequence of token ids that grows at its end and shares everything before it.

A conversation's prompt is the previous prompt plus a few hundred new ids. `Tokens` keeps each
addition as one link, so that appending costs O(new) in time and memory, forks share their
common past, and an engine may remember what it knows about a prefix (a hash, a KV slot) by the
link's identity. Flattening is there for engines that need one array, and costs O(n); for engines
that are spoken to in JSON each link keeps what it adds as text, so that the numbers of a prompt
are written once in its life. Texts of links far back are joined, so that a long conversation is
some dozens of pieces.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

# So many texts are joined into one as soon as twice as many are single: a turn adds two or three.
_JOINED: Final = 32

__all__ = ["EMPTY", "TokenArray", "Tokens", "token_array"]

if TYPE_CHECKING:
    TokenArray = array[int]
else:  # Python 3.11's array cannot be subscripted
    TokenArray = array
"""Token ids, typecode "I": four bytes each."""


def token_array(ids: Iterable[int] = ()) -> TokenArray:
    """Pack token ids into an array of 32-bit unsigned integers."""
    return array("I", ids)


class Tokens:
    """An immutable token sequence: `parent`'s ids, then `tail`. Equality is identity.

    Attributes:
        parent: The sequence this one extends, or None for a root.
        tail: The ids this link adds, shape (k,); do not change it.
    """

    __slots__ = ("__weakref__", "_before", "_text", "length", "parent", "tail")

    EMPTY: ClassVar[Tokens]

    def __init__(self, parent: Tokens | None, tail: TokenArray) -> None:
        self.parent: Final = parent
        self.tail: Final = tail
        self.length: Final[int] = len(tail) if parent is None else parent.length + len(tail)
        # Ids as JSON, a comma behind each: the tail, and what is between the parent and `_before`,
        # which is the parent or a link further back. Written when it is first asked for.
        self._text: bytes | None = None
        self._before: Tokens | None = parent

    def extend(self, ids: Iterable[int]) -> Tokens:
        """Return this sequence followed by `ids`; itself if there are none."""
        tail = ids if isinstance(ids, array) else token_array(ids)
        return Tokens(self, tail) if tail else self

    def drop(self, count: int) -> Tokens:
        """Return this sequence without its last `count` ids. O(links dropped).

        Raises:
            IndexError: it has fewer.
        """
        node: Tokens | None = self
        while node is not None and count >= len(node.tail) and count:
            count -= len(node.tail)
            node = node.parent
        if node is None:
            if count:
                raise IndexError("more ids to drop than there are")
            return EMPTY
        return Tokens(node.parent, node.tail[:-count]) if count else node

    def __len__(self) -> int:
        return self.length

    def segments(self) -> list[TokenArray]:
        """The tails, oldest first: O(links), no id is copied."""
        found: list[TokenArray] = []
        node: Tokens | None = self
        while node is not None:
            found.append(node.tail)
            node = node.parent
        found.reverse()
        return found

    def to_array(self) -> TokenArray:
        """All ids in one new array: O(n)."""
        flat = token_array()
        for segment in self.segments():
            flat.extend(segment)
        return flat

    def to_json(self) -> list[bytes]:
        """All ids as the text between the brackets of a JSON array, `1,2,3`, in pieces.

        Costs a step per piece; numbers are only written for the links that never were. For one
        thread at a time.
        """
        found: list[bytes] = []
        singles: list[Tokens] = []  # links that have a text of their own; in a row from _JOINED on
        node: Tokens | None = self
        while node is not None:
            text = node._text
            if text is None:
                text = node._text = _text_of(node.tail)
            if text:
                found.append(text)
            if node._before is not node.parent:
                singles.clear()
            else:
                singles.append(node)
                if len(singles) == 2 * _JOINED:
                    _join(singles[_JOINED:])
                    del singles[_JOINED:]
            node = node._before
        if found:
            found[0] = found[0][:-1]
        found.reverse()
        return found

    def num_shared(self, other: Tokens) -> int:
        """How many leading ids are in links that both have; never more than truly are equal.

        Costs a step per link that only one of them has.
        """
        one: Tokens | None = self
        two: Tokens | None = other
        while one is not two:
            if one is None or two is None:
                return 0
            if one.length >= two.length:
                one = one.parent
            else:
                two = two.parent
        return 0 if one is None else one.length

    def __iter__(self) -> Iterator[int]:
        for segment in self.segments():
            yield from segment

    def last(self) -> int:
        """The final id.

        Raises:
            IndexError: the sequence is empty.
        """
        node: Tokens | None = self
        while node is not None:
            if node.tail:
                return node.tail[-1]
            node = node.parent
        raise IndexError("an empty sequence has no last token")

    def __repr__(self) -> str:
        return f"Tokens(length={self.length})"


def _text_of(ids: TokenArray) -> bytes:
    return _ENCODER.encode(ids.tolist())[1:-1] + b"," if ids else b""


def _join(links: list[Tokens]) -> None:
    """Leave the text of these links, youngest first, on the youngest.

    The others forget theirs: a branch that begins in the midst of them writes it again.
    """
    youngest = links[0]
    youngest._text = b"".join([link._text for link in reversed(links) if link._text])
    youngest._before = links[-1].parent
    for link in links[1:]:
        link._text = None


_ENCODER = msgspec.json.Encoder()

Tokens.EMPTY = Tokens(None, token_array())
EMPTY = Tokens.EMPTY
"""The sequence of no tokens; every chain starts here."""
