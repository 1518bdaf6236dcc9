"""What runs is counted, bounded and can be ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from turnwire.errors import Overloaded, ServiceError, TooManyRequests
from turnwire.order import Order
from turnwire.parts import Finished
from turnwire.protocol.codec import echo
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.running import Running
from turnwire.session.emitter import Emitter
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.metrics import Metrics

FINISHED = Finished(
    reason="stop",
    num_prompt_tokens=1,
    num_cached_tokens=0,
    num_output_tokens=1,
    num_reasoning_tokens=0,
)


def order(owner: str) -> Order:
    """An order of this owner."""
    return Order(
        request=CreateResponse(),
        response_id="resp_1",
        owner=owner,
        transport="http",
        clock=StageClock(),
    )


def count(metrics: Metrics, status: str) -> float:
    """How many orders ended so."""
    labels = {"status": status, "transport": "http"}
    return metrics.registry.get_sample_value("turnwire_responses_total", labels) or 0.0


async def test_limits() -> None:
    """An owner may run so many, and all of them together; what ended makes room."""
    running = Running(Metrics(), 3, 2)
    with running.enter(order("a")), running.enter(order("a")):
        assert (2, 0, 2) == (running.num_of("a"), running.num_of("b"), len(running))
        with pytest.raises(TooManyRequests), running.enter(order("a")):
            pass
        with running.enter(order("b")), pytest.raises(Overloaded), running.enter(order("c")):
            pass
    assert (0, 0) == (running.num_of("a"), len(running))


async def test_how_it_ended_is_counted() -> None:
    """By the last status it was given; refused if there was none."""
    metrics = Metrics()
    running = Running(metrics, 3, 0)
    with running.enter(order("a")):
        pass
    with running.enter(order("a")) as entry:
        entry.status = "completed"
    with suppress(ValueError), running.enter(order("a")) as entry:
        entry.status = "aborted"
        raise ValueError("x")
    assert [1, 1, 1] == [count(metrics, s) for s in ("refused", "completed", "aborted")]
    assert 0 == metrics.registry.get_sample_value("turnwire_responses_in_flight")


@pytest.mark.parametrize("how", ["completed", "cancelled", "failed"])
async def test_what_is_ending_is_let_end(how: str) -> None:
    """One whose end may be in the store already is not stopped."""
    running = Running(Metrics(), 3, 0)
    request, one = CreateResponse(), order("a")
    response = echo(request, EMPTY_TOOL_SET, ToolChoice(), id="r", created_at=7, model="sim")
    one.emitter = emitter = Emitter(response)
    emitter.start()
    match how:
        case "completed":
            emitter.close(FINISHED)
        case "cancelled":
            emitter.cancel()
        case _:
            emitter.fail("server_error", "broken")
    assert one.is_ending
    with running.enter(one):
        running.stop_all(ServiceError("It ends."))
        await asyncio.sleep(0)
    assert one.stopped_by is None


async def test_all_of_them_are_stopped() -> None:
    """Each is told why before its task is cancelled."""
    running = Running(Metrics(), 3, 0)
    one, begun = order("a"), asyncio.Event()

    async def run() -> None:
        with running.enter(one):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await begun.wait()
    assert ([one], [task]) == (running.orders(), running.tasks())
    error = ServiceError("It ends.")
    running.stop_all(error)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert error is one.stopped_by
    assert [] == running.tasks()
