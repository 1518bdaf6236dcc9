"""The collector leaves the start-up heap alone, and still frees cycles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from turnwire.server.heap import settle_heap


@pytest.fixture
def settled() -> Iterator[None]:
    before = gc.get_threshold()
    settle_heap()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Node:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("settled")
def test_what_lives_at_the_start_is_left_out() -> None:
    """A collection no longer walks the objects that were there before."""
    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()


@pytest.mark.usefixtures("settled")
def test_cycles_are_freed_all_the_same() -> None:
    """A cycle made later goes away without anyone asking for it."""
    lost = weakref.ref(Node())
    kept: list[list[object]] = [[] for _ in range(2 * gc.get_threshold()[0])]
    assert lost() is None
    assert kept
