"""Tests of free text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.babble import Babble
from turnwire.engines.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def babble(vocabulary: Vocabulary) -> Babble:
    """Text over the shipped vocabulary."""
    return Babble(vocabulary)


@given(seed=st.binary(max_size=32), num_tokens=st.integers(0, 300))
def test_text_is_as_long_as_asked_and_canonical(
    vocabulary: Vocabulary, babble: Babble, seed: bytes, num_tokens: int
) -> None:
    """A text has exactly the tokens asked for, and encoding it again gives the same ids."""
    ids = babble.text(seed, num_tokens)
    assert num_tokens == len(ids)
    assert list(vocabulary.encode(vocabulary.decode(ids).decode())) == ids


def test_text_has_no_space_at_its_ends(vocabulary: Vocabulary, babble: Babble) -> None:
    """Nothing is lost if a client strips a text, wherever it ends."""
    for num_tokens in range(1, 1000):
        text = vocabulary.decode(babble.text(b"seed", num_tokens)[-8:])
        assert text.rstrip() == text
    assert not vocabulary.decode(babble.text(b"seed", 8)).startswith(b" ")


def test_text_has_characters_of_several_tokens_and_new_lines(
    vocabulary: Vocabulary, babble: Babble
) -> None:
    """Long enough a text tests detokenisers: tokens that end inside a character, and lines."""
    ids = babble.text(b"seed", 3000)

    def is_partial(id_: int) -> bool:
        try:
            vocabulary.token_bytes[id_].decode()
        except UnicodeDecodeError:
            return True
        return False

    assert any(is_partial(id_) for id_ in ids)
    assert b".\n" in vocabulary.decode(ids)


def test_seeds_differ(babble: Babble) -> None:
    """Another seed is another text."""
    assert babble.text(b"a", 8) != babble.text(b"b", 8)


def test_a_vocabulary_without_words_is_refused() -> None:
    """Bytes alone are no words to speak in."""
    table = [bytes([byte]) for byte in b"0123456789 "]
    with pytest.raises(ValueError, match="no token that is a word"):
        Babble(Vocabulary(table, {}, lambda text: [table.index(c.encode()) for c in text]))
