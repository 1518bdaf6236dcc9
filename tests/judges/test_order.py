"""The order judge takes every stream that is right, and none that has been tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.judges.official import read_event
from tests.judges.order import FOLLOWERS, Disorder, StreamOrder
from tests.judges.samples import ITEMS, STREAMS, Json, numbered, response, stream

ANNOTATION = "response.output_text.annotation.added"
TEXT = STREAMS["text"]
CALL = STREAMS["call"]


def take(events: Sequence[Json], *, announced: bool = True) -> StreamOrder:
    """Feed a whole stream to a fresh judge."""
    order = StreamOrder(announced=announced)
    for event in events:
        order.take(event, read_event("StreamEvent", event))
    return order


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_right_streams(events: list[Json]) -> None:
    """What is as section 6 says is taken to its end."""
    order = take(events)
    assert (True, len(events)) == (order.ended, order.next_number)


@given(data=st.data())
def test_every_event_is_missed(data: st.DataObject) -> None:
    """A stream that lacks any one of its events is refused, or has not ended."""
    events = STREAMS[data.draw(st.sampled_from(sorted(STREAMS)))]
    index = data.draw(st.integers(0, len(events) - 1))
    if events[index]["type"] == "response.compaction.compacting":
        return  # whether it was told to compact, only the client knows
    rest = numbered([*events[:index], *events[index + 1 :]])
    try:
        order = take(rest)
    except Disorder:
        return
    assert (len(events) - 1, False) == (index, order.ended)


@given(data=st.data())
def test_every_change_of_order_is_found(data: st.DataObject) -> None:
    """Two neighbours that have changed places are found, if they are not of the same kind."""
    events = STREAMS[data.draw(st.sampled_from(sorted(STREAMS)))]
    index = data.draw(st.integers(0, len(events) - 2))
    one, two = events[index : index + 2]
    kinds = {one["type"], two["type"]}
    # An annotation may come at any time after the text that it is about.
    if len(kinds) == 1 or kinds <= {ANNOTATION, "response.output_text.delta"}:
        return
    swapped = numbered([*events[:index], two, one, *events[index + 2 :]])
    with pytest.raises(Disorder):
        take(swapped)


@given(data=st.data())
def test_nothing_is_said_twice(data: st.DataObject) -> None:
    """An event that comes a second time is found; only a sign of life may be repeated."""
    events = STREAMS[data.draw(st.sampled_from(sorted(STREAMS)))]
    index = data.draw(st.integers(0, len(events) - 1))
    if events[index]["type"] == "response.in_progress":
        return
    twice = numbered([*events[: index + 1], *events[index:]])
    with pytest.raises(Disorder):
        take(twice)


def changed(events: Sequence[Json], kind: str, change: Callable[[Json], Any]) -> list[Json]:
    """The stream with one event changed: the first of its kind."""
    copy: list[Json] = json.loads(json.dumps(events))  # shares nothing, unlike a deep copy
    change(next(event for event in copy if event["type"] == f"response.{kind}"))
    return copy


CHANGES: list[tuple[str, list[Json], str]] = [
    (
        "another delta",
        changed(TEXT, "output_text.delta", lambda event: event.update(delta="Ho")),
        "output_text.done is not its deltas",
    ),
    (
        "an empty delta",
        changed(TEXT, "output_text.delta", lambda event: event.update(delta="")),
        "an empty delta",
    ),
    (
        "another part",
        changed(TEXT, "content_part.done", lambda event: event["part"].update(text="Ho")),
        "content_part.done is not its deltas",
    ),
    (
        "another item",
        changed(
            TEXT, "output_item.done", lambda event: event["item"]["content"][0].update(text="Ho")
        ),
        "the content of an item is not its parts",
    ),
    (
        "another id",
        changed(TEXT, "output_item.done", lambda event: event["item"].update(id="msg_2")),
        "the id of an item has changed",
    ),
    (
        "another item_id",
        changed(TEXT, "output_text.delta", lambda event: event.update(item_id="msg_2")),
        "of another item_id",
    ),
    (
        "another output_index",
        changed(TEXT, "output_item.added", lambda event: event.update(output_index=1)),
        "output_index 1, not 0",
    ),
    (
        "another content_index",
        changed(TEXT, "content_part.added", lambda event: event.update(content_index=1)),
        "content_index 1, not 0",
    ),
    (
        "added as completed",
        changed(TEXT, "output_item.added", lambda event: event["item"].update(status="completed")),
        "added, and not in progress",
    ),
    (
        "added with its arguments",
        changed(CALL, "output_item.added", lambda event: event["item"].update(arguments="{")),
        "added with arguments",
    ),
    (
        "other arguments",
        changed(CALL, "output_item.done", lambda event: event["item"].update(arguments="{}")),
        "arguments are not the deltas",
    ),
    (
        "another call_id",
        changed(CALL, "output_item.done", lambda event: event["item"].update(call_id="call_2")),
        "the call_id of an item has changed",
    ),
    (
        "another part than announced",
        changed(
            STREAMS["refusal"],
            "content_part.added",
            lambda event: event.update(part={"type": "output_text", "text": "", "annotations": []}),
        ),
        "refusal.delta in another part",
    ),
    (
        "an output that nobody saw",
        changed(
            STREAMS["nothing"],
            "completed",
            lambda event: event["response"].update(output=[ITEMS["text"]]),
        ),
        "the output is not what was done",
    ),
    (
        "another model",
        changed(TEXT, "completed", lambda event: event["response"].update(model="n")),
        "the snapshots differ in ['model']",
    ),
    (
        "another response in progress",
        changed(TEXT, "in_progress", lambda event: event["response"].update(store=False)),
        "response.in_progress is not as created",
    ),
    (
        "another ending",
        changed(TEXT, "completed", lambda event: event.update(response=response("incomplete"))),
        "response.completed with status incomplete",
    ),
    (
        "an error that was not announced",
        changed(
            STREAMS["failed"],
            "failed",
            lambda event: event["response"].update(
                error={"code": "rate_limit_exceeded", "message": "No."}
            ),
        ),
        "the error event is not the response's error",
    ),
    (
        "an annotation out of order",
        changed(
            STREAMS["annotations"],
            "output_text.annotation.added",
            lambda event: event.update(annotation_index=1),
        ),
        "an annotation is not the next",
    ),
    (
        "an annotation before its text",
        changed(
            STREAMS["annotations"],
            "output_text.annotation.added",
            lambda event: event["annotation"].update(end_index=6),
        ),
        "an annotation before its text",
    ),
    (
        "logprobs of nothing",
        changed(STREAMS["logprobs"], "output_text.done", lambda event: event.update(logprobs=[])),
        "the logprobs are not the deltas'",
    ),
    (
        "a gap in the numbers",
        changed(TEXT, "output_text.delta", lambda event: event.update(sequence_number=9)),
        "number 9, not 4",
    ),
    (
        "two items of one id",
        stream(ITEMS["text"], ITEMS["text"]),
        "two items have the id msg_1",
    ),
]


@pytest.mark.parametrize(
    ("events", "complaint"), [change[1:] for change in CHANGES], ids=[one[0] for one in CHANGES]
)
def test_contradictions(events: list[Json], complaint: str) -> None:
    """Events that contradict those before them are refused, with the reason."""
    with pytest.raises(Disorder) as refused:
        take(events)
    assert complaint in str(refused.value)


def test_errors_belong_to_requests_in_websocket_mode() -> None:
    """There a response fails without an error event, and one inside a response is out of order."""
    failed = STREAMS["failed"]
    with pytest.raises(Disorder, match="error inside a response"):
        take(failed, announced=False)
    silent = numbered(event for event in failed if event["type"] != "error")
    assert take(silent, announced=False).ended
    with pytest.raises(Disorder, match="failed without an error event"):
        take(silent)


def test_signs_of_life() -> None:
    """In a long silence response.in_progress is said again, as it was."""
    living = numbered([*TEXT[:3], TEXT[1], *TEXT[3:]])
    assert take(living).ended


def test_every_kind_of_item_is_tried() -> None:
    """Each row of the table of followers has a sample here."""
    assert {item["type"] for item in ITEMS.values()} == set(FOLLOWERS)


def test_the_official_accumulator_is_asked() -> None:
    """What only that objects to is refused too."""
    *before, last = changed(TEXT, "completed", lambda event: event["response"].update(id="resp_2"))
    order = StreamOrder()
    for event in before:
        order.take(event, read_event("StreamEvent", event))
    # Our own check would come first; past that, the library finds it by itself.
    order.created["id"] = "resp_2"
    with pytest.raises(Disorder, match="official accumulator"):
        order.take(last, read_event("StreamEvent", last))
