"""Which items of a chain are seen."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw, structs

from turnwire.context.chain import Context
from turnwire.context.window import (
    HEADING,
    Goal,
    carried,
    cuts,
    fingerprint,
    goal,
    links,
    num_pinned,
    pending,
    seen,
    user_messages,
)
from turnwire.protocol.codec import decode_items
from turnwire.protocol.items import (
    CacheBreakpoint,
    Compaction,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OutputText,
    Summary,
)
from turnwire.protocol.requests import JsonObjectFormat


def user(text: str, **fields: Any) -> Message:
    """A message of the user."""
    return Message(role="user", content=(InputText(text=text),), **fields)


def assistant(text: str) -> Message:
    """A message of the model."""
    return Message(role="assistant", content=(OutputText(text=text),))


def system(text: str) -> Message:
    """A system message."""
    return Message(role="system", content=(InputText(text=text),))


def call(name: str, *, late: bool = False) -> FunctionCall:
    """A call, by its id."""
    return FunctionCall(call_id=name, name="f", arguments="{}", async_=late or None)


def output(name: str) -> FunctionCallOutput:
    """Its output."""
    return FunctionCallOutput(call_id=name, output="")


def summary(text: str, *retained: Message, kept: tuple[Item, ...] = ()) -> Compaction:
    """An opened compaction item."""
    marks = tuple(map(fingerprint, retained))
    return Compaction(encrypted_content="x", opened=Summary(text=text, retained=marks, kept=kept))


def chain(*parts: list[Item]) -> Context:
    """A chain with a link for each list."""
    context: Context | None = None
    for items in parts:
        context = Context(context, items)
    assert context is not None
    return context


def shown(context: Context) -> list[str]:
    """What is seen, as texts and call ids."""
    return [name(item) for link in links(context) for item in seen(link).items]


def name(item: Item) -> str:
    """An item in a word."""
    match item:
        case Message(content=(InputText(text=text) | OutputText(text=text),)):
            return text.removeprefix(HEADING)
        case FunctionCall(call_id=call_id):
            return f"{call_id}?"
        case FunctionCallOutput(call_id=call_id):
            return f"{call_id}!"
    raise AssertionError(item)


A, B, C = user("a"), user("b"), user("c")
SAID = assistant("said")
LATE = call("late", late=True)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([[A, SAID], [B]], ["a", "said", "b"], id="all of it"),
        pytest.param([[A, SAID], [summary("s")], [B]], ["s", "b"], id="what follows the last"),
        pytest.param([[A, summary("s"), B]], ["s", "b"], id="in one link"),
        pytest.param([[A, summary("s"), B, summary("t")], [C]], ["t", "c"], id="the last counts"),
        pytest.param([[A, SAID, B], [summary("s", A, B)]], ["a", "b", "s"], id="retained"),
        pytest.param([[A, B, summary("s", A, B), C]], ["a", "b", "s", "c"], id="the window alone"),
        pytest.param([[A], [A, SAID], [summary("s", A)]], ["a", "s"], id="once, if retained once"),
        pytest.param([[B], [A], [summary("s", A, B)]], ["b", "s"], id="only in their order"),
        pytest.param([[summary("s", A, B)]], ["s"], id="those that are not there are not seen"),
        pytest.param([[A, summary("s"), SAID, summary("t", A)]], ["a", "t"], id="across another"),
        pytest.param([[SAID], [summary("s", kept=(LATE,))], [output("late")]],
                     ["s", "late?", "late!"], id="kept, and answered"),
        pytest.param([[LATE, A], [summary("s", kept=(LATE,)), output("late")]],
                     ["s", "late?", "late!"], id="kept of a whole history"),
    ],
)  # fmt: skip
def test_what_is_seen(parts: list[list[Item]], expected: list[str]) -> None:
    """Everything behind the last compaction item, and of what is before it what that lists."""
    assert expected == shown(chain(*parts))


def test_parallel_lists() -> None:
    """Answers and sampled ids stay with their items."""
    parent = chain([A])
    link = Context(parent, [summary("s", A, kept=(LATE,)), output("late"), SAID])
    found = seen(link)
    assert 5 == len(found.items) == len(found.answers) == len(found.sampled)
    assert ["late"] == [answer.call_id for answer in found.answers if answer is not None]
    assert found.answers[3] is not None


def test_what_is_folded_is_no_longer_held() -> None:
    """A model that takes no images may go on behind a summary, unless the message stays."""
    image = Message(role="user", content=(InputImage(image_url="data:image/png;base64,AA=="),))
    before = chain([image, SAID])
    assert {"input_image"} == before.holds == Context(before, [summary("s", image)]).holds
    assert frozenset() == Context(before, [summary("s"), A]).holds
    assert {"input_image"} == Context(before, [summary("s"), image]).holds


def test_a_message_is_known_by_what_it_says() -> None:
    """Its id, status and pins do not matter; its words, parts and role do."""
    same = [
        user("a", id="msg_1", status="completed"),
        Message(
            role="user",
            content=(
                InputText(text="a", prompt_cache_breakpoint=CacheBreakpoint(mode="explicit")),
            ),
        ),
    ]
    other = [B, assistant("a"), structs.replace(A, content=A.content * 2)]
    assert {fingerprint(A)} == {fingerprint(message) for message in same}
    assert fingerprint(A) not in {fingerprint(message) for message in other}


def test_what_a_compaction_carries_on() -> None:
    """Open calls, in their order, also those that a compaction before carried."""
    context = chain([call("x"), LATE, A], [output("x"), call("y", late=True)])
    assert ["late?", "y?"] == [name(item) for item in carried(context)]
    again = chain([summary("s", kept=(LATE,))], [call("y", late=True), A])
    assert ["late?", "y?"] == [name(item) for item in carried(again)]
    assert () == carried(Context(again, [output("late"), output("y")]))


def test_tools_and_settings_are_carried_on() -> None:
    """All tools that the history added, and of the settings those that still hold."""
    raw = b"""[
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
        {"type": "additional_tools", "role": "developer",
         "tools": [{"type": "function", "name": "f"}]},
        {"type": "configuration_update", "text": {"format": {"type": "json_object"}}},
        {"type": "configuration_update", "reasoning": {"effort": "high"}}]"""
    low, tools, form, high = decode_items(Raw(raw))
    kept = carried(chain([low, A, tools], [form, high, B]))
    assert [tools, form, high] == list(kept)
    for context in (
        chain([low, A, tools, form, high, B], [summary("s", kept=kept)]),
        chain([summary("s", kept=kept)]),
    ):
        assert {"f"} == set(context.standing.tools.offered)
        assert "high" == context.standing.effort
        assert isinstance(context.standing.text_format, JsonObjectFormat)
        assert list(kept) == list(carried(context))
    assert low not in kept


def test_whose_messages_are_handed_out() -> None:
    """Those behind a link that are seen, or all that are; and no summary."""
    plain = chain([C], [A, SAID, system("x"), B])
    assert ([A, B], [C, A, B]) == (user_messages(plain, plain.parent), user_messages(plain))
    assert [A, B] == user_messages(chain([A, C, summary("s", A), B]))
    compacted = chain([A, C], [summary("s", A, C), B])
    assert [B] == user_messages(compacted, compacted.parent)
    assert [A, C, B] == user_messages(compacted)
    assert [] == user_messages(plain, plain)


@pytest.mark.parametrize(
    ("num_tokens", "expected"),
    [(900, None), (901, Goal(1, 200)), (1100, Goal(200, 200)), (1101, Goal(201, 400))],
)
def test_goals(num_tokens: int, expected: Goal | None) -> None:
    """What has to go is rounded up to quarters of the room, so that it stays for some turns."""
    assert expected == goal(num_tokens, 100, 100, 1000)


def places(context: Context, pinned: int = 0) -> list[str]:
    """The items before which may be cut."""
    window = [seen(link) for link in links(context)]
    return [name(window[at].items[place]) for at, place in cuts(window, pinned)]


def test_where_it_may_be_cut() -> None:
    """Not while an output is owed, not before what is pinned, not behind the end."""
    context = chain([A, call("x"), call("y")], [output("y"), output("x"), B], [LATE, C])
    assert ["x?", "b", "late?", "c"] == places(context)
    assert ["b", "late?", "c"] == places(context, pinned=1)
    assert [] == places(chain([A]))


def test_a_place_stays_one() -> None:
    """What comes behind it changes nothing, an output least of all."""
    context = chain([LATE, A, call("x"), output("x"), B])
    before = places(context)
    assert ["a", "x?", "b"] == before
    assert before == places(Context(context, [output("late"), C]))[: len(before)]


def test_calls_that_are_not_answered_before_a_place() -> None:
    """They stay until they are, wherever the place is."""
    other = call("other", late=True)
    window = [seen(link) for link in links(chain([LATE, other, A], [output("late"), B, C]))]
    pending_ = [[name(item) for item in pending(window, *place).items] for place in cuts(window, 0)]
    assert [["late?"], ["late?", "other?"], ["late?", "other?"], ["other?"], ["other?"]] == pending_


def test_what_is_pinned() -> None:
    """What instructs at the very beginning, over links; or all up to the summary."""

    def pinned(context: Context) -> int:
        window = [seen(link) for link in links(context)]
        return num_pinned(context.start, window)

    assert 0 == pinned(chain([A, system("x")]))
    assert 3 == pinned(chain([system("x"), system("y")], [system("z"), A, system("w")]))
    assert 2 == pinned(chain([A], [summary("s", A, kept=(LATE,)), system("x"), B]))
