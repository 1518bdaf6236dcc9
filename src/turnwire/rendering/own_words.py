"""What stands in front of a conversation, in the words of the model's own template.

Where it puts tools, which system prompt it brings along, what it says about both: that differs
between models of one family and is theirs to say. So it is rendered with one message of a user
behind it, whose words are known, and cut off there. If those words are not the end of what was
rendered, the template has put something into the first message, and what stands in front can
only be rendered together with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from turnwire.errors import InvalidRequest
from turnwire.protocol.tools import EMPTY_TOOL_SET
from turnwire.rendering.generic import Rendering
from turnwire.rendering.jinja import TemplateRefused
from turnwire.rendering.messages import ChatMessage, Head
from turnwire.rendering.pieces import Pieces

__all__ = ["OwnWords"]

_SOMEBODY: Final = ChatMessage("user", "x")


class OwnWords:
    """A model's template, asked for what only it knows.

    Attributes:
        digest: Of the template: 16 hex digits.
    """

    def __init__(self, rendering: Rendering, message: Callable[[ChatMessage], Pieces]) -> None:
        """
        Args:
            rendering: The template.
            message: How a family writes a message that is not the first.
        """
        self._rendering: Final = rendering
        self._message: Final = message
        source = f"{rendering.quirks}{rendering.chat.source}"
        self.digest: Final = hashlib.sha256(source.encode()).hexdigest()[:16]

    def head(self, head: Head) -> Pieces | None:
        """What stands in front, or None if the first message changes it."""
        # Without instructions a system message of the client takes their place.
        return self._before_somebody(head, []) if head.instructions else None

    def first(self, head: Head, message: ChatMessage | None) -> Pieces:
        """What stands in front, and the first message.

        Raises:
            InvalidRequest: the template does not take it.
        """
        if message is not None and message.role == "user":
            return self._render(head, [message])
        system = message is not None and message.role in ("system", "developer")
        found = self._before_somebody(head, [message] if message is not None and system else [])
        if found is None:  # the tools would stand in a user's message, and there is none
            found = self._render(head, [])
        return found if message is None or system else found + self._message(message)

    def before_user(self, head: Head) -> Pieces:
        """What stands in front of a conversation that a user begins, tools included.

        Raises:
            InvalidRequest: the template does not take it, or writes users in a way of its own.
        """
        found = self._before_somebody(head, [])
        if found is None:
            raise InvalidRequest(
                "The model's chat template does not end with what a user says.", param="input"
            )
        return found

    def opening(self, *, reasoning: bool) -> Pieces:
        """What makes the model go on behind a user's message."""
        head = Head(None, EMPTY_TOOL_SET)
        alone = self._render(head, [_SOMEBODY])
        effort = "medium" if reasoning else None
        going_on = self._render(Head(None, EMPTY_TOOL_SET, effort), [_SOMEBODY], opening=True)
        return going_on[len(alone) :] if going_on[: len(alone)] == alone else []

    def _before_somebody(self, head: Head, messages: list[ChatMessage]) -> Pieces | None:
        pieces = self._render(head, [*messages, _SOMEBODY])
        words = self._message(_SOMEBODY)
        return pieces[: -len(words)] if pieces[-len(words) :] == words else None

    def _render(self, head: Head, messages: list[ChatMessage], *, opening: bool = False) -> Pieces:
        try:
            return self._rendering.render(
                head, messages, opening=opening, thinking=head.effort not in (None, "none")
            )
        except TemplateRefused as error:
            raise InvalidRequest(
                f"The model's chat template does not take this conversation: {error}",
                param="input",
            ) from error
