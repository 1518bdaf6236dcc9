"""Tests of `turnwire.rendering.lark`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher

from turnwire.rendering.depth import MAX_RULE_DEPTH
from turnwire.rendering.lark import MAX_DEFINITION_CHARS, LarkError, embeddable
from turnwire.rendering.tokenizer import Tokenizer

TOKENIZER = Tokenizer.shipped()


def embedded(definition: str) -> LLMatcher:
    """A matcher of `<`, what the definition derives, and `>`."""
    return LLMatcher(
        TOKENIZER.guidance,
        f'start: "<" inner ">"\ninner: %lark {{\n{embeddable(definition)}\n}}\n',
        log_level=0,
    )


def derives(definition: str, text: str) -> bool:
    """Whether this is a whole text of the grammar."""
    matcher = embedded(definition)
    assert not matcher.is_error(), matcher.get_error()
    ids = list(TOKENIZER.encode(f"<{text}>"))
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


@pytest.mark.parametrize(
    ("definition", "fits", "refused"),
    [
        pytest.param('start: "a" | "b" "c"?', ("a", "b", "bc"), ("", "ac", "abc"), id="rules"),
        pytest.param('start: "a"i', ("a", "A"), ("b",), id="case"),
        pytest.param('start: ["a"] "b"', ("ab", "b"), ("a",), id="optional"),
        pytest.param('start: ("a" "b")~2..3', ("abab", "ababab"), ("ab", ""), id="repeats"),
        pytest.param('start: "a"~2', ("aa",), ("a", "aaa"), id="a number of times"),
        pytest.param('start: "a".."c"', ("a", "b", "c"), ("d",), id="range"),
        pytest.param("start: /a\\/b|c.e/s", ("a/b", "c\ne"), ("ab",), id="regex"),
        pytest.param("start: A+\nA: /[ab]/ /c/", ("ac", "acbc"), ("a",), id="terminals"),
        pytest.param("?start: x\n!x: y -> z\n_Y: /b/\ny: _Y", ("b",), ("y",), id="tree shaping"),
        pytest.param(
            'start: "a" -> x\n  | "b" "c" -> y | ("d" -> z)', ("a", "bc", "d"), ("x",), id="aliases"
        ),
        pytest.param("start: INT\n%import common.INT", ("42",), ("x",), id="import"),
        pytest.param(
            "start: (N | WS)+\n%import common.NUMBER -> N\n%import common (WS)",
            ("4 2",),
            ("x",),
            id="imports by other names",
        ),
        pytest.param('start: "a" "b"\n%ignore " "+', ("a  b", "ab"), ("a-b",), id="ignore"),
        pytest.param(
            'start: a\n  | b // or\n# and\n\n\na: "x" // {\nb: "y"\n',
            ("x", "y"),
            ("xy",),
            id="comments and lines",
        ),
        pytest.param(
            r'start: "\x41\"\\\n" "\u00e9" "\t}" "\U0001F642"',
            ('A"\\\né\t}🙂',),
            ("A",),
            id="escapes",
        ),
        pytest.param(r'start: "\d" ' + '"\x7f"', ("\\d\x7f",), ("1",), id="no escape"),
        pytest.param('start: "\'" "%json {}" /<[5]>/', ("'%json {}<5>",), ("",), id="in quotes"),
    ],
)
def test_what_is_understood(
    definition: str, fits: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    """A definition means the same embedded as it does to Lark."""
    assert dict.fromkeys(fits, True) == {text: derives(definition, text) for text in fits}
    assert dict.fromkeys(refused, False) == {text: derives(definition, text) for text in refused}


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        ("start: <[6]>", "line 1: '<' is not part of Lark"),
        ("start: <tool_call>", "line 1: '<' is not part of Lark"),
        ("start: @other", "line 1: '@' is not part of Lark"),
        ("start: a & b", "line 1: '&' is not part of Lark"),
        ("start: a\na: ~/b/", "line 2: '~' must follow what is repeated"),
        ('start: %json {"type": "string"}', "line 1: '%json' is not supported here"),
        ("%llguidance {}\nstart: /a/", "line 1: '%llguidance' is not supported here"),
        ("start: /a/\n%declare B", "line 2: '%declare' is not supported here"),
        ("start: %ignore", "line 1: '%ignore' is not supported here"),
        ("start[lazy]: /a/", "line 1: ':' must follow the name of a definition, not '['"),
        ("start: /a/ }\nx: <[6]>", "line 1: templates are not supported"),
        ("start: x{a}", "line 1: templates are not supported"),
        ("start: A\nA.2: /a/", "line 2: priorities of terminals and rules are not supported"),
        ("start: /a/*?", "line 1: lazy repetition is not supported"),
        (
            'start: "a" -> x "b"',
            "line 1: '|' or the end of the line must follow an alias, not '\"b\"'",
        ),
        ("start: *", "line 1: '*' must follow what it applies to"),
        (
            "start: fooBar",
            "line 1: 'fooBar' is neither a rule (lower case) nor a terminal (upper case)",
        ),
        ('start: "a', 'line 1: what " opens is not closed on its line, or is empty'),
        ("start: /a", "line 1: what / opens is not closed on its line, or is empty"),
        ("start: 'a'", 'line 1: "\'" has no meaning here'),
        ("start\n: /a/", "line 1: a definition lacks its ':'"),
        ("start: /a/\nb", "line 2: a definition lacks its ':'"),
        ("start: /a/\n /b/ c", None),
    ],
)
def test_what_is_refused(definition: str, why: str | None) -> None:
    """What is not for clients, or is no Lark, is refused with its line."""
    if why is None:
        assert embedded(definition).is_error()
        return
    with pytest.raises(LarkError) as caught:
        embeddable(definition)
    assert why == str(caught.value)


def test_lines_keep_their_numbers() -> None:
    """An error that the library finds is on the line where the client wrote it."""
    definition = 'start: a // b\n\n# c\na: "x"\n   | "y"\n'
    lines = embeddable(definition).split("\n")
    assert definition.count("\n") + 1 == len(lines)
    assert ["a", "|"] == [lines[number].split()[0] for number in (3, 4)]


def test_length_and_depth_are_bounded() -> None:
    """A definition that is too long, or whose rules lead too deep, is never compiled."""
    with pytest.raises(LarkError, match="characters"):
        embeddable('start: "a"' + " " * MAX_DEFINITION_CHARS)
    most = MAX_RULE_DEPTH - 2
    chain = ["start: r0", *(f'r{n}: "a" r{n + 1}' for n in range(most))]
    assert not embedded("\n".join([*chain, f'r{most}: "b"'])).is_error()
    with pytest.raises(LarkError, match="levels deep"):
        embeddable("\n".join([*chain, f'r{most}: ("b")']))


@given(st.text(alphabet='"/\\abAB:|()[]{}<>@&~%+*?.,! \n\t012=#-_i', max_size=40))
def test_nothing_breaks_out(definition: str) -> None:
    """Whatever a client writes is refused, or is a grammar by itself, with no token but text."""
    try:
        lines = embeddable(definition)
    except LarkError:
        return
    grammar = f'start: "<" inner ">"\ninner: %lark {{\nstart: /x/\n{lines}\n}}\n'
    matcher = LLMatcher(TOKENIZER.guidance, grammar, log_level=0)
    if not matcher.is_error():
        assert matcher.consume_token(TOKENIZER.encode("<")[0])
        special = TOKENIZER.special.values()
        assert 0 == sum(matcher.validate_tokens([token_id]) for token_id in special)
