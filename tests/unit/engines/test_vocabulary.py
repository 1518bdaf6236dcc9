"""Tests of the vocabulary."""

from __future__ import annotations

from turnwire.engines.vocabulary import CALL, Vocabulary


def test_decode_gives_the_bytes_that_were_encoded(vocabulary: Vocabulary) -> None:
    """Decoding undoes encoding, and a special token's name in a text stays text."""
    text = f"naïve 😀 {CALL}"
    ids = vocabulary.encode(text)
    assert text.encode() == vocabulary.decode(ids)
    assert vocabulary.special[CALL] not in ids


def test_length_is_the_number_of_tokens(vocabulary: Vocabulary) -> None:
    """The vocabulary is as long as its table."""
    assert len(vocabulary.token_bytes) == len(vocabulary)


def test_canonical_is_what_the_tokenizer_would_write(vocabulary: Vocabulary) -> None:
    """A text spelt letter by letter, or cut inside a character, is not canonical."""
    ids = list(vocabulary.encode("file"))
    letters = [i for letter in "file" for i in vocabulary.encode(letter)]
    assert vocabulary.is_canonical(ids)
    assert not vocabulary.is_canonical(letters)
    assert not vocabulary.is_canonical([vocabulary.token_bytes.index(b"\xc3")])
