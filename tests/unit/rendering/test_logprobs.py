"""Scores find the text that their tokens are part of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rendering.test_parser import CALL, OFFERED, OUTPUT, RENDERER, TOKENIZER, ids, joined

from turnwire.logprobs import Scores
from turnwire.parts import ItemFinished, Part, TextDelta
from turnwire.rendering.logprobs import ScoredParser
from turnwire.rendering.parser import OutputParser

TABLE = TOKENIZER.token_bytes()
SCORE = Scores(-0.5, ((5, -0.5), (6, -2.0)))


def scored(thinking: bool = False) -> ScoredParser:
    """A fresh parser that keeps scores."""
    parser = OutputParser(RENDERER, OFFERED, thinking=thinking)
    return ScoredParser(parser, TOKENIZER)


def parse(
    output: Sequence[int], *, thinking: bool = False, cut: bool = False, size: int = 1
) -> list[Part]:
    """Parse a whole output with scores, in feeds of this size."""
    parser = scored(thinking)
    parts: list[Part] = []
    for start in range(0, len(output), size):
        fed = output[start : start + size]
        parts += parser.feed(fed, [SCORE] * len(fed))
    return [*parts, *parser.finish(cut=cut)]


def tokens_of(parts: Sequence[Part]) -> list[tuple[str, list[str]]]:
    """Each text with its tokens."""
    return [
        (part.text, [one.token for one in part.logprobs])
        for part in parts
        if isinstance(part, TextDelta)
    ]


HALF, OTHER = TABLE.index(b"\xc3"), TABLE.index(b"\xa9")  # together they are one character


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param([*ids("file"), RENDERER.marks.end], [("file", ["file"])], id="text"),
        pytest.param([HALF, OTHER], [("é", ["\ufffd", "\ufffd"])], id="a character in halves"),
        pytest.param([HALF], [("\ufffd", ["\ufffd"])], id="half a character at the end"),
        pytest.param(
            [HALF, RENDERER.marks.end], [("\ufffd", ["\ufffd"])], id="half a character, stopped"
        ),
        pytest.param(ids("<think>hm</think>file"), [("file", ["file"])], id="not of thoughts"),
        pytest.param(
            ids(f"<tool_call>{CALL}</tool_call>file"), [("file", ["file"])], id="not of calls"
        ),
        pytest.param(ids("file<|im_end|>file"), [("file", ["file"])], id="not after the end"),
    ],
)
def test_text_brings_its_tokens(output: list[int], expected: list[tuple[str, list[str]]]) -> None:
    """A token's scores come with the text it is part of, and nothing else has any."""
    assert expected == tokens_of(parse(output))


@pytest.mark.parametrize("end", ["</tool_call>", "<|im_end|>", ""])
def test_a_call_that_is_none_has_the_scores_of_its_text(end: str) -> None:
    """What is held back as a possible call, and turns out to be text, lost nothing."""
    text = '{"name": "f"'
    ((said, tokens),) = tokens_of(parse(ids(f"<tool_call>{text}{end}")))
    assert (text, text) == (said, "".join(tokens))


def test_scores_are_those_of_the_engine() -> None:
    """Ids become text and bytes; numbers stay, within what JSON and logarithms allow."""
    score = Scores(1e-9, ((HALF, float("-inf")), (OTHER, -2.0)))
    [part] = scored().feed(ids("file"), [score])
    assert isinstance(part, TextDelta)
    [one] = part.logprobs
    assert ("file", 0.0, (102, 105, 108, 101)) == (one.token, one.logprob, one.bytes)
    assert [("\ufffd", -9999.0, (0xC3,)), ("\ufffd", -2.0, (0xA9,))] == [
        (top.token, top.logprob, top.bytes) for top in one.top_logprobs
    ]


class Swallowing(OutputParser):
    """Swallows the first tokens, as a format does with a header of plain words."""

    num_swallowed = 3

    def feed(self, ids: Sequence[int]) -> list[Part]:
        if self.num_swallowed:
            self.num_swallowed -= len(ids)
            return []
        return super().feed(ids)


def test_words_of_the_format_are_not_of_the_text() -> None:
    """What a parser swallows in front of a text has no place among its tokens."""
    parser = ScoredParser(Swallowing(RENDERER, OFFERED, thinking=False), TOKENIZER)
    output = [*ids("name"), *ids("the"), *ids("file"), HALF, OTHER, *ids("file")]
    parts = [part for id_ in output for part in parser.feed([id_], [SCORE])]
    assert [("é", ["\ufffd", "\ufffd"]), ("file", ["file"])] == tokens_of(parts)


def test_an_engine_without_scores() -> None:
    """Text comes as ever from an engine that has none."""
    assert [TextDelta("file")] == scored().feed(ids("file"), None)


@given(OUTPUT, st.booleans(), st.booleans(), st.integers(1, 7))
def test_scores_change_nothing_else(
    output: list[int], thinking: bool, cut: bool, size: int
) -> None:
    """Items, ids kept and text are those of the bare parser."""
    bare = OutputParser(RENDERER, OFFERED, thinking=thinking)
    expected = [*bare.feed(output), *bare.finish(cut=cut)]
    assert joined(expected) == joined(parse(output, thinking=thinking, cut=cut, size=size))


PLAIN = st.lists(
    st.integers(0, TOKENIZER.vocab_size - 1).filter(lambda id_: id_ not in RENDERER.special_ids)
)


@given(PLAIN, st.booleans(), st.integers(1, 7))
def test_bytes_join_to_the_text(output: list[int], cut: bool, size: int) -> None:
    """The tokens of a message are the ids that were sampled, none lost, none twice."""
    parts = parse(output, cut=cut, size=size)
    logprobs = [one for part in parts if isinstance(part, TextDelta) for one in part.logprobs]
    assert [TABLE[id_] for id_ in output] == [bytes(one.bytes) for one in logprobs]
    text = "".join(part.text for part in parts if isinstance(part, TextDelta))
    assert text == bytes(itertools.chain(*(one.bytes for one in logprobs))).decode(
        "utf-8", "replace"
    )
    assert cut or not output or isinstance(parts[-1], ItemFinished)
