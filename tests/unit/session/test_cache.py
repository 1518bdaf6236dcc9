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


def test_memory_is_bounded_by_evicting_the_lane_unused_for_longest() -> None:
    """Old lanes lose their entry first; the newest entry stays, however large it is."""
    cache: ConnectionCache[str] = ConnectionCache(max_bytes=10)
    cache.remember("a", "r1", "one", 4)
    cache.remember("b", "r2", "two", 4)
    cache.remember("a", "r3", "three", 4)
    cache.remember("c", "r4", "four", 4)
    assert ["r3", None, "r4"] == [cache.latest_id(lane) for lane in "abc"]
    cache.remember("d", "r5", "five", 50)
    assert (1, 50, "five") == (len(cache), cache.num_bytes, cache.latest("d"))


def test_entries_are_every_lanes_latest() -> None:
    """What is remembered comes out, the lane used last first."""
    cache: ConnectionCache[str] = ConnectionCache()
    for lane, response_id, entry in (("a", "r1", "one"), ("b", "r2", "two"), ("a", "r3", "three")):
        cache.remember(lane, response_id, entry)
    assert ["three", "two"] == cache.entries()
