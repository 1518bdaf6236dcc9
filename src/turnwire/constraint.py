"""What an output must look like: said by a template, obeyed by an engine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

__all__ = ["LIMITS", "Constraint"]

LIMITS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        # A state of the lexer is up to 2 kB, and a pattern can ask for a new one at every
        # character: 32 MB at the most for one output, where llguidance would take 500.
        "max_lexer_states": 16_384,
        # Less than half of llguidance's own: patterns are built and tried against the whole
        # vocabulary with it, and one that repeats by the million uses all of it up, 0.5 s and
        # 220 MB. A hundred tools with twenty parameters each take 200,000.
        "initial_lexer_fuel": 400_000,
        # Half of llguidance's own; those hundred tools take a tenth of it.
        "max_grammar_size": 250_000,
        # Half of llguidance's own: about 10 ms of work for one token.
        "step_lexer_fuel": 100_000,
        "step_max_items": 25_000,
        # The library's errors would quote the output.
        "verbose_errors": False,
    }
)
"""What a grammar may cost, as llguidance's `LLParserLimits`. Grammars come from clients."""


class Constraint(Struct, frozen=True, kw_only=True):
    """What the output must look like, as a grammar over tokens.

    Attributes:
        grammar: An llguidance Lark grammar. Special tokens are written `<name>` or `<[id]>`.
            Grammars and schemas of clients are embedded in it (`%lark`, `%json`): compile it
            within `LIMITS`, and where that may take a while, as it can take half a second.
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
