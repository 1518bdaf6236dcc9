"""Parts become the protocol's events, in the protocol's order."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from turnwire.errors import InvalidTransition, ServiceError
from turnwire.logprobs import LogProb, TopLogProb
from turnwire.parts import (
    CallArguments,
    CallStarted,
    CompactionFinished,
    CompactionStarted,
    Finished,
    ItemFinished,
    MessageStarted,
    Part,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from turnwire.protocol.codec import echo, encode_event
from turnwire.protocol.events import ErrorEvent, Event
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.session.emitter import Emitter
from turnwire.session.reasoning import ReasoningView
from turnwire.session.stage import Stage

SDK: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

STOP = Finished(
    reason="stop",
    num_prompt_tokens=9,
    num_cached_tokens=4,
    num_output_tokens=3,
    num_reasoning_tokens=1,
)
CUT = Finished(
    reason="max_output_tokens",
    num_prompt_tokens=9,
    num_cached_tokens=0,
    num_output_tokens=16,
    num_reasoning_tokens=0,
)
CALL = CallStarted(name="run", call_id="call_1")
CUSTOM = CallStarted(name="note", call_id="call_2", kind="custom")
END = ItemFinished()
COMPACTION = CompactionStarted(asked=False)
SEALED = CompactionFinished("sealed")


def emitter(view: ReasoningView | None = None, stream_id: str | None = None) -> Emitter:
    """An emitter over a fresh response."""
    response = echo(
        CreateResponse(), EMPTY_TOOL_SET, ToolChoice(), id="resp_1", created_at=7, model="sim"
    )
    return Emitter(response, stream_id=stream_id, reasoning=view)


def decoded(events: list[Event | ErrorEvent]) -> list[dict[str, Any]]:
    """Events as a client reads them, each checked against the SDK's types."""
    found = []
    for event in events:
        data = json.loads(encode_event(event))
        SDK.validate_python(data)
        found.append(data)
    return found


def played(emitting: Emitter, parts: list[Part]) -> list[dict[str, Any]]:
    """Every event of a response made of these parts."""
    events: list[Event | ErrorEvent] = [*emitting.start()]
    for part in parts:
        events += emitting.feed(part)
    events.append(emitting.complete(emitting.seal(8)))
    return decoded(events)


def short(events: list[dict[str, Any]]) -> list[str]:
    """Event types without their common prefix, between the frame of the stream."""
    return [event["type"].removeprefix("response.") for event in events]


FRAME = ["created", "in_progress"]
TEXT = [
    "output_item.added",
    "content_part.added",
    "output_text.delta",
    "output_text.delta",
    "output_text.done",
    "content_part.done",
    "output_item.done",
]
REFUSED = [
    "content_part.added",
    "refusal.delta",
    "refusal.delta",
    "refusal.done",
    "content_part.done",
]
FUNCTION = [
    "output_item.added",
    "function_call_arguments.delta",
    "function_call_arguments.done",
    "output_item.done",
]


@pytest.mark.parametrize(
    ("view", "parts", "expected"),
    [
        pytest.param(
            None,
            [TextDelta("a"), TextDelta("b"), END, STOP],
            [*FRAME, *TEXT, "completed"],
            id="text",
        ),
        pytest.param(
            None,
            [TextDelta("a"), TextDelta("b"), STOP],
            [*FRAME, *TEXT, "completed"],
            id="text closed by the end",
        ),
        pytest.param(
            None,
            [CALL, CallArguments("{}"), END, CALL, CallArguments("{}"), END, STOP],
            [*FRAME, *FUNCTION, *FUNCTION, "completed"],
            id="parallel calls, one after the other",
        ),
        pytest.param(
            None,
            [COMPACTION, SEALED, TextDelta("a"), TextDelta("b"), END, STOP],
            [*FRAME, "output_item.added", "output_item.done", *TEXT, "completed"],
            id="compaction, then text",
        ),
        pytest.param(
            None,
            [CompactionStarted(asked=True), SEALED, STOP],
            [
                *FRAME,
                "output_item.added",
                "compaction.compacting",
                "output_item.done",
                "completed",
            ],
            id="compaction that was asked for",
        ),
        pytest.param(
            None,
            [CUSTOM, CallArguments("x"), END, STOP],
            [
                *FRAME,
                "output_item.added",
                "custom_tool_call_input.delta",
                "custom_tool_call_input.done",
                "output_item.done",
                "completed",
            ],
            id="custom call",
        ),
        pytest.param(
            None,
            [ReasoningDelta("hm"), END, TextDelta("a"), TextDelta("b"), END, STOP],
            [*FRAME, "output_item.added", "output_item.done", *TEXT, "completed"],
            id="hidden reasoning, then text",
        ),
        pytest.param(
            ReasoningView(summary=True),
            [ReasoningDelta("hm"), END, STOP],
            [
                *FRAME,
                "output_item.added",
                "reasoning_summary_part.added",
                "reasoning_summary_text.delta",
                "reasoning_summary_text.done",
                "reasoning_summary_part.done",
                "output_item.done",
                "completed",
            ],
            id="reasoning summary",
        ),
        pytest.param(
            ReasoningView(raw=True),
            [ReasoningDelta("hm"), END, STOP],
            [
                *FRAME,
                "output_item.added",
                "content_part.added",
                "reasoning_text.delta",
                "reasoning_text.done",
                "content_part.done",
                "output_item.done",
                "completed",
            ],
            id="raw reasoning",
        ),
        pytest.param(
            None,
            [TextDelta("a"), TextDelta("b"), CUT],
            [*FRAME, *TEXT, "incomplete"],
            id="cut text is closed",
        ),
        pytest.param(
            None,
            [CALL, CallArguments('{"a'), CUT],
            [*FRAME, *FUNCTION, "incomplete"],
            id="cut call is closed with what there is",
        ),
        pytest.param(None, [STOP], [*FRAME, "completed"], id="no output"),
        pytest.param(
            None,
            [RefusalDelta("a"), RefusalDelta("b"), END, STOP],
            [*FRAME, "output_item.added", *REFUSED, "output_item.done", "completed"],
            id="refusal",
        ),
        pytest.param(
            None,
            [TextDelta("a"), TextDelta("b"), RefusalDelta("a"), RefusalDelta("b"), END, STOP],
            [*FRAME, *TEXT[:-1], *REFUSED, "output_item.done", "completed"],
            id="a refusal in the middle of a text is a part of its own",
        ),
        pytest.param(
            None,
            [MessageStarted("commentary"), TextDelta("a"), TextDelta("b"), END, STOP],
            [*FRAME, *TEXT, "completed"],
            id="a message that says its phase first",
        ),
        pytest.param(
            None,
            [TextDelta("a"), TextDelta("b"), END, CALL, CallArguments("{}"), END, STOP],
            [*FRAME, *TEXT, *FUNCTION, "completed"],
            id="text, then a call",
        ),
    ],
)
def test_order(view: ReasoningView | None, parts: list[Part], expected: list[str]) -> None:
    """Each kind of output has the order of section 6, numbered from 0 without gaps."""
    events = played(emitter(view), parts)
    assert expected == short(events)
    assert list(range(len(events))) == [event["sequence_number"] for event in events]


def test_the_terminal_response_is_whole() -> None:
    """Output, usage, status and times are those of what was streamed."""
    events = played(emitter(), [TextDelta("a"), TextDelta("b"), END, STOP])
    response = events[-1]["response"]
    assert [events[-2]["item"]] == response["output"]
    assert "ab" == response["output"][0]["content"][0]["text"]
    assert ("completed", 7, 8) == (
        response["status"],
        response["created_at"],
        response["completed_at"],
    )
    assert {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    } == response["usage"]


def test_a_cut_item_is_incomplete_and_last() -> None:
    """The limit shows on the item, on the response and in its reason."""
    response = played(emitter(), [TextDelta("a"), CUT])[-1]["response"]
    assert "incomplete" == response["output"][-1]["status"]
    assert ({"reason": "max_output_tokens"}, None) == (
        response["incomplete_details"],
        response["completed_at"],
    )


def test_encrypted_reasoning_is_in_the_done_item_only() -> None:
    """Sealed text travels in the final copy; the raw text stays here."""
    events = played(
        emitter(ReasoningView(seal=lambda text: f"sealed:{text}")),
        [ReasoningDelta("hm"), END, STOP],
    )
    added, done = events[2]["item"], events[3]["item"]
    assert "encrypted_content" not in added
    assert ("sealed:hm", [], False) == (
        done["encrypted_content"],
        done["summary"],
        "content" in done,
    )


def test_log_probabilities_are_everywhere_the_text_is() -> None:
    """Deltas have those of their tokens; the done events, the part and the item have all."""
    one = LogProb("a", -0.5, (97,), (TopLogProb("b", -1.5, (98,)),))
    two = LogProb("\ufffd", -1.0, (230,))
    events = played(emitter(), [TextDelta("a", (one,)), TextDelta("b", (two,)), END, STOP])
    by_type: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_type.setdefault(event["type"].removeprefix("response."), []).append(event)
    first, second = [sent["logprobs"] for sent in by_type["output_text.delta"]]
    assert [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": [98]}],
        }
    ] == first
    assert [{"token": "\ufffd", "logprob": -1.0, "bytes": [230], "top_logprobs": []}] == second
    assert first + second == by_type["output_text.done"][0]["logprobs"]
    assert first + second == by_type["content_part.done"][0]["part"]["logprobs"]
    item = by_type["output_item.done"][0]["item"]
    assert first + second == item["content"][0]["logprobs"]
    assert [item] == by_type["completed"][0]["response"]["output"]


def test_parts_of_a_message_are_numbered() -> None:
    """Each part closes before the next opens, with the next content_index; the item has both."""
    events = played(emitter(), [TextDelta("a"), RefusalDelta("b"), TextDelta("c"), END, STOP])
    indexes = [event["content_index"] for event in events if "content_index" in event]
    assert sorted(indexes) == indexes
    assert [
        {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "b"},
        {"type": "output_text", "text": "c", "annotations": [], "logprobs": []},
    ] == events[-1]["response"]["output"][0]["content"]


@pytest.mark.parametrize(
    ("parts", "added", "done"),
    [
        pytest.param([TextDelta("a"), END], None, None, id="none"),
        pytest.param(
            [MessageStarted("commentary"), TextDelta("a"), END],
            "commentary",
            "commentary",
            id="known first",
        ),
        pytest.param(
            [TextDelta("a"), ItemFinished(phase="final_answer")],
            None,
            "final_answer",
            id="known last",
        ),
        pytest.param(
            [MessageStarted("commentary"), TextDelta("a")],
            "commentary",
            "commentary",
            id="closed by the end",
        ),
    ],
)
def test_a_phase_shows_as_soon_as_it_is_known(
    parts: list[Part], added: str | None, done: str | None
) -> None:
    """It is on the item from then on, never null, and never on the message after it."""
    emitting = emitter()
    events = played(emitting, [*parts, STOP])
    items = [event["item"] for event in events if "item" in event]
    assert [added, done] == [item.get("phase") for item in items]
    assert all(item.get("phase", "") is not None for item in items)
    assert [done] == [getattr(item, "phase", None) for item in emitting.items]


def test_a_phase_is_its_own_message_s() -> None:
    """The message after one that has a phase has none by that."""
    parts: list[Part] = [MessageStarted("commentary"), TextDelta("a"), END]
    parts += [TextDelta("b"), END, STOP]
    first, second = played(emitter(), parts)[-1]["response"]["output"]
    assert ("commentary", False) == (first["phase"], "phase" in second)


def test_a_failure_keeps_finished_items_and_closes_nothing() -> None:
    """`response.failed` follows at once, with what was finished and the error."""
    emitting = emitter()
    events: list[Event | ErrorEvent] = [*emitting.start()]
    for part in (TextDelta("a"), END, CALL):
        events += emitting.feed(part)
    events.append(emitting.announce(ServiceError("broken")))
    events.append(emitting.failed(emitting.fail("server_error", "broken")))
    found = decoded(events)
    response = found[-1]["response"]
    assert ["output_item.added", "error", "failed"] == short(found)[-3:]
    assert ({"code": "server_error", "message": "broken"}, 1, None) == (
        response["error"],
        len(response["output"]),
        response["usage"],
    )


def test_a_cancelled_response_has_no_output() -> None:
    """Cancelling ends with `response.failed`, status cancelled, nothing in it."""
    emitting = emitter()
    emitting.start()
    emitting.feed(TextDelta("a"))
    [event] = decoded([emitting.failed(emitting.cancel())])
    assert ("response.failed", "cancelled", [], None, None) == (
        event["type"],
        event["response"]["status"],
        event["response"]["output"],
        event["response"]["error"],
        event["response"]["usage"],
    )


def test_events_of_a_named_lane_say_so() -> None:
    """Every event of a named lane echoes stream_id; the default lane has no such key."""
    parts: list[Part] = [TextDelta("a"), END, CALL, CallArguments("{}"), END, STOP]
    named = played(emitter(stream_id="a"), parts)
    assert {"a"} == {event["stream_id"] for event in named}
    assert not any("stream_id" in event for event in played(emitter(), parts))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([CallArguments("{}")], id="arguments without a call"),
        pytest.param([END], id="end of nothing"),
        pytest.param([TextDelta("a"), ReasoningDelta("b")], id="reasoning inside a message"),
        pytest.param([CALL, CALL], id="a call inside a call"),
        pytest.param([CALL, RefusalDelta("a")], id="a refusal inside a call"),
        pytest.param([TextDelta("a"), MessageStarted("commentary")], id="two messages at once"),
        pytest.param([STOP, TextDelta("a")], id="text after the end"),
        pytest.param([SEALED], id="the content of no compaction"),
        pytest.param([TextDelta("a"), SEALED], id="a compaction's content in a message"),
        pytest.param([TextDelta("a"), COMPACTION], id="a compaction inside a message"),
        pytest.param([COMPACTION, TextDelta("a")], id="text inside a compaction"),
        pytest.param([COMPACTION, END], id="a compaction without content"),
        pytest.param([COMPACTION, COMPACTION], id="a compaction inside a compaction"),
    ],
)
def test_parts_out_of_order_are_a_bug(parts: list[Part]) -> None:
    """A part that does not fit what is open raises, whoever sent it."""
    emitting = emitter()
    emitting.start()
    *before, last = parts
    for part in before:
        emitting.feed(part)
    with pytest.raises(InvalidTransition):
        emitting.feed(last)


def test_in_the_background() -> None:
    """A background response is created as queued, says so, and then goes on like any other."""
    emitting = emitter()
    events = decoded([*emitting.queue()])
    assert Stage.QUEUED is emitting.stage
    events += decoded([*emitting.begin()])
    events += decoded([*emitting.feed(TextDelta("a")), *emitting.feed(STOP)])
    events += decoded([emitting.complete(emitting.seal(8))])
    assert ["created", "queued", "in_progress"] == short(events[:3])
    assert ["queued", "queued", "in_progress"] == [e["response"]["status"] for e in events[:3]]
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    assert "completed" == events[-1]["response"]["status"]


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_an_end_before_the_model_had_a_place(how: str) -> None:
    """A queued response can be cancelled, or fail, without having been in progress."""
    emitting = emitter()
    emitting.queue()
    sealed = emitting.cancel() if how == "cancelled" else emitting.fail("server_error", "broken")
    (event,) = decoded([emitting.failed(sealed)])
    assert ("response.failed", how, 2) == (
        event["type"],
        event["response"]["status"],
        event["sequence_number"],
    )


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_steer_while_the_end_is_stored(how: str) -> None:
    """What is said about a steer between an end and its event is numbered before that event."""
    emitting = emitter()
    emitting.start()
    sealed = emitting.cancel() if how == "cancelled" else emitting.fail("server_error", "broken")
    taken, last = emitting.steer_taken("steer_1"), emitting.failed(sealed)
    assert (2, 3) == (taken.sequence_number, last.sequence_number)


def test_a_terminal_event_needs_an_end() -> None:
    """A response that runs has none."""
    emitting = emitter()
    emitting.start()
    with pytest.raises(AssertionError):
        emitting.failed(Raw(b"{}"))


def test_nothing_follows_the_terminal_event() -> None:
    """After its end a response takes no event and no other end."""
    emitting = emitter()
    played(emitting, [TextDelta("a"), STOP])
    assert Stage.ENDED is emitting.stage
    with pytest.raises(InvalidTransition):
        emitting.fail("server_error", "late")


ITEMS = st.one_of(
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4).map(
        lambda texts: [*map(TextDelta, texts), END]
    ),
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4).map(
        lambda texts: [*map(RefusalDelta, texts), END]
    ),
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4).map(
        lambda texts: [*map(ReasoningDelta, texts), END]
    ),
    st.tuples(st.sampled_from([CALL, CUSTOM]), st.lists(st.text(max_size=5), max_size=4)).map(
        lambda call: [call[0], *map(CallArguments, call[1]), END]
    ),
)


@given(
    items=st.lists(ITEMS, max_size=5),
    summary=st.booleans(),
    raw=st.booleans(),
    cut=st.booleans(),
)
def test_deltas_add_up_whatever_the_parts(
    items: list[list[Part]], summary: bool, raw: bool, cut: bool
) -> None:
    """Every added item is done once, indexes rise, deltas join to the done text, all valid."""
    parts = [part for item in items for part in item]
    if cut and parts:
        parts.pop()  # the last item stays open
    events = played(
        emitter(ReasoningView(summary=summary, raw=raw)), [*parts, CUT if cut else STOP]
    )
    added = [e for e in events if e["type"] == "response.output_item.added"]
    done = [e for e in events if e["type"] == "response.output_item.done"]
    assert list(range(len(items))) == [e["output_index"] for e in added]
    assert [e["item"]["id"] for e in added] == [e["item"]["id"] for e in done]
    assert [e["item"] for e in done] == events[-1]["response"]["output"]
    texts: dict[tuple[str, str], str] = {}
    for event in events:
        kind, _, verb = event["type"].rpartition(".")
        if verb == "delta":
            key = (event["item_id"], kind)
            texts[key] = texts.get(key, "") + event["delta"]
        elif verb == "done" and "item_id" in event and "part" not in event:
            whole = event.get("text", event.get("arguments", event.get("input")))
            whole = event.get("refusal", whole)
            assert whole == texts.get((event["item_id"], kind), "")


@pytest.mark.parametrize("kind", ["function", "custom"])
def test_a_call_that_is_not_waited_for_says_so(kind: Literal["function", "custom"]) -> None:
    """An async call is marked in every event, and other calls have no such key."""
    for is_async in (False, True):
        started = CallStarted(name="run", call_id="call_1", kind=kind, is_async=is_async)
        events = played(emitter(), [started, CallArguments("{}"), END, TextDelta("x"), STOP])
        items = [event["item"] for event in events if "item" in event]
        items.append(events[-1]["response"]["output"][0])
        expected = [True, True, None, None, True] if is_async else [None] * 5
        assert expected == [item.get("async") for item in items]
        assert is_async == any("async" in item for item in items)


def test_a_compaction_item_has_its_content_when_it_is_done() -> None:
    """It opens empty, under the id that it keeps, and comes whole."""
    emitting = emitter()
    events = played(emitting, [CompactionStarted(asked=True), SEALED, STOP])
    added, compacting, done = events[2:5]
    item_id = added["item"]["id"]
    assert {"type": "compaction", "id": item_id, "encrypted_content": ""} == added["item"]
    assert (item_id, 0) == (compacting["item_id"], compacting["output_index"])
    whole = {"type": "compaction", "id": item_id, "encrypted_content": "sealed"}
    assert whole == done["item"]
    assert [whole] == events[-1]["response"]["output"]
