"""Tests of `turnwire.context.known`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwire.context.chain import Context
from turnwire.context.identity import digest_of
from turnwire.context.known import MIN_VERBATIM_BYTES, KnownContexts, Verbatim
from turnwire.protocol.items import InputText, Message

ROOM = 1 << 30


def chain(*words: str, behind: Context | None = None) -> Context:
    """A link for each of the words."""
    context = behind
    for word in words:
        context = Context(context, [Message(role="user", content=(InputText(text=word),))])
    assert context is not None
    return context


EACH = chain("a").num_bytes
"""What a link of one letter weighs."""


def found(known: KnownContexts, context: Context, owner: str = "me") -> Context | None:
    """What is known under the digest of a context."""
    digest = digest_of(context)
    assert digest is not None
    return known.find(owner, digest)


def verbatim(*sizes: int) -> Verbatim:
    """An input of elements of these sizes."""
    elements = [json.dumps({"number": n, "pad": "x" * size}) for n, size in enumerate(sizes)]
    return Verbatim(("[" + ",".join(elements)).encode(), len(sizes))


def test_every_link_is_found_by_its_digest() -> None:
    """Not only the last: a client may go back, and go on from there."""
    known = KnownContexts(ROOM)
    context = chain("a", "b", "c")
    known.put("me", context)
    assert context.links() == [found(known, link) for link in context.links()]
    assert found(known, chain("a", "c")) is None
    assert 3 == len(known)


def test_nothing_is_shared_between_owners() -> None:
    """What one owner said is not known of another who says the same."""
    known = KnownContexts(ROOM)
    context, input_ = chain("a"), verbatim(5000)
    known.put("me", context, input_)
    assert found(known, context, "you") is None
    assert known.recall("you", input_.data + b"]") is None


def test_an_equal_context_does_not_replace_the_first() -> None:
    """The engine's cache knows the tokens of the first; what hangs on it stays reachable."""
    known = KnownContexts(ROOM)
    first, second = chain("a", "b"), chain("a", "b")
    known.put("me", first)
    size = known.num_bytes
    known.put("me", second)
    assert (first, size) == (found(known, second), known.num_bytes)
    longer = chain("c", behind=second)
    known.put("me", longer)
    assert longer is found(known, longer)
    assert first is found(known, first)
    # All of `second` is held by the new link only, which pays for it.
    assert known.num_bytes - size > size


def test_leaves_go_first_and_the_oldest_of_them() -> None:
    """A conversation loses its end before its beginning, and the one unused for longest first."""
    known = KnownContexts(8 * EACH)
    old, new = chain("a", "b", "c"), chain("d", "e")
    known.put("me", old)
    known.put("me", new)
    known.put("me", chain("x", "y"))
    known.put("me", chain("f", "g", behind=new))  # nine links: one too many
    assert [True, True, False] == [found(known, link) is link for link in old.links()]
    assert 8 == len(known)
    found(known, old.links()[1])  # used, and so younger than the other's end
    known.put("me", chain("h"))
    assert [True, True, False] == [found(known, link) is link for link in old.links()]
    assert 8 * EACH == known.num_bytes


def test_what_takes_more_than_half_is_not_kept() -> None:
    """One conversation does not push out those of all others."""
    known = KnownContexts(8 * EACH)
    known.put("me", chain("a"))
    known.put("me", chain("b" * 8 * 1025))
    assert 1 == len(known)
    nothing = KnownContexts(0)
    nothing.put("me", chain("a"), verbatim(5000))
    assert (0, 0) == (len(nothing), nothing.num_bytes)


def test_a_link_without_items_is_the_one_before() -> None:
    """An input that was sent twice leaves an empty link, which is no conversation of its own."""
    known = KnownContexts(ROOM)
    first = chain("a")
    known.put("me", first)
    empty = Context(first, [])
    known.put("me", empty)
    assert first is found(known, empty)
    longer = chain("b", behind=empty)
    known.put("me", longer)
    assert longer is found(known, longer)
    known.put("me", Context(None, []))
    assert 2 == len(known)


def test_links_without_items_are_learnt_with_the_others() -> None:
    """A conversation from the store may hold turns that brought nothing, and is one all the same.

    They have the digest of the link before, which is a node once.
    """
    known = KnownContexts(ROOM)
    first = chain("a")
    context = chain("b", behind=Context(Context(first, []), []))
    known.put("me", context)
    assert (first, context) == (found(known, first), found(known, context))
    assert 2 == len(known)
    known.put("me", chain("c", behind=Context(context, [])))
    assert (first, context) == (found(known, first), found(known, context))


@pytest.mark.parametrize("size", [2048, 2049, 3000, 4095, 4096, 4097, 65_536, 300_000])
def test_an_input_is_recalled_by_what_begins_with_it(size: int) -> None:
    """Whatever its length, and however much comes behind it."""
    known = KnownContexts(ROOM)
    context, input_ = chain("a"), verbatim(size)
    known.put("me", context, input_)
    for more in (b"]", b" ]", b',"more"]', b"," + b"1," * 200_000 + b"1]"):
        recalled = known.recall("me", input_.data + more)
        assert recalled is not None
        assert (context, len(input_.data), 1) == (
            recalled.context,
            recalled.num_bytes,
            recalled.num_elements,
        )
    assert known.recall("me", input_.data[:-1]) is None
    assert known.recall("me", input_.data.replace(b"number", b"NUMBER") + b"]") is None


def test_the_longest_input_is_recalled_and_the_shorter_is_let_go() -> None:
    """A conversation that grows is remembered word for word once, not once for every turn."""
    known = KnownContexts(ROOM)
    first = chain("a")
    second = chain("b", behind=first)
    known.put("me", first, verbatim(3000))
    size = known.num_bytes
    known.put("me", second, verbatim(3000, 3000))
    recalled = known.recall("me", verbatim(3000, 3000, 3000).data + b"]")
    assert recalled is not None
    assert second is recalled.context
    assert known.recall("me", verbatim(3000, 1).data + b"]") is None
    assert known.num_bytes == size + EACH + len(verbatim(3000, 3000).data) - len(
        verbatim(3000).data
    )


def test_what_was_forgotten_is_not_learnt_link_by_link() -> None:
    """A long conversation that goes on costs what is new, also where there is no room for it."""
    known = KnownContexts(ROOM)
    long = chain(*map(str, range(17)))
    digest_of(long)
    known.put("me", long)
    assert 0 == len(known)
    known.put("me", chain(*map(str, range(16))))
    known.put("me", long)
    assert (17, None) == (len(known), found(known, chain("17", behind=long)))


def test_small_inputs_are_not_remembered() -> None:
    """They are decoded as fast as they would be found."""
    known = KnownContexts(ROOM)
    known.put("me", chain("a"), Verbatim(b"[" + b"1" * (MIN_VERBATIM_BYTES - 2), 1))
    assert EACH == known.num_bytes


def test_many_inputs_that_begin_alike_do_not_slow_each_other() -> None:
    """Of inputs with one window the latest are compared, and no others."""
    known = KnownContexts(ROOM)
    contexts = [chain(f"{number}") for number in range(20)]
    inputs = [Verbatim(verbatim(2500).data + b",%d" % number, 2) for number in range(20)]
    for context, input_ in zip(contexts, inputs, strict=True):
        known.put("me", context, input_)
    recalled = [known.recall("me", input_.data + b"]") for input_ in inputs]
    assert contexts[-8:] == [one.context for one in recalled if one is not None]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["me", "you"]),
        st.integers(0, 8),  # which context to go on from
        st.text("ab", min_size=1, max_size=2),
        st.sampled_from([0, 0, 2500, 6000]),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([0, 5_000, 20_000, 50_000, ROOM]))
@settings(deadline=None)
def test_it_keeps_its_bound_and_tells_the_truth(
    steps: list[tuple[str, int, str, int]], max_bytes: int
) -> None:
    """Whatever comes: no more than the bound, all it finds is right, and it ends empty."""
    known = KnownContexts(max_bytes)
    made: dict[str, list[tuple[Context | None, bytes]]] = {
        owner: [(None, b"[" + owner.encode())] for owner in ("me", "you")
    }
    for owner, back, words, size in steps:
        parent, data = made[owner][-1 - back % len(made[owner])]
        context = chain(words, behind=parent)
        data += b',"' + words.encode() + b"x" * size + b'"'
        known.put(owner, context, Verbatim(data, 1) if size else None)
        made[owner].append((context, data))
        assert known.num_bytes <= max_bytes
    for owner, contexts in made.items():
        for one, data in contexts:
            if one is None:
                continue
            equal = found(known, one, owner)
            assert equal is None or equal.all_items() == one.all_items()
            if max_bytes == ROOM:
                assert equal is not None
            recalled = known.recall(owner, data + b"]")
            if recalled is not None:
                assert data.startswith(b"[" + owner.encode())
                said = data[: recalled.num_bytes].replace(b"x", b"").split(b",")[1:]
                texts = [
                    part.text
                    for item in recalled.context.all_items()
                    if isinstance(item, Message)
                    for part in item.content
                    if isinstance(part, InputText)
                ]
                assert texts == [json.loads(word) for word in said]
    while len(known):
        known._forget_one()
    assert (0, {}, {}) == (known.num_bytes, dict(known._leaves), known._windows)
