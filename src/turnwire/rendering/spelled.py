"""The output of families that spell calls in words of their own (`spelling.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import structs

from turnwire.rendering.element_grammar import ElementPieces
from turnwire.rendering.formats import CallForm, Format
from turnwire.rendering.grammar_text import Expression
from turnwire.rendering.pieces import Piece, joined
from turnwire.rendering.spelled_calls import CallTags
from turnwire.rendering.spelling import Fitted, Hole, Segment, Spelling, fitted
from turnwire.rendering.spellings import SPELLINGS
from turnwire.rendering.tagged import Tags
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["find_spelling", "spelled_format"]

_HOLES: Final = {
    Hole.ID: Expression("/[a-zA-Z0-9]{9}/"),
    Hole.NUMBER: Expression("/[0-9]+/"),
}


def find_spelling(written: Sequence[str]) -> Fitted | None:
    """The spelling that a template uses, or None if none of ours is it.

    Args:
        written: What it makes of each message of `PROBE`; "" where it takes it not.
    """
    return next(filter(None, (fitted(one, written) for one in SPELLINGS)), None)


def spelled_format(
    tokenizer: Tokenizer,
    found: Fitted,
    stop: frozenset[int],
    begun: tuple[bool, bool],
    thinking: Tags,
) -> Format:
    """The format's output; see `Format` for what the other arguments mean.

    Args:
        found: How the template spells calls.
        thinking: The tags around thoughts.
    """
    tags = CallTags(tokenizer, found)
    return Format(
        name=found.spelling.name,
        tokenizer=tokenizer,
        tags=structs.replace(thinking, call=tags.openers, spelled=tags),
        stop=stop,
        calls=None if found.spelling.quote else _form(tokenizer.special, found),
        begun=begun,
    )


def _form(special: Mapping[str, int], found: Fitted) -> CallForm:
    exact = found.exact
    at = exact.place(Hole.NAME)
    before, after = exact.head[:at], exact.head[at + 1 :]
    return CallForm(
        first=_pieces(special, exact.begin, *before),
        between=(_pieces(special, *exact.tail, exact.between, *before) if found.several else None),
        last=_pieces(special, *exact.tail, exact.end),
        name_key="",
        arguments_key=_pieces(special, *after),
        end="",
        elements=_elements(special, exact) if exact.element else None,
    )


def _elements(special: Mapping[str, int], exact: Spelling) -> ElementPieces:
    key, value = exact.element.index(Hole.KEY), exact.element.index(Hole.VALUE)
    between = exact.element[key + 1 : value]
    as_text, as_json = (
        [
            "true" if is_text and one is Hole.STRING else "false" if one is Hole.STRING else one
            for one in between
        ]
        for is_text in (True, False)
    )
    return ElementPieces(
        first=_pieces(special, *exact.element[:key]),
        before_text=_pieces(special, *as_text),
        before_json=_pieces(special, *as_json),
        last=_pieces(special, *exact.element[value + 1 :]),
    )


def _pieces(special: Mapping[str, int], *segments: Segment) -> tuple[Piece, ...]:
    """Segments as a grammar's pieces: special tokens by id, holes as what may stand there."""
    found: list[Piece] = []
    run: list[Piece] = []
    for segment in segments:
        if isinstance(segment, str):
            run += _split(special, segment)
        else:
            found += (*joined(run), _HOLES[segment])
            run = []
    return (*found, *joined(run))


def _split(special: Mapping[str, int], text: str) -> Iterator[Piece]:
    names = sorted((name for name in special if name in text), key=len, reverse=True)
    if not names:
        yield text
        return
    for part in re.split("(" + "|".join(map(re.escape, names)) + ")", text):
        yield special.get(part, part)
