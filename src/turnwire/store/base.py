"""The seam every storage back end implements.

A conversation's turns form a tree: each stored turn holds only what it added (its input and
output items), and points to the turn it continued. Deleting a response removes the response;
what it added to the conversation stays for the turns that continued it, and goes when the last
of them goes ("children already made keep their own copy of the context", protocol.md 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

__all__ = ["Store", "StoredTurn"]


class StoredTurn(Struct, frozen=True, kw_only=True):
    """One response and what it added to its conversation.

    Attributes:
        id: The response id.
        owner: Who may see it.
        parent: Response id of the turn it continued, or None.
        created_at: Unix seconds.
        response: The response object as JSON, in its terminal state.
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
    raise StoreError.
    """

    async def put(self, turn: StoredTurn) -> None:
        """Keep a turn. On return it is readable here and survives a kill of this process.

        Concurrent puts share one commit. Cancelling the caller does not undo it.

        Raises:
            StoreError: it could not be kept, or its id is taken.
        """
        ...

    async def get(self, owner: str, response_id: str) -> StoredTurn | None:
        """Return the turn, or None if it is unknown, deleted or another owner's."""
        ...

    async def chain(self, owner: str, response_id: str) -> Sequence[StoredTurn] | None:
        """Return the turn and all turns before it, oldest first; None as `get` does.

        Deleted ancestors are included; a deleted `response_id` itself is not found.
        """
        ...

    async def delete(self, owner: str, response_id: str) -> bool:
        """Remove the response; return whether there was one to remove."""
        ...

    async def aclose(self) -> None:
        """Finish what is being written, then close. Idempotent."""
        ...
