"""Tests of the places to run and to wait in."""

from __future__ import annotations

import asyncio

import pytest

from turnwire.engines.slots import Slots
from turnwire.errors import EngineUnavailable


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    """A slot that is given back goes to the one that has waited longest."""
    slots, order = Slots(1, 9), []

    async def use(name: str) -> None:
        await slots.acquire()
        order.append(name)
        await asyncio.sleep(0)
        slots.release()

    await asyncio.gather(*(use(name) for name in "abcd"))
    assert ["a", "b", "c", "d"] == order
    assert (0, 0) == (slots.num_running, slots.num_waiting)


async def test_full_is_an_answer() -> None:
    """Beyond the waiting places a request is refused, and `check` says so beforehand."""
    slots = Slots(1, 1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await settle()
    assert (1, 1) == (slots.num_running, slots.num_waiting)
    with pytest.raises(EngineUnavailable, match="full"):
        slots.check()
    with pytest.raises(EngineUnavailable, match="full"):
        await slots.acquire()
    slots.release()
    await waiting
    slots.check()


async def test_cancelled_while_waiting_the_next_has_the_place() -> None:
    """Who is cancelled in the queue leaves no trace in it."""
    slots = Slots(1, 9)
    await slots.acquire()
    first, second = (asyncio.create_task(slots.acquire()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert 1 == slots.num_waiting
    slots.release()
    await second
    assert (1, 0) == (slots.num_running, slots.num_waiting)


async def test_cancelled_when_granted_the_next_has_the_slot() -> None:
    """A slot granted in the very step of the cancellation is passed on."""
    slots = Slots(1, 9)
    await slots.acquire()
    first, second = (asyncio.create_task(slots.acquire()) for _ in range(2))
    await settle()
    slots.release()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert second.done()
    slots.release()
    assert 0 == slots.num_running


async def test_closing_sends_the_waiting_home() -> None:
    """Closed, nobody waits and nobody comes; the slot that is taken is still given back."""
    slots = Slots(1, 9)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await settle()
    slots.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await waiting
    with pytest.raises(EngineUnavailable, match="closed"):
        await slots.acquire()
    slots.release()
    assert 0 == slots.num_running


async def test_another_number_of_slots() -> None:
    """More are used at once; of fewer, those that are taken count until they are given back."""
    slots, running = Slots(1, 9), []

    async def use(name: str) -> None:
        await slots.acquire()
        running.append(name)

    tasks = [asyncio.create_task(use(name)) for name in "abcd"]
    await settle()
    assert ["a"] == running
    slots.resize(3)
    await settle()
    assert ["a", "b", "c"] == running
    slots.resize(1)
    for _ in range(2):
        slots.release()
        await settle()
        assert ["a", "b", "c"] == running
    slots.release()
    await asyncio.gather(*tasks)
    assert (["a", "b", "c", "d"], 1) == (running, slots.num_running)
