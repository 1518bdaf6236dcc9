"""Tests of `turnwire.rendering.trial`: which grammars can be followed, what is said of others."""

from __future__ import annotations

import pytest

from turnwire.rendering.tokenizer import Tokenizer
from turnwire.rendering.trial import invalid, problem, reason

TOKENIZER = Tokenizer.shipped()


@pytest.mark.parametrize("grammar", ['start: "a"+', 'start: ""', 'start: %json {"type": "null"}'])
def test_what_can_be_followed(grammar: str) -> None:
    """There is nothing to say about it, also where it lets through nothing but the empty text."""
    assert "" == problem(TOKENIZER, grammar)
    assert "" == problem(TOKENIZER, grammar, probe=False)


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        pytest.param("start: a", 'unknown name: "a"', id="no rule"),
        pytest.param('start: "a" start', "what it demands has no end", id="no end"),
        pytest.param("start: a\na: b\nb: a", "nothing matches it", id="a circle"),
        pytest.param(
            'start: %json {"type": "string", "pattern": "^(?=a)$"}',
            "look-around, including look-ahead and look-behind, is not supported: ^(?=a)$",
            id="regular expression",
        ),
        pytest.param('start: %json {"type": "nothing"}', "Invalid type: nothing", id="schema"),
    ],
)
def test_what_cannot(grammar: str, words: str) -> None:
    """It is told on one line, the reason first, without the grammar around it."""
    assert words == reason(problem(TOKENIZER, grammar))


def test_what_compiles() -> None:
    """Without a step, only what does not compile is a problem."""
    assert "" == problem(TOKENIZER, 'start: "a" start', probe=False)
    assert 'unknown name: "a"' == reason(problem(TOKENIZER, "start: a", probe=False))


def test_the_line_of_a_definition() -> None:
    """Lines of ours before it are not counted."""
    found = problem(TOKENIZER, "start: %lark {\nstart: a\na: b\n}")
    assert 'line 2: unknown name: "b"' == reason(found, 1)


def test_the_error() -> None:
    """It names the field, and is not as long as what is wrong with it."""
    error = invalid("tools[0].parameters", "x" * 1000)
    assert "tools[0].parameters" == error.param
    assert f"Invalid schema for 'tools[0].parameters': {'x' * 300}" == error.message
