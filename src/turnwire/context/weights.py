"""How many bytes contexts hold together: every link counts once, however many of them share it.

Adding a context and taking it away cost what is new in it, and not its length.
"""

from __future__ import annotations

from msgspec import Struct

from turnwire.context.chain import Context

__all__ = ["LINK_BYTES", "Weights", "held_bytes"]

LINK_BYTES = 2048
"""About what a link holds beside its text: objects, views, and the engine's notes."""


def held_bytes(num_chars: int) -> int:
    """About what a link of so much text holds: the text, and token ids, which take as much."""
    return LINK_BYTES + 2 * num_chars


class _Held(Struct, eq=False):
    num_bytes: int
    num_holders: int = 0  # contexts that end here, and links that follow


class Weights:
    """Some contexts, as what they weigh.

    Attributes:
        num_bytes: What they hold together.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self._links: dict[Context, _Held] = {}

    def add(self, context: Context) -> None:
        """Count a context, which may be there already."""
        link: Context | None = context
        while link is not None:
            held = self._links.get(link)
            if held is not None:
                held.num_holders += 1
                return  # who holds it holds all before it
            before = link.parent.num_chars if link.parent is not None else 0
            held = self._links[link] = _Held(held_bytes(link.num_chars - before), 1)
            self.num_bytes += held.num_bytes
            link = link.parent

    def remove(self, context: Context) -> None:
        """Take back one `add` of this context."""
        link: Context | None = context
        while link is not None:
            held = self._links[link]
            held.num_holders -= 1
            if held.num_holders:
                return
            del self._links[link]
            self.num_bytes -= held.num_bytes
            link = link.parent
