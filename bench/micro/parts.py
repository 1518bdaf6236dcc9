"""Where does a small turn's time go, part by part?

Each part does, alone, what it does in one turn of the load bench (25 events, 17 tokens of
text), so that the parts can be added and held against the whole. A constrained call stands
beside them: what a turn costs in which the model calls one of twelve strict tools.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Raw

from bench import fixtures
from bench.measure import Bench, Result, Timing, time_call
from turnwire.engines.base import Generation
from turnwire.models.base import Settings
from turnwire.models.token_model import PreparedTokens
from turnwire.parts import Finished, ItemFinished, Part, TextDelta
from turnwire.protocol.codec import decode_frame, decode_items, decode_tools, echo
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.rendering.parser import OutputParser
from turnwire.server.writer import deflated_frame, websocket_frame
from turnwire.session.emitter import Emitter

__all__ = ["BENCH"]

US: Final = 1e6
NUM_TOKENS: Final = 17
LONG: Final = 1024  # tokens of text, for what a token costs


def run(quick: bool) -> list[Result]:
    """One result per part."""
    return [
        *_decoding(quick),
        *_speaking(quick),
        *_framing(quick),
        *_parsing(quick),
        *_engine(quick),
        *_calling(quick),
    ]


def _frame(text: str, *, tools: bool) -> bytes:
    frame = {
        "type": "response.create",
        "model": "sim",
        "store": False,
        "previous_response_id": f"resp_{48 * '0'}",
        "metadata": {"sim.output_tokens": str(NUM_TOKENS)},
        "input": [{"type": "function_call_output", "call_id": "call_0", "output": text}],
    }
    if tools:
        frame["instructions"] = fixtures.INSTRUCTIONS
        frame["tools"] = json.loads(bytes(fixtures.TOOLS))
    return json.dumps(frame, separators=(",", ":")).encode()


def _decoding(quick: bool) -> list[Result]:
    results = []
    output = fixtures.tool_output(0, 8_000)
    for size, tools in ((400, False), (36_000, True)):
        empty = len(_frame("", tools=tools))
        text = output
        while len(text) + empty < size:
            text += output
        frame = _frame(text[: size - empty].replace('"', "'").replace("\n", " "), tools=tools)
        timing = time_call(lambda frame=frame: decode_frame(frame), quick=quick)  # type: ignore[misc]
        results.append(timing.result(f"decode a frame of {len(frame):,} bytes", "CPU us", US))
    return results


def _emitter() -> Emitter:
    request = CreateResponse(model="sim", store=False)
    response = echo(request, EMPTY_TOOL_SET, ToolChoice(), id="resp_0", created_at=0, model="sim")
    return Emitter(response)


def _speaking(quick: bool) -> list[Result]:
    ids = fixtures.model().renderer.tokenizer.encode(17 * " word")
    deltas: list[Part] = [TextDelta(" word") for _ in range(NUM_TOKENS)]
    parts: list[Part] = [
        *deltas,
        ItemFinished(ids),
        Finished(
            reason="stop",
            num_prompt_tokens=100,
            num_cached_tokens=96,
            num_output_tokens=NUM_TOKENS + 1,
            num_reasoning_tokens=0,
        ),
    ]

    def emit() -> int:
        emitter = _emitter()
        num_events = len(emitter.start())
        for part in parts:
            num_events += len(emitter.feed(part))
        emitter.complete(emitter.seal(1))
        return num_events + 1

    def emit_and_encode() -> None:
        emitter = _emitter()
        for event in emitter.start():
            websocket_frame(event)
        for part in parts:
            for event in emitter.feed(part):
                websocket_frame(event)
        websocket_frame(emitter.complete(emitter.seal(1)))

    if emit() != 25:
        raise AssertionError("the turn must have 25 events")
    return [
        time_call(emit, quick=quick).result("emit 25 events", "CPU us/turn", US),
        time_call(emit_and_encode, quick=quick).result(
            "emit, encode and frame 25 events", "CPU us/turn", US
        ),
    ]


def _framing(quick: bool) -> list[Result]:
    """What permessage-deflate costs for the largest event of a turn, and what it saves."""
    request = CreateResponse(model="sim", store=False, tools=fixtures.TOOLS)
    tools = decode_tools(request.tools)
    response = echo(request, tools, ToolChoice(), id="resp_0", created_at=0, model="sim")
    [event, _] = Emitter(response).start()
    results = []
    for name, frame in (("plain", websocket_frame), ("deflated", deflated_frame(15))):
        size = len(frame(event))
        timing = time_call(lambda frame=frame: frame(event), quick=quick)  # type: ignore[misc]
        results.append(timing.result(f"frame of {size:,} bytes, {name}", "CPU us", US))
    return results


def _parsing(quick: bool) -> list[Result]:
    renderer = fixtures.renderer()
    ids = renderer.tokenizer.encode(fixtures.tool_output(1, LONG))[:LONG]

    def parse() -> None:
        parser = OutputParser(renderer, {}, thinking=False)
        for token_id in ids:
            parser.feed((token_id,))
        parser.finish(cut=True)

    timing = time_call(parse, quick=quick, per=len(ids))
    return [timing.result("parse and detokenise", "CPU us/token", US)]


async def _drain(request: Generation) -> int:
    num_ids = 0
    async for delta in fixtures.model().engine.generate(request):
        num_ids += len(delta.ids)
    return num_ids


def _engine(quick: bool) -> list[Result]:
    def prepared() -> PreparedTokens:
        settings = Settings(hints={"sim.output_tokens": str(NUM_TOKENS)})
        question = Raw(b'[{"role":"user","content":"Which of the files is to go first?"}]')
        return fixtures.model().prepare(None, decode_items(question), settings)

    async def respond() -> None:
        async for _ in prepared().respond():
            pass

    async def generate() -> None:
        await _drain(prepared()._request)

    return [
        time_call(prepared, quick=quick).result("prepare a first turn", "CPU us/turn", US),
        _time_async(generate, quick).result("... and generate 18 tokens", "CPU us/turn", US),
        _time_async(respond, quick).result("... and parse them", "CPU us/turn", US),
    ]


def _calling(quick: bool) -> list[Result]:
    settings = Settings(
        instructions=fixtures.INSTRUCTIONS,
        tools=decode_tools(fixtures.TOOLS),
        tool_choice=ToolChoice(mode="required"),
    )
    numbers = iter(range(1 << 62))

    async def call() -> None:
        text = f"Read file number {next(numbers)}."
        question = Raw(json.dumps([{"role": "user", "content": text}]).encode())
        prepared = fixtures.model().prepare(None, decode_items(question), settings)
        async for _ in prepared.respond():
            pass

    return [
        _time_async(call, quick).result("a constrained call, 12 strict tools", "CPU us/turn", US)
    ]


def _time_async(call: Callable[[], Awaitable[None]], quick: bool) -> Timing:
    loop = asyncio.new_event_loop()
    number = 20

    async def several() -> None:
        for _ in range(number):
            await call()

    try:
        return time_call(lambda: loop.run_until_complete(several()), quick=quick, per=number)
    finally:
        loop.close()


BENCH: Final = Bench(
    name="parts",
    question="Where does a small turn's time go, part by part?",
    fixed="one turn of 25 events and 17 tokens of text, no socket, shipped vocabulary",
    varies="the part",
    run=run,
)
