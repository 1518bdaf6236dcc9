"""The seam every storage back end implements.

A conversation's turns form a tree: each stored turn holds only what it added (its input and
output items), and points to the turn it continued. Deleting a response removes the response;
what it added to the conversation stays for the turns that continued it, and goes when the last
of them goes ("children already made keep their own copy of the context", protocol.md 10).

A turn may be deleted while its continuation is still being generated. That child was made too,
so what a deleted turn added lingers for `LINGER_SEC` before it can go, and a `put` in that time
finds its parent. Afterwards the parent counts as unknown.

A response that runs in the background is kept twice: `begin` when it starts, `finish` when it has
ended. What a process began and did not finish is `abandoned` once that process is gone, however
it went; no clock decides that, and no process can abandon what another one still runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

__all__ = ["LINGER_SEC", "Store", "StoredTurn"]

LINGER_SEC: Final = 3600.0
"""How long what a deleted turn added stays for turns that are being generated upon it. A
connection lives at most 60 minutes (protocol.md 8.6), and no turn outlives its connection."""


class StoredTurn(Struct, frozen=True, kw_only=True):
    """One response and what it added to its conversation.

    Attributes:
        id: The response id.
        owner: Who may see it.
        parent: Response id of the turn it continued, or None.
        created_at: Unix seconds.
        response: The response object as JSON, in its terminal state unless the turn was begun
            and is not finished; empty in `Store.chain` if the response was deleted.
        items: JSON array of the input items it added, each with an id.
        output: JSON array of its output items as the context holds them: reasoning with its
            sealed text.
        tokens: What continuing it token-exactly needs; opaque here, may be empty.
    """

    id: str
    owner: str
    parent: str | None
    created_at: int
    response: bytes
    items: bytes
    output: bytes
    tokens: bytes = b""


class Store(Protocol):
    """Keeps turns by owner. Contract suite: `tests/contracts/store.py`.

    Another owner's turn behaves in every method like one that does not exist. Every method may
    raise StoreError, and does so once `aclose` was called.
    """

    async def put(self, turn: StoredTurn) -> None:
        """Keep a turn. On return it is readable here and survives a kill of this process.

        Concurrent puts share one commit; one that is refused does not harm the others. While
        too many are on their way, `put` waits for its place.

        Raises:
            ParentNotKept: its parent is unknown, another owner's, or was deleted more than
                `LINGER_SEC` ago and nothing else continues it.
            StoreError: it could not be kept, or its id is taken.

        Cancellation: undoes nothing once the turn has its place; whether it had is not told.
        """
        ...

    async def begin(self, turn: StoredTurn) -> None:
        """Keep a turn whose response still runs, in this process; `finish` says how it ended.

        As `put` in every respect. Until it is finished the turn is as it was begun.
        """
        ...

    async def finish(self, turn: StoredTurn) -> bool:
        """Give a begun turn its end: its `response`, `output` and `tokens`.

        Args:
            turn: `id` and `owner` say which; its other fields stay as they were begun.

        Returns:
            False if no such turn was begun, or it was finished or deleted meanwhile: then
            nothing changed.

        Raises:
            StoreError: it could not be kept; the turn is still as it was begun.

        Cancellation: as `put`.
        """
        ...

    async def abandoned(self) -> Sequence[StoredTurn]:
        """Return all turns, of every owner, whose process has ended without finishing them.

        Whoever asks should `finish` them. Two who ask at the same time may get the same turns;
        `finish` tells which of the two was first.
        """
        ...

    @property
    def epoch(self) -> bytes:
        """Changes before a deletion is acknowledged, by whichever process.

        So what `get` found after the epoch was read is still there as long as the epoch is the
        same. Costs nothing, unlike `get`.
        """
        ...

    async def get(self, owner: str, response_id: str) -> StoredTurn | None:
        """Return the turn, or None if it is unknown, deleted or another owner's."""
        ...

    async def chain(self, owner: str, response_id: str) -> Sequence[StoredTurn] | None:
        """Return the turn and all turns before it, oldest first; None as `get` does.

        Deleted ancestors are included, with an empty `response`; a deleted `response_id` itself
        is not found.
        """
        ...

    async def delete(self, owner: str, response_id: str) -> bool:
        """Remove the response; return whether there was one to remove."""
        ...

    async def aclose(self) -> None:
        """Finish what is being written, then close. What was begun here and is not finished is
        abandoned. Idempotent."""
        ...
