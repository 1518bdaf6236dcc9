"""Constraints in the words of a llama-server.

A constraint is a grammar, a token that triggers it and a span that is free of it; a server knows
grammars only. What comes before the trigger, or inside the span, therefore becomes a part of the
grammar: free text without special tokens.

* With llguidance our grammar is kept as it is, nested into one that has the free text. (The
  server's own lazy triggers are for GBNF; with llguidance they do nothing.)
* Without, it is written as GBNF, as exactly as that can be: `turnwire.engines.gbnf`. There the
  server's lazy trigger does what ours means. Where it cannot be written the output is free, and
  only checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from turnwire.constraint import Constraint
from turnwire.engines.gbnf import write_gbnf
from turnwire.engines.grammar_tree import Unwritable
from turnwire.engines.vocabulary import Vocabulary

__all__ = ["Dialect", "lower"]


class Dialect(Enum):
    """How grammars are written for a server."""

    LLGUIDANCE = "llguidance"
    GBNF = "gbnf"
    NONE = "none"  # it knows no grammar that can name tokens


def lower(
    constraint: Constraint,
    dialect: Dialect,
    vocabulary: Vocabulary,
    *,
    stop: Iterable[int],
    opened: bool,
) -> dict[str, object]:
    """The members of a `/completion` request that say the constraint.

    Args:
        constraint: What the output must look like.
        dialect: What the server knows.
        vocabulary: The model's.
        stop: Ids that may end the output.
        opened: Whether the prompt ends inside of the free span.
    """
    match dialect:
        case Dialect.LLGUIDANCE:
            nested = _nested(constraint, vocabulary, sorted(stop), opened)
            return {"grammar": f"%llguidance {{}}\n{nested}"}
        case Dialect.GBNF:
            return _gbnf(constraint, vocabulary, opened)
        case Dialect.NONE:
            return {}


def _nested(
    constraint: Constraint, vocabulary: Vocabulary, stop: Sequence[int], opened: bool
) -> str:
    trigger, span = constraint.trigger, constraint.free_span
    names = {id_: name for name, id_ in vocabulary.special.items()}
    rules: list[str] = []
    free = "FREE?"
    ends = [] if trigger is None else [trigger]
    start = "obeyed"
    if span is not None:
        between = f"<[{span[0]}]> THOUGHT? <[{span[1]}]>"
        rules.append(_text("THOUGHT", [names.get(span[1])]))
        ends.append(span[0])
        free = f"FREE? ({between} FREE?)*"
        if not opened:
            start = f"({between})? obeyed"
    if trigger is not None:
        rules.append(_text("FREE", [names.get(id_) for id_ in ends]))
        start = f"{free} (<[{trigger}]> obeyed)?"
    if opened and span is not None:
        start = f"THOUGHT? <[{span[1]}]> {start}"
    # A model has several tokens that end an output, and llama.cpp tells llguidance of one.
    last = " | ".join(f"<[{id_}]>" for id_ in stop)
    rules += (f"start: {start} ({last})?", f"obeyed: %lark {{\n{constraint.grammar}\n}}")
    return "\n".join(rules) + "\n"


def _text(terminal: str, names: Iterable[str | None]) -> str:
    """Any text but these words: to a server some special tokens are text like any other."""
    words = "|".join(_escaped(name) for name in names if name)
    without = f" & ~/(?s:.*)({words})(?s:.*)/" if words else ""
    return f"{terminal}: /(?s:.+)/{without}"


def _escaped(word: str) -> str:
    return "".join(
        sign if sign.isalnum() or sign == "_" else f"\\x{ord(sign):02x}" for sign in word
    )


def _gbnf(constraint: Constraint, vocabulary: Vocabulary, opened: bool) -> dict[str, object]:
    trigger, span = constraint.trigger, constraint.free_span
    try:
        rules = write_gbnf(constraint.grammar, vocabulary)
    except Unwritable:
        return {}
    if trigger is not None:
        return {
            "grammar": f"root ::= <[{trigger}]> obeyed\n{rules}",
            "grammar_lazy": True,
            "grammar_triggers": [{"type": 0, "value": "", "token": trigger}],
        }
    root = "obeyed"
    if span is not None:
        thought = f"!<[{span[1]}]>* <[{span[1]}]>"
        root = f"{thought} obeyed" if opened else f"(<[{span[0]}]> {thought})? obeyed"
    return {"grammar": f"root ::= {root}\n{rules}"}
