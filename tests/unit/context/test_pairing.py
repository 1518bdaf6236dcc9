"""Tests of `turnwire.context.pairing`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.context.pairing import OpenCall, Paired, calls_of, pair, require_outputs
from turnwire.errors import InvalidRequest
from turnwire.protocol.items import (
    Compaction,
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    EffortUpdate,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    ItemStatus,
    Message,
    Summary,
)

USER = Message(role="user", content=(InputText(text="Hi"),))


def call(call_id: str, name: str = "f", status: ItemStatus | None = None) -> FunctionCall:
    return FunctionCall(call_id=call_id, name=name, arguments="{}", status=status)


def output(call_id: str) -> FunctionCallOutput:
    return FunctionCallOutput(call_id=call_id, output="ok")


def never(call_id: str) -> bool:
    return False


def paired(*items: Item) -> Paired:
    return pair(items, {}, 0, never)


def test_an_output_finds_its_call() -> None:
    """The answer stands beside the output, and the call is open no more."""
    found = paired(USER, call("a"), output("a"))
    assert (None, None, OpenCall(call_id="a", name="f", ordinal=0)) == found.answers
    assert {} == found.open


def test_calls_in_a_row_are_numbered() -> None:
    """Parallel calls count from zero, and anything between them starts again."""
    found = paired(call("a"), call("b"), output("b"), output("a"), call("c"))
    assert [1, 0] == [answer.ordinal for answer in found.answers if answer]
    assert 0 == found.open["c"].ordinal
    assert 1 == found.row


def test_a_row_goes_on_from_the_chain_before() -> None:
    """A call behind calls of an earlier link takes the next ordinal."""
    assert 2 == pair([call("c")], {}, 2, never).open["c"].ordinal


def test_custom_calls_pair_alike() -> None:
    """A custom call is answered by a custom output, under its name."""
    custom = CustomToolCall(call_id="x", name="g", input="")
    found = paired(custom, CustomToolCallOutput(call_id="x", output="ok"))
    assert OpenCall(call_id="x", name="g", ordinal=0, kind="custom") == found.answers[1]


def test_outputs_may_come_for_calls_of_earlier_links() -> None:
    """A call open before is answered by a new output."""
    before = {"a": OpenCall(call_id="a", name="f", ordinal=1)}
    found = pair([output("a")], before, 0, never)
    assert (before["a"],) == found.answers
    assert {} == found.open
    assert {"a"} == set(before), "what was given is not changed"


@pytest.mark.parametrize(
    ("items", "open_before", "known"),
    [
        pytest.param([call("a"), call("a"), output("a")], {}, set(), id="in the same input"),
        pytest.param(
            [call("a"), output("a")],
            {"a": OpenCall(call_id="a", name="f", ordinal=0)},
            {"a"},
            id="open before",
        ),
    ],
)
def test_a_repeated_call_is_the_same_call(
    items: list[Item], open_before: dict[str, OpenCall], known: set[str]
) -> None:
    """A call with a known call_id is left out, and its output still finds it."""
    found = pair(items, open_before, 0, known.__contains__)
    assert found.answers[-1] == OpenCall(call_id="a", name="f", ordinal=0)
    assert len([item for item in found.items if isinstance(item, FunctionCall)]) == (
        0 if open_before else 1
    )
    assert {} == found.open


def test_a_call_that_was_answered_is_not_opened_again() -> None:
    """A repeated call whose output is in the chain is left out."""
    found = pair([call("a")], {}, 0, {"a"}.__contains__)
    assert ((), {}) == (found.items, found.open)


@pytest.mark.parametrize(
    ("items", "known", "words", "code"),
    [
        pytest.param([output("a")], set(), "No tool call found", None, id="no call"),
        pytest.param(
            [output("a"), call("a")], set(), "No tool call found", None, id="call comes later"
        ),
        pytest.param(
            [call("a"), output("a"), output("a")],
            set(),
            "has an output already",
            "invalid_value",
            id="second output",
        ),
        pytest.param(
            [output("a")], {"a"}, "has an output already", "invalid_value", id="answered before"
        ),
    ],
)
def test_an_output_without_an_open_call_is_refused(
    items: list[Item], known: set[str], words: str, code: str | None
) -> None:
    """One output for each call, and only behind it (protocol.md 3.2 and 18.21)."""
    with pytest.raises(InvalidRequest, match=words) as caught:
        pair(items, {}, 0, known.__contains__)
    assert ("input", code) == (caught.value.param, caught.value.code)


@pytest.mark.parametrize(
    "item",
    [
        call("a", status="incomplete"),
        FunctionCall(call_id="a", name="f", arguments="{}", async_=True),
    ],
    ids=["cut", "async"],
)
def test_cut_and_async_calls_need_no_output(item: Item) -> None:
    """The model may go on while such a call is open."""
    found = paired(item)
    assert found.open["a"].optional
    require_outputs(found.open)


def later(call_id: str, name: str = "f") -> FunctionCall:
    return FunctionCall(call_id=call_id, name=name, arguments="{}", async_=True)


def test_late_outputs_can_be_told_apart() -> None:
    """No two calls that are open at once share a name and an ordinal, however far apart."""
    items: list[Item] = [
        later("a"),
        USER,
        later("b"),
        USER,
        later("c", "g"),
        call("d"),
        output("d"),
    ]
    first = paired(*items)
    assert {"a": 0, "b": 1, "c": 0} == {one.call_id: one.ordinal for one in first.open.values()}
    assert [2] == [answer.ordinal for answer in first.answers if answer]
    second = paired(*items, output("a"), USER, later("e"), call("f"))
    assert {"b": 1, "c": 0, "e": 0, "f": 2} == {
        one.call_id: one.ordinal for one in second.open.values()
    }


def test_an_update_of_the_configuration_is_seen_by_nobody() -> None:
    """Calls with one between them stand in a row."""
    found = paired(call("a"), ConfigurationUpdate(reasoning=EffortUpdate()), call("b"))
    assert (1, 2) == (found.open["b"].ordinal, found.row)


def test_the_model_is_not_sampled_while_a_call_is_open() -> None:
    """An open call is named in the error, which has no code."""
    with pytest.raises(InvalidRequest, match="No tool output found for function call b") as caught:
        require_outputs(paired(call("a"), call("b"), output("a")).open)
    assert ("input", None) == (caught.value.param, caught.value.code)


def test_a_compaction_brings_its_calls_along() -> None:
    """They are open behind it and count anew, known before or not; others stay as they are."""
    kept = (call("b", "g"), call("c"))
    item = Compaction(encrypted_content="x", opened=Summary(text="s", kept=kept))
    for before in ([call("a"), call("b", "g"), call("c")], [call("a")]):
        found = paired(*before, item, call("d"))
        assert [0, 0, 1, 2] == [found.open[name].ordinal for name in "abcd"]
        assert 3 == found.row
        again = paired(*before, item, call("b", "g"), output("b"), output("c"))
        assert [item, output("b"), output("c")] == list(again.items[len(before) :])
    assert ["b", "c"] == [one.call_id for one in calls_of(item)]
    assert [] == calls_of(Compaction(encrypted_content="x"))


NAMES = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.builds(call, NAMES),
        st.builds(later, NAMES),
        st.builds(output, NAMES),
        st.just(USER),
        st.just(ConfigurationUpdate(reasoning=EffortUpdate())),
    ),
    max_size=12,
)


@given(STEPS, st.integers(0, 12))
def test_pairing_in_two_steps_is_pairing_at_once(items: list[Item], cut: int) -> None:
    """Wherever the items are cut, the same are kept and paired, or the same is refused."""

    def at_once() -> tuple[object, ...]:
        found = paired(*items)
        return found.items, found.answers, found.open, found.row

    def in_steps() -> tuple[object, ...]:
        first = paired(*items[:cut])
        made = {item.call_id for item in first.items if isinstance(item, FunctionCall)}
        second = pair(items[cut:], first.open, first.row, made.__contains__)
        return (
            first.items + second.items,
            first.answers + second.answers,
            second.open,
            second.row,
        )

    try:
        expected: object = at_once()
    except InvalidRequest as error:
        expected = error.message
    try:
        found: object = in_steps()
    except InvalidRequest as error:
        found = error.message
    assert expected == found
