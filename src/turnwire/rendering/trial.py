"""Whether a grammar can be followed, found out before anybody has to, and if not, why.

What is wrong with it is told to the client whose schema or grammar it is: in the library's words,
on one line, without its picture of what we put around it.
"""

from __future__ import annotations

import re
from typing import Final

import llguidance.numpy
from llguidance import LLMatcher, LLParserLimits

from turnwire.constraint import LIMITS
from turnwire.errors import InvalidRequest
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["invalid", "problem", "reason"]

_MAX_REASON_CHARS: Final = 300
_PICTURE: Final = re.compile(r"\n *\d+ \| .*", re.DOTALL)
_PLACE: Final = re.compile(r"\A(?:at )?(\d+)\(\d+\): ")
_REGEX: Final = re.compile(r"regex parse error: (?P<pattern>.*?) \^+ error: (?P<why>.*)")
_SUFFIX: Final = "<non-verbose/>"
# What the library says at the first step of such a grammar: in words for whoever wrote it.
_PLAIN: Final = {
    "NoExtensionBias": "nothing matches it",
    "ff_tokens": "what it demands has no end",
}


def problem(tokenizer: Tokenizer, grammar: str, *, probe: bool = True) -> str:
    """Why a grammar cannot be followed, in the library's words; "" if it can.

    Args:
        tokenizer: Whose tokens will follow it.
        grammar: The grammar.
        probe: Besides, take a step: one that can only lead on without end, or nowhere, fails here
            and not while a model obeys it. That doubles the cost, a millisecond.
    """
    limits = LLParserLimits(**LIMITS)
    if not probe:
        failed, problems = LLMatcher.validate_grammar_with_warnings(
            grammar, tokenizer.guidance, limits=limits
        )
        return problems[0] if failed else ""
    matcher = LLMatcher(tokenizer.guidance, grammar, log_level=0, limits=limits)
    bits = llguidance.numpy.allocate_token_bitmask(1, tokenizer.vocab_size)
    if not matcher.is_error():
        llguidance.numpy.fill_next_token_bitmask(matcher, bits)
        forced = matcher.compute_ff_tokens()
        matcher.try_consume_tokens(forced[:1])  # says whether there were too many of them
    if not matcher.is_error():
        return "" if bits.any() else "nothing matches it"
    error = str(matcher.get_error())
    return next((plain for sign, plain in _PLAIN.items() if sign in error), error)


def reason(problem: str, lines_before: int = 0) -> str:
    """The library's reason on one line, without its picture of our grammar.

    Args:
        problem: From `problem`.
        lines_before: Lines of ours in front of a grammar that came from outside.
    """
    words = " ".join(_PICTURE.sub("", problem).replace(_SUFFIX, "").split())
    words = words.partition("failed to compile JSON schema: ")[2] or words
    # The reason first: patterns can be long.
    words = _REGEX.sub(r"\g<why>: \g<pattern>", words)
    place = _PLACE.match(words)
    if place is None:
        return words
    told = words[place.end() :]
    return f"line {int(place[1]) - lines_before}: {told}" if lines_before else told


def invalid(param: str, reason: str, kind: str = "schema") -> InvalidRequest:
    """The error for a schema or a grammar that cannot be obeyed, at its place in the request."""
    return InvalidRequest(
        f"Invalid {kind} for '{param}': {reason[:_MAX_REASON_CHARS]}", param=param
    )
