"""`truncation: "auto"`: a conversation that grows out of its window goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.recorder import Transcript
from tests.integration.serving import Serving, config, serving
from tests.integration.test_continuation import VIAS, Via, ask, same, user
from tests.integration.wire import Json, connect, open_websocket

from turnwire.engines.sim import SimProfile

WINDOW = 2000
PROFILES = {"sim": SimProfile(window=WINDOW)}
AUTO: Json = {"truncation": "auto", "metadata": {"sim.output_tokens": "100"}}


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server whose model has a small window."""
    async with serving(config(tmp_path), ("sim",), profiles=PROFILES) as running:
        yield running


def renders(server: Serving, reason: str) -> float:
    """How many prompts were built anew for this reason."""
    return server.count("context_render_total", mode="full", reason=reason)


@pytest.mark.parametrize("via", VIAS)
async def test_a_long_conversation(small: Serving, via: Via) -> None:
    """It goes on and on, is seen as a resend would be, and mostly costs what is new."""
    parent: Json = {}
    items: list[Json] = []
    for number in range(40):
        said = user(f"question {number}")
        made = await ask(small, via, input=[said], **AUTO, **parent)
        items += [said, *made["output"]]
        parent = {"previous_response_id": made["id"]}
        assert "auto" == made["truncation"]
        assert made["usage"]["input_tokens"] + WINDOW // 8 <= WINDOW
    assert 1 <= renders(small, "truncated") <= 40 / 3
    counted = await count(small, input="last", **AUTO, **parent)
    last = await ask(small, via, input="last", **AUTO, **parent)
    assert counted == last["usage"]["input_tokens"]
    same(await ask(small, "json", input=[*items, user("last")], store=False, **AUTO), last)
    async with connect(small.url) as wire:
        # The chain is whole: nothing was forgotten that could be read.
        path = f"/v1/responses/{last['id']}/input_items?limit=100&order=asc"
        listed = (await wire.request("GET", path)).json()["data"]
        assert "question 0" == listed[0]["content"][0]["text"]
        # Without truncation it is too long.
        refused = await wire.create(model="sim", input="last", **parent)
        assert (400, "context_length_exceeded") == (refused.status, refused.error()["code"])


async def count(server: Serving, **fields: Any) -> int:
    """The number of tokens that a request would be."""
    async with connect(server.url) as wire:
        answer = await wire.request(
            "POST", "/v1/responses/input_tokens", {"model": "sim", **fields}
        )
        counted = answer.json()["input_tokens"]
        assert isinstance(counted, int)
        return counted


async def test_the_same_on_a_socket(small: Serving) -> None:
    """A chain of store:false in memory is cut where a resend is cut, turn by turn."""
    items: list[Json] = []
    parent: Json = {}
    async with open_websocket(small.url) as socket:
        for number in range(25):
            items.append(user(f"question {number}"))
            fields: Json = {"model": "sim", "store": False, **AUTO}
            made = Transcript(await socket.create(input=items[-1:], **fields, **parent)).response
            same(await ask(small, "json", input=items, store=False, **AUTO), made)
            items += made["output"]
            parent = {"previous_response_id": made["id"]}


async def test_after_a_restart(tmp_path: Path) -> None:
    """A chain from the store is cut where it was cut before."""
    told = config(tmp_path, store="sqlite")
    parent: Json = {}
    async with serving(told, ("sim",), profiles=PROFILES) as before:
        for number in range(20):
            made = await ask(before, "json", input=f"question {number}", **AUTO, **parent)
            parent = {"previous_response_id": made["id"]}
        expected = await ask(before, "json", input="last", **AUTO, **parent)
    async with serving(told, ("sim",), profiles=PROFILES) as after:
        same(expected, await ask(after, "websocket", input="last", **AUTO, **parent))


async def test_with_compaction(small: Serving) -> None:
    """What is seen is summed up before much of it has to be left out."""
    managed: Json = {"context_management": [{"type": "compaction"}]}
    parent: Json = {}
    kinds: set[str] = set()
    for number in range(30):
        made = await ask(small, "json", input=f"question {number}", **AUTO, **managed, **parent)
        parent = {"previous_response_id": made["id"]}
        kinds |= {item["type"] for item in made["output"]}
    assert {"message", "compaction"} == kinds
    assert 0 == renders(small, "truncated")
    assert renders(small, "compacted") >= 1


async def test_an_input_that_is_too_long_alone(small: Serving) -> None:
    """The last item cannot be left out."""
    async with connect(small.url) as wire:
        answer = await wire.create(model="sim", input="word " * 2100, **AUTO)
    error = answer.error()
    assert (400, "context_length_exceeded", "input") == (
        answer.status,
        error["code"],
        error["param"],
    )
