"""Tests of bytes that grow at their end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnwire.models.chat.rope import Rope


@given(st.lists(st.binary(max_size=5)))
def test_pieces_are_what_was_added(tails: list[bytes]) -> None:
    """Joined, the pieces are the tails in their order, and the size is theirs."""
    rope = Rope(None, b"")
    for tail in tails:
        rope = rope.extend(tail)
    assert b"".join(tails) == b"".join(rope.pieces())
    assert sum(map(len, tails)) == rope.size


def test_forks_share_what_was_before() -> None:
    """Two ropes that go on from one leave it, and each other, as they are."""
    stem = Rope(None, b"a").extend(b"b")
    one, other = stem.extend(b"1"), stem.extend(b"2")
    assert [b"a", b"b", b"1"] == one.pieces()
    assert [b"a", b"b", b"2"] == other.pieces()
    assert one.parent is other.parent is stem


def test_nothing_added_is_no_link() -> None:
    """Extending by no bytes gives the rope itself."""
    stem = Rope(None, b"a")
    assert stem is stem.extend(b"")
