"""Conversations in memory, found by what a client says when it sends one again in full.

Theory of operation. Every link of a known conversation is a node, found by its owner and the
digest of everything up to it (`identity`). A node's parent is the node of the link before, so
the nodes form trees that share what their contexts share, and what a node costs is what its own
link adds. Only leaves are forgotten, the one unused for longest first: a node's ancestors are
held by its context anyway. So the bound on bytes is one on what is really held.

The input that was rendered into a node may be remembered word for word. A client that sends the
same bytes and goes on behind them is then recognised by comparing memory, at 20 GB/s, before
any of it is decoded. To find the bytes to compare with, a few of them (a window) are looked up:
those in front of the place that is the remembered length rounded down to four binary digits.
An input has at most eight such places for every doubling of its length, so all are tried. On the
way from a root to a leaf one node is remembered word for word, the last that came.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from turnwire.context.chain import Context
from turnwire.context.identity import digest_of

__all__ = ["MIN_VERBATIM_BYTES", "KnownContexts", "Recalled", "Verbatim"]

MIN_VERBATIM_BYTES: Final = 2048
"""Less than this is decoded in the time that looking it up takes."""

MAX_MISSING: Final = 16
"""Links of a context that are made known at once; a turn adds two."""

WINDOW_BYTES: Final = 64
DIGITS: Final = 4
MAX_CANDIDATES: Final = 8
"""Inputs of one window that are remembered; conversations that are the same so far share one."""


class Verbatim(Struct, frozen=True):
    """An input as it came.

    Attributes:
        data: A JSON array up to its last element, without what closes it.
        num_elements: Of the array.
    """

    data: bytes
    num_elements: int


class Recalled(Struct, frozen=True, eq=False):
    """A context whose input begins as the input that was asked for does.

    Attributes:
        context: All of its items are in the first `num_bytes` bytes.
        num_bytes: Up to the end of the last of them.
        num_elements: Elements of the array up to there.
    """

    context: Context
    num_bytes: int
    num_elements: int


class _Node:
    __slots__ = ("context", "key", "num_bytes", "num_children", "parent", "verbatim")

    def __init__(
        self, key: tuple[str, bytes], context: Context, parent: _Node | None, num_bytes: int
    ) -> None:
        self.key = key
        self.context = context
        self.parent = parent
        self.num_bytes = num_bytes
        self.num_children = 0
        self.verbatim: Verbatim | None = None


class KnownContexts:
    """What is known, within a bound. Nothing is shared between owners, nothing is written.

    Attributes:
        max_bytes: The bound; with 0 nothing is kept.
        num_bytes: About what is held now.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes: Final = max_bytes
        self.num_bytes = 0
        self._nodes: Final[dict[tuple[str, bytes], _Node]] = {}
        self._leaves: Final[OrderedDict[tuple[str, bytes], _Node]] = OrderedDict()
        self._windows: Final[dict[tuple[str, int, bytes], list[_Node]]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def find(self, owner: str, digest: bytes) -> Context | None:
        """Return this owner's context of this digest, if it is known."""
        node = self._nodes.get((owner, digest))
        if node is None:
            return None
        self._used(node)
        return node.context

    def recall(self, owner: str, data: bytes) -> Recalled | None:
        """Return the longest context whose input this one begins with, if it is remembered.

        Args:
            data: A JSON array, known to be well-formed.
        """
        for place in _places(len(data)):
            key = (owner, place, data[place - WINDOW_BYTES : place])
            best: _Node | None = None
            length = 0
            for node in self._windows.get(key, ()):
                kept = node.verbatim
                if kept is not None and len(kept.data) > length and data.startswith(kept.data):
                    best, length = node, len(kept.data)
            if best is not None and best.verbatim is not None:
                self._used(best)
                return Recalled(best.context, length, best.verbatim.num_elements)
        return None

    def put(self, owner: str, context: Context, verbatim: Verbatim | None = None) -> None:
        """Remember a context and all before it; O(new links).

        Where an equal one is known already that one stays, with what hangs on it. One that
        would take more than half of the room is not kept: it would push out everybody's. Nor is
        one that was forgotten and goes on: to keep the whole of it again with every turn would
        cost more than what is new, for as long as there is too little room for everybody.

        Args:
            owner: Whose it is.
            context: The last link.
            verbatim: The whole input that became it, if nothing in it depends on what else is
                stored: no references.
        """
        if 2 * context.num_bytes > self.max_bytes or not context.num_items:
            return
        digest = digest_of(context)
        if digest is None:
            return
        node = self._nodes.get((owner, digest))
        if node is not None:
            self._used(node)
        else:
            node = self._insert(owner, context)
            if node is None:
                return
        if verbatim is not None and len(verbatim.data) >= MIN_VERBATIM_BYTES:
            self._remember(node, verbatim)
        while self.num_bytes > self.max_bytes:
            self._forget_one()

    # -- the trees

    def _insert(self, owner: str, context: Context) -> _Node | None:
        """Make the nodes of a context; None if too many are missing."""
        missing: list[Context] = []
        parent: _Node | None = None
        # Equal links of another making, and links without items, are held only by what follows,
        # which pays for them.
        others, extra = 0, 0
        for link in context.newest_first():
            known = self._nodes.get((owner, _digest(link)))
            if known is not None:
                parent = parent or known
                if known.context is link:
                    break
                if others == MAX_MISSING:
                    extra += link.num_bytes
                    break
                others += 1
                extra += _own_bytes(link)
            elif not link.items:  # its digest is that of the link before
                extra += _own_bytes(link)
            elif len(missing) == MAX_MISSING:
                return None
            else:
                missing.append(link)
        for link in reversed(missing):
            key = (owner, _digest(link))
            node = _Node(key, link, parent, _own_bytes(link) + extra)
            extra = 0
            self._nodes[key] = self._leaves[key] = node
            self.num_bytes += node.num_bytes
            if parent is not None:
                parent.num_children += 1
                self._leaves.pop(parent.key, None)
            parent = node
        return parent

    def _used(self, node: _Node) -> None:
        if not node.num_children:
            self._leaves.move_to_end(node.key)

    def _forget_one(self) -> None:
        key, node = self._leaves.popitem(last=False)
        self._drop_verbatim(node)
        del self._nodes[key]
        self.num_bytes -= node.num_bytes
        parent = node.parent
        if parent is not None:
            parent.num_children -= 1
            if not parent.num_children:
                self._leaves[parent.key] = parent
                self._leaves.move_to_end(parent.key, last=False)

    # -- word for word

    def _remember(self, node: _Node, verbatim: Verbatim) -> None:
        one: _Node | None = node
        while one is not None:
            if one.verbatim is not None:
                self._drop_verbatim(one)
                break
            one = one.parent
        candidates = self._windows.setdefault(_window(node, verbatim), [])
        candidates.append(node)
        node.verbatim = verbatim
        self.num_bytes += len(verbatim.data)
        node.num_bytes += len(verbatim.data)
        if len(candidates) > MAX_CANDIDATES:
            self._drop_verbatim(candidates[0])

    def _drop_verbatim(self, node: _Node) -> None:
        verbatim = node.verbatim
        if verbatim is None:
            return
        key = _window(node, verbatim)
        candidates = self._windows[key]
        candidates.remove(node)
        if not candidates:
            del self._windows[key]
        node.verbatim = None
        node.num_bytes -= len(verbatim.data)
        self.num_bytes -= len(verbatim.data)


def _own_bytes(link: Context) -> int:
    return link.num_bytes - (link.parent.num_bytes if link.parent else 0)


def _digest(link: Context) -> bytes:
    if link.digest is None:
        raise AssertionError("the digest of a context comes with those before it")
    return link.digest


def _window(node: _Node, verbatim: Verbatim) -> tuple[str, int, bytes]:
    place = next(_places(len(verbatim.data)))
    return node.key[0], place, verbatim.data[place - WINDOW_BYTES : place]


def _places(length: int) -> Iterator[int]:
    """The numbers of four binary digits and zeros that are at most `length`, largest first."""
    shift = max(length.bit_length() - DIGITS, 0)
    leading = length >> shift
    while leading << shift >= MIN_VERBATIM_BYTES:
        yield leading << shift
        leading -= 1
        if leading < 1 << (DIGITS - 1):
            leading, shift = (1 << DIGITS) - 1, shift - 1
