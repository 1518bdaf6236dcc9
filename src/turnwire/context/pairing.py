"""Calls and their outputs: which call does an output answer, and which are still open?

Rules (protocol.md sections 3.2 and 18.21): an output must come after its call; a call is
answered once; a call repeated with a known call_id is the same call (livekit sends the model's
own call again next to its output); the model is not sampled while a call is open. A compaction item
brings the calls along that were open before it, so that they can be answered behind it whether or
not the items before it are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from turnwire.errors import InvalidRequest
from turnwire.protocol.items import (
    Compaction,
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
)

__all__ = ["OpenCall", "Paired", "calls_of", "is_optional", "pair", "require_outputs"]


class OpenCall(Struct, frozen=True, kw_only=True):
    """A call that waits for its output.

    Attributes:
        call_id: Pairs the call with its output.
        name: The tool's name; the output is rendered under it.
        ordinal: Place among the calls made in a row, from 0: tells apart parallel calls of one
            tool, without putting random call ids into the prompt. A call of a tool that has
            calls open from before (async ones) takes the next place that none of them has, so
            that an output that comes late can be told from the others. The items before a call
            decide it, and so it is the same when they are sent again.
        optional: The model may be sampled before the output arrives (async or cut calls).
    """

    call_id: str
    name: str
    ordinal: int
    kind: Literal["function", "custom"] = "function"
    optional: bool = False


class Paired(Struct, frozen=True, kw_only=True):
    """The outcome of pairing a run of new items.

    Attributes:
        items: The items to keep; repeated calls are left out.
        answers: Parallel to `items`: the call that an output answers, else None.
        open: Calls that are open after the last item, by call_id.
        row: How many calls stand in a row at the end; the next call's ordinal.
    """

    items: tuple[Item, ...]
    answers: tuple[OpenCall | None, ...]
    open: Mapping[str, OpenCall]
    row: int


def pair(
    items: Sequence[Item],
    open_before: Mapping[str, OpenCall],
    row: int,
    was_called: Callable[[str], bool],
) -> Paired:
    """Pair new items with the calls before them. Costs O(new items).

    Args:
        items: New items, in order.
        open_before: Calls open when they arrive.
        row: Calls in a row at the end of the chain before them.
        was_called: Whether an earlier item of the chain made a call with this id, open or
            answered; asked only where `open_before` does not know the id.

    Raises:
        InvalidRequest: an output without its call, or a second output for one call.
    """
    open_calls = dict(open_before)
    taken = {(call.name, call.ordinal) for call in open_before.values()}
    seen: set[str] = set()
    kept: list[Item] = []
    answers: list[OpenCall | None] = []
    for item in items:
        answer: OpenCall | None = None
        if isinstance(item, Compaction):
            row = _reopen(open_calls, taken, item)
            seen.update(call.call_id for call in calls_of(item))
        elif isinstance(item, FunctionCall | CustomToolCall):
            call_id = item.call_id
            if call_id in seen or call_id in open_calls or was_called(call_id):
                continue
            seen.add(call_id)
            _open(open_calls, taken, item, row)
            row += 1
        elif type(item) is not ConfigurationUpdate:  # which nobody sees
            row = 0
        if isinstance(item, FunctionCallOutput | CustomToolCallOutput):
            answer = open_calls.pop(item.call_id, None)
            if answer is None:
                raise _unpaired(item.call_id, item.call_id in seen or was_called(item.call_id))
            taken.discard((answer.name, answer.ordinal))
        kept.append(item)
        answers.append(answer)
    return Paired(items=tuple(kept), answers=tuple(answers), open=open_calls, row=row)


def calls_of(item: Item) -> list[FunctionCall | CustomToolCall]:
    """The calls that an item makes known: a call itself, or those that a compaction kept."""
    if isinstance(item, FunctionCall | CustomToolCall):
        return [item]
    if isinstance(item, Compaction) and item.opened is not None:
        return [one for one in item.opened.kept if isinstance(one, FunctionCall | CustomToolCall)]
    return []


def is_optional(call: FunctionCall | CustomToolCall) -> bool:
    """Whether the model may be sampled before the call has an output, and without any."""
    return bool(call.async_) or call.status == "incomplete"


def _open(
    open_calls: dict[str, OpenCall],
    taken: set[tuple[str, int]],
    call: FunctionCall | CustomToolCall,
    row: int,
) -> None:
    ordinal = row
    while (call.name, ordinal) in taken:
        ordinal += 1
    taken.add((call.name, ordinal))
    open_calls[call.call_id] = OpenCall(
        call_id=call.call_id,
        name=call.name,
        ordinal=ordinal,
        kind="function" if isinstance(call, FunctionCall) else "custom",
        optional=is_optional(call),
    )


def _reopen(open_calls: dict[str, OpenCall], taken: set[tuple[str, int]], item: Compaction) -> int:
    """Open the calls that a compaction kept, as if they were new; return the row at their end."""
    for call in calls_of(item):
        known = open_calls.pop(call.call_id, None)
        if known is not None:
            taken.discard((known.name, known.ordinal))
    row = 0
    for one in item.opened.kept if item.opened is not None else ():
        if isinstance(one, FunctionCall | CustomToolCall):
            _open(open_calls, taken, one, row)
            row += 1
        elif type(one) is not ConfigurationUpdate:
            row = 0
    return row


def _unpaired(call_id: str, known: bool) -> InvalidRequest:
    if known:
        return InvalidRequest(
            f"The call {call_id} has an output already; send one output for each call.",
            param="input",
        )
    error = InvalidRequest(
        f"No tool call found for function call output with call_id {call_id}.", param="input"
    )
    error.code = None  # OpenAI sends null here, and clients match on the message
    return error


def require_outputs(open_calls: Mapping[str, OpenCall]) -> None:
    """Check that the model may be sampled now.

    Raises:
        InvalidRequest: a call still waits for its output.
    """
    for call in open_calls.values():
        if not call.optional:
            error = InvalidRequest(
                f"No tool output found for function call {call.call_id}.", param="input"
            )
            error.code = None
            raise error
