"""A simulated model that is safe to give to an agent with a shell.

The simulated models fill arguments with words at random. An agent that executes what it is told
must therefore never be told to execute anything: this one is allowed a few tools by name, ones
that change nothing, and otherwise only talks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from turnwire.context.chain import Context
from turnwire.engines.base import Engine
from turnwire.models.base import Settings
from turnwire.models.token_model import PreparedTokens, TokenModel
from turnwire.protocol.items import Item
from turnwire.protocol.tools import ToolChoice
from turnwire.rendering.chatml import Renderer

__all__ = ["HarmlessModel"]


class HarmlessModel(TokenModel):
    """Calls, once after each message of the user, one of the tools it is allowed; or none."""

    def __init__(
        self, name: str, renderer: Renderer, engine: Engine, allowed: Sequence[str]
    ) -> None:
        super().__init__(name, renderer, engine)
        self._allowed = tuple(allowed)

    def prepare(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> PreparedTokens:
        """As of any token model, with every tool but the allowed ones out of reach."""
        offered = tuple(name for name in self._allowed if name in settings.tools.offered)
        choice = ToolChoice(mode="auto", allowed=offered) if offered else ToolChoice(mode="none")
        return super().prepare(parent, items, msgspec.structs.replace(settings, tool_choice=choice))
