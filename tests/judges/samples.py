"""Streams and objects as they must be, written down here and not by any server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

__all__ = ["ITEMS", "STREAMS", "Json", "numbered", "response", "stream"]

Json = dict[str, Any]

USAGE: Final[Json] = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 14,
}
LOGPROB: Final[Json] = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}],
}
CITATION: Final[Json] = {
    "type": "url_citation",
    "url": "https://example.com",
    "title": "Example",
    "start_index": 0,
    "end_index": 2,
}


def response(status: str = "completed", *, output: Iterable[Json] = (), **changes: Any) -> Json:
    """A response object with every field, as its status demands."""
    ended = status in ("completed", "incomplete")
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_790_000_000,
        "completed_at": 1_790_000_001 if status == "completed" else None,
        "status": status,
        "background": False,
        "error": {"code": "server_error", "message": "It broke."} if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "truncation": "disabled",
        "usage": USAGE if ended else None,
        "user": None,
        "metadata": {},
        **changes,
    }


def text_part(text: str, **changes: Any) -> Json:
    """A part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [], **changes}


def message(*parts: Json, status: str = "completed") -> Json:
    """A message of the model."""
    return {
        "type": "message",
        "id": "msg_1",
        "status": status,
        "role": "assistant",
        "content": list(parts),
    }


def _said(item: Json, index: int) -> Iterator[Json]:
    """The events that say an item, in order."""
    place = {"item_id": item["id"], "output_index": index}
    empty = {**item, **({"status": "in_progress"} if "status" in item else {})}
    body: list[Json] = []
    match item["type"]:
        case "message":
            empty["content"] = []
            for number, part in enumerate(item["content"]):
                body += _said_part(part, {**place, "content_index": number})
        case "reasoning":
            empty["summary"] = []
            empty.pop("content", None)
            for number, part in enumerate(item["summary"]):
                body += _said_summary(part, {**place, "summary_index": number})
            for number, part in enumerate(item.get("content", ())):
                body += _said_part(part, {**place, "content_index": number})
        case "function_call":
            empty["arguments"] = ""
            body = _said_call("function_call_arguments", "arguments", item, place)
        case "custom_tool_call":
            empty["input"] = ""
            body = _said_call("custom_tool_call_input", "input", item, place)
        case "compaction" if item["encrypted_content"] == "forced":
            body = [{"type": "response.compaction.compacting", **place}]
        case _:
            pass
    yield {"type": "response.output_item.added", "output_index": index, "item": empty}
    yield from body
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _said_part(part: Json, place: Json) -> list[Json]:
    kind = part["type"]
    key = "refusal" if kind == "refusal" else "text"
    plain: Json = {**part, key: ""}
    logged: Json = {}
    if kind == "output_text":
        plain["annotations"], plain["logprobs"] = [], []
        logged = {"logprobs": part["logprobs"]}
    half = len(part[key]) // 2
    notes = [
        {
            "type": "response.output_text.annotation.added",
            **place,
            "annotation_index": number,
            "annotation": annotation,
        }
        for number, annotation in enumerate(part.get("annotations", ()))
    ]
    return [
        {"type": "response.content_part.added", **place, "part": plain},
        {"type": f"response.{kind}.delta", **place, "delta": part[key][:half], **logged},
        *notes,
        {
            "type": f"response.{kind}.delta",
            **place,
            "delta": part[key][half:],
            **({"logprobs": []} if logged else {}),
        },
        {"type": f"response.{kind}.done", **place, key: part[key], **logged},
        {"type": "response.content_part.done", **place, "part": part},
    ]


def _said_summary(part: Json, place: Json) -> list[Json]:
    name = "response.reasoning_summary"
    return [
        {"type": f"{name}_part.added", **place, "part": {**part, "text": ""}},
        {"type": f"{name}_text.delta", **place, "delta": part["text"]},
        {"type": f"{name}_text.done", **place, "text": part["text"]},
        {"type": f"{name}_part.done", **place, "part": part},
    ]


def _said_call(name: str, key: str, item: Json, place: Json) -> list[Json]:
    done = {"name": item["name"]} if name == "function_call_arguments" else {}
    return [
        {"type": f"response.{name}.delta", **place, "delta": item[key]},
        {"type": f"response.{name}.done", **place, key: item[key], **done},
    ]


def numbered(events: Iterable[Json]) -> list[Json]:
    """The events with their numbers."""
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def stream(
    *items: Json,
    status: str = "completed",
    queued: bool = False,
    ended: Mapping[str, Any] | None = None,
    **changes: Any,
) -> list[Json]:
    """A stream of a response with these items.

    Args:
        items: Its output, in order.
        status: How it ends.
        queued: Whether it begins as one that waits.
        ended: Fields that only its last snapshot has.
        changes: Fields of all of its snapshots.
    """
    first = "queued" if queued else "in_progress"
    snapshots = [("created", response(first, **changes))]
    if queued:
        snapshots.append(("queued", response("queued", **changes)))
    snapshots.append(("in_progress", response("in_progress", **changes)))
    terminal = "failed" if status == "cancelled" else status
    events: list[Json] = [
        {"type": f"response.{kind}", "response": snapshot} for kind, snapshot in snapshots
    ]
    for index, item in enumerate(items):
        events += _said(item, index)
    if status == "failed":
        told = (ended or {}).get("error") or {"code": "server_error", "message": "It broke."}
        error = {**told, "param": None}
        nested = {**error, "type": "server_error", "headers": {"retry-after": "7"}}
        events.append({"type": "error", "status": 500, **error, "error": nested})
    output = () if status == "cancelled" else items
    last = response(status, output=output, **{**changes, **(ended or {})})
    events.append({"type": f"response.{terminal}", "response": last})
    return numbered(events)


ITEMS: Final[Mapping[str, Json]] = {
    "text": message(text_part("Hi there")),
    "two parts": message(text_part("one"), text_part("two")),
    "no parts": message(),
    "logprobs": message(text_part("Hi", logprobs=[LOGPROB])),
    "annotations": message(text_part("Hi there", annotations=[CITATION, CITATION])),
    "refusal": message({"type": "refusal", "refusal": "I will not."}),
    "hidden reasoning": {"type": "reasoning", "id": "rs_1", "summary": []},
    "summary": {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": text} for text in ("one", "two")],
        "encrypted_content": "sealed",
    },
    "raw reasoning": {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    },
    "call": {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "f",
        "arguments": '{"a":1}',
        "status": "completed",
    },
    "custom call": {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "call_1",
        "name": "c",
        "input": "go",
        "status": "completed",
    },
    "compaction": {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"},
    "forced compaction": {"type": "compaction", "id": "cmp_1", "encrypted_content": "forced"},
}

STREAMS: Final[Mapping[str, list[Json]]] = {
    **{name: stream(item) for name, item in ITEMS.items()},
    "padded": [
        {**event, "obfuscation": "0123456789"} if event["type"].endswith(".delta") else event
        for event in stream(ITEMS["summary"], ITEMS["text"], ITEMS["call"])
    ],
    "nothing": stream(),
    "several items": stream(ITEMS["summary"], ITEMS["text"], ITEMS["call"]),
    "background": stream(ITEMS["text"], queued=True, background=True),
    "incomplete": stream(message(text_part("Hi th"), status="incomplete"), status="incomplete"),
    "steered": stream(
        ITEMS["text"], status="incomplete", ended={"incomplete_details": {"reason": "steered"}}
    ),
    "failed": stream(ITEMS["text"], status="failed"),
    "too long": stream(
        status="failed",
        ended={"error": {"code": "context_length_exceeded", "message": "It is too long."}},
    ),
    "cancelled": stream(status="cancelled"),
    "cancelled while it waited": numbered(
        event
        for event in stream(status="cancelled", queued=True, background=True)
        if event["type"] != "response.in_progress"
    ),
}
