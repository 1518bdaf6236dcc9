"""Tests of `turnwire.engines.gbnf_rules`: character sets, shunned names, patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.gbnf_rules import CharSet, Rules, Shunned, in_json, literal
from turnwire.engines.grammar_tree import Unwritable

NAMES = ["<|im_end|>", "<|im_start|>", "<think>", "</think>", "<tool_call>", "[INST]", "<s>"]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300))), st.text(max_size=5))
def test_sets(pairs: list[tuple[int, int]], signs: str) -> None:
    """A set has what its ranges have, less what is taken out; twice inverted it is the same."""
    made = CharSet((min(pair), max(pair)) for pair in pairs)
    for code in range(302):
        inside = any(min(pair) <= code <= max(pair) for pair in pairs)
        assert inside is (chr(code) in made)
        assert (inside and chr(code) not in signs) is (chr(code) in made.without(signs))
    assert made.ranges == made.inverted().inverted().ranges


@given(st.lists(st.sampled_from([*"<|/thinkool_c>[INS]", *NAMES, "x"]), max_size=12).map("".join))
def test_a_walk_never_spells_a_name(text: str) -> None:
    """The automaton stops exactly where the text has spelled what is shunned."""
    shunned = Shunned(NAMES)
    state, spelled = "", ""
    for sign in text:
        spelled += sign
        after = shunned.moves(state).get(sign, "")
        assert (after is None) is any(spelled.endswith(word) for word in shunned.words)
        if after is None:
            return
        state = after
    assert not any(word in text for word in shunned.words)


def test_names_with_a_common_head_are_one() -> None:
    """Of names that begin with `<|`, that is shunned."""
    assert ["</think>", "<s>", "<think>", "<tool_call>", "<|", "[INST]"] == Shunned(NAMES).words


@pytest.mark.parametrize(
    ("text", "written"),
    [("a b", '"a b"'), ('"\\', '"\\x22\\x5c"'), ("\n", '"\\x0a"'), ("é🦊", '"é🦊"')],
)
def test_literals(text: str, written: str) -> None:
    """Quotes, backslashes and controls are written by number."""
    assert written == literal(text)


def test_json_spelling() -> None:
    """As the text of a JSON string, without its quotes."""
    assert '\\"é\\n' == in_json('"é\n')


@pytest.mark.parametrize(
    ("regex", "written"),
    [
        ("abc", '"a" "b" "c"'),
        ("ab|c", '("a" "b" | "c")'),
        ("^a$", '"a"'),
        ("(?:ab)?", '("a" "b"){0,1}'),
        ("[a-c]{2,3}", "([a-c]){2,3}"),
        (r"\d", "[0-9]"),
    ],
)
def test_patterns(regex: str, written: str) -> None:
    """The plain forms of regular expressions."""
    assert written.replace(" ", "") == re.sub(
        r"\s", "", Rules(Shunned(NAMES)).pattern(regex)
    ).replace('"" ', "")


@pytest.mark.parametrize(
    "regex", ["a\\b", "(?i)a", "(?=a)b", "(a)\\1", "[^\\d]", "a{1,9999}", "(", "\\p{L}", "a^b"]
)
def test_patterns_that_mean_more(regex: str) -> None:
    """What GBNF cannot say is refused."""
    with pytest.raises(Unwritable):
        Rules(Shunned(NAMES)).pattern(regex)


def walked(rules: dict[str, str], state: str, text: str) -> int | None:
    """How many characters of a text its rules take until they end; None if they never do."""
    for count, sign in enumerate(text, 1):
        taken = None
        for way in rules[state][1:-1].split(" | "):
            signs, _, after = way.partition(" ")
            if signs == literal(sign) or (signs[0] == "[" and re.fullmatch(signs, sign)):
                taken = after
        if taken is None:
            return None
        if not taken:
            return count
        state = taken
    return None


@given(
    st.lists(st.sampled_from([*"</pa>x", "</parameter>", *NAMES, "\n"]), max_size=9).map("".join)
)
def test_a_text_up_to_a_word(text: str) -> None:
    """It ends with the first of the words, and spells no name of a special token."""
    word = "\n</parameter>\n"
    rules = Rules(Shunned(NAMES))
    start = rules.until(word)
    assert start == rules.until(word)
    written = dict(line.split(" ::= ") for line in rules.text().splitlines())
    end = text.find(word) + len(word) if word in text else None
    spelled = text if end is None else text[:end]
    shunned = any(name in spelled for name in rules.shunned.words)
    assert (None if shunned else end) == walked(written, start, text)


@pytest.mark.parametrize("word", ["<think>\n", "k>", "<|x|>"])
def test_a_word_that_is_shunned(word: str) -> None:
    """What no text may spell can end none."""
    with pytest.raises(Unwritable, match="where a special token may"):
        Rules(Shunned(NAMES)).until(word)
