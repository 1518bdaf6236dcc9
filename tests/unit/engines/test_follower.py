"""Tests of `turnwire.engines.follower`: an output held against its constraint."""

from __future__ import annotations

import pytest

from turnwire.constraint import Constraint
from turnwire.engines.constrain import Guides
from turnwire.engines.follower import Follower
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import EngineError

STRING = Constraint(grammar='start: %json {"type":"string"}\n')


@pytest.fixture
def follower(vocabulary: Vocabulary) -> Follower:
    """One that expects a JSON string."""
    guide = Guides(vocabulary, {0, 2}).start(STRING)
    return Follower(guide, vocabulary.token_bytes, "engine")


def test_what_obeys_passes(follower: Follower, vocabulary: Vocabulary) -> None:
    """A valid output and its stop token raise nothing."""
    follower.follow([*vocabulary.encode('"a\\n"'), 2])


@pytest.mark.parametrize("text", ["x", '"a" x'])
def test_what_does_not_fails(follower: Follower, vocabulary: Vocabulary, text: str) -> None:
    """The first id that is not allowed is an error that names the engine."""
    with pytest.raises(EngineError, match="the engine did not obey its grammar"):
        follower.follow([*vocabulary.encode(text), 2])


def test_an_end_that_comes_too_early(follower: Follower, vocabulary: Vocabulary) -> None:
    """An output that stops before it is whole did not obey."""
    with pytest.raises(EngineError, match="too early"):
        follower.follow([*vocabulary.encode('"a'), 2])


@pytest.mark.parametrize("escape", ["\\/", "\\u00e9", "\\u003c"])
def test_another_spelling_is_no_fault(
    follower: Follower, vocabulary: Vocabulary, escape: str
) -> None:
    """JSON that our llguidance would have spelled otherwise is let through."""
    follower.follow([*vocabulary.encode(f'"a{escape}b"'), 2])
