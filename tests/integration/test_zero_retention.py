"""Zero data retention: no byte of what is said is on disk or in the log, and all else works."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from msgspec import structs
from tests.integration.recorder import Transcript
from tests.integration.serving import ALICE, BOB, bearer, config, serving
from tests.integration.test_privacy import CANARY, TOOL, converse, on_disk
from tests.integration.wire import (
    Answer,
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    open_websocket,
    read_sse,
)

from turnwire.config import Config, KeyConfig

TALK: Json = {"model": "sim", "metadata": {"sim.output_tokens": "8"}}


def told(folder: Path, *, by_key: bool) -> Config:
    """Alice keeps nothing: because of her key, or because nobody does."""
    keys = (
        KeyConfig(owner="alice", key=ALICE, zero_data_retention=by_key),
        KeyConfig(owner="bob", key=BOB),
    )
    made = config(folder, store="sqlite", keys=keys)
    store = structs.replace(made.store, zero_data_retention=not by_key)
    return structs.replace(made, store=store)


def events_of(answer: Answer) -> list[Json]:
    """The events of a stream."""
    return read_sse([part + b"\n\n" for part in answer.body.split(b"\n\n") if part])


async def in_background(http: HttpConnection, **fields: object) -> Json:
    """A response in the background, polled until it has ended."""
    begun = (await http.create(bearer(ALICE), background=True, **fields)).json()
    while True:
        path = f"/v1/responses/{begun['id']}"
        found: Json = (await http.request("GET", path, headers=bearer(ALICE))).json()
        if found["status"] not in ("queued", "in_progress"):
            return found


async def say_everything(http: HttpConnection, websocket: WebSocketConnection) -> list[str]:
    """The canary by every way there is, `store` true where it can be; ids of the responses."""
    ids = await converse(http, websocket, ALICE, store=True)
    fields: Json = {**TALK, "input": CANARY, "store": True, "instructions": CANARY}
    streamed = await http.create(bearer(ALICE), **fields, stream=True)
    first = Transcript(events_of(streamed)).response
    polled = await in_background(http, **fields)
    replayed = await http.create(bearer(ALICE), **fields, background=True, stream=True)
    last = Transcript(events_of(replayed), background=True).response
    failed = await in_background(http, **{**fields, "metadata": {"sim.fault": "error:2"}})
    assert ["completed", "completed", "completed", "failed"] == [
        one["status"] for one in (first, polled, last, failed)
    ]
    assert [False] * 4 == [one["store"] for one in (first, polled, last, failed)]
    items: Json = {"type": "message", "role": "user", "content": CANARY}
    body = {"items": [items], "metadata": {"k": CANARY}}
    for path in ("/v1/conversations", "/v1/conversations/conv_1", "/v1/conversations/conv_1/items"):
        refused = await http.request("POST", path, body, bearer(ALICE))
        assert (403, "permission_denied") == (refused.status, refused.error()["code"])
    warm = Transcript(await websocket.create(**fields, generate=False)).response
    additions: list[Json] = [
        {"type": "additional_tools", "role": "developer", "tools": [{**TOOL, "name": "more"}]},
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
        {"type": "mcp_call", "id": "mcp_1", "name": CANARY, "arguments": CANARY},
    ]
    more = await websocket.create(
        **{**fields, "input": additions}, previous_response_id=warm["id"], stream_id=CANARY
    )
    later = Transcript(more, stream_id=CANARY).response
    return [*ids, *(one["id"] for one in (first, polled, last, failed, warm, later))]


@pytest.mark.parametrize("by_key", [True, False], ids=["by key", "by server"])
async def test_nothing_is_kept(
    tmp_path: Path, log: io.StringIO, capfd: pytest.CaptureFixture[str], by_key: bool
) -> None:
    """Whatever is asked for, no content and no id of a response reaches a file or the log."""
    async with (
        serving(told(tmp_path, by_key=by_key)) as server,
        connect(server.url) as http,
        open_websocket(server.url, bearer(ALICE)) as websocket,
    ):
        ids = await say_everything(http, websocket)
        while_open = on_disk(tmp_path)
    for disk in (while_open, on_disk(tmp_path)):
        assert disk  # there is a database and a sealing key
        assert CANARY.encode() not in disk
        assert [] == [one for one in ids if one.encode() in disk]
    printed = capfd.readouterr()
    for text in (log.getvalue(), printed.out, printed.err):
        assert CANARY not in text


async def test_store_false_keeps_nothing_either(tmp_path: Path) -> None:
    """`store: false` by itself keeps background responses off the disk too."""
    async with serving(config(tmp_path, store="sqlite")) as server, connect(server.url) as http:
        fields: Json = {**TALK, "input": CANARY, "store": False}
        streamed = await http.create(**fields, background=True, stream=True)
        assert "completed" == Transcript(events_of(streamed), background=True).response["status"]
        failed = {**fields, "metadata": {"sim.fault": "error:2"}}
        assert 200 == (await http.create(**failed, background=True, stream=True)).status
        assert CANARY.encode() not in on_disk(tmp_path)
        kept = await http.create(**{**fields, "store": True})
        assert CANARY.encode() in on_disk(tmp_path)
        assert kept.json()["id"].encode() in on_disk(tmp_path)


async def test_memory_is_as_for_store_false(tmp_path: Path) -> None:
    """A connection continues, the background can be read for a while, HTTP cannot go on."""
    async with (
        serving(told(tmp_path, by_key=True)) as server,
        connect(server.url) as http,
        open_websocket(server.url, bearer(ALICE)) as websocket,
    ):
        first = Transcript(await websocket.create(**TALK, input="a", store=True)).response
        assert first["store"] is False
        second = Transcript(
            await websocket.create(**TALK, input="b", previous_response_id=first["id"])
        ).response
        assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
        path = f"/v1/responses/{first['id']}"
        assert 404 == (await http.request("GET", path, headers=bearer(ALICE))).status
        refused = await http.create(
            bearer(ALICE), **TALK, input="b", previous_response_id=first["id"]
        )
        assert "previous_response_not_found" == refused.error()["code"]
        polled = await in_background(http, **TALK, input="a")
        assert ("completed", False) == (polled["status"], polled["store"])


async def test_what_others_keep_is_theirs(tmp_path: Path) -> None:
    """Another key of the owner keeps as ever; its conversation can be read, but not added to."""
    owner = KeyConfig(owner="alice", key=BOB)
    quiet = KeyConfig(owner="alice", key=ALICE, zero_data_retention=True)
    async with (
        serving(config(tmp_path, store="sqlite", keys=(owner, quiet))) as server,
        connect(server.url) as http,
    ):
        stored = (await http.create(bearer(BOB), **TALK, input="a")).json()
        assert stored["store"] is True
        made = await http.request(
            "POST", "/v1/conversations", {"items": [{"role": "user", "content": "x"}]}, bearer(BOB)
        )
        conversation = made.json()["id"]
        for more in ({"previous_response_id": stored["id"]}, {"conversation": conversation}):
            answer = await http.create(bearer(ALICE), **TALK, input=CANARY, **more)
            assert (200, False) == (answer.status, answer.json()["store"])
        listed = await http.request(
            "GET", f"/v1/conversations/{conversation}/items", headers=bearer(ALICE)
        )
        assert 1 == len(listed.json()["data"])
        assert CANARY.encode() not in on_disk(tmp_path)
