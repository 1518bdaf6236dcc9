"""Parsers of outputs, read in ways that must all agree."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from turnwire.parts import (
    CallArguments,
    CallStarted,
    ItemFinished,
    MessageStarted,
    Part,
    ReasoningDelta,
    TextDelta,
)
from turnwire.rendering.base import Parser
from turnwire.tokens import TokenArray, token_array

__all__ = ["Words", "outcome", "words_of"]

Words = list[tuple[str, str]]


def words_of(parts: Sequence[Part]) -> Words:
    """Parts as (kind, text): deltas joined, the end of an item as `.`, call ids left out."""
    words: Words = []
    for part in parts:
        match part:
            case TextDelta(text) | ReasoningDelta(text) | CallArguments(text):
                assert text, "an empty delta says nothing"
                kind = {TextDelta: "text", ReasoningDelta: "thought"}.get(type(part), "arguments")
                if words and words[-1][0] == kind:
                    words[-1] = (kind, words[-1][1] + text)
                else:
                    words.append((kind, text))
            case CallStarted():
                words.append(("call", ".".join(filter(None, (part.namespace, part.name)))))
            case MessageStarted():
                words.append(("phase", part.phase))
            case ItemFinished():
                words.append((".", ""))
            case _:
                raise AssertionError(f"a parser makes no {part}")
    return words


def outcome(
    parser: Callable[[], Parser], ids: Sequence[int], *, cut: bool = False
) -> tuple[Words, int, TokenArray, TokenArray | None]:
    """What an output says: words, reasoning tokens, ids of its items, ids of the open one.

    It is read at once, token by token, and cut in two at every place; all must agree.
    """
    ways = [[], list(range(1, len(ids))), *([place] for place in range(1, len(ids)))]
    found = [_read(parser(), ids, cuts, cut) for cuts in ways]
    for one in found[1:]:
        assert found[0] == one
    return found[0]


def _read(
    parser: Parser, ids: Sequence[int], cuts: Sequence[int], cut: bool
) -> tuple[Words, int, TokenArray, TokenArray | None]:
    parts: list[Part] = []
    for begin, end in itertools.pairwise([0, *cuts, len(ids)]):
        parts += parser.feed(ids[begin:end])
    parts += parser.finish(cut=cut)
    sampled = token_array()
    for part in parts:
        if isinstance(part, ItemFinished) and part.sampled is not None:
            sampled += part.sampled
    return words_of(parts), parser.num_reasoning_tokens, sampled, parser.open_sampled
