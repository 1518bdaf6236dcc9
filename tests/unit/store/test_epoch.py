"""The epoch of a database is seen by all who have it open."""

from __future__ import annotations

from pathlib import Path

from turnwire.store.epoch import Epoch


def test_an_epoch_lasts_until_somebody_ends_it(tmp_path: Path) -> None:
    """It is the same for all who look, at any time, and another one for all once one ends it."""
    one, two = Epoch(tmp_path / "turns.db"), Epoch(tmp_path / "turns.db")
    seen = {one.now(), two.now(), one.now()}
    for ends in (one, two, one):
        assert 1 == len({one.now(), two.now()})
        ends.end()
        assert one.now() not in seen
        seen |= {one.now()}
    one.close()
    assert two.now() in seen
    two.close()


def test_an_epoch_outlives_its_processes(tmp_path: Path) -> None:
    """Who comes later begins in the epoch that the last one left."""
    first = Epoch(tmp_path / "turns.db")
    first.end()
    left = first.now()
    first.close()
    second = Epoch(tmp_path / "turns.db")
    assert left == second.now()
    second.close()
