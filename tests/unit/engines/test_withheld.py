"""Tests of `turnwire.engines.withheld`: ids from the text that they made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.vocabulary import Vocabulary
from turnwire.engines.withheld import Withheld
from turnwire.rendering.tokenizer import Tokenizer

SHIPPED = Tokenizer.shipped()
VOCABULARY = Vocabulary(SHIPPED.token_bytes(), SHIPPED.special, SHIPPED.encode)
WITHHELD = Withheld(VOCABULARY)
BYTES = {spelling: id_ for id_, spelling in enumerate(VOCABULARY.token_bytes) if len(spelling) == 1}


@given(st.characters(min_codepoint=0x80, exclude_categories=["Cs"]))
def test_a_character_as_the_tokenizer_cuts_it(sign: str) -> None:
    """What a trained model samples for a character comes back id for id."""
    ids = list(VOCABULARY.encode(sign))
    if len(ids) > 1:
        assert ids[:-1] == WITHHELD.before(ids[-1], sign, len(ids) - 1)


@given(st.characters(min_codepoint=0x80, exclude_categories=["Cs"]))
def test_a_character_byte_by_byte(sign: str) -> None:
    """Where each byte was a token there is one way to cut, and it is found."""
    ids = [BYTES[bytes([byte])] for byte in sign.encode()]
    assert ids[:-1] == WITHHELD.before(ids[-1], sign, len(ids) - 1)


@given(st.text(min_size=1, max_size=6), st.integers(0, 5), st.integers(16, 12287))
def test_any_answer_has_the_text_and_not_too_many_ids(text: str, num_ids: int, last: int) -> None:
    """Whatever a server says, no more ids come back than it counted."""
    found = WITHHELD.before(last, text, num_ids)
    assert len(found) <= num_ids
    own = VOCABULARY.token_bytes[last]
    body = text.encode().removesuffix(own)
    if found and text.encode().endswith(own) and VOCABULARY.decode(found) != body:
        assert body.startswith(VOCABULARY.decode(found)[: len(body)]) or len(found) == num_ids


def test_one_text_alone() -> None:
    """A text that is the last id's own hides nothing."""
    (id_,) = VOCABULARY.encode(" return")
    assert [] == WITHHELD.before(id_, " return", 1)
    assert [] == WITHHELD.before(SHIPPED.special["<|im_end|>"], "", 3)


def test_a_control_token_behind_a_character() -> None:
    """A token without text may be the one that is told."""
    fox = list(VOCABULARY.encode("🦊"))
    assert fox == WITHHELD.before(SHIPPED.special["<|im_end|>"], "🦊", len(fox))


@pytest.mark.parametrize("id_", [id_ for s, id_ in BYTES.items() if s >= b"\xe0"][::5])
def test_broken_characters(id_: int) -> None:
    """A token of half a character is found by what the server made of it."""
    (last,) = VOCABULARY.encode("return")
    found = WITHHELD.before(last, "\N{REPLACEMENT CHARACTER}return", 1)
    assert 1 == len(found)
    text = VOCABULARY.decode([*found, last]).decode("utf-8", "replace")
    assert "\N{REPLACEMENT CHARACTER}return" == text
