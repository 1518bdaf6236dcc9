"""Parts of grammars as text: llguidance's Lark, for formats that are written in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final

from turnwire.rendering.pieces import Piece
from turnwire.rendering.schema import Schema

__all__ = ["Expression", "embedded", "escaped", "sequence", "spaced", "until", "without"]

_SPACED: Final = {"item_separator": ", ", "key_separator": ": "}
_META: Final = frozenset(r"\.+*?()|[]{}^$#&-~/")


class Expression(str):
    """A grammar's expression among pieces, where other text stands for itself."""

    __slots__ = ()


def spaced(schema: Schema) -> Schema:
    """The schema, for JSON with the blanks that templates write."""
    guidance = schema.get("x-guidance")
    return {**schema, "x-guidance": {**(guidance if isinstance(guidance, dict) else {}), **_SPACED}}


def embedded(schema: Schema) -> str:
    """JSON under a schema."""
    return "%json " + json.dumps(schema)


def sequence(pieces: Sequence[Piece]) -> str:
    """Pieces, one behind the other; "" for none."""
    return " ".join(_atoms(pieces))


def _atoms(pieces: Sequence[Piece]) -> Iterator[str]:
    for piece in pieces:
        if isinstance(piece, int):
            yield f"<[{piece}]>"
        elif isinstance(piece, Expression):
            yield str(piece)
        elif piece:
            yield json.dumps(piece)


def escaped(text: str) -> str:
    """Text inside a regular expression between slashes. (Not `re.escape`: `\\<` is a boundary.)"""
    signs = [f"\\{sign}" if sign in _META else sign for sign in text]
    return "".join(signs).replace("\n", r"\n")


def without(texts: Sequence[str]) -> str:
    """Anything that none of these is in."""
    words = "|".join(map(escaped, texts))
    return f"/(?s:.*)/ & ~/(?s:.*)({words})(?s:.*)/"


def until(tag: Piece) -> str:
    """Anything, up to and with a tag; for a rule of its own, with a terminal's name.

    (A lazy expression is none to llguidance inside of a grammar: it goes on past the tag.)
    """
    if isinstance(tag, int):
        return f"/(?s:.*)/ <[{tag}]>"
    word = escaped(tag)
    return f"/(?s:.*){word}/ & ~/(?s:.*){word}(?s:.+)/"
