"""How many bytes contexts hold together: every link counts once, however many of them share it.

Adding a context and taking it away cost what is new in it, and not its length.
"""

from __future__ import annotations

from msgspec import Struct

from turnwire.context.chain import Context

__all__ = ["Weights"]


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
            before = link.parent.num_bytes if link.parent is not None else 0
            held = self._links[link] = _Held(link.num_bytes - before, 1)
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
