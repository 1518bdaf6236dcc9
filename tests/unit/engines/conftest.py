"""One vocabulary for all tests of engines: the one that ships."""

from __future__ import annotations

import pytest

from turnwire.engines.vocabulary import Vocabulary
from turnwire.rendering.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """The shipped tokenizer, as engines see it."""
    shipped = Tokenizer.shipped()
    return Vocabulary(shipped.token_bytes(), shipped.special, shipped.encode)
