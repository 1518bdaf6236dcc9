"""Which prompt prefixes an engine still holds, block by block. Pure bookkeeping.

A block is a run of `block_size` tokens, known by the digest of everything up to its end, so
that one digest names a whole prefix. Prefixes form a tree per salt; a block is held only while
the block before it is (otherwise it could never be reached), hence only leaves are evicted,
least recently used first. Using a prefix is using every block of it: a block is as recent as
the latest use of anything below it.

`_recent` orders blocks by that, without ever walking a path: it has every leaf, and at times
an inner block that was once the end of a prefix. When the oldest entry is an inner block, its
descendants are all newer, so it is dropped; it comes back, as the oldest, when the last block
below it goes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

__all__ = ["PrefixCache"]


class _Block:
    __slots__ = ("depth", "digest", "num_children", "parent", "salt")

    def __init__(self, salt: str, digest: bytes, parent: _Block | None) -> None:
        self.salt = salt
        self.digest = digest
        self.parent = parent
        # Blocks from the root to here, this one included.
        self.depth: int = 1 if parent is None else parent.depth + 1
        self.num_children = 0


class PrefixCache:
    """A bounded set of prefixes, closed under "the prefix of"."""

    def __init__(self, capacity: int) -> None:
        """Make an empty cache of at most `capacity` blocks; 0 holds nothing."""
        self._capacity = capacity
        self._tables: dict[str, dict[bytes, _Block]] = {}
        self._recent: OrderedDict[_Block, None] = OrderedDict()
        self._num_blocks = 0

    def __len__(self) -> int:
        """Blocks held, of all salts."""
        return self._num_blocks

    def lookup(self, salt: str, newest_first: Iterable[bytes]) -> int:
        """Return how many leading blocks of a prompt are held; they become the most recent.

        Args:
            salt: Only blocks that were inserted under an equal salt are found.
            newest_first: The digests of the prompt's blocks, last block first. It is read only
                to the first hit, so a continuation costs what it adds.
        """
        table = self._tables.get(salt)
        if table is None:
            return 0
        for digest in newest_first:
            block = table.get(digest)
            if block is not None:
                self._touch(block)
                return block.depth
        return 0

    def insert(self, salt: str, newest_first: Iterable[bytes]) -> None:
        """Hold all blocks of a prompt, evicting others; if they are too many, its first ones.

        Args:
            salt: Who may find them.
            newest_first: As for `lookup`.
        """
        if not self._capacity:
            return
        table = self._tables.setdefault(salt, {})
        block: _Block | None = None
        missing: list[bytes] = []
        for digest in newest_first:
            block = table.get(digest)
            if block is not None:
                self._touch(block)
                break
            missing.append(digest)
        for digest in reversed(missing):
            block = self._add(table, salt, digest, block)
            if self._num_blocks > self._capacity and self._evict() is block:
                break  # everything else that is held leads to this block
        if not table:
            self._tables.pop(salt, None)

    def _touch(self, block: _Block) -> None:
        self._recent[block] = None
        self._recent.move_to_end(block)

    def _add(
        self, table: dict[bytes, _Block], salt: str, digest: bytes, parent: _Block | None
    ) -> _Block:
        block = _Block(salt, digest, parent)
        table[digest] = block
        self._num_blocks += 1
        self._recent[block] = None
        if parent is not None:
            parent.num_children += 1
            self._recent.pop(parent, None)
        return block

    def _evict(self) -> _Block:
        """Remove the least recently used leaf and return it."""
        while True:
            block, _ = self._recent.popitem(last=False)
            if not block.num_children:
                break
        table = self._tables[block.salt]
        del table[block.digest]
        if not table:
            del self._tables[block.salt]
        self._num_blocks -= 1
        parent = block.parent
        if parent is not None:
            parent.num_children -= 1
            if not parent.num_children and parent not in self._recent:
                self._recent[parent] = None
                self._recent.move_to_end(parent, last=False)
        return block
