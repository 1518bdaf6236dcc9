"""What runs is counted, bounded and can be ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from turnwire.errors import Overloaded, ServiceError, TooManyRequests
from turnwire.order import Order
from turnwire.protocol.requests import CreateResponse
from turnwire.running import Running
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.metrics import Metrics


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
