"""Who is at a conversation: one response, or any number of changes by hand.

Nobody waits: who comes at the wrong time is told so (`conversation_locked`, protocol.md section
13), because a response may take minutes. The locks are this process's; what several processes do
at once to one conversation is found out when a response is appended (`ConversationChanged`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from turnwire.errors import ConversationLocked

__all__ = ["Locks"]

EXCLUSIVE: Final = -1


class Locks:
    """Locks by owner and conversation; holds nothing for those that nobody is at."""

    def __init__(self) -> None:
        self._held: Final[dict[tuple[str, str], int]] = {}  # EXCLUSIVE, or how many share it

    @contextmanager
    def exclusive(self, owner: str, conversation_id: str) -> Iterator[None]:
        """Be alone at the conversation while the context is open.

        Raises:
            ConversationLocked: somebody is at it.
        """
        key = (owner, conversation_id)
        if key in self._held:
            raise ConversationLocked(conversation_id)
        self._held[key] = EXCLUSIVE
        try:
            yield
        finally:
            del self._held[key]

    @contextmanager
    def shared(self, owner: str, conversation_id: str) -> Iterator[None]:
        """Be at the conversation, with others who are.

        Raises:
            ConversationLocked: somebody wants to be alone there.
        """
        key = (owner, conversation_id)
        count = self._held.get(key, 0)
        if count == EXCLUSIVE:
            raise ConversationLocked(conversation_id)
        self._held[key] = count + 1
        try:
            yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    def __len__(self) -> int:
        return len(self._held)
