"""Workers that share a port and a store: each serves every response, wherever it lives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from tests.integration.processes import process
from tests.integration.recorder import Transcript, check_response
from tests.integration.serving import ALICE, BOB, Serving, bearer, config, serving
from tests.integration.wire import HttpConnection, Json, connect, read_sse, write_request

from turnwire.config import KeyConfig
from turnwire.server.workers import Workers

QUICK: Json = {"model": "sim", "input": "Tell me.", "background": True}
STALLED: Json = {**QUICK, "metadata": {"sim.fault": "stall:3600"}}
TALKING: Json = {**QUICK, "model": "sim-slow", "metadata": {"sim.output_tokens": "30"}}


class Pair(Struct, frozen=True):
    """Two workers, and a connection to each; what the first runs is asked of the second."""

    one: Serving
    other: Serving
    here: HttpConnection
    there: HttpConnection


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two workers of one server."""
    keys = (KeyConfig(owner="alice", key=ALICE), KeyConfig(owner="bob", key=BOB))
    told = config(tmp_path, store="sqlite", keys=keys)
    names = ["sim", "sim-slow"]
    async with (
        serving(told, names, workers=Workers(0, 2, tmp_path)) as one,
        serving(told, names, workers=Workers(1, 2, tmp_path)) as other,
        connect(one.url) as here,
        connect(other.url) as there,
    ):
        yield Pair(one, other, here, there)


async def ask(wire: HttpConnection, method: str, path: str, key: str = ALICE) -> tuple[int, Json]:
    """Status and body of an answer about a response."""
    answer = await wire.request(method, f"/v1/responses/{path}", headers=bearer(key))
    return answer.status, answer.json()


@pytest.mark.parametrize("store", [True, False])
async def test_poll_cancel_delete(pair: Pair, store: bool) -> None:
    """A worker polls, cancels and deletes what runs in the other, as the other would."""
    begun = (await pair.here.create(bearer(ALICE), **STALLED, store=store)).json()
    response_id = begun["id"]
    status, seen = await ask(pair.there, "GET", response_id)
    assert (200, "in_progress") == (status, seen["status"])
    assert (400, "Cannot delete an in-flight response.") == refusal(
        await ask(pair.there, "DELETE", response_id)
    )
    status, cancelled = await ask(pair.there, "POST", f"{response_id}/cancel")
    assert (200, "cancelled") == (status, cancelled["status"])
    assert (200, cancelled) == await ask(pair.here, "GET", response_id)
    assert 200 == (await ask(pair.there, "DELETE", response_id))[0]
    for wire in (pair.here, pair.there):
        assert 404 == (await ask(wire, "GET", response_id))[0]
    await pair.one.idle()


def refusal(answer: tuple[int, Json]) -> tuple[int, str]:
    """Status and message."""
    return answer[0], answer[1]["error"]["message"]


@pytest.mark.parametrize("store", [True, False])
async def test_stream(pair: Pair, store: bool) -> None:
    """A stream that lives in the other worker is the same byte for byte, live and later."""
    body = json.dumps({**TALKING, "store": store, "stream": True}).encode()
    await pair.here.send(write_request("POST", "/v1/responses", body, bearer(ALICE)))
    await pair.here.read_head()
    first = await pair.here.read_chunk()
    response_id = json.loads(first.split(b"data: ")[1])["response"]["id"]
    path = f"/v1/responses/{response_id}?stream=true"
    live = await pair.there.request("GET", path, headers=bearer(ALICE))
    assert "text/event-stream; charset=utf-8" == live.headers["content-type"]
    chunks = [first]
    while chunk := await pair.here.read_chunk():
        chunks.append(chunk)
    assert chunks == live.chunks
    assert "completed" == Transcript(read_sse(chunks), background=True).status
    later = await pair.there.request("GET", f"{path}&starting_after=5", headers=bearer(ALICE))
    assert chunks[6:] == later.chunks
    # A reader that leaves takes nothing with it.
    async with connect(pair.other.url) as leaving:
        await leaving.send(write_request("GET", path, None, bearer(ALICE)))
        await leaving.read_head()
        leaving.reset()
    assert 200 == (await ask(pair.there, "GET", response_id))[0]


async def test_owners_and_keys(pair: Pair) -> None:
    """Asked through another worker, keys and owners count as ever."""
    response_id = (await pair.here.create(bearer(ALICE), **STALLED, store=False)).json()["id"]
    path = f"/v1/responses/{response_id}"
    assert 404 == (await ask(pair.there, "GET", response_id, BOB))[0]
    assert 404 == (await ask(pair.there, "POST", f"{response_id}/cancel", BOB))[0]
    assert 401 == (await pair.there.request("GET", path)).status
    assert 401 == (await pair.there.request("GET", path, headers=bearer("wrong"))).status
    assert 200 == (await ask(pair.there, "POST", f"{response_id}/cancel"))[0]


async def test_metrics(pair: Pair) -> None:
    """Whichever worker is asked tells the numbers of all, each under the worker's own."""
    assert 200 == (await pair.here.create(bearer(ALICE), model="sim", input="Hello")).status
    for wire in (pair.here, pair.there):
        told = (await wire.request("GET", "/metrics")).body.decode().splitlines()
        completed = 'turnwire_responses_total{worker="%d",status="completed",transport="http"} 1.0'
        assert completed % 0 in told
        assert completed % 1 not in told
        for worker in (0, 1):
            assert f'turnwire_responses_in_flight{{worker="{worker}"}} 0.0' in told


async def test_metrics_of_who_is_left(pair: Pair, tmp_path: Path) -> None:
    """A worker that does not answer is left out."""
    Workers(1, 2, tmp_path).socket(1).unlink()
    told = (await pair.here.request("GET", "/metrics")).body.decode().splitlines()
    assert 'turnwire_responses_in_flight{worker="0"} 0.0' in told
    assert 'turnwire_responses_in_flight{worker="1"} 0.0' not in told


async def test_what_nobody_knows(pair: Pair) -> None:
    """Unknown ids are a 404 from any worker, and odd ones are no trouble."""
    for wire in (pair.here, pair.there):
        for response_id in ("resp_" + "0" * 48, "resp_" + "1" * 48, "resp_x", "%2e%2e%2f", "a%20b"):
            assert 404 == (await ask(wire, "GET", response_id))[0], response_id


async def test_what_was_not_in_the_background(pair: Pair) -> None:
    """A synchronous response is answered from the store by any worker."""
    for _ in range(4):  # ids that live here and there
        response = (await pair.here.create(bearer(ALICE), model="sim", input="hi")).json()
        for wire in (pair.here, pair.there):
            assert (200, response) == await ask(wire, "GET", response["id"])
        assert (400, "Cannot cancel a synchronous response.") == refusal(
            await ask(pair.there, "POST", f"{response['id']}/cancel")
        )


async def test_a_worker_that_is_gone(tmp_path: Path) -> None:
    """When the worker where it lived is gone, the store answers."""
    told = config(tmp_path, store="sqlite")
    async with serving(told, ["sim"], workers=Workers(1, 2, tmp_path)) as other:
        async with (
            serving(told, ["sim"], workers=Workers(0, 2, tmp_path)) as one,
            connect(one.url) as here,
        ):
            response_id = (await here.create(**STALLED)).json()["id"]
            cancelled = await here.request("POST", f"/v1/responses/{response_id}/cancel")
        async with connect(other.url) as there:
            answer = await there.request("GET", f"/v1/responses/{response_id}")
            assert (200, cancelled.json()) == (answer.status, answer.json())
            refused = await there.request("GET", f"/v1/responses/{response_id}?stream=true")
            assert (400, "stream") == (refused.status, refused.error()["param"])


# --- real processes ----------------------------------------------------------------------------


async def request(url: str, method: str, path: str, **fields: Any) -> Json:
    """Ask over a connection of its own, once the server answers."""
    async with asyncio.timeout(20):
        while True:
            try:
                async with connect(url) as wire:
                    answer = await wire.request(method, path, fields or None)
            except ConnectionError:
                await asyncio.sleep(0.05)  # a worker that has forked may not listen yet
                continue
            assert 200 == answer.status, answer.body
            return answer.json()


def names_in(folder: Path) -> set[str]:
    """The files of a folder."""
    return {path.name for path in folder.iterdir()}


async def test_forked_workers(tmp_path: Path) -> None:
    """Whichever of three processes a connection reaches, the response is there."""
    async with process(tmp_path, 3) as (_, url):
        for store in (True, False):
            begun = await request(url, "POST", "/v1/responses", **STALLED, store=store)
            path = f"/v1/responses/{begun['id']}"
            for _ in range(12):
                assert "in_progress" == (await request(url, "GET", path))["status"]
            for _ in range(6):
                assert "cancelled" == (await request(url, "POST", f"{path}/cancel"))["status"]
    assert {"seal.key", "turnwire.db", "turnwire.db.epoch", "turnwire.toml"} == names_in(tmp_path)


async def test_killed_with_responses_running(tmp_path: Path) -> None:
    """After SIGKILL a stored response has failed; a live process's goes on meanwhile."""
    async with process(tmp_path, 1) as (living, url):
        kept = await request(url, "POST", "/v1/responses", **STALLED)
        async with process(tmp_path, 1) as (killed, other_url):
            lost = await request(other_url, "POST", "/v1/responses", **STALLED)
            unstored = await request(other_url, "POST", "/v1/responses", **STALLED, store=False)
            # Both can be read through either server, which share the store, as running.
            for one in (url, other_url):
                for response in (kept, lost):
                    path = f"/v1/responses/{response['id']}"
                    assert "in_progress" == (await request(one, "GET", path))["status"]
            killed.kill()
            await killed.wait()
        # The one that lives finds out when it is asked.
        path = f"/v1/responses/{lost['id']}"
        failed = await request(url, "GET", path)
        check_response(failed)
        assert ("failed", "server_error") == (failed["status"], failed["error"]["code"])
        async with process(tmp_path, 1) as (_, again_url):
            assert failed == await request(again_url, "GET", path)
            path = f"/v1/responses/{kept['id']}"
            assert "in_progress" == (await request(again_url, "GET", path))["status"]
            async with connect(again_url) as wire:
                gone = await wire.request("GET", f"/v1/responses/{unstored['id']}")
                assert 404 == gone.status
                for method, rest in (("POST", "/cancel"), ("GET", "?stream=true")):
                    elsewhere = await wire.request(method, f"{path}{rest}")
                    assert 400 == elsewhere.status
                    assert "another server" in elsewhere.error()["message"]
        assert "cancelled" == (await request(url, "POST", f"{path}/cancel"))["status"]
        living.kill()
        await living.wait()
    async with process(tmp_path, 1) as (_, url):
        assert "cancelled" == (await request(url, "GET", path))["status"]
    assert {"seal.key", "turnwire.db", "turnwire.db.epoch", "turnwire.toml"} == names_in(tmp_path)


async def answers(url: str) -> bool:
    """Whether anybody listens and answers."""
    try:
        async with connect(url) as wire:
            return (await wire.request("GET", "/health")).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_the_first_process_is_killed(tmp_path: Path) -> None:
    """Its workers do not outlive it, and the port is free."""
    async with process(tmp_path, 2) as (first, url), asyncio.timeout(40):
        while not await answers(url):  # noqa: ASYNC110  # a port has no event to wait for
            await asyncio.sleep(0.05)
        first.kill()
        await first.wait()
        while await answers(url):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_restart_after_a_kill(tmp_path: Path) -> None:
    """A server that starts after a kill has ended what was left before it answers anyone."""
    async with process(tmp_path, 1) as (killed, url):
        lost = await request(url, "POST", "/v1/responses", **STALLED)
        killed.kill()
        await killed.wait()
    async with process(tmp_path, 1) as (_, url), connect(url) as wire:
        metrics = await wire.request("GET", "/metrics")
        assert b"turnwire_background_abandoned_total 1.0" in metrics.body
        refused = await wire.create(model="sim", input="x", previous_response_id=lost["id"])
        assert "previous_response_not_found" == refused.error()["code"]
        failed = await request(url, "GET", f"/v1/responses/{lost['id']}")
        assert "failed" == failed["status"]
        items = await request(url, "GET", f"/v1/responses/{lost['id']}/input_items")
        assert "Tell me." == items["data"][0]["content"][0]["text"]
