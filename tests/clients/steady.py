"""A simulated model whose calls are laid down by the test, since clients cannot ask for them.

The simulated models fill arguments with words at random. An agent that executes what it is told
must therefore never be told to execute anything: it is given a model that is allowed a few tools by
name, ones that change nothing, and otherwise only talks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from turnwire.context.chain import Context
from turnwire.engines.base import Engine
from turnwire.models.base import Settings
from turnwire.models.token_model import PreparedTokens, TokenModel
from turnwire.protocol.items import Item
from turnwire.protocol.tools import ToolChoice
from turnwire.rendering.chatml import Renderer

__all__ = ["NUM_CALLS", "NUM_ROUNDS", "SteadyModel"]

NUM_ROUNDS: Final = 2
NUM_CALLS: Final = 2


class SteadyModel(TokenModel):
    """After each message of the user so many rounds of so many calls, then a message."""

    def __init__(
        self,
        name: str,
        renderer: Renderer,
        engine: Engine,
        allowed: Sequence[str] | None = None,
    ) -> None:
        """
        Args:
            name: As clients ask for it.
            renderer: Of the shipped vocabulary.
            engine: The simulated one.
            allowed: Names of the only tools that it calls; None for any.
        """
        super().__init__(name, renderer, engine)
        self._allowed = None if allowed is None else tuple(allowed)

    def prepare(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> PreparedTokens:
        """As of any token model, but when and what it calls is settled."""
        calls = {"sim.tool_calls": str(NUM_ROUNDS), "sim.parallel_calls": str(NUM_CALLS)}
        told = msgspec.structs.replace(settings, hints={**calls, **settings.hints})
        if self._allowed is not None:
            offered = tuple(name for name in self._allowed if name in settings.tools.offered)
            choice = (
                ToolChoice(mode="auto", allowed=offered) if offered else ToolChoice(mode="none")
            )
            told = msgspec.structs.replace(told, tool_choice=choice)
        return super().prepare(parent, items, told)
