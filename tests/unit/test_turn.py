"""A turn ends in the protocol's way, whatever its model does."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from msgspec import Raw
from tests.integration.exactness import Answer, Place, Server, family

from turnwire.context.chain import Context
from turnwire.context.known import KnownContexts
from turnwire.context.recent import RecentContexts
from turnwire.conversations.keeper import Conversations
from turnwire.errors import (
    ContextLengthExceeded,
    EngineError,
    InvalidRequest,
    Overloaded,
    StoreError,
    TooManyRequests,
)
from turnwire.history import History
from turnwire.models.base import RenderReport, Settings
from turnwire.models.registry import Registry
from turnwire.models.takes import TEXT_ONLY
from turnwire.order import Order
from turnwire.parts import Finished, ItemFinished, Part, TextDelta
from turnwire.protocol.codec import encode_event
from turnwire.protocol.events import ErrorEvent, Event
from turnwire.protocol.items import Item
from turnwire.protocol.requests import CreateResponse
from turnwire.resent import Resent
from turnwire.sealing import Sealer
from turnwire.store.base import StoredTurn
from turnwire.store.memory import MemoryStore
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.metrics import Metrics, Transport
from turnwire.turn import Turns

DONE = Finished(
    reason="stop",
    num_prompt_tokens=1,
    num_cached_tokens=0,
    num_output_tokens=1,
    num_reasoning_tokens=0,
)


class Told:
    """A model, and its prepared turn, that says its parts and then raises its fault."""

    name = "told"
    num_slots = 1
    num_running = num_waiting = 0
    takes = TEXT_ONLY
    window = None
    report = RenderReport(mode="full", reason="first", num_tokenised=1)
    num_prompt_tokens = 1

    def __init__(self, parts: Sequence[Part], fault: Exception | None = None) -> None:
        self.parts = parts
        self.fault = fault
        self.context = Context(None, ())

    def prepare(self, parent: Context | None, items: Sequence[Item], settings: Settings) -> Told:
        self.context = Context(parent, items)
        return self

    def count(self, parent: Context | None, items: Sequence[Item], settings: Settings) -> int:
        return 1

    async def respond(self) -> AsyncGenerator[Part, None]:
        for part in self.parts:
            yield part
        if self.fault is not None:
            raise self.fault

    def interrupted(self) -> Finished:
        return DONE

    async def warm(self) -> int:
        return 0

    def settle(self, output: Sequence[Item]) -> Context:
        return Context(self.context, output) if output else self.context

    async def aclose(self) -> None:
        """Nothing to close."""


class Heap:
    """A sink that keeps what it gets."""

    slow = congested = False

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def send(self, events: Sequence[Event | ErrorEvent], *, flush: bool = False) -> None:
        self.events += [json.loads(encode_event(event)) for event in events]

    async def drain(self) -> None:
        """Never full."""


class Broken(MemoryStore):
    """A store that keeps nothing."""

    async def put(self, turn: StoredTurn) -> None:
        raise StoreError("the disk is full")


async def run(
    model: Told, transport: Transport = "websocket", store: MemoryStore | None = None
) -> list[dict[str, Any]]:
    """The events of one turn."""
    store = store or MemoryStore(10)
    history = History(store, Sealer([Sealer.generate_key()]), RecentContexts())
    conversations = Conversations(store.conversations, history)
    resent = Resent(KnownContexts(1024 * 1024), history)
    turns = Turns(Registry([model]), history, conversations, resent, Metrics())
    heap = Heap()

    async def connect() -> Heap:
        return heap

    request = CreateResponse(model="told", input=Raw(b'"hi"'))
    order = Order(
        request=request,
        response_id="resp_1",
        owner="me",
        transport=transport,
        clock=StageClock(),
    )
    await turns.run(order, connect)
    assert 0 == len(turns.running)
    return heap.events


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (EngineError("it broke"), "server_error"),
        (ValueError("a secret"), "server_error"),
        (Overloaded("full"), "server_error"),
        (TooManyRequests("slow down", code="slow_down"), "rate_limit_exceeded"),
        (ContextLengthExceeded("too long"), "context_length_exceeded"),
        (InvalidRequest("no", code="unsupported_value"), "invalid_prompt"),
    ],
)
async def test_a_fault_ends_the_response_with_a_code_that_clients_know(
    fault: Exception, code: str
) -> None:
    """What goes wrong after the beginning is `response.failed`, and quotes nothing unforeseen."""
    events = await run(Told([TextDelta("a")], fault))
    response = events[-1]["response"]
    assert ("response.failed", "failed", code) == (
        events[-1]["type"],
        response["status"],
        response["error"]["code"],
    )
    assert "secret" not in json.dumps(events)


async def test_sse_hears_of_the_error_before_the_failed_response() -> None:
    """Section 5.3: error, then response.failed; numbered without a gap."""
    events = await run(Told([], EngineError("it broke")), "sse")
    assert ["error", "response.failed"] == [event["type"] for event in events[-2:]]
    assert list(range(len(events))) == [event["sequence_number"] for event in events]


async def test_a_model_that_ends_without_a_word_is_a_failure() -> None:
    """Parts that stop before `Finished` do not leave the client waiting."""
    events = await run(Told([TextDelta("a"), ItemFinished()]))
    assert "response.failed" == events[-1]["type"]


async def test_what_could_not_be_stored_is_not_completed() -> None:
    """A client is told `completed` only of what is there."""
    events = await run(Told([TextDelta("a"), ItemFinished(), DONE]), store=Broken(10))
    assert "response.failed" == events[-1]["type"]
    assert "could not be stored" in events[-1]["response"]["error"]["message"]


async def test_more_may_be_tokenised_than_is_left_in_the_prompt() -> None:
    """A known conversation whose new items outgrow the window is truncated, and counted."""
    server = Server(family("turnwire"), Place.empty(), window=300)
    answer = Answer("Yes.<|im_end|>")
    asked = [{"role": "user", "content": "Hi"}]
    body = {"model": "told", "store": False, "truncation": "auto"}
    await server.ask({**body, "input": asked}, answer)
    asked.append({"role": "assistant", "content": "Yes."})
    asked += [{"role": "user", "content": f"Number {n} of many."} for n in range(100)]
    second = await server.ask({**body, "input": asked}, answer)
    assert second.error is None
    assert len(second.prompts[0]) < 300
