"""What every stream and every response object of this server must be.

Beyond what `tests/judges` holds against anything that is read: which fields are there and which
are null, how the ids begin, and which events the server chooses where it has a choice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

from tests.integration.wire import TERMINAL, Json
from tests.judges.judge import judge_response

__all__ = ["Transcript", "check_logprobs", "check_response", "essence"]

NEVER_NULL: Final = {
    "id",
    "object",
    "created_at",
    "status",
    "background",
    "model",
    "output",
    "parallel_tool_calls",
    "reasoning",
    "service_tier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "truncation",
    "metadata",
}
MAYBE_NULL: Final = {
    "completed_at",
    "error",
    "incomplete_details",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "usage",
    "user",
}
# status: (completed_at, error, incomplete_details, usage) is set; protocol.md section 4.
SET_FIELDS: Final[dict[str, tuple[bool, bool, bool, bool | None]]] = {
    "queued": (False, False, False, False),
    "in_progress": (False, False, False, False),
    "completed": (True, False, False, True),
    "incomplete": (False, False, True, True),
    "failed": (False, True, False, None),
    "cancelled": (False, False, False, False),
}
ID_PREFIX: Final = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "compaction": "cmp_",
}
TEXT_OF: Final = {"function_call": "arguments", "custom_tool_call": "input"}

# Per kind of item the events from `added` to `done`, with every run of deltas as one.
MESSAGE: Final = [
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
HIDDEN: Final = ["response.output_item.added", "response.output_item.done"]
SUMMARY: Final = [
    "response.output_item.added",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.output_item.done",
]
FUNCTION: Final = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]
CUSTOM: Final = [
    "response.output_item.added",
    "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done",
    "response.output_item.done",
]
REFUSED: Final = [name.replace("output_text", "refusal") for name in MESSAGE]
PADDED: Final = (
    "response.output_text.delta",
    "response.function_call_arguments.delta",
    "response.reasoning_summary_text.delta",
)
ASKED: Final = [HIDDEN[0], "response.compaction.compacting", HIDDEN[1]]
ORDERS: Final = {
    "message": [MESSAGE, REFUSED],
    "reasoning": [HIDDEN, SUMMARY],
    # A call that is cut at its first brace has no delta.
    "function_call": [FUNCTION, [name for name in FUNCTION if not name.endswith(".delta")]],
    "custom_tool_call": [CUSTOM, [name for name in CUSTOM if not name.endswith(".delta")]],
    "compaction": [HIDDEN, ASKED],
}


def check_response(response: Json) -> None:
    """A response object has every field it must have, as its status demands."""
    judge_response(response)
    missing = (NEVER_NULL | MAYBE_NULL) - set(response)
    assert not missing, f"missing: {missing}"
    null = {name for name in NEVER_NULL if response[name] is None}
    assert not null, f"null: {null}"
    assert response["object"] == "response"
    assert response["id"].startswith("resp_")
    # The official client's types hold times as floats; on the wire they are integers, which a
    # test of bytes checks.
    assert response["created_at"] == int(response["created_at"])
    assert {"effort", "summary"} <= set(response["reasoning"])
    assert {"format", "verbosity"} <= set(response["text"])
    for tool in response["tools"]:
        if tool["type"] == "function":
            assert {"name", "description", "parameters", "strict"} <= set(tool)
    completed_at, error, details, usage = SET_FIELDS[response["status"]]
    assert completed_at == (response["completed_at"] is not None)
    assert error == (response["error"] is not None)
    assert details == (response["incomplete_details"] is not None)
    if usage is not None:
        assert usage == (response["usage"] is not None)
    if response["completed_at"] is not None:
        assert response["completed_at"] == int(response["completed_at"])
        assert response["completed_at"] >= response["created_at"]
    if response["error"] is not None:
        assert {"code", "message"} == set(response["error"])
    if response["usage"] is not None:
        _check_usage(response["usage"])
    for index, item in enumerate(response["output"]):
        last = index == len(response["output"]) - 1
        _check_item(item, may_be_cut=last and response["status"] == "incomplete")


def _check_usage(usage: Json) -> None:
    given, made = usage["input_tokens"], usage["output_tokens"]
    assert usage["total_tokens"] == given + made
    details = usage["input_tokens_details"]
    assert {"cached_tokens", "cache_write_tokens"} == set(details)
    assert 0 <= details["cached_tokens"] < given
    assert 0 <= usage["output_tokens_details"]["reasoning_tokens"] <= made


def _check_item(item: Json, *, may_be_cut: bool) -> None:
    kind = item["type"]
    assert item["id"].startswith(ID_PREFIX[kind])
    if kind == "reasoning":
        assert all(part["type"] == "summary_text" for part in item["summary"])
        assert "content" not in item
        return
    if kind == "compaction":
        assert {"id", "type", "encrypted_content"} == set(item)
        assert item["encrypted_content"]
        return
    assert item["status"] in (("completed", "incomplete") if may_be_cut else ("completed",))
    if kind == "message":
        assert item["role"] == "assistant"
        assert item["content"]
        assert item.get("phase", "commentary") in ("commentary", "final_answer")
        for part in item["content"]:
            if part["type"] == "refusal":
                assert {"type", "refusal"} == set(part)
                continue
            assert {"type", "text", "annotations", "logprobs"} == set(part)
            assert [] == part["annotations"]
            check_logprobs(part)
    else:
        assert item["call_id"].startswith("call_")
        assert isinstance(item[TEXT_OF[kind]], str)
        if kind == "function_call" and item["status"] == "completed":
            assert isinstance(json.loads(item["arguments"]), dict)


def check_logprobs(part: Json) -> None:
    """The log probabilities of a text, if there are any, are of its own tokens, in order."""
    logprobs = part["logprobs"]
    if not logprobs:
        return
    data = bytes(byte for one in logprobs for byte in one["bytes"])
    assert part["text"] == data.decode("utf-8", "replace")
    for one in logprobs:
        assert {"token", "logprob", "bytes", "top_logprobs"} == set(one)
        for token in (one, *one["top_logprobs"]):
            assert token["logprob"] <= 0
            assert token["token"] == bytes(token["bytes"]).decode("utf-8", "replace")
        likely = {tuple(top["bytes"]): top["logprob"] for top in one["top_logprobs"]}
        likely[tuple(one["bytes"])] = one["logprob"]
        assert sum(map(math.exp, likely.values())) <= 1 + 1e-6


class Transcript:
    """The events of one response, in order, found to be right.

    Attributes:
        events: All of them.
        response: The terminal response object.
        status: Its status.
        output: Its items.
    """

    def __init__(
        self,
        events: Sequence[Json],
        *,
        stream_id: str | None = None,
        sse: bool = False,
        background: bool = False,
        padded: bool = False,
    ) -> None:
        """Check the events of one response.

        Args:
            events: All of them.
            stream_id: The lane that each must name.
            sse: They came over HTTP.
            background: Of a response in the background.
            padded: Padding was asked for.

        Raises:
            AssertionError: one of them is not as it must be.
        """
        self.events: Final = list(events)
        for event in events:
            assert ("obfuscation" in event) == (padded and event["type"] in PADDED)
            if "obfuscation" in event:
                assert 0 == (len(event["delta"]) + len(event["obfuscation"])) % 16
            assert event.get("stream_id") == stream_id
            assert ("stream_id" in event) == (stream_id is not None)
        assert list(range(len(events))) == [event["sequence_number"] for event in events]
        frame = ["created", "queued", "in_progress"] if background else ["created", "in_progress"]
        if background and len(events) > 2 and events[2]["type"] != "response.in_progress":
            frame.pop()  # it ended before the model had a place for it
        assert [f"response.{one}" for one in frame] == [e["type"] for e in events[: len(frame)]]
        terminal = events[-1]
        assert terminal["type"] in TERMINAL
        assert [terminal] == [event for event in events if event["type"] in TERMINAL]
        self.response: Final[Json] = terminal["response"]
        self.status: Final[str] = self.response["status"]
        self.output: Final[list[Json]] = self.response["output"]
        expected = "failed" if self.status == "cancelled" else self.status
        assert terminal["type"] == f"response.{expected}"
        self._check_snapshots(frame)
        body = list(events[len(frame) : -1])
        if (sse or background) and self.status == "failed":
            self._check_announcement(body.pop())
        assert "error" not in [event["type"] for event in body]
        done = self._check_items(body)
        if self.status != "cancelled":
            assert done == self.output

    @property
    def text(self) -> str:
        """Text of all messages."""
        return "".join(
            part["text"]
            for item in self.output
            if item["type"] == "message"
            for part in item["content"]
            if part["type"] == "output_text"
        )

    @property
    def calls(self) -> list[Json]:
        """The function and custom calls."""
        return [item for item in self.output if item["type"] in TEXT_OF]

    @property
    def id(self) -> str:
        """Of the response."""
        response_id = self.response["id"]
        assert isinstance(response_id, str)
        return response_id

    def _check_snapshots(self, frame: Sequence[str]) -> None:
        created, *others = (event["response"] for event in self.events[: len(frame)])
        for kind, other in zip(frame[1:], others, strict=True):
            assert {**created, "status": kind} == other
        first = "queued" if "queued" in frame else "in_progress"
        assert (first, []) == (created["status"], created["output"])
        moving = {
            "status",
            "completed_at",
            "error",
            "incomplete_details",
            "output",
            "usage",
            "service_tier",
        }
        for response in (created, self.response):
            check_response(response)
        assert {name: value for name, value in created.items() if name not in moving} == {
            name: value for name, value in self.response.items() if name not in moving
        }

    def _check_announcement(self, event: Json) -> None:
        assert event["type"] == "error"
        error = self.response["error"]
        assert (error["code"], error["message"]) == (event["code"], event["message"])
        assert (error["code"], error["message"]) == (
            event["error"]["code"],
            event["error"]["message"],
        )

    def _check_items(self, body: Sequence[Json]) -> list[Json]:
        """Check what lies between the frame of the stream; the items that were done."""
        done: list[Json] = []
        opened: list[Json] = []
        ids: set[str] = set()
        for event in body:
            assert event["output_index"] == len(done)
            if event["type"] == "response.output_item.added":
                assert not opened
                assert event["item"]["id"] not in ids
                ids.add(event["item"]["id"])
            else:
                assert opened
            opened.append(event)
            if event["type"] == "response.output_item.done":
                done.append(_check_closed(opened))
                opened = []
        if opened:
            # Only a response that failed or was cancelled leaves an item open.
            assert self.status in ("failed", "cancelled")
            _check_open(opened)
        return done


def _kinds(events: Sequence[Json]) -> list[str]:
    kinds: list[str] = []
    for event in events:
        if not (event["type"].endswith(".delta") and kinds and kinds[-1] == event["type"]):
            kinds.append(event["type"])
    return kinds


def _check_added(opened: Sequence[Json]) -> Json:
    item: Json = opened[0]["item"]
    kind = item["type"]
    if kind == "message":
        assert ("in_progress", []) == (item["status"], item["content"])
    elif kind == "reasoning":
        assert item["summary"] == []
    elif kind == "compaction":
        assert item["encrypted_content"] == ""
    else:
        assert ("in_progress", "") == (item["status"], item[TEXT_OF[kind]])
    for event in opened:
        if "item" not in event:
            assert event["item_id"] == item["id"]
        for index in ("content_index", "summary_index"):
            assert event.get(index, 0) == 0
        if event["type"].endswith(".delta"):
            assert event["delta"]
    return item


def _check_open(opened: Sequence[Json]) -> None:
    item = _check_added(opened)
    kinds = _kinds(opened)
    assert any(order[: len(kinds)] == kinds for order in ORDERS[item["type"]])


def _check_closed(opened: Sequence[Json]) -> Json:
    added = _check_added(opened)
    item: Json = opened[-1]["item"]
    kind = item["type"]
    assert (added["type"], added["id"]) == (kind, item["id"])
    assert _kinds(opened) in ORDERS[kind]
    deltas = "".join(event["delta"] for event in opened if event["type"].endswith(".delta"))
    by_type = {event["type"]: event for event in opened}
    if kind == "message":
        (part,) = item["content"]
        field = {"output_text": "text", "refusal": "refusal"}[part["type"]]
        done = by_type[f"response.{part['type']}.done"]
        assert deltas == part[field] == done[field]
        assert part == by_type["response.content_part.done"]["part"]
        empty = {**part, field: ""} | ({"logprobs": []} if field == "text" else {})
        assert by_type["response.content_part.added"]["part"] == empty
        if field == "text":
            sent = [one for event in opened for one in event.get("logprobs", ())]
            assert part["logprobs"] == done["logprobs"]
            assert sent == part["logprobs"] * 2  # in the deltas, and in the done event
    elif kind == "reasoning":
        parts = item["summary"]
        if parts:
            assert [{"type": "summary_text", "text": deltas}] == parts
            assert deltas == by_type["response.reasoning_summary_text.done"]["text"]
            assert parts == [by_type["response.reasoning_summary_part.done"]["part"]]
        else:
            assert _kinds(opened) == HIDDEN
    elif kind != "compaction":
        field = TEXT_OF[kind]
        assert deltas == item[field]
        assert (added["call_id"], added["name"]) == (item["call_id"], item["name"])
        closing = {
            "function_call": "function_call_arguments",
            "custom_tool_call": "custom_tool_call_input",
        }
        assert deltas == by_type[f"response.{closing[kind]}.done"][field]
    return item


def essence(response: Json) -> list[Json]:
    """What the model said, without what differs between two runs that say the same."""
    differ = ("id", "call_id", "encrypted_content")
    return [
        {name: value for name, value in item.items() if name not in differ}
        for item in response["output"]
    ]
