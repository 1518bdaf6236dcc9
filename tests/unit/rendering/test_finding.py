"""Tests of `turnwire.rendering.finding`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnwire.rendering.finding import first_of, overlap

TEXT = st.text(st.sampled_from("ab<"), max_size=6)
WORD = st.text(st.sampled_from("ab<"), min_size=1, max_size=4)


@given(TEXT, WORD)
def test_overlap(text: str, word: str) -> None:
    """The longest end of a text that a word begins with, if it is not the whole word."""
    ends = [size for size in range(1, len(word)) if text.endswith(word[:size])]
    assert max(ends, default=0) == overlap(text, word)


@given(st.lists(WORD, max_size=3), TEXT)
def test_first_of(words: list[str], text: str) -> None:
    """The first word that is there; else the place from which on one may be coming."""
    at, found = first_of(words, text)
    places = [text.find(word) for word in words if word in text]
    if places:
        assert at == min(places)
        assert text.startswith(found, at)
        assert found in words
    else:
        assert found == ""
        assert at == len(text) - max((overlap(text, word) for word in words), default=0)
