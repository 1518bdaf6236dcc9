"""Tests of the prefix cache, mostly against a model that is slow and obvious."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.prefix_cache import PrefixCache

Path = tuple[int, ...]
Key = tuple[str, Path]


class NaiveCache:
    """Keeps every prefix with the time of its latest use; evicts the oldest leaf."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used: dict[Key, int] = {}
        self.now = 0

    def lookup(self, salt: str, path: Path) -> int:
        self.now += 1
        depth = 0
        for end in range(1, len(path) + 1):
            if (salt, path[:end]) in self.used:
                self.used[salt, path[:end]] = self.now
                depth = end
        return depth

    def insert(self, salt: str, path: Path) -> None:
        depth = self.lookup(salt, path)
        for end in range(depth + 1, len(path) + 1):
            self.used[salt, path[:end]] = self.now
            if len(self.used) > self.capacity:
                parents = {(s, p[:-1]) for s, p in self.used}
                leaf = min((k for k in self.used if k not in parents), key=lambda k: self.used[k])
                del self.used[leaf]
                if leaf == (salt, path[:end]):
                    return


def digests(path: Path) -> list[bytes]:
    """What the cache is given for a prompt of these blocks: the last block first."""
    return [bytes(path[:end]) for end in range(len(path), 0, -1)]


paths = st.lists(st.integers(0, 1), max_size=5).map(tuple)
steps = st.lists(
    st.tuples(st.sampled_from(["insert", "lookup"]), st.sampled_from(["a", "b"]), paths),
    min_size=20,
    max_size=60,
)


@given(capacity=st.integers(0, 7), steps=steps)
def test_it_holds_what_the_naive_model_holds(
    capacity: int, steps: list[tuple[str, str, Path]]
) -> None:
    """Every hit has the depth that the naive model gives, after any uses, and so has the size."""
    cache, naive = PrefixCache(capacity), NaiveCache(capacity)
    for kind, salt, path in steps:
        if kind == "insert":
            cache.insert(salt, digests(path))
            if capacity:
                naive.insert(salt, path)
        else:
            assert naive.lookup(salt, path) == cache.lookup(salt, digests(path))
        assert len(naive.used) == len(cache)
        assert len(cache) <= capacity


def test_a_prefix_that_is_used_outlives_one_that_is_not() -> None:
    """Looking a prefix up makes its end, and all that leads to it, recent."""
    cache = PrefixCache(4)
    cache.insert("", digests((1, 1)))
    cache.insert("", digests((2, 2)))
    cache.lookup("", digests((1, 1)))
    cache.insert("", digests((3,)))
    assert 2 == cache.lookup("", digests((1, 1)))
    assert 1 == cache.lookup("", digests((2, 2)))
    cache.insert("", digests((3, 4, 5)))
    assert 0 == cache.lookup("", digests((1, 1)))
    assert 1 == cache.lookup("", digests((2, 2)))


def test_an_inner_block_goes_after_its_descendants() -> None:
    """A prompt that others continue is held as long as one of them is."""
    cache = PrefixCache(3)
    cache.insert("", digests((1,)))
    cache.insert("", digests((1, 2)))
    cache.lookup("", digests((1,)))
    cache.insert("", digests((3,)))
    cache.lookup("", digests((1, 2)))
    cache.insert("", digests((4,)))
    assert 2 == cache.lookup("", digests((1, 2)))
    assert 0 == cache.lookup("", digests((3,)))


def test_lookup_reads_only_to_the_first_hit() -> None:
    """A continuation costs what it adds: blocks before the first hit are never asked for."""
    cache = PrefixCache(100)
    cache.insert("", digests((1, 2, 3)))
    newest_first = iter(digests((1, 2, 3, 4)))
    assert 3 == cache.lookup("", newest_first)
    assert digests((1, 2)) == list(newest_first)


def test_salts_do_not_share() -> None:
    """What one owner's prompt left is not found by another's."""
    cache = PrefixCache(100)
    cache.insert("a", digests((1, 2)))
    assert 0 == cache.lookup("b", digests((1, 2)))
    assert 2 == cache.lookup("a", digests((1, 2)))


def test_a_prompt_larger_than_the_cache_leaves_its_beginning() -> None:
    """Of too many blocks the first ones are held, for only they can be found."""
    cache = PrefixCache(2)
    cache.insert("", digests((1, 2, 3, 4)))
    assert 2 == cache.lookup("", digests((1, 2, 3, 4)))
