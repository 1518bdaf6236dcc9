"""Tests of `turnwire.engines.grammar_tree`: Lark that is read, and Lark that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.grammar_tree import (
    Choice,
    Grammar,
    Literal,
    Node,
    Pattern,
    Repeat,
    Rule,
    Schema,
    Sequence,
    Special,
    Text,
    Unwritable,
    read_lark,
)
from turnwire.rendering.grammar_text import until, without

SPECIAL = {"<tool_call>": 5}


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ('"a"', Literal("a")),
        (r'"\"\n\u00e9"', Literal('"\né')),
        ("<[5]>", Special(5)),
        ("<tool_call>", Special(5)),
        ("other", Rule("other")),
        ("/a[/]b\\/c/", None),
        ("/a\\/b/", Pattern("a/b")),
        ("/a.b/s", Pattern("(?s)a.b")),
        ('%json {"type": "string", "x": "}"}', Schema({"type": "string", "x": "}"})),
        ('"a" other', Sequence((Literal("a"), Rule("other")))),
        ('"a" | other', Choice((Literal("a"), Rule("other")))),
        ('"a" |', Choice((Literal("a"), Sequence(())))),
        ('("a" | "b")*', Repeat(Choice((Literal("a"), Literal("b"))), 0, None)),
        ('"a"?', Repeat(Literal("a"), 0, 1)),
        ('"a"+', Repeat(Literal("a"), 1, None)),
        ('["a"]', Repeat(Literal("a"), 0, 1)),
        ('"a"{2}', Repeat(Literal("a"), 2, 2)),
        ('"a"{2,}', Repeat(Literal("a"), 2, None)),
        ('"a"{,3}', Repeat(Literal("a"), 0, 3)),
        ('"a"~2', Repeat(Literal("a"), 2, 2)),
        ('"a"~2..3', Repeat(Literal("a"), 2, 3)),
        ('%lark {\nstart: "a"\n}', Grammar({"start": Literal("a")})),
        ('"a" // a comment', Literal("a")),
        ("/(?s:.*)a/ & ~/(?s:.*)a(?s:.+)/", Text(end="a")),
        (until("\n</p>.|\\\n"), Text(end="\n</p>.|\\\n")),
        (without(["<call>", "a.b"]), Text(without=("<call>", "a.b"))),
        (f'{without(["<call>"])} "<call>"', Sequence((Text(("<call>",)), Literal("<call>")))),
        ('"a"\n | "b"', Choice((Literal("a"), Literal("b")))),
    ],
)
def test_forms(text: str, node: Node | None) -> None:
    """Each form that is read is one node; a slash in a class must be escaped."""
    if node is None:
        with pytest.raises(Unwritable):
            read_lark(f"start: {text}\n", SPECIAL)
        return
    assert Grammar({"start": node}) == read_lark(f"start: {text}\n", SPECIAL)


def test_rules() -> None:
    """Rules end where the next one's name stands."""
    text = 'start: one two\none: "a" |\n  "b"\n\n# two\ntwo: one\n'
    assert ["start", "one", "two"] == list(read_lark(text, SPECIAL).rules)


@pytest.mark.parametrize(
    "text",
    [
        'first: "a"',
        'start: "a"i',
        'start: "a".."z"',
        "start: A & B",
        "start: /a/ & ~/b/",
        "start: /(?s:.*)a/ & ~/(?s:.*)b(?s:.+)/",
        "start: /(?s:.*)a+/ & ~/(?s:.*)a+(?s:.+)/",
        "start: /(?s:.*)/ & ~/(?s:.*)(a|\\d)(?s:.*)/",
        "start: ~A",
        "start: <unknown>",
        "start: <[5-7]>",
        "start: <[^5]>",
        'start[capture]: "a"',
        'start: ("a"',
        'start: "a")',
        'start: "a"\nstart: "b"',
        '%ignore " "\nstart: "a"',
        "start: %json [1]",
        "start: %json {",
        'start: %lark { start: "a"',
        "start: %regex {}",
        'start: "a"{}',
        'start: "\\q"',
        "start: " + "(" * 100 + '"a"' + ")" * 100,
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    """Nothing is half understood."""
    with pytest.raises(Unwritable):
        read_lark(text, SPECIAL)


@given(st.text(alphabet='start: "ab\\|()[]{}<>%/*+?~\n_0', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """A strange grammar raises nothing else."""
    try:
        read_lark("start: " + text, SPECIAL)
    except Unwritable:
        return
