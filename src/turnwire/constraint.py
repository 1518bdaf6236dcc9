"""What an output must look like: said by a template, obeyed by an engine."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Constraint"]


class Constraint(Struct, frozen=True, kw_only=True):
    """What the output must look like, as a grammar over tokens.

    Attributes:
        grammar: An llguidance Lark grammar. Special tokens are written `<name>` or `<[id]>`.
        trigger: Token id after which the grammar takes hold; free before it. None: it holds
            from the first token. With a trigger the output may also end without ever
            meeting it.
        free_span: (open, close) token ids; output that is inside such a span, or starts with
            `open`, is free until `close`. It lets a model think before it obeys. When the
            prompt already ends with `open`, the span is open from the start.
    """

    grammar: str
    trigger: int | None = None
    free_span: tuple[int, int] | None = None
