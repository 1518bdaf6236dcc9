"""Recent contexts are a bounded memory by owner."""

from __future__ import annotations

from turnwire.context.chain import Context
from turnwire.context.recent import Kept, Recent, RecentContexts
from turnwire.protocol.items import InputText, Message


def kept(context: Context | None = None) -> Kept:
    return Kept(context or Context(None, []), b"epoch")


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
    recent: Recent[int] = Recent(context_of=lambda number: None)
    recent.put("me", "1", 0)
    assert (0, None) == (recent.get("me", "1"), recent.get("me", "2"))


def test_dropped_is_forgotten() -> None:
    """A deleted response's context does not stay behind."""
    recent = RecentContexts()
    recent.put("me", "1", kept())
    recent.drop("me", "1")
    recent.drop("me", "2")
    assert (None, 0) == (recent.get("me", "1"), len(recent))


def said(parent: Context | None, text: str) -> Context:
    """A link with this text."""
    return Context(parent, [Message(role="user", content=(InputText(text=text),))])


def test_what_is_too_much_goes() -> None:
    """Bytes are bounded too, but for those of the last one; what is shared counts once."""
    recent = RecentContexts(max_bytes=200_000)
    root = said(None, "x" * 20_000)
    for n in range(5):
        recent.put("me", str(n), kept(said(root, "y")))
    assert (5, True) == (len(recent), recent.num_bytes < 2 * root.num_bytes)
    other = kept(said(None, "z" * 40_000))
    recent.put("me", "other", other)
    assert [None, other] == [recent.get("me", "0"), recent.get("me", "other")]
    assert recent.num_bytes <= 200_000
    huge = kept(said(None, "z" * 80_000))
    recent.put("me", "huge", huge)
    assert (huge, 1) == (recent.get("me", "huge"), len(recent))
    recent.put("me", "huge", kept(root))
    recent.drop("me", "huge")
    assert (0, 0) == (len(recent), recent.num_bytes)
