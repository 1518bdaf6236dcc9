"""Sealed reasoning and summaries, when the keys that seal them change."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs
from tests.integration.serving import Serving, config, serving
from tests.integration.test_compaction import MANAGED, compact
from tests.integration.test_continuation import VIAS, Via, ask, resent, same, user
from tests.integration.wire import Json, connect

from turnwire.config import Config, SecurityConfig
from turnwire.sealing import Sealer

OLD, NEW = (Sealer.generate_key().decode() for _ in range(2))
LONG = "word " * 1200


def keyed(folder: Path, *keys: str) -> Config:
    """A server that seals with the first of these keys, and opens with all."""
    told = config(folder, store="sqlite")
    return structs.replace(told, security=SecurityConfig(seal_keys=keys))


async def refused(server: Serving, items: list[Json]) -> tuple[int, str | None, str | None]:
    """Status, code and field of a request that is refused."""
    async with connect(server.url) as wire:
        answer = await wire.create(model="sim", input=items)
        return answer.status, answer.error()["code"], answer.error()["param"]


@pytest.mark.parametrize("via", VIAS)
async def test_a_new_key_in_front(tmp_path: Path, via: Via) -> None:
    """What the old key sealed opens as long as it is there; then it is a 400 that names it."""
    first = user("Think.")
    settings: Json = {"reasoning": {"effort": "low"}}
    async with serving(keyed(tmp_path, OLD)) as server:
        thought = await ask(server, via, input=[first], store=False, **settings)
        history = [first, *thought["output"], user("on")]
        expected = await resent(server, history, **settings)
        async with connect(server.url) as wire:
            window = [*(await compact(wire, input=[first]))["output"], user("on")]
        summed_up = await resent(server, window)
    async with serving(keyed(tmp_path, NEW, OLD)) as server:
        same(expected, await ask(server, via, input=history, store=False, **settings))
        same(summed_up, await ask(server, via, input=window, store=False))
        again = await ask(server, via, input=[first], store=False, **settings)
    async with serving(keyed(tmp_path, NEW)) as server:
        code = "invalid_encrypted_content"
        assert (400, code, "input[1].encrypted_content") == await refused(server, history)
        assert (400, code, "input[1].encrypted_content") == await refused(server, window)
        newer = [first, *again["output"], user("on")]
        same(expected, await ask(server, via, input=newer, store=False, **settings))


@pytest.mark.parametrize("via", VIAS)
async def test_what_is_stored_under_a_new_key(tmp_path: Path, via: Via) -> None:
    """Stored responses and conversations go on, with their reasoning and their summaries."""
    settings: Json = {"reasoning": {"effort": "low"}}
    async with serving(keyed(tmp_path, OLD)) as server:
        one = await ask(server, via, input=LONG, **settings, **MANAGED)
        assert ["compaction", "reasoning", "message"] == [item["type"] for item in one["output"]]
        expected = await ask(server, via, input="on", previous_response_id=one["id"], **settings)
    async with serving(keyed(tmp_path, NEW, OLD)) as server:
        two = await ask(server, via, input="on", previous_response_id=one["id"], **settings)
        same(expected, two)


async def test_what_is_stored_under_a_key_that_is_gone(tmp_path: Path) -> None:
    """It can be read, but not continued: by a code that clients know what to do about."""
    async with serving(keyed(tmp_path, OLD)) as server, connect(server.url) as wire:
        made = (await wire.request("POST", "/v1/conversations", {})).json()
        talk = {"conversation": made["id"], "reasoning": {"effort": "low"}}
        one = await ask(server, "json", input="one", **talk)
    async with serving(keyed(tmp_path, NEW)) as server, connect(server.url) as wire:
        assert one == (await wire.request("GET", f"/v1/responses/{one['id']}")).json()
        path = f"/v1/conversations/{made['id']}/items"
        assert 3 == len((await wire.request("GET", path)).json()["data"])
        asked: list[tuple[Json, int, str, str]] = [
            (
                {"previous_response_id": one["id"]},
                400,
                "previous_response_not_found",
                "previous_response_id",
            ),
            ({"conversation": made["id"]}, 400, "invalid_encrypted_content", "conversation"),
        ]
        for fields, status, code, param in asked:
            answer = await wire.create(model="sim", input="two", **fields)
            error = answer.error()
            assert (status, code, param) == (answer.status, error["code"], error["param"])
            assert "sealed with a key" in error["message"]
        reference = {"type": "item_reference", "id": one["output"][0]["id"]}
        assert 404 == (await wire.create(model="sim", input=[reference, user("two")])).status
