"""What a model does with three turns of one conversation: does it answer, append, and remember?"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from secrets import token_hex
from typing import Final

from msgspec import Raw, Struct

from turnwire.context.chain import Context
from turnwire.models.base import Model, Prepared, RenderMode, Settings
from turnwire.parts import Finished
from turnwire.protocol.codec import decode_tools, echo
from turnwire.protocol.items import InputText, Item, Message
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.session.emitter import Emitter

__all__ = ["Seen", "probe", "takes_tools"]

QUESTIONS: Final = (
    "Name one colour.",
    "Name another one.",
    "Which of the two do you like better?",
)
MAX_OUTPUT_TOKENS: Final = 32
_TOOLS: Final = Raw(
    b'[{"type":"function","name":"clock","description":"Tells the time.","strict":false,'
    b'"parameters":{"type":"object","properties":{}}}]'
)
_RULES: Final = "Answer in one short sentence, in plain words, and without any formatting. "


class Seen(Struct, frozen=True, kw_only=True):
    """One turn.

    Attributes:
        mode: How its prompt was built.
        reason: Why it was not appended.
        num_prompt: Tokens of the prompt.
        num_cached: Of those, what the engine had.
        num_output: Tokens of the answer.
        whole: Tokens of the prompt when the conversation is sent again in full.
        first_sec: Until the model said its first thing, or None if it said nothing.
        sec: Until it had ended.
    """

    mode: RenderMode
    reason: str
    num_prompt: int
    num_cached: int
    num_output: int
    whole: int
    first_sec: float | None
    sec: float


async def probe(model: Model) -> AsyncGenerator[Seen, None]:
    """Hold a conversation that nobody has held before, and yield each turn.

    Raises:
        TurnwireError: the model does not answer.
    """
    # What is said first is new, so that a cache that knows the second turn knows it from here.
    settings = Settings(
        owner="doctor",
        instructions=f"Conversation {token_hex(8)}. " + 24 * _RULES,
        max_output_tokens=MAX_OUTPUT_TOKENS,
        session=token_hex(8),
    )
    context: Context | None = None
    for question in QUESTIONS:
        new = Message(role="user", content=(InputText(text=question),))
        began = time.monotonic()
        prepared = model.prepare(context, [new], settings)
        said, finished, first_sec = await _hear(prepared, began)
        sec = time.monotonic() - began
        before = context.all_items() if context is not None else []
        yield Seen(
            mode=prepared.report.mode,
            reason=prepared.report.reason,
            num_prompt=finished.num_prompt_tokens,
            num_cached=finished.num_cached_tokens,
            num_output=finished.num_output_tokens,
            whole=model.count(None, [*before, new], settings)
            + finished.num_prompt_tokens
            - prepared.num_prompt_tokens,
            first_sec=first_sec,
            sec=sec,
        )
        context = prepared.settle(said)


async def takes_tools(model: Model) -> None:
    """Offer a tool; whether it is called is up to the model.

    Raises:
        InvalidRequest: the model, or what serves it, does not take tools.
        TurnwireError: it does not answer.
    """
    settings = Settings(owner="doctor", tools=decode_tools(_TOOLS), max_output_tokens=16)
    new = Message(role="user", content=(InputText(text="What time is it?"),))
    await _hear(model.prepare(None, [new], settings), time.monotonic())


async def _hear(prepared: Prepared, began: float) -> tuple[Sequence[Item], Finished, float | None]:
    request = CreateResponse(store=False)
    response = echo(request, EMPTY_TOOL_SET, ToolChoice(), id="resp_0", created_at=0, model="")
    emitter = Emitter(response)
    emitter.start()
    first_sec: float | None = None
    async with aclosing(prepared.respond()) as parts:
        async for part in parts:
            emitter.feed(part)
            if isinstance(part, Finished):
                return emitter.items, part, first_sec
            if first_sec is None:
                first_sec = time.monotonic() - began
    raise AssertionError("a model finishes")
