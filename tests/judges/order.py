"""The order of a stream's events, and that all of them say the same.

A pure machine, one for each response: events go in, one at a time, and the first that is out of
order raises. It holds protocol.md section 6 (what may follow what), 5.4 (numbers), 4 (what a
snapshot may change), and 6.1, for which the official library's own accumulator is asked: what the
machine takes is fed to that too.

What may follow what inside an item is a table, `FOLLOWERS`: a new kind of item is a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from pydantic import BaseModel

__all__ = ["TERMINAL", "Disorder", "StreamOrder"]

Json = dict[str, Any]

TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
STATES: Final = TERMINAL | {"response.created", "response.queued", "response.in_progress"}

# What a terminal snapshot may say differently than the first one.
MOVING: Final = frozenset(
    {"status", "completed_at", "error", "incomplete_details", "output", "usage", "service_tier"}
)

ADDED, DONE = "output_item.added", "output_item.done"
PART_ADDED, PART_DONE = "content_part.added", "content_part.done"
SUMMARY_ADDED, SUMMARY_DONE = "reasoning_summary_part.added", "reasoning_summary_part.done"

PARTS: Final[Mapping[str, frozenset[str]]] = {
    PART_ADDED: frozenset(
        {"output_text.delta", "output_text.done", "refusal.delta", "refusal.done"}
        | {"reasoning_text.delta", "reasoning_text.done"}
    ),
    "output_text.delta": frozenset(
        {"output_text.delta", "output_text.annotation.added", "output_text.done"}
    ),
    "output_text.annotation.added": frozenset(
        {"output_text.delta", "output_text.annotation.added", "output_text.done"}
    ),
    "output_text.done": frozenset({PART_DONE}),
    "refusal.delta": frozenset({"refusal.delta", "refusal.done"}),
    "refusal.done": frozenset({PART_DONE}),
    "reasoning_text.delta": frozenset({"reasoning_text.delta", "reasoning_text.done"}),
    "reasoning_text.done": frozenset({PART_DONE}),
}
SUMMARIES: Final[Mapping[str, frozenset[str]]] = {
    SUMMARY_ADDED: frozenset({"reasoning_summary_text.delta", "reasoning_summary_text.done"}),
    "reasoning_summary_text.delta": frozenset(
        {"reasoning_summary_text.delta", "reasoning_summary_text.done"}
    ),
    "reasoning_summary_text.done": frozenset({SUMMARY_DONE}),
}


def _call(delta: str, done: str) -> Mapping[str, frozenset[str]]:
    # One that is cut before its first character has no delta.
    return {
        ADDED: frozenset({delta, done}),
        delta: frozenset({delta, done}),
        done: frozenset({DONE}),
    }


FOLLOWERS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "message": {
        ADDED: frozenset({PART_ADDED, DONE}),
        **PARTS,
        PART_DONE: frozenset({PART_ADDED, DONE}),
    },
    "reasoning": {
        ADDED: frozenset({SUMMARY_ADDED, PART_ADDED, DONE}),
        **SUMMARIES,
        **PARTS,
        SUMMARY_DONE: frozenset({SUMMARY_ADDED, PART_ADDED, DONE}),
        PART_DONE: frozenset({SUMMARY_ADDED, PART_ADDED, DONE}),
    },
    "function_call": _call("function_call_arguments.delta", "function_call_arguments.done"),
    "custom_tool_call": _call("custom_tool_call_input.delta", "custom_tool_call_input.done"),
    # It says that it is at work only if it was told to be: section 5.2.
    "compaction": {
        ADDED: frozenset({"compaction.compacting", DONE}),
        "compaction.compacting": frozenset({DONE}),
    },
}
"""By type of item and event: the events that may come next in that item."""

# The event that repeats a text in whole, and the key that it is under.
WHOLE: Final[Mapping[str, str]] = {
    "output_text.done": "text",
    "refusal.done": "refusal",
    "reasoning_text.done": "text",
    "reasoning_summary_text.done": "text",
    "function_call_arguments.done": "arguments",
    "custom_tool_call_input.done": "input",
}
# Which events say the text of a part.
SAID_BY: Final[Mapping[str, str]] = {
    "output_text": "output_text",
    "refusal": "refusal",
    "reasoning_text": "reasoning_text",
    "summary_text": "reasoning_summary_text",
}
# Keys under which the items of a type have their text, where it is no part.
TEXT_OF: Final[Mapping[str, str]] = {"function_call": "arguments", "custom_tool_call": "input"}
# Stays as it was from `added` to `done`.
FIXED: Final = ("type", "id", "call_id", "name", "role", "namespace", "async")


class Disorder(AssertionError):
    """An event came that must not come here, or contradicts one before it."""


class Open(Struct):
    """The item that is being said.

    Attributes:
        added: As it was announced.
        index: Its `output_index`.
        last: The event that came last in it, without `response.`.
        text: What its deltas have come to, of the part that is open or of the item.
        logprobs: Those of the deltas.
        annotations: Those of the part that is open.
        part: The part that is open, as it was announced.
        parts: Those that are done: content, summary.
    """

    added: Json
    index: int
    last: str = ADDED
    text: list[str] = []
    logprobs: list[Json] = []
    annotations: list[Json] = []
    part: Json = {}
    parts: dict[str, list[Json]] = field(default_factory=lambda: {"content": [], "summary": []})


class StreamOrder:
    """One response's events, from `response.created` to its terminal event.

    Attributes:
        next_number: The sequence number that the next event must have.
        ended: Whether the terminal event has come.
        created: The first snapshot.
    """

    def __init__(self, *, announced: bool = False) -> None:
        """Begin before the first event.

        Args:
            announced: Whether an `error` event goes before `response.failed` (section 5.3), as
                on event streams; not in WebSocket mode, where an error is a request's.
        """
        self.next_number = 0
        self.ended = False
        self.created: Json = {}
        self._announced: Final = announced
        self._announcement: Json | None = None
        self._queued = False
        self._begun = False
        self._open: Open | None = None
        self._done: Final[list[Json]] = []
        self._ids: Final[set[str]] = set()
        self._library: Final[ResponseStreamState[Any]] = ResponseStreamState(
            input_tools=omit, text_format=omit
        )

    def take(self, event: Json, read: BaseModel) -> None:
        """Take the next event.

        Args:
            event: As it came.
            read: The same, as the official library has it.

        Raises:
            Disorder: it must not come here.
        """
        self.count(event)
        _demand(not self.ended, "an event after the terminal one")
        kind = event["type"]
        _demand(self._announcement is None or kind == "response.failed", f"{kind} after error")
        if kind == "error":
            _demand(self._announced and bool(self.created), "error inside a response")
            self._announcement = event
            return
        again = self._open is not None and kind == f"response.{self._open.last}"
        if kind in STATES:
            self._take_state(kind, event["response"])
        else:
            _demand(self._begun, f"{kind} before response.in_progress")
            self._take_output(kind.removeprefix("response."), event)
        if not again:  # what it says to one delta it says to those that follow, at some cost
            self._ask_library(kind, read)

    def _ask_library(self, kind: str, read: BaseModel) -> None:
        try:
            self._library.handle_event(read)  # type: ignore[arg-type]
        except (AssertionError, RuntimeError, LookupError) as error:
            raise Disorder(f"the official accumulator: {error!r} at {kind}") from error

    def count(self, event: Json) -> None:
        """Take the number of an event; all that is said beside the response is numbered with it.

        Raises:
            Disorder: it is not the next.
        """
        number = event["sequence_number"]
        _demand(number == self.next_number, f"number {number}, not {self.next_number}")
        self.next_number += 1

    # --- the response ---------------------------------------------------------------------------

    def _take_state(self, kind: str, response: Json) -> None:
        status = response["status"]
        if kind == "response.created":
            _demand(not self.created, "a second response.created")
            _demand(status in ("queued", "in_progress"), f"created as {status}")
            _demand(response["output"] == [], "created with output")
            self.created = response
            self._queued = status != "queued"
            return
        _demand(bool(self.created), f"{kind} before response.created")
        if kind not in TERMINAL:
            # Said again in long silences, the same each time.
            _demand(kind == f"response.{status}", f"{kind} with status {status}")
            # One that is created as queued says so once more before anything else.
            wanted = "response.in_progress" if self._queued else "response.queued"
            _demand(kind == wanted, f"{kind} out of order")
            self._queued = True
            _demand({**self.created, "status": status} == response, f"{kind} is not as created")
            self._begun = self._begun or kind == "response.in_progress"
            return
        self._end(kind, response)

    def _end(self, kind: str, response: Json) -> None:
        status = response["status"]
        expected = "response.failed" if status == "cancelled" else f"response.{status}"
        _demand(kind == expected, f"{kind} with status {status}")
        first, last = (_fixed(one) for one in (self.created, response))
        changed = {key for key in first | last if first.get(key) != last.get(key)}
        _demand(not changed, f"the snapshots differ in {sorted(changed)}")
        # One that waited may fail, or be cancelled, before the model has a place for it.
        waiting = self.created["status"] == "queued" and self._queued
        waited = waiting and status in ("failed", "cancelled")
        _demand(self._begun or waited, f"{status} without response.in_progress")
        if status in ("completed", "incomplete"):
            _demand(self._open is None, f"{status} with an item open")
        _demand((response["output"] == []) or status != "cancelled", "cancelled with output")
        if status != "cancelled":
            _demand(self._done == response["output"], "the output is not what was done")
        if self._announced and status == "failed":
            _demand(self._announcement is not None, "failed without an error event")
        if self._announcement is not None:
            error = self._announcement.get("error") or self._announcement
            told = {key: error[key] for key in ("code", "message")}
            _demand(told == response["error"], "the error event is not the response's error")
        self.ended = True

    # --- its output -----------------------------------------------------------------------------

    def _take_output(self, kind: str, event: Json) -> None:
        _demand("output_index" in event, f"{kind} is of no item")
        if kind == ADDED:
            self._add(event)
            return
        opened = self._open
        if opened is None:
            raise Disorder(f"{kind} with no item open")
        item_type = opened.added["type"]
        allowed = FOLLOWERS[item_type].get(opened.last, frozenset())
        _demand(kind in allowed, f"{kind} after {opened.last} in a {item_type}")
        _demand(event["output_index"] == opened.index, f"{kind} of another item")
        if kind != DONE:
            _demand(event["item_id"] == opened.added["id"], f"{kind} of another item_id")
        opened.last = kind
        if kind == DONE:
            self._close(opened, event["item"])
        elif kind.endswith(".delta"):
            _demand(event["delta"] != "", "an empty delta")
            opened.text.append(event["delta"])
            opened.logprobs.extend(event.get("logprobs") or ())
        elif kind == "output_text.annotation.added":
            number = len(opened.annotations)
            _demand(event["annotation_index"] == number, "an annotation is not the next")
            reach = event["annotation"].get("end_index", 0)
            _demand(reach <= len("".join(opened.text)), "an annotation before its text")
            opened.annotations.append(event["annotation"])
        elif kind in WHOLE:
            _demand("".join(opened.text) == event[WHOLE[kind]], f"{kind} is not its deltas")
            if "logprobs" in event:
                _demand(opened.logprobs == event["logprobs"], "the logprobs are not the deltas'")
        elif kind.endswith("_part.added"):
            opened.text, opened.logprobs, opened.annotations = [], [], []
        if "part" in event or "content_index" in event or "summary_index" in event:
            _take_part(opened, kind, event)

    def _add(self, event: Json) -> None:
        item, index = event["item"], event["output_index"]
        _demand(self._open is None, "an item is added while one is open")
        _demand(index == len(self._done), f"output_index {index}, not {len(self._done)}")
        _demand(item["type"] in FOLLOWERS, f"nothing is known of {item['type']} items")
        _demand(item["id"] not in self._ids, f"two items have the id {item['id']}")
        _demand(item.get("status", "in_progress") == "in_progress", "added, and not in progress")
        for key in ("content", "summary", TEXT_OF.get(item["type"])):
            _demand(not item.get(key), f"added with {key}")
        self._ids.add(item["id"])
        self._open = Open(item, index)

    def _close(self, opened: Open, item: Json) -> None:
        for key in FIXED:
            _demand(opened.added.get(key) == item.get(key), f"the {key} of an item has changed")
        text_key = TEXT_OF.get(item["type"])
        if text_key is not None:
            _demand("".join(opened.text) == item[text_key], f"{text_key} are not the deltas")
        for where, parts in opened.parts.items():
            _demand((item.get(where) or []) == parts, f"the {where} of an item is not its parts")
        self._done.append(item)
        self._open = None


def _take_part(opened: Open, kind: str, event: Json) -> None:
    where = "summary" if "summary_index" in event else "content"
    index = event[f"{where}_index"]
    done = opened.parts[where]
    _demand(index == len(done), f"{where}_index {index}, not {len(done)}")
    if "part" not in event:
        _demand(kind.partition(".")[0] == SAID_BY[opened.part["type"]], f"{kind} in another part")
        return
    part = event["part"]
    key = "refusal" if part["type"] == "refusal" else "text"
    if kind.endswith("_part.added"):
        _demand(part[key] == "", "a part is added with text")
        opened.part = part
        return
    _demand(part["type"] == opened.part["type"], "a part has changed its type")
    _demand("".join(opened.text) == part[key], f"{kind} is not its deltas")
    _demand(part.get("annotations", []) == opened.annotations, "annotations that were not sent")
    tokens = [
        [one["token"] for one in told] for told in (part.get("logprobs") or [], opened.logprobs)
    ]
    _demand(tokens[0] == tokens[1], "the logprobs of a part are not the deltas'")
    done.append(part)


def _fixed(response: Json) -> Json:
    return {key: value for key, value in response.items() if key not in MOVING}


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Disorder(otherwise)
