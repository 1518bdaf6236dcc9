"""Recent contexts are a bounded memory by owner."""

from __future__ import annotations

from turnwire.context.chain import Context
from turnwire.context.recent import Kept, Recent, RecentContexts


def kept() -> Kept:
    return Kept(Context(None, []), b"epoch")


def test_the_one_unused_for_longest_goes_first() -> None:
    """Reading counts as use."""
    recent = RecentContexts(max_contexts=2)
    one, two, three = kept(), kept(), kept()
    recent.put("me", "1", one)
    recent.put("me", "2", two)
    recent.get("me", "1")
    recent.put("me", "3", three)
    assert [one, None, three] == [recent.get("me", key) for key in "123"]
    assert len(recent) == 2


def test_owners_do_not_share() -> None:
    """The same id of another owner is another entry."""
    recent = RecentContexts()
    recent.put("me", "1", kept())
    assert recent.get("you", "1") is None


def test_anything_may_be_remembered() -> None:
    """What is remembered need not be a context."""
    recent: Recent[int] = Recent()
    recent.put("me", "1", 0)
    assert (0, None) == (recent.get("me", "1"), recent.get("me", "2"))


def test_dropped_is_forgotten() -> None:
    """A deleted response's context does not stay behind."""
    recent = RecentContexts()
    recent.put("me", "1", kept())
    recent.drop("me", "1")
    recent.drop("me", "2")
    assert (None, 0) == (recent.get("me", "1"), len(recent))
