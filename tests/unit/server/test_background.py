"""A run keeps what its turn says, and tells those who wait for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec import Raw

from turnwire.errors import Overloaded, ServiceError
from turnwire.order import Order
from turnwire.parts import Finished, TextDelta
from turnwire.protocol.codec import echo
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.server.background import Run
from turnwire.session.emitter import Emitter
from turnwire.session.replay import EventLog
from turnwire.session.retention import Retention
from turnwire.telemetry.clock import StageClock

STOP = Finished(
    reason="stop",
    num_prompt_tokens=9,
    num_cached_tokens=4,
    num_output_tokens=3,
    num_reasoning_tokens=0,
)


def make(*, stream: bool = True, **fields: Any) -> tuple[Run, Emitter, Retention[Run]]:
    """A run that nobody runs, what would speak to it, and where it is held."""
    request = CreateResponse(background=True, stream=stream, **fields)
    order = Order(
        request=request,
        response_id="resp_1",
        owner="ann",
        transport="background",
        clock=StageClock(),
    )
    held = Retention[Run](max_running=9, max_bytes=10**6, keep_sec=1.0)
    run = Run(order, EventLog(8, 10**5) if stream else None, held)
    held.admit("ann", "resp_1", run)
    response = echo(request, EMPTY_TOOL_SET, ToolChoice(), id="resp_1", created_at=7, model="sim")
    return run, Emitter(response), held


def status(run: Run) -> str:
    """As it would be polled."""
    told = json.loads(run.response)["status"]
    assert isinstance(told, str)
    return told


@pytest.mark.parametrize("stream", [True, False])
async def test_it_follows_its_turn(stream: bool) -> None:
    """The response is as the last event said; events are kept only for a stream."""
    run, emitter, held = make(stream=stream)
    assert (b"", False) == (run.response, run.accepted.done())
    seen = []
    for events in (
        lambda: emitter.queue(),
        lambda: emitter.begin(),
        lambda: emitter.feed(TextDelta("a")),
        lambda: emitter.feed(STOP),
        lambda: [emitter.complete(emitter.seal(8))],
    ):
        run.send(events())
        seen.append((status(run), run.ended))
    running = [("queued", False), *[("in_progress", False)] * 3]
    assert [*running, ("completed", True)] == seen
    assert "queued" == json.loads(run.accepted.result())["status"]
    assert held.num_bytes >= len(run.response)
    if run.log is None:
        assert not run.slow
    else:
        assert emitter.sequence_number == run.log.following
        assert run.slow  # more than half of eight events
        assert b'"sequence_number":9' in run.log.read(8, 1)[0]


async def test_readers_are_woken() -> None:
    """Whoever waits goes on when there is something new; one who left is no trouble."""
    run, emitter, _ = make()
    waiting = [asyncio.create_task(run.changed()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    run.send(emitter.queue())
    await asyncio.gather(waiting[0], waiting[2])
    assert waiting[1].cancelled()


async def test_refused() -> None:
    """A run that was never accepted raises for who asked, once it is known why."""
    run, _, _ = make()
    assert not run.accept(Overloaded("full"))
    with pytest.raises(Overloaded):
        await run.accepted


async def test_cut_off() -> None:
    """A run whose turn is gone has failed, and its readers come to an end."""
    run, emitter, _ = make()
    run.send(emitter.queue())
    assert run.accept(ServiceError("too late to refuse"))
    waiting = asyncio.create_task(run.changed())
    await asyncio.sleep(0)
    run.give_up(ServiceError("The server was stopped."))
    await waiting
    assert ("failed", True) == (status(run), run.ended)
    assert "The server was stopped." == json.loads(run.response)["error"]["message"]


@pytest.mark.parametrize(("store", "expected"), [(None, True), (True, True), (False, False)])
async def test_stored(store: bool | None, expected: bool) -> None:
    """It is in the store too, unless the request said no."""
    assert expected is make(store=store)[0].stored


async def test_what_was_asked_weighs() -> None:
    """A request is held as long as it is worked on, and counts for as long."""
    asked = b'"' + b"x" * 1000 + b'"'
    run, emitter, held = make(input=Raw(asked), tools=Raw(b"[]"))
    held.drop("resp_1")
    held.admit("ann", "resp_1", run, run.num_bytes)
    assert len(asked) + 2 == held.num_bytes
    run.send(emitter.queue())
    before = held.num_bytes
    run.let_go()
    assert (None, before - len(asked) - 2) == (run.order, held.num_bytes)
