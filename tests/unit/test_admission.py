"""A place is held by one turn at a time, and goes back whatever happens to the turn."""

from __future__ import annotations

import asyncio

import pytest

from turnwire.admission import Places


async def hold(places: Places, client: str, log: list[str], free: asyncio.Event) -> None:
    """Note when a place was had, and keep it until told."""
    async with places.hold(client):
        log.append(client)
        await free.wait()


async def test_clients_take_turns() -> None:
    """The greedy client's second turn waits behind the modest client's first."""
    places, free = Places(1), asyncio.Event()
    log: list[str] = []
    names = ["greedy", "greedy", "greedy", "modest"]
    turns = [asyncio.create_task(hold(places, name, log, free)) for name in names]
    await asyncio.sleep(0)
    assert 3 == places.num_waiting
    free.set()
    await asyncio.gather(*turns)
    assert ["greedy", "greedy", "modest", "greedy"] == log


async def test_a_cancelled_waiter_leaves_no_hole() -> None:
    """Whether cancelled while waiting or in the moment its place came, others get in."""
    for cancel_first in (True, False):
        places, free, never = Places(1), asyncio.Event(), asyncio.Event()
        log: list[str] = []
        first = asyncio.create_task(hold(places, "a", log, free))
        await asyncio.sleep(0)
        second = asyncio.create_task(hold(places, "b", log, never))
        await asyncio.sleep(0)
        # Cancelled before the place comes, or after it was given and before it was used.
        for act in (second.cancel, free.set) if cancel_first else (free.set, second.cancel):
            act()
        third = asyncio.create_task(hold(places, "c", log, free))
        await asyncio.wait({first, second, third}, timeout=5)
        assert (True, 0, "c") == (second.cancelled(), places.num_waiting, log[-1])


async def test_a_place_goes_back_when_the_turn_fails() -> None:
    """An error inside does not keep the place."""
    places = Places(1)
    with pytest.raises(RuntimeError):
        async with places.hold("a"):
            raise RuntimeError("broken")
    async with places.hold("b"):
        pass
    assert 0 == places.num_waiting
