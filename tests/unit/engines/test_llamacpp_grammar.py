"""Tests of `turnwire.engines.llamacpp_grammar`: what the lowered grammars let through.

The grammar for llguidance is tried here with the library itself; both are tried with a real
llama.cpp in `tests/integration/test_llamacpp_grammars.py`.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from llguidance import LLMatcher

from turnwire.constraint import Constraint
from turnwire.engines.constrain import Guides
from turnwire.engines.llamacpp_grammar import Dialect, lower
from turnwire.engines.vocabulary import Vocabulary
from turnwire.rendering.tokenizer import Tokenizer

SHIPPED = Tokenizer.shipped()
SPECIAL = re.compile("(" + "|".join(map(re.escape, SHIPPED.special)) + ")")
CALL, SPAN = 5, (3, 4)
GRAMMAR = 'start: "yes" <[6]>\n'


def ids(text: str) -> list[int]:
    """Text with special tokens by name."""
    return [
        id_
        for piece in SPECIAL.split(text)
        for id_ in ([SHIPPED.special[piece]] if piece in SHIPPED.special else SHIPPED.encode(piece))
    ]


def accepts(constraint: Constraint, text: str, *, opened: bool, vocabulary: Vocabulary) -> bool:
    """Whether the lowered grammar lets an output through, to its end."""
    told = lower(constraint, Dialect.LLGUIDANCE, vocabulary, stop=[0, 2], opened=opened)
    head, _, grammar = str(told["grammar"]).partition("\n")
    assert "%llguidance {}" == head
    matcher: Any = LLMatcher(SHIPPED.guidance, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return all(matcher.consume_token(id_) for id_ in ids(text)) and bool(matcher.is_accepting())


CASES: list[tuple[int | None, bool, bool, list[str], list[str]]] = [
    (None, False, False, ["yes</tool_call>"], ["", "no", "yes", "<tool_call>yes</tool_call>"]),
    (
        *(CALL, False, False),
        ["", "any\ntext", "<tool_call>yes</tool_call>", "a<tool_call>yes</tool_call>"],
        ["<tool_call>", "<tool_call>no", "<tool_call>yes</tool_call>more", "<|im_start|>"],
    ),
    (
        *(None, True, False),
        ["yes</tool_call>", "<think>hm\n</think>yes</tool_call>", "<think></think>yes</tool_call>"],
        ["<think>hm", "<think>hm</think>", "a<think>hm</think>yes</tool_call>"],
    ),
    (
        *(None, True, True),
        ["hm</think>yes</tool_call>", "</think>yes</tool_call>"],
        ["yes</tool_call>", "hm", "hm</think>"],
    ),
    (
        *(CALL, True, False),
        ["<think>a</think>b<think>c</think><tool_call>yes</tool_call>", "a", ""],
        ["<think>a", "</think>", "<tool_call>yes</tool_call><think>"],
    ),
    (CALL, True, True, ["a</think>b<tool_call>yes</tool_call>", "a</think>"], ["a", ""]),
]


@pytest.mark.parametrize(("trigger", "span", "opened", "good", "bad"), CASES)
def test_what_gets_through(
    vocabulary: Vocabulary,
    trigger: int | None,
    span: bool,
    opened: bool,
    good: list[str],
    bad: list[str],
) -> None:
    """What is lowered lets through these outputs and not those, and none that a guide refuses."""
    constraint = Constraint(grammar=GRAMMAR, trigger=trigger, free_span=SPAN if span else None)

    def passes(text: str) -> bool:
        return accepts(constraint, text, opened=opened, vocabulary=vocabulary)

    assert dict.fromkeys(good, True) == {text: passes(text) for text in good}
    assert dict.fromkeys(bad, False) == {text: passes(text) for text in bad}
    for text in good:
        guide = Guides(vocabulary, {0, 2}).start(constraint, SPAN[0] if opened else None)
        for id_ in [*ids(text), 2]:
            guide.commit(id_)


@pytest.mark.parametrize("stop", ["<|im_end|>", "<|endoftext|>"])
def test_every_stop_token_may_end_it(vocabulary: Vocabulary, stop: str) -> None:
    """A model's own end is let through even where llguidance was told of another."""
    constraint = Constraint(grammar=GRAMMAR, trigger=CALL)
    assert accepts(constraint, f"text{stop}", opened=False, vocabulary=vocabulary)


def test_gbnf(vocabulary: Vocabulary) -> None:
    """A trigger is the server's own, a span is tokens other than its end."""

    def told(trigger: int | None, span: tuple[int, int] | None, opened: bool) -> dict[str, object]:
        constraint = Constraint(grammar=GRAMMAR, trigger=trigger, free_span=span)
        return lower(constraint, Dialect.GBNF, vocabulary, stop=[0, 2], opened=opened)

    def root(*asked: Any) -> str:
        return str(told(*asked)["grammar"]).splitlines()[0]

    assert "root ::= obeyed" == root(None, None, False)
    assert "root ::= (<[3]> !<[4]>* <[4]>)? obeyed" == root(None, SPAN, False)
    assert "root ::= !<[4]>* <[4]> obeyed" == root(None, SPAN, True)
    assert "root ::= <[5]> obeyed" == root(CALL, SPAN, False)
    assert [{"type": 0, "value": "", "token": 5}] == told(CALL, None, False)["grammar_triggers"]


@pytest.mark.parametrize("dialect", [Dialect.GBNF, Dialect.NONE])
def test_what_cannot_be_said(vocabulary: Vocabulary, dialect: Dialect) -> None:
    """Then nothing is said, and the output is only checked."""
    constraint = Constraint(grammar='start: A & B\nA: "a"\nB: "b"\n')
    assert {} == lower(constraint, dialect, vocabulary, stop=[0], opened=False)
