"""How often the garbage collector looks at the heap of a serving process.

Reference counts free what a turn leaves behind: turns make no cycles (measured: no unreachable
object in 100 turns over WebSocket, SSE and JSON), only connections make a few. But Python's
defaults look at all that is alive again and again as conversations grow: 10 % of the server's
time and pauses of 70 ms at 64 small conversations (docs/experiments.md).
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["settle_heap"]

# Net allocations before young objects are looked at (default 700): some hundred turns' worth.
# Much more, and the cache of the CPU is cold again when they are looked at.
YOUNG: Final = 10_000
MIDDLE: Final = 10
# Default 10. A look at everything alive costs 1 ms for every 10,000 objects; what only it can
# free is a few objects for each closed connection.
OLD: Final = 100


def settle_heap() -> None:
    """Leave what is alive now out of every collection, and collect less often from now on.

    For a process that has just started to serve, and does nothing else; once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
