"""Tests of `turnwire.rendering.detokenizer`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.rendering.detokenizer import Detokenizer, TokenTable

# Every byte alone, and tokens that are whole characters, halves of some, and both at once.
TOKENS = (
    *(bytes([byte]) for byte in range(256)),
    b"hello",
    " 日".encode(),
    "🙂".encode(),
    "🙂".encode()[:2],
    "🙂".encode()[2:],
    b"x" + "é".encode()[:1],
    "é".encode()[1:] + b"y",
)
TABLE = TokenTable(TOKENS)


@given(st.lists(st.lists(st.integers(0, len(TOKENS) - 1), max_size=6), max_size=8))
def test_feeds_of_any_size_give_what_decoding_at_once_gives(feeds: list[list[int]]) -> None:
    """Joined text equals decoding all bytes at once, wherever the feeds are cut."""
    detokenizer = Detokenizer(TABLE)
    text = "".join([detokenizer.feed(ids) for ids in feeds]) + detokenizer.flush()
    data = b"".join(TOKENS[token_id] for ids in feeds for token_id in ids)
    assert data.decode("utf-8", "replace") == text


@given(st.text(max_size=30))
def test_no_character_is_ever_split(text: str) -> None:
    """Fed byte by byte, each character comes out whole, as soon as its last byte is there."""
    detokenizer = Detokenizer(TABLE)
    assert list(text) == [out for byte in text.encode() if (out := detokenizer.feed([byte]))]
    assert not detokenizer.pending


@pytest.mark.parametrize(
    ("ids", "text", "rest"),
    [
        pytest.param([], "", "", id="nothing"),
        pytest.param([TOKENS.index(b"hello")], "hello", "", id="whole"),
        pytest.param([0xE6, 0x97], "", "\ufffd", id="unfinished"),
        pytest.param([0xE6, 0x41], "\ufffdA", "", id="broken off"),
        pytest.param([0xFF], "\ufffd", "", id="never valid"),
    ],
)
def test_flush_gives_the_unfinished_rest_once(ids: list[int], text: str, rest: str) -> None:
    """What is held back comes out as U+FFFD at the end, once, and the stream may go on."""
    detokenizer = Detokenizer(TABLE)
    assert text == detokenizer.feed(ids)
    assert bool(rest) is detokenizer.pending
    assert [rest, ""] == [detokenizer.flush(), detokenizer.flush()]
    assert "ok" == detokenizer.feed([ord("o"), ord("k")])


def test_the_table_knows_which_tokens_are_whole_characters() -> None:
    """A token of half a character has no text of its own."""
    table = TokenTable([b"a", "é".encode(), b"\xc3", b""])
    assert ("a", "é", None, "") == table.texts
