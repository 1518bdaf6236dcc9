"""Models on terms: aliases, limits and a default effort, as clients see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.serving import ALICE, BOB, bearer, config, shipped
from tests.integration.wire import Answer, connect

from turnwire.config import KeyConfig
from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.models.registry import Offer
from turnwire.models.sim_model import SimModel
from turnwire.models.token_model import TokenModel
from turnwire.server.app import Server, serve

KEYS = (
    KeyConfig(owner="alice", key=ALICE, models=("gpt-5",)),
    KeyConfig(owner="bob", key=BOB, models=("house",)),
)


@asynccontextmanager
async def offering(tmp_path: Path, **terms: Any) -> AsyncIterator[tuple[Server, SimEngine]]:
    """A server with one model, on these terms."""
    renderer, vocabulary, author = shipped()
    engine = SimEngine(vocabulary, SimProfile(tokens_per_sec=terms.pop("speed", None)), author)
    model = SimModel(TokenModel("house", renderer, engine))
    told = config(tmp_path, keys=terms.pop("keys", ()))
    async with serve(told, models=[Offer(model=model, **terms)]) as server:
        yield server, engine


async def ask(server: Server, model: str, key: str = BOB, **fields: Any) -> Answer:
    """One response over a connection of its own."""
    async with connect(server.url) as wire:
        return await wire.create(bearer(key), model=model, input="Hello", store=False, **fields)


async def test_an_alias_is_another_name_for_a_model(tmp_path: Path) -> None:
    """It can be asked for and is listed; responses say which model answered."""
    async with offering(tmp_path, aliases=("gpt-5", "o9")) as (server, _):
        for name in ("house", "gpt-5", "o9"):
            answer = await ask(server, name)
            assert (200, "house") == (answer.status, answer.json()["model"])
        async with connect(server.url) as wire:
            listed = (await wire.request("GET", "/v1/models")).json()["data"]
            assert ["house", "gpt-5", "o9"] == [model["id"] for model in listed]
            assert "o9" == (await wire.request("GET", "/v1/models/o9")).json()["id"]
            assert 404 == (await wire.request("GET", "/v1/models/o8")).status


@pytest.mark.parametrize("path", ["owner/model:q4", "owner%2Fmodel%3Aq4"])
async def test_a_name_with_a_slash(tmp_path: Path, path: str) -> None:
    """It is found whether or not a client escapes the slash."""
    async with (
        offering(tmp_path, aliases=("owner/model:q4",)) as (server, _),
        connect(server.url) as wire,
    ):
        answer = await wire.request("GET", f"/v1/models/{path}")
        assert (200, "owner/model:q4") == (answer.status, answer.json()["id"])


@pytest.mark.parametrize(
    ("key", "may"),
    [(ALICE, {"gpt-5"}), (BOB, {"house", "gpt-5", "o9"})],
    ids=["of an alias", "of the model"],
)
async def test_a_key_for_a_name(tmp_path: Path, key: str, may: set[str]) -> None:
    """A key for a model may use all of its names; one for an alias that name only."""
    async with offering(tmp_path, aliases=("gpt-5", "o9"), keys=KEYS) as (server, _):
        for name in ("house", "gpt-5", "o9"):
            assert (200 if name in may else 403) == (await ask(server, name, key)).status
        async with connect(server.url) as wire:
            listed = (await wire.request("GET", "/v1/models", headers=bearer(key))).json()["data"]
            assert may == {model["id"] for model in listed}


async def test_answers_are_as_long_as_is_allowed(tmp_path: Path) -> None:
    """Whatever a request asks for, and where it asks for nothing."""
    async with offering(tmp_path, max_output_tokens=20) as (server, _):
        for asked, most in ((None, 20), (16, 16), (1000, 20)):
            fields: dict[str, Any] = {} if asked is None else {"max_output_tokens": asked}
            body = (await ask(server, "house", **fields)).json()
            assert ("incomplete", most) == (body["status"], body["usage"]["output_tokens"])
            assert asked == body["max_output_tokens"]


async def test_a_model_thinks_as_it_was_told(tmp_path: Path) -> None:
    """A request that names an effort has its own."""
    async with offering(tmp_path, effort="low") as (server, _):
        cases: list[tuple[dict[str, Any], bool]] = [
            ({}, True),
            ({"reasoning": {"effort": "none"}}, False),
        ]
        for fields, thinks in cases:
            output = (await ask(server, "house", **fields)).json()["output"]
            assert thinks is ("reasoning" in {item["type"] for item in output})


async def test_so_many_at_a_time(tmp_path: Path) -> None:
    """Further answers wait, though the engine has places."""
    most = 0
    async with offering(tmp_path, max_concurrent=2, speed=400.0) as (server, engine):

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, engine.num_running)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        answers = await asyncio.gather(*(ask(server, "house") for _ in range(6)))
        watching.cancel()
    assert ([200] * 6, 2) == ([answer.status for answer in answers], most)
