"""Does a turn cost what is new, however long the conversation is?

Incremental: a continuation sends one tool output (about 400 tokens) and finds its context as
the connection kept it. Full: the same turn from a client that sends every item again, so that
all of them are decoded from JSON, rendered and tokenised. Resent: the same bytes again, from a
client whose turn before was served: the server recognises them. Rewritten: every item again in
other bytes (spaces, other ids), so that they are recognised only once decoded. All four give the
same prompt, token for token, which is checked. Settling is what a finished response costs before
its last event.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from msgspec import Raw, Struct

from bench import fixtures
from bench.measure import Bench, Result, Timing, time_call
from turnwire.context.chain import Context
from turnwire.context.known import KnownContexts, Verbatim
from turnwire.context.recent import RecentContexts
from turnwire.history import History
from turnwire.models.base import Settings
from turnwire.models.token_model import PreparedTokens, TokenModel
from turnwire.protocol.codec import decode_items, decode_tools, echo, encode_item
from turnwire.protocol.items import FunctionCall, Item
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.resent import Resent
from turnwire.sealing import Sealer
from turnwire.session.emitter import Emitter
from turnwire.store.memory import MemoryStore

__all__ = ["BENCH"]

SIZES: Final = (2_000, 8_000, 32_000, 128_000)
FLAT: Final = 1.5
"""Most that the largest context may cost beside the smallest: the rest is caches of the CPU."""
MS: Final = 1e3


class Cost(Struct, frozen=True):
    """One size of context.

    Attributes:
        num_tokens: Of the prompt.
        incremental: Continuing it.
        full: Sending all of it to a server that knows nothing.
        resent: Sending all of it to one that served the turn before, over either path.
        rewritten: The same in other bytes.
        settle: Keeping it after the response.
    """

    num_tokens: int
    incremental: Timing
    full: Timing
    resent: Timing
    rewritten: Timing
    settle: Timing


def measure(model: TokenModel, num_tokens: int, runner: asyncio.Runner, *, quick: bool) -> Cost:
    """Time a turn behind about `num_tokens` of context, each way."""
    settings = Settings(
        instructions=fixtures.INSTRUCTIONS,
        tools=decode_tools(fixtures.TOOLS),
        hints={"sim.tool_calls": "1000000"},
    )
    parent, new = runner.run(_work(model, settings, num_tokens))
    items = [encode_item(item) for item in parent.all_items()]
    whole = Raw(b"[" + b",".join([*items, new[1:-1]]) + b"]")

    def incremental() -> PreparedTokens:
        return model.prepare(parent, decode_items(Raw(new)), settings)

    def full() -> PreparedTokens:
        return model.prepare(None, decode_items(whole), settings)

    resent = _memory(parent, items)
    loop = runner.get_loop()  # `run` itself prints what comes of it, to nobody
    other = Raw(b"[" + b" , ".join([*map(_rewritten, items), new[1:-1]]) + b"]")

    def recognised(raw: Raw) -> PreparedTokens:
        # Nothing is learnt from it, so that each call finds the same.
        said = loop.run_until_complete(resent.read("bench", raw))
        if said.outcome != "hit":
            raise AssertionError("a conversation that was served must be known")
        return model.prepare(said.parent, said.items, settings)

    prepared = incremental()
    if prepared.report.mode != "append":
        raise AssertionError("a continuation must be appended")
    if prepared.prompt.to_array() != full().prompt.to_array():
        raise AssertionError("a continuation and a full resend must give the same prompt")
    for raw in (whole, other):
        if prepared.prompt.to_array() != recognised(raw).prompt.to_array():
            raise AssertionError("what is recognised must give the same prompt")
    output = runner.run(_respond(prepared))
    return Cost(
        num_tokens=prepared.num_prompt_tokens,
        incremental=time_call(incremental, quick=quick),
        full=time_call(full, quick=quick),
        resent=time_call(lambda: recognised(whole), quick=quick),
        rewritten=time_call(lambda: recognised(other), quick=quick),
        settle=time_call(lambda: prepared.settle(output), quick=quick),
    )


def _memory(parent: Context, items: list[bytes]) -> Resent:
    """A server's memory after it served the turn before, whose input came in full."""
    known = KnownContexts(1 << 30)
    for link in parent.links():
        known.put("bench", link)
    if parent.parent is None:
        raise AssertionError("a conversation of several turns")
    count = parent.parent.num_items
    known.put("bench", parent.parent, Verbatim(b"[" + b",".join(items[:count]), num_elements=count))
    return Resent(known, History(MemoryStore(1), Sealer([Sealer.generate_key()]), RecentContexts()))


def _rewritten(item: bytes) -> bytes:
    fields = json.loads(item)
    fields.pop("status", None)
    fields["id"] = "item_of_the_client"
    return json.dumps(fields).encode()


async def _work(model: TokenModel, settings: Settings, num_tokens: int) -> tuple[Context, bytes]:
    """An agent at work until its context is so large: the context, and the input that follows."""
    question = {"role": "user", "content": "Find out why the lane test fails, and mend it."}
    parent: Context | None = None
    new = json.dumps([question]).encode()
    for number in range(num_tokens):
        prepared = model.prepare(parent, decode_items(Raw(new)), settings)
        parent = prepared.settle(await _respond(prepared))
        outputs = [
            {
                "type": "function_call_output",
                "call_id": item.call_id,
                "output": fixtures.tool_output(number),
            }
            for item in parent.items
            if isinstance(item, FunctionCall)
        ]
        new = json.dumps(outputs).encode()
        if prepared.num_prompt_tokens >= num_tokens:
            return parent, new
    raise AssertionError("every turn adds tokens")


async def _respond(prepared: PreparedTokens) -> list[Item]:
    request = CreateResponse(model="sim", store=False)
    response = echo(request, EMPTY_TOOL_SET, ToolChoice(), id="resp_0", created_at=0, model="sim")
    emitter = Emitter(response)
    emitter.start()
    async for part in prepared.respond():
        emitter.feed(part)
    return emitter.items


def run(quick: bool) -> list[Result]:
    """Every size, then how they compare."""
    model = fixtures.model()
    sizes = (SIZES[0], SIZES[1]) if quick else SIZES
    with asyncio.Runner() as runner:
        costs = [measure(model, size, runner, quick=quick) for size in sizes]
    results: list[Result] = []
    for cost in costs:
        size = f"{cost.num_tokens:,} tokens"
        ratio = cost.full.median_sec / cost.incremental.median_sec
        results += [
            cost.incremental.result(f"{size}: incremental", "CPU ms/turn", MS),
            cost.full.result(f"{size}: full resend", "CPU ms/turn", MS),
            cost.settle.result(f"{size}: settle", "CPU ms/turn", MS),
            cost.resent.result(f"{size}: resent", "CPU ms/turn", MS),
            cost.rewritten.result(f"{size}: rewritten", "CPU ms/turn", MS),
            Result(case=f"{size}: full / incremental", value=ratio, unit="times"),
            Result(
                case=f"{size}: full / resent",
                value=cost.full.median_sec / cost.resent.median_sec,
                unit="times",
            ),
        ]
    small, large = costs[0], costs[-1]
    growth = f"from {small.num_tokens:,} to {large.num_tokens:,} tokens"
    return [
        *results,
        Result(
            case=f"incremental {growth}",
            value=large.incremental.median_sec / small.incremental.median_sec,
            unit="times",
            bar=FLAT,
        ),
        Result(
            case=f"resent {growth}",
            value=large.resent.median_sec / small.resent.median_sec,
            unit="times",
            bar=FLAT,
        ),
        Result(
            case=f"settle {growth}",
            value=large.settle.median_sec / small.settle.median_sec,
            unit="times",
            bar=FLAT,
        ),
    ]


BENCH: Final = Bench(
    name="render",
    question="Does rendering a turn cost what is new, however long the conversation is?",
    fixed="about 400 new tokens of tool output, 12 tools, instructions, shipped vocabulary",
    varies="tokens of context before them; continued, or sent again in full",
    run=run,
)
