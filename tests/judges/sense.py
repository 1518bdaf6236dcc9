"""What a response object must be beside its types: protocol.md section 4, and the arithmetic.

No schema says any of this, since it is about how fields go together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["complaints"]

Json = dict[str, Any]

# status: whether completed_at, error, incomplete_details and usage are set; None: either.
SET: Final[Mapping[str, tuple[bool, bool, bool, bool | None]]] = {
    "queued": (False, False, False, False),
    "in_progress": (False, False, False, False),
    "completed": (True, False, False, True),
    "incomplete": (False, False, True, True),
    "failed": (False, True, False, None),
    "cancelled": (False, False, False, False),
}
# Nullable, and required by no description that we hold to, but always sent: section 4, [W].
PRESENT: Final = frozenset({"user", "prompt_cache_retention"})
PREFIX: Final[Mapping[str, str]] = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "compaction": "cmp_",
}
# Items that have no status: O.
STATELESS: Final = frozenset({"reasoning", "compaction"})


def complaints(response: Json) -> Iterator[str]:
    """What is wrong with a response whose fields are of the right types."""
    status = response["status"]
    if not response["id"].startswith("resp_"):
        yield f"id: {response['id']!r}"
    for name in sorted(PRESENT - set(response)):
        yield f"{name}: absent"
    wanted = dict(
        zip(("completed_at", "error", "incomplete_details", "usage"), SET[status], strict=True)
    )
    for name, is_set in wanted.items():
        if is_set is not None and is_set != (response[name] is not None):
            yield f"{name}: {response[name]!r} in a response that is {status}"
    if status in ("queued", "in_progress", "cancelled") and response["output"]:
        yield f"output: not empty in a response that is {status}"
    if response["completed_at"] is not None and response["completed_at"] < response["created_at"]:
        yield "completed_at: before created_at"
    if response["error"] is not None and {"code", "message"} != set(response["error"]):
        yield f"error: has {sorted(response['error'])}"
    if response["usage"] is not None:
        yield from (f"usage.{one}" for one in _usage(response["usage"]))
    last = len(response["output"]) - 1
    for index, item in enumerate(response["output"]):
        may_be_cut = index == last and status == "incomplete"
        yield from (f"output.{index}.{one}" for one in _item(item, may_be_cut))


def _usage(usage: Json) -> Iterator[str]:
    given, made = usage["input_tokens"], usage["output_tokens"]
    if usage["total_tokens"] != given + made:
        yield "total_tokens: not input and output together"
    details = usage["input_tokens_details"]
    if not 0 <= details["cached_tokens"] <= given:
        yield "input_tokens_details.cached_tokens: more than there were"
    if not 0 <= usage["output_tokens_details"]["reasoning_tokens"] <= made:
        yield "output_tokens_details.reasoning_tokens: more than there were"


def _item(item: Json, may_be_cut: bool) -> Iterator[str]:
    kind = item["type"]
    if kind in PREFIX and not item["id"].startswith(PREFIX[kind]):
        yield f"id: {item['id']!r} of a {kind}"
    if kind in STATELESS:
        return
    if item["status"] not in (("completed", "incomplete") if may_be_cut else ("completed",)):
        yield f"status: {item['status']}"
    if "call_id" in item and not item["call_id"].startswith("call_"):
        yield f"call_id: {item['call_id']!r}"
    if kind == "function_call" and item["status"] == "completed":
        try:
            json.loads(item["arguments"])
        except ValueError:
            yield "arguments: no JSON"
