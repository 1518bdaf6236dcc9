"""How a server ends: in one function, in order, under one deadline.

1. Nothing new begins: `/ready` says no, handshakes and requests get 503 with `Retry-After`.
2. Idle WebSockets are closed with 1012, in batches, so that their clients do not all come back
   at the same moment; busy ones follow as soon as their responses have ended.
3. At the deadline what still runs ends as failed, so that its client hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from aiohttp import WSCloseCode

from turnwire.errors import ServiceError
from turnwire.server.websocket import Socket
from turnwire.turn import Turns

__all__ = ["drain"]

BATCH: Final = 200
PAUSE_SEC: Final = 0.05
# After the deadline: for terminal events and close handshakes to leave.
ENDING_SEC: Final = 2.0


async def drain(turns: Turns, sockets: Collection[Socket], grace_sec: float) -> None:
    """End what runs and close what is open; on return both are gone, or had their time.

    Args:
        turns: Those of all transports.
        sockets: The live collection of open WebSockets.
        grace_sec: How long running responses may take.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_sec
    for number, one in enumerate(tuple(sockets), start=1):
        one.close_soon(WSCloseCode.SERVICE_RESTART)
        if number % BATCH == 0:
            await asyncio.sleep(PAUSE_SEC)
    await _until_quiet(turns, sockets, max(0.0, deadline - loop.time()))
    turns.running.stop_all(ServiceError("The server is restarting; send the request again."))
    await _until_quiet(turns, sockets, ENDING_SEC)


async def _until_quiet(turns: Turns, sockets: Collection[Socket], timeout_sec: float) -> None:
    busy = {*turns.running.tasks(), *(one.task for one in sockets if one.task is not None)}
    if busy:
        await asyncio.wait(busy, timeout=timeout_sec)
