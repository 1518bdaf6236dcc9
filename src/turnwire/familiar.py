"""Has this been met before? Remembered by hash only, so that nothing of it is kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

__all__ = ["Familiar"]


class Familiar:
    """What was met last. It may be wrong, rarely: for choices that cost time and nothing else."""

    def __init__(self, max_known: int = 4096) -> None:
        self.max_known: Final = max_known
        self._known: Final[OrderedDict[int, None]] = OrderedDict()

    def meet(self, thing: Hashable) -> bool:
        """Return whether it was met before, and remember it."""
        mark = hash(thing)
        known = mark in self._known
        self._known[mark] = None
        self._known.move_to_end(mark)
        if len(self._known) > self.max_known:
            self._known.popitem(last=False)
        return known
