"""Does a request to a chat endpoint cost what is new, however long the conversation is?

Incremental: a continuation writes one tool output (about 400 tokens) behind the bytes that the
connection kept. Full: the same turn from a client that sends every item again. Both give the same
bytes, which is checked. Joining is making one piece of memory of it all, as it is sent. That copy,
and going through the list of what is to be copied, is all that grows with the conversation.
"""

from __future__ import annotations

import json
from typing import Final

from msgspec import Raw, Struct

from bench import fixtures
from bench.measure import Bench, Result, Timing, time_call
from turnwire.context.chain import Context
from turnwire.models.base import Settings
from turnwire.models.chat.model import ChatModel
from turnwire.models.chat.options import ChatOptions
from turnwire.protocol.codec import decode_items, decode_tools, encode_item

__all__ = ["BENCH"]

SIZES: Final = (2_000, 8_000, 32_000, 128_000)
BUDGET_MS: Final = 0.05
"""Most that writing a request may cost: a tenth of a turn, behind any context."""
FLAT: Final = 1.5
"""Most that the largest context may cost beside the smallest: the rest is caches of the CPU."""
MS: Final = 1e3
TOKENS_OF_TURN: Final = fixtures.NUM_NEW_TOKENS + 40  # the call, and what stands around both


class Cost(Struct, frozen=True):
    """One size of context.

    Attributes:
        num_bytes: Of the request.
        incremental: Continuing it.
        join: Making it one piece.
        settle: Keeping it after the response.
        full: Sending all of it.
    """

    num_bytes: int
    incremental: Timing
    join: Timing
    settle: Timing
    full: Timing


def measure(num_tokens: int, *, quick: bool) -> Cost:
    """Time a turn behind about `num_tokens` of context, each way."""
    options = ChatOptions(base_url="http://127.0.0.1:1/v1", model="up")
    model = ChatModel("chat", options)
    tools = decode_tools(fixtures.TOOLS)
    settings = Settings(instructions=fixtures.INSTRUCTIONS, tools=tools, max_output_tokens=500)
    parent: Context | None = None
    new = _input({"role": "user", "content": "Find out why the lane test fails, and mend it."})
    for number in range(num_tokens // TOKENS_OF_TURN + 1):
        prepared = model.prepare(parent, decode_items(new), settings)
        parent = prepared.settle(decode_items(_input(_call(number))))
        new = _input(_output(number))
    if parent is None:
        raise AssertionError("there is at least one turn")
    output = decode_items(_input(_call(-1)))
    items = [encode_item(item) for item in parent.all_items()]
    whole = Raw(b"[" + b",".join([*items, bytes(new)[1:-1]]) + b"]")
    before = parent

    def incremental() -> list[bytes]:
        return model.prepare(before, decode_items(new), settings).body()

    def full() -> list[bytes]:
        return model.prepare(None, decode_items(whole), settings).body()

    pieces = incremental()
    if b"".join(pieces) != b"".join(full()):
        raise AssertionError("a continuation and a full resend must send the same bytes")
    prepared = model.prepare(before, decode_items(new), settings)
    return Cost(
        num_bytes=sum(map(len, pieces)),
        incremental=time_call(incremental, quick=quick),
        join=time_call(lambda: b"".join(pieces), quick=quick),
        settle=time_call(lambda: prepared.settle(output), quick=quick),
        full=time_call(full, quick=quick),
    )


def _input(item: dict[str, object]) -> Raw:
    return Raw(json.dumps([item]).encode())


def _call(number: int) -> dict[str, object]:
    arguments = json.dumps({"path": f"src/{number}.py", "pattern": "def", "limit": number})
    return {
        "type": "function_call",
        "call_id": f"call_{number:048d}",
        "name": "search_text",
        "arguments": arguments,
    }


def _output(number: int) -> dict[str, object]:
    return {
        "type": "function_call_output",
        "call_id": f"call_{number:048d}",
        "output": fixtures.tool_output(number),
    }


def run(quick: bool) -> list[Result]:
    """Every size, then how they compare."""
    sizes = (SIZES[0], SIZES[1]) if quick else SIZES
    costs = [measure(size, quick=quick) for size in sizes]
    results: list[Result] = []
    for size, cost in zip(sizes, costs, strict=True):
        about = f"{size:,} tokens, {cost.num_bytes / 1000:,.0f} kB"
        results += [
            cost.incremental.result(f"{about}: incremental", "CPU ms/turn", MS, bar=BUDGET_MS),
            cost.join.result(f"{about}: join", "CPU ms/turn", MS, bar=BUDGET_MS),
            cost.settle.result(f"{about}: settle", "CPU ms/turn", MS),
            cost.full.result(f"{about}: full resend", "CPU ms/turn", MS),
        ]
    small, large = costs[0], costs[-1]
    growth = f"from {sizes[0]:,} to {sizes[-1]:,} tokens"
    return [
        *results,
        Result(
            case=f"incremental {growth}",
            value=large.incremental.median_sec / small.incremental.median_sec,
            unit="times",
        ),
        Result(
            case=f"settle {growth}",
            value=large.settle.median_sec / small.settle.median_sec,
            unit="times",
            bar=FLAT,
        ),
    ]


BENCH: Final = Bench(
    name="request",
    question="Does a request to a chat endpoint cost what is new, however long the talk is?",
    fixed="about 400 new tokens of tool output, 12 tools, instructions",
    varies="tokens of context before them; continued, or sent again in full",
    run=run,
)
