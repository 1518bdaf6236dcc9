"""Tests of `turnwire.rendering.tagged`."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rendering.imitations import byte_level, encoded, sentence_piece, shown
from tests.unit.rendering.reading import Words, outcome

from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.pieces import Piece
from turnwire.rendering.tagged import TaggedParser, Tags
from turnwire.rendering.tokenizer import Tokenizer

NAMES = ("<end>", "<think>", "</think>", "<call>", "</call>", "[ARGS]", "[ID]", "<odd>")
TOKENIZER = byte_level(NAMES)
SPECIAL = TOKENIZER.special
STOP = frozenset((SPECIAL["<end>"],))
OFFERED = {
    "f": OfferedTool(name="f"),
    "s.g": OfferedTool(name="s.g", kind="custom", namespace="s"),
}


def tag(name: str, *, text: bool) -> Piece:
    return name if text else SPECIAL[name]


def hermes(*, text: bool) -> Tags:
    """Thoughts and calls between tags: as tokens, or as text under names that are no tokens."""
    names = ("<think>", "</think>", "<call>", "</call>")
    if text:
        names = ("<Think>", "</Think>", "<Call>", "</Call>")
    think, end_think, call, end_call = (name if text else SPECIAL[name] for name in names)
    return Tags(think=think, end_think=end_think, call=(call,), end_call=end_call)


LIST = Tags(call=(SPECIAL["<call>"],))
NAMED = Tags(call=(SPECIAL["<call>"],), arguments=SPECIAL["[ARGS]"], call_id=SPECIAL["[ID]"])
BARE = Tags(call=(SPECIAL["<call>"],), bare=True)


def parse(
    tags: Tags,
    text: str,
    *,
    thinking: bool = False,
    cut: bool = False,
    tokenizer: Tokenizer = TOKENIZER,
    offered: dict[str, OfferedTool] = OFFERED,
) -> tuple[Words, int, str, str | None]:
    """An output's words, its reasoning tokens, and the text of its sampled ids."""
    stop = frozenset((tokenizer.special["<end>"],))
    make = partial(TaggedParser, tokenizer, tags, stop, offered, thinking=thinking)
    words, num_thoughts, sampled, opened = outcome(make, encoded(tokenizer, text), cut=cut)
    last = None if opened is None else shown(tokenizer, opened)
    return words, num_thoughts, shown(tokenizer, sampled), last


END = (".", "")
CALL = '{"name": "f", "arguments": {"a": "<x>"}}'
F = [("call", "f"), ("arguments", '{"a": "<x>"}'), END]


@pytest.mark.parametrize("text", [False, True], ids=["tokens", "text"])
@pytest.mark.parametrize(
    ("output", "words"),
    [
        pytest.param("Hello.", [("text", "Hello."), END], id="text"),
        pytest.param(" a \n", [("text", " a \n"), END], id="blanks of a text are its own"),
        pytest.param("", [], id="nothing"),
        pytest.param("\n\n", [], id="blanks alone"),
        pytest.param(
            "<think>\nhm\n\nhm\n</think>\n\nHi\n",
            [("thought", "hm\n\nhm"), END, ("text", "Hi\n"), END],
            id="a thought",
        ),
        pytest.param("<think>\n\n</think>\n\nHi", [("text", "Hi"), END], id="an empty thought"),
        pytest.param(f"<call>\n{CALL}\n</call>", F, id="a call"),
        pytest.param(
            f"I look.\n<call>{CALL}</call>\n<call>\n{CALL}\n</call>\n",
            [("text", "I look."), END, *F, *F],
            id="text and calls",
        ),
        pytest.param(
            f"<think>a</think><call>{CALL}</call>Done",
            [("thought", "a"), END, *F, ("text", "Done"), END],
            id="text behind a call",
        ),
        pytest.param("a </think> b", None, id="a tag out of place"),
        pytest.param("1 < 2 <c <t", [("text", "1 < 2 <c <t"), END], id="nearly a tag"),
    ],
)
def test_hermes(output: str, words: Words | None, text: bool) -> None:
    """Thoughts, text and calls come apart, whether tags are tokens or text."""
    if text:
        if words == [("text", "1 < 2 <c <t"), END]:
            words = [("text", "1 < 2 <C <T"), END]
            output = "1 < 2 <C <T"
        for name in ("think", "call"):
            output = output.replace(f"<{name}>", f"<{name.title()}>")
            output = output.replace(f"</{name}>", f"</{name.title()}>")
    if words is None:
        words = [("text", output if text else "a  b"), END]
    found, _, sampled, _ = parse(hermes(text=text), f"{output}<end>ignored")
    assert words == found
    assert not words or output == sampled


def test_tags_of_text_in_a_call() -> None:
    """A tag inside an argument is text; the call ends with its JSON."""
    call = '{"name": "s.g", "arguments": {"input": "</Call>\\n"}}'
    words, _, sampled, _ = parse(hermes(text=True), f"<Call>{call}</Call>a<end>")
    assert [("call", "s.g"), ("arguments", "</Call>\n"), END, ("text", "a"), END] == words
    assert f"<Call>{call}</Call>a" == sampled


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ('<call>{"name": "h"}</call>', [("text", '{"name": "h"}'), END]),
        ("<call></call>a", [("text", "a"), END]),
    ],
)
def test_no_call_of_ours(output: str, words: Words) -> None:
    """What is between the tags and no call of an offered tool is text."""
    assert words == parse(hermes(text=False), f"{output}<end>")[0]


def test_thoughts_are_counted() -> None:
    """Tokens between the tags are reasoning, and those of a prompt that opened a thought."""
    expected = len(TOKENIZER.encode("\nhm\n"))
    assert expected == parse(hermes(text=False), "<think>\nhm\n</think>Hi<end>")[1]
    words, num_thoughts, sampled, _ = parse(
        hermes(text=False), "hm\n</think>\n\nHi<end>", thinking=True
    )
    assert [("thought", "hm"), END, ("text", "Hi"), END] == words
    assert len(TOKENIZER.encode("hm\n")) == num_thoughts
    assert "hm\n</think>\n\nHi" == sampled


@pytest.mark.parametrize(
    ("tags", "output", "words"),
    [
        pytest.param(
            LIST,
            f'<call>[{CALL}, {{"name": "f", "arguments": {{}}}}]',
            [*F, ("call", "f"), ("arguments", "{}"), END],
            id="a list",
        ),
        pytest.param(
            LIST,
            f" a<call> [{CALL}]b",
            [("text", " a"), END, *F, ("text", "b"), END],
            id="text around a list",
        ),
        pytest.param(LIST, "<call>Hi", [("text", "Hi"), END], id="no list"),
        pytest.param(LIST, '<call>f{"a": "<x>"}', F, id="a name without a tag"),
        pytest.param(
            NAMED,
            '<call>f[ARGS]{"a": "<x>"}<call>s.g[ID]abc[ARGS]{"input": "y"}',
            [*F, ("call", "s.g"), ("arguments", "y"), END],
            id="names",
        ),
        pytest.param(NAMED, "<call>h[ARGS]{}", [("text", "h{}"), END], id="a strange name"),
        pytest.param(NAMED, "<call>f", [("text", "f"), END], id="a name alone"),
        pytest.param(BARE, '{"name": "f", "parameters": {"a": "<x>"}}', F, id="bare"),
        pytest.param(
            BARE,
            f"\n{CALL}; {CALL}",
            [*F, *F],
            id="two, bare",
        ),
        pytest.param(BARE, f"<call>{CALL}", F, id="bare, with a tag"),
        pytest.param(BARE, '{"title": "f"}', [("text", '{"title": "f"}'), END], id="an answer"),
        pytest.param(BARE, f"a {CALL}", [("text", f"a {CALL}"), END], id="behind text it is text"),
        pytest.param(BARE, f"{CALL} Done", [*F, ("text", "Done"), END], id="text behind a call"),
    ],
)
def test_other_calls(tags: Tags, output: str, words: Words) -> None:
    """Lists, names outside of JSON, and messages that are calls."""
    found, _, sampled, _ = parse(tags, f"{output}<end>")
    assert words == found
    assert output == sampled


def test_nothing_is_offered() -> None:
    """Without tools what looks like a call stays text."""
    for tags, output in ((BARE, CALL), (LIST, f"<call>[{CALL}]")):
        words = parse(tags, f"{output}<end>", offered={})[0]
        assert "call" not in {kind for kind, _ in words}


@pytest.mark.parametrize(
    ("output", "words", "opened"),
    [
        pytest.param("Hello ", [("text", "Hello ")], "Hello ", id="text"),
        pytest.param("<think>hm", [("thought", "hm")], "<think>hm", id="a thought"),
        pytest.param('<call>{"name": "f", "arg', [], None, id="before a name"),
        pytest.param(
            '<call>{"name": "f", "arguments": {"a',
            [("call", "f"), ("arguments", '{"a')],
            '<call>{"name": "f", "arguments": {"a',
            id="in the arguments",
        ),
        pytest.param(f"<call>{CALL}</call>\n", F, None, id="between items"),
    ],
)
def test_a_cut(output: str, words: Words, opened: str | None) -> None:
    """The item that is open stays open; a call without a name leaves nothing."""
    found, _, _, last = parse(hermes(text=False), output, cut=True)
    assert words == found
    assert opened == last


def test_a_vocabularys_own_blank() -> None:
    """What SentencePiece puts in front of a text is no part of it."""
    tokenizer = sentence_piece(NAMES, prefix=True)
    words, _, sampled, _ = parse(LIST, "Hello the file<end>", tokenizer=tokenizer)
    assert [("text", "Hello the file"), END] == words
    assert " Hello the file" == sampled


def test_a_broken_character_before_a_tag() -> None:
    """Half a character is shown as such, and does not go on behind a tag."""
    half = TOKENIZER.token_bytes().index(b"\xc3")
    ids = [half, SPECIAL["<think>"], *TOKENIZER.encode("a"), SPECIAL["<end>"]]
    make = partial(TaggedParser, TOKENIZER, hermes(text=False), STOP, OFFERED, thinking=False)
    assert [("text", "\N{REPLACEMENT CHARACTER}"), END, ("thought", "a"), END] == (
        outcome(make, ids)[0]
    )


OUTPUTS = st.lists(
    st.sampled_from([*NAMES[1:], CALL, '{"name": "f"', "[", "]", "f", " ", "\n", "Hi", "<Ca", "é"]),
    max_size=7,
).map("".join)


@pytest.mark.parametrize(
    "tags", [hermes(text=False), hermes(text=True), LIST, NAMED, BARE], ids=str
)
@given(output=OUTPUTS, thinking=st.booleans(), cut=st.booleans())
def test_any_output(tags: Tags, output: str, thinking: bool, cut: bool) -> None:
    """Cuts between feeds never matter, and the ids of all items are a part of what was sampled."""
    text = output if cut else f"{output}<end>"
    words, _, sampled, opened = parse(tags, text, thinking=thinking, cut=cut)
    assert output.startswith(sampled + (opened or ""))
    assert words.count(END) <= len(words) // 2 or not words
