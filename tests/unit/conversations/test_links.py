"""Items and links: what was sampled stays with its item, and nothing depends on the cuts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.context.chain import Context
from turnwire.conversations.links import Placed, extend, pack, placed_of, repeats, unpack, without
from turnwire.errors import InvalidRequest
from turnwire.protocol.items import (
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    OutputText,
)
from turnwire.tokens import TokenArray, token_array


def user(name: str) -> Message:
    return Message(id=name, role="user", content=(InputText(text=name),))


def said(name: str) -> Message:
    return Message(id=name, role="assistant", content=(OutputText(text=name),))


def call(name: str, call_id: str | None = None) -> FunctionCall:
    return FunctionCall(id=name, call_id=call_id or name, name="f", arguments="{}")


def output(name: str, call_id: str) -> FunctionCallOutput:
    return FunctionCallOutput(id=name, call_id=call_id, output="x")


def flat(context: Context | None) -> list[Placed]:
    """Everything in a context, whatever its links."""
    if context is None:
        return []
    return [placed for link in context.links() for placed in placed_of(link)]


IDS = st.lists(st.integers(0, 2**32 - 1)).map(token_array)


@given(st.none() | IDS, st.none() | IDS)
def test_pack_and_unpack(sampled: TokenArray | None, opening: TokenArray | None) -> None:
    """What was sampled comes back, with what stood before it and the vocabulary of both."""
    placed = Placed(said("a"), "v1", sampled, opening)
    assert placed == unpack(placed.item, pack(placed))


def test_nothing_sampled() -> None:
    """An item that no model made needs no bytes."""
    assert b"" == pack(Placed(user("a")))
    assert Placed(user("a")) == unpack(user("a"), b"")


PLACED = st.lists(
    st.sampled_from(["", "v1", "v2"]).flatmap(
        lambda vocabulary: st.builds(
            Placed,
            st.just(said("x")),
            st.just(vocabulary),
            st.none() | IDS if vocabulary else st.none(),
            st.none() | IDS if vocabulary else st.none(),
        )
    ),
    max_size=12,
)


@pytest.mark.parametrize("opening", [token_array([9]), token_array()], ids=["some", "no ids"])
def test_each_response_is_a_link(opening: TokenArray) -> None:
    """What one response said is told from what the next said, with nothing between them."""
    placed = [
        Placed(user("a")),
        Placed(said("b"), "v", token_array([1]), opening),
        Placed(said("c"), "v", token_array([2])),
        Placed(said("d"), "v", token_array([3]), opening),
    ]
    context = extend(None, placed)
    assert context is not None
    assert [None, opening + token_array([1, 2]), opening + token_array([3])] == [
        link.spoken() for link in context.links()
    ]


@given(PLACED, PLACED)
def test_extend_keeps_everything_in_order(first: list[Placed], second: list[Placed]) -> None:
    """A context holds exactly the items it was made of, each with what was sampled for it."""
    assert [*first, *second] == flat(extend(extend(None, first), second))


def test_extend_by_nothing() -> None:
    """No items make no link."""
    context = Context(None, [user("a")])
    assert context is extend(context, [])
    assert extend(None, []) is None


def test_a_call_is_made_once() -> None:
    """A call that was made before is left out, also where its ids were sampled."""
    context = extend(None, [Placed(call("a"), "v", token_array([1]))])
    again = [Placed(call("b", "a"), "v", token_array([2])), Placed(output("c", "a"))]
    extended = extend(context, again)
    assert ["a", "c"] == [placed.item.id for placed in flat(extended)]
    items: list[Item] = [call("b", "a"), user("d"), call("e"), call("f", "e")]
    assert [True, False, False, True] == repeats(context, items)
    assert [False, False, False, True] == repeats(None, items)


def test_an_output_without_its_call() -> None:
    """What does not pair is the conversation's fault, and the error says so."""
    with pytest.raises(InvalidRequest) as raised:
        extend(None, [Placed(output("a", "c1"))])
    assert raised.value.param == "conversation"


@given(PLACED, st.data())
def test_without(placed: list[Placed], data: st.DataObject) -> None:
    """One item less, everything else as it was, and links before it shared."""
    named = [
        Placed(said(f"{number}"), one.vocabulary, one.sampled) for number, one in enumerate(placed)
    ]
    context = extend(None, named)
    if context is None:
        return
    place = data.draw(st.integers(0, len(named) - 1))
    left = without(context, f"{place}")
    assert named[:place] + named[place + 1 :] == flat(left)
    before = [link for link in context.links() if all(item.id != f"{place}" for item in link.items)]
    shared = before[: context.links().index(_holder(context, f"{place}"))]
    assert shared == (left.links()[: len(shared)] if left is not None else [])


def _holder(context: Context, item_id: str) -> Context:
    return next(link for link in context.links() if any(item.id == item_id for item in link.items))


def test_without_what_is_not_there() -> None:
    """An item that the context does not hold leaves it as it is."""
    context = Context(None, [user("a")])
    assert context is without(context, "b")


def test_without_a_call() -> None:
    """A call that goes may uncover another of its id: the store has to say."""
    context = Context(Context(None, [call("a")]), [output("b", "a"), user("c")])
    assert without(context, "a") is None
    assert without(Context(None, [user("a")]), "a") is None
    left = without(context, "b")
    assert left is not None
    assert {"a"} == set(left.open_calls)


def test_without_an_item_that_pairs_no_more() -> None:
    """Where the rest cannot be paired, nothing is remembered."""
    first = Context(None, [user("a"), call("b")])
    context = Context(first, [output("c", "b")])
    assert ["b", "c"] == [placed.item.id for placed in flat(without(context, "a"))]
