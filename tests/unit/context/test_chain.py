"""Tests of `turnwire.context.chain`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from turnwire.context.chain import Context
from turnwire.errors import InvalidRequest
from turnwire.protocol.items import (
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OutputText,
)
from turnwire.tokens import token_array


def user(text: str) -> Message:
    return Message(role="user", content=(InputText(text=text),))


SAID = Message(role="assistant", content=(OutputText(text="Yo"),))
CALL = FunctionCall(call_id="a", name="f", arguments="{}")
SECOND = FunctionCall(call_id="b", name="f", arguments="{}")
OUTPUT = FunctionCallOutput(call_id="a", output="ok")


@given(st.lists(st.lists(st.text(max_size=3).map(user), max_size=3), min_size=1, max_size=5))
def test_a_chain_holds_the_items_of_all_its_links(links: list[list[Item]]) -> None:
    """Items come back oldest first, whatever the links are cut into."""
    context: Context | None = None
    for items in links:
        context = Context(context, items)
    assert context is not None
    assert [item for items in links for item in items] == context.all_items()
    assert sum(map(len, links)) == context.num_items
    assert links == [list(link.items) for link in context.links()]
    assert list(reversed(context.links())) == list(context.newest_first())


def test_forks_share_their_past_and_not_their_ends() -> None:
    """Two continuations of one link know nothing of each other."""
    root = Context(None, [user("Hi"), CALL])
    left, right = Context(root, [OUTPUT]), Context(root, [OUTPUT, user("more")])
    assert left.parent is right.parent is root
    assert [{"a"}, set(), set()] == [set(link.open_calls) for link in (root, left, right)]
    assert (3, 4) == (left.num_items, right.num_items)


def test_what_is_no_text_is_known_from_then_on() -> None:
    """A link says which kinds of parts it and those before it hold, not those of its forks."""
    image = InputImage(image_url="https://example.org")
    root = Context(None, [user("Hi"), CALL])
    seen = Context(root, [FunctionCallOutput(call_id="a", output=(image,))])
    later = Context(seen, [user("more")])
    fork = Context(root, [OUTPUT])
    assert [set(), {"input_image"}, {"input_image"}, set()] == [
        set(link.holds) for link in (root, seen, later, fork)
    ]


def test_log_probabilities_count_in_the_size() -> None:
    """A link's size in memory includes what its texts bring beside their characters."""
    scored = OutputText(text="Yo", logprobs=[Raw(b'{"token":"Yo"}')])
    assert 2 + 14 == Context(None, [Message(role="assistant", content=(scored,))]).num_chars


def test_answers_reach_back_over_links() -> None:
    """An output finds a call of an earlier link, and later links know it was made."""
    root = Context(None, [CALL, SECOND])
    answered = Context(root, [FunctionCallOutput(call_id="b", output="ok")])
    (answer,) = answered.answers
    assert answer is not None
    assert ("f", 1) == (answer.name, answer.ordinal)
    later = Context(answered, [OUTPUT])
    assert later.was_called("b")
    assert not later.was_called("c")


@given(st.lists(st.integers(0, 4), max_size=60))
def test_a_long_chain_knows_every_call_by_a_few_sets(sizes: list[int]) -> None:
    """However calls are spread over links, each is known, by sets that halve in size."""
    context = Context(None, [user("Hi")])
    made: list[str] = []
    for size in sizes:
        ids = [f"c{len(made) + place}" for place in range(size)]
        context = Context(context, [FunctionCall(call_id=i, name="f", arguments="{}") for i in ids])
        made += ids
    assert made == [call_id for call_id in made if context.was_called(call_id)]
    assert not context.was_called(f"c{len(made)}")
    counts = [len(some) for some in context.called]
    assert len(made) == sum(counts)
    assert all(2 * small <= large for large, small in pairwise(counts))


def test_a_row_of_calls_goes_on_over_links() -> None:
    """Calls that follow each other in two links are numbered as one row."""
    second = Context(Context(None, [CALL]), [SECOND])
    assert 2 == second.calls_in_a_row
    assert 1 == second.open_calls["b"].ordinal
    assert 0 == Context(second, [user("Hi")]).calls_in_a_row


def test_a_call_that_is_sent_again_is_left_out() -> None:
    """A client may send the model's own call next to its output."""
    context = Context(Context(None, [CALL]), [CALL, OUTPUT])
    assert (OUTPUT,) == context.items
    assert [CALL, OUTPUT] == context.all_items()


def test_a_second_output_is_refused_over_links() -> None:
    """An output for a call that was answered links ago is the client's mistake."""
    answered = Context(Context(None, [CALL]), [OUTPUT])
    with pytest.raises(InvalidRequest, match="has an output already"):
        Context(Context(answered, [user("Hi")]), [OUTPUT])


def test_sampled_ids_stand_beside_their_items() -> None:
    """A response's link keeps its ids and the vocabulary they belong to."""
    ids = token_array([7, 8])
    context = Context(None, [SAID, CALL], sampled=[ids, None], vocabulary="v")
    assert ((ids, None), "v") == (context.sampled, context.vocabulary)


def test_items_without_sampled_ids_have_none() -> None:
    """What a client sent was never sampled."""
    context = Context(None, [user("Hi"), SAID])
    assert ((None, None), "") == (context.sampled, context.vocabulary)


def test_sampled_ids_must_be_as_many_as_items() -> None:
    """A count that differs is a bug of the model, not of the client."""
    with pytest.raises(AssertionError, match="never repeats"):
        Context(None, [SAID, CALL], sampled=[None])
    with pytest.raises(AssertionError, match="never repeats"):
        Context(None, [CALL, CALL], sampled=[None, None])


def test_an_empty_link_changes_nothing() -> None:
    """A link without items keeps the state of the chain."""
    root = Context(None, [CALL])
    empty = Context(root, [])
    assert (root.open_calls, 1, 1) == (empty.open_calls, empty.calls_in_a_row, empty.num_items)
