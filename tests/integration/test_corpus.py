"""What the fuzzers begin with is answered as it must be: every input once, and then all is well."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fuzz.__main__ import TARGETS
from fuzz.attack import Target, corpus


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_breaks_nothing(name: str) -> None:
    """No input breaks the target's promises, and a client that behaves is served afterwards."""
    make: Callable[[], Target] = TARGETS[name]
    with make() as target:
        answers = [target.play(data) for data in corpus(name)]
        target.settle()
    assert len(answers) > 5
    assert len(set(answers)) > 5
