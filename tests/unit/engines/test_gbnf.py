"""Tests of `turnwire.engines.gbnf`: our grammars in llama.cpp's notation."""

from __future__ import annotations

import pytest

from turnwire.engines.gbnf import write_gbnf
from turnwire.engines.grammar_tree import Unwritable
from turnwire.engines.vocabulary import Vocabulary


def test_a_grammar(vocabulary: Vocabulary) -> None:
    """Rules keep their shape, under names of their own."""
    text = write_gbnf('start: calls\ncalls: "a" (<[5]> "b")* | <think>\n', vocabulary)
    assert text.splitlines() == [
        'calls-2 ::= ("a" (<[5]> "b"){0,} | <[3]>)',
        "start-1 ::= calls-2",
        "obeyed ::= start-1",
    ] or text.splitlines() == [
        "start-1 ::= calls-2",
        'calls-2 ::= ("a" (<[5]> "b"){0,} | <[3]>)',
        "obeyed ::= start-1",
    ]


def test_a_grammar_in_a_grammar(vocabulary: Vocabulary) -> None:
    """Rules of the same name in a nested grammar are others."""
    text = write_gbnf('start: a %lark {\nstart: a\na: "inner"\n}\na: "outer"\n', vocabulary)
    assert 'a-2 ::= "outer"' in text
    assert 'a-4 ::= "inner"' in text
    assert "start-3 ::= a-4" in text


@pytest.mark.parametrize("grammar", ["start: other\n", "start: /(?=a)b/\n", 'start: "a" & "b"\n'])
def test_what_cannot_be_written(vocabulary: Vocabulary, grammar: str) -> None:
    """It is refused as a whole."""
    with pytest.raises(Unwritable):
        write_gbnf(grammar, vocabulary)


def test_texts_with_and_without_a_word(vocabulary: Vocabulary) -> None:
    """A text up to a tag ends with it; one without a tag may end anywhere before it."""
    text = write_gbnf("start: A | B\nA: /(?s:.*)x/ & ~/(?s:.*)x(?s:.+)/\n"
                      "B: /(?s:.*)/ & ~/(?s:.*)(x)(?s:.*)/\n", vocabulary)  # fmt: skip
    [ends] = [line for line in text.splitlines() if '"x"' in line and line.startswith("until")][:1]
    assert not ends.endswith("?")
    texts = [line for line in text.splitlines() if line.startswith("text")]
    assert texts
    assert all(line.endswith(")?") and '"x"' not in line for line in texts)


def test_texts_never_spell_special_tokens(vocabulary: Vocabulary) -> None:
    """A JSON string is written as an automaton that stops before `</tool_call>` is whole."""
    text = write_gbnf('start: %json {"type":"string"}\n', vocabulary)
    assert "u003c" in text  # how JSON says it all the same
    assert not any("tool_call>" in line for line in text.splitlines())
