"""What contexts weigh together, against counting their links."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from turnwire.context.chain import Context
from turnwire.context.weights import Weights
from turnwire.protocol.items import InputText, Message


def said(parent: Context | None, num_chars: int) -> Context:
    """A link with so much text."""
    return Context(parent, [Message(role="user", content=(InputText(text="x" * num_chars),))])


def counted(contexts: Iterable[Context]) -> int:
    """Every link of them once."""
    links = {link for context in contexts for link in context.newest_first()}
    return sum(link.num_bytes - (link.parent.num_bytes if link.parent else 0) for link in links)


@given(
    parents=st.lists(st.integers(-1, 20), min_size=1, max_size=12),
    moves=st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=40),
)
def test_every_link_once(parents: list[int], moves: list[tuple[bool, int]]) -> None:
    """Whatever comes and goes, what is left weighs what its links do."""
    contexts: list[Context] = []
    for n, parent in enumerate(parents):
        contexts.append(said(contexts[parent % n] if parent >= 0 and n else None, n))
    weights = Weights()
    held: list[Context] = []
    for adds, which in moves:
        if adds:
            held.append(contexts[which % len(contexts)])
            weights.add(held[-1])
        elif held:
            weights.remove(held.pop(which % len(held)))
        assert counted(held) == weights.num_bytes
    for context in held:
        weights.remove(context)
    assert 0 == weights.num_bytes


def test_one_context_weighs_all_of_its_links() -> None:
    """A context that nothing shares weighs what it says of itself."""
    weights = Weights()
    context = said(said(None, 100), 10)
    weights.add(context)
    assert context.num_bytes == weights.num_bytes
