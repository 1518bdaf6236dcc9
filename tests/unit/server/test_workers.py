"""An id says which worker a background response lives in."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.ids import new_id
from turnwire.server.workers import ALONE, Workers


@given(count=st.integers(1, 40), data=st.data())
def test_new_ids_live_here(count: int, data: st.DataObject) -> None:
    """Every worker agrees where an id lives, and new ids live where they were made."""
    index = data.draw(st.integers(0, count - 1))
    workers = Workers(index, count)
    response_id = workers.new_response_id()
    assert (5 + 48, "resp_") == (len(response_id), response_id[:5])
    assert {index} == {Workers(other, count).home(response_id) for other in range(count)}


def test_ids_are_spread() -> None:
    """Random ids live in all workers alike."""
    homes = Counter(Workers(0, 4).home(new_id("resp")) for _ in range(2000))
    assert {0, 1, 2, 3} == set(homes)
    assert min(homes.values()) > 300


@pytest.mark.parametrize("response_id", ["", "resp_", "resp_x", "nonsense", "resp_\u0663xyz"])
def test_what_is_no_id_lives_here(response_id: str) -> None:
    """What no worker has made is answered where it arrives."""
    assert [0, 1] == [Workers(index, 2).home(response_id) for index in (0, 1)]


def test_alone() -> None:
    """Of a single process everything is its own."""
    assert 0 == ALONE.home(new_id("resp"))


def test_sockets() -> None:
    """Each worker has a socket of its own in the common folder."""
    workers = Workers(0, 2, Path("/run/here"))
    assert [Path("/run/here/0.sock"), Path("/run/here/1.sock")] == [
        workers.socket(index) for index in (0, 1)
    ]


def test_orphans() -> None:
    """A worker whose parent is another process than it was has lost it; one alone needs none."""
    assert not Workers(0, 2).is_orphan()
    assert Workers(0, 2, parent=os.getpid()).is_orphan()
    assert not Workers(0, 1, parent=os.getpid()).is_orphan()
