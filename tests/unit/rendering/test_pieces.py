"""Tests of `turnwire.rendering.pieces`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.rendering.pieces import Chunk, Pieces, align, joined, split
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

TOKENIZER = Tokenizer.shipped()
SPECIAL = frozenset(TOKENIZER.special.values())
START, END = TOKENIZER.special["<|im_start|>"], TOKENIZER.special["<|im_end|>"]

TEXTS = st.text(max_size=12)
PIECES = st.lists(st.one_of(st.sampled_from(sorted(SPECIAL)), TEXTS), max_size=10).map(joined)


def ids_of(chunks: list[Chunk]) -> TokenArray:
    ids = token_array()
    for chunk in chunks:
        ids += chunk.ids
    return ids


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["", 1, "", 2], [1, 2], id="empty texts"),
        pytest.param(["a", "b", 1, "c", "", "d"], ["ab", 1, "cd"], id="texts that touch"),
    ],
)
def test_joined(pieces: Pieces, expected: Pieces) -> None:
    """Texts that touch are one, empty ones are none."""
    assert expected == joined(pieces)


@given(PIECES)
def test_split_undoes_align(pieces: Pieces) -> None:
    """Rendered ids fall into the pieces that they were made of."""
    chunks = align(TOKENIZER, pieces, []).chunks
    assert pieces == [chunk.piece for chunk in chunks]
    assert chunks == split(TOKENIZER, SPECIAL, ids_of(chunks))


@given(PIECES, PIECES, PIECES)
def test_what_is_common_stands(common: Pieces, old: Pieces, new: Pieces) -> None:
    """The ids are those of a fresh rendering, and only what is new is tokenised."""
    wanted = joined((*common, START, *new))
    known = align(TOKENIZER, joined((*common, START, *old)), []).chunks
    aligned = align(TOKENIZER, wanted, known)
    fresh = align(TOKENIZER, wanted, [])
    assert ids_of(fresh.chunks) == ids_of(aligned.chunks)
    assert aligned.num_standing > len(common)
    seen = {chunk.piece for chunk in known[aligned.num_standing :]}
    made = [p for p in wanted[aligned.num_standing :] if isinstance(p, str) and p not in seen]
    assert sum(len(TOKENIZER.encode(text)) for text in made) == aligned.num_tokenised


def test_sampled_ids_stand_as_they_were_sampled() -> None:
    """Text that says the same keeps its ids, in its place and moved."""
    spelled = token_array(id_ for letter in "hello" for id_ in TOKENIZER.encode(letter))
    assert spelled != TOKENIZER.encode("hello")
    known = split(TOKENIZER, SPECIAL, token_array((START, *spelled, END)))
    in_place = align(TOKENIZER, [START, "hello", END], known)
    assert (3, 0) == (in_place.num_standing, in_place.num_tokenised)
    assert token_array((START, *spelled, END)) == ids_of(in_place.chunks)
    moved = align(TOKENIZER, [END, "hello"], known)
    assert (0, 0) == (moved.num_standing, moved.num_tokenised)
    assert token_array((END, *spelled)) == ids_of(moved.chunks)


def test_a_longer_text_is_tokenised_anew() -> None:
    """A text is cut nowhere: when it grows, its ids may be others."""
    known = split(TOKENIZER, SPECIAL, token_array((START, *TOKENIZER.encode("hel"))))
    aligned = align(TOKENIZER, [START, "hello"], known)
    assert 1 == aligned.num_standing
    assert token_array((START, *TOKENIZER.encode("hello"))) == ids_of(aligned.chunks)


def test_half_a_character_is_not_the_sign_that_stands_for_it() -> None:
    """An output that was cut inside a character is written anew, as a full resend would have it."""
    tokenizer = Tokenizer.shipped()
    whole = tokenizer.encode("a \uff5c")
    sampled = split(tokenizer, frozenset(), whole[:-1])
    [cut] = sampled
    shown = tokenizer.decode(whole[:-1])
    assert shown.endswith("\ufffd")
    assert cut.piece != shown
    aligned = align(tokenizer, [shown], sampled)
    assert [tokenizer.encode(shown)] == [chunk.ids for chunk in aligned.chunks]
