"""A connection remembers the latest response of each lane, and nothing else."""

from __future__ import annotations

from turnwire.session.cache import ConnectionCache


def test_a_newer_response_replaces_the_older_one_of_its_lane() -> None:
    """Only the latest response of a lane can be continued from memory."""
    cache: ConnectionCache[str] = ConnectionCache()
    cache.remember(None, "r1", "one")
    cache.remember(None, "r2", "two")
    assert (None, "two", 1) == (cache.find(None, "r1"), cache.find(None, "r2"), len(cache))


def test_a_lane_finds_the_latest_of_other_lanes() -> None:
    """A fork may continue another lane's latest response."""
    cache: ConnectionCache[str] = ConnectionCache()
    cache.remember("a", "r1", "one")
    assert (cache.find("b", "r1"), cache.latest("b")) == ("one", None)


def test_only_the_own_lane_evicts() -> None:
    """A failed fork keeps its parent, a failed continuation on the own lane loses it."""
    cache: ConnectionCache[str] = ConnectionCache()
    cache.remember("a", "r1", "one")
    cache.evict("b", "r1")
    assert cache.find("a", "r1") == "one"
    cache.evict("a", "r0")
    assert cache.find("a", "r1") == "one"
    cache.evict("a", "r1")
    assert cache.find("a", "r1") is None


def test_clear_forgets_everything() -> None:
    """Nothing outlives the connection."""
    cache: ConnectionCache[str] = ConnectionCache()
    cache.remember(None, "r1", "one")
    cache.remember("a", "r2", "two")
    cache.clear()
    assert (0, None) == (len(cache), cache.find("a", "r2"))
