"""What a client says stays between it and the model: not in the log, and on disk only if asked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.integration.recorder import Transcript
from tests.integration.serving import ALICE, BOB, bearer, config, serving
from tests.integration.wire import (
    BINARY,
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    frame,
    open_websocket,
)

from turnwire.config import KeyConfig
from turnwire.models.token_model import TokenModel

CANARY = "Canary7Tweety"
TOOL: Json = {
    "type": "function",
    "name": "look",
    "description": CANARY,
    "parameters": {"type": "object", "properties": {CANARY: {"type": "string", "maxLength": 4}}},
}


def on_disk(folder: Path) -> bytes:
    """Every byte of every file."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def converse(
    http: HttpConnection, websocket: WebSocketConnection, key: str, *, store: bool
) -> list[str]:
    """Say the canary wherever something can be said; ids of the responses that ended well."""
    settings: Json = {
        "model": "sim",
        "store": store,
        "instructions": CANARY,
        "tools": [TOOL],
        "metadata": {"note": CANARY, "sim.tool_calls": "1"},
        "user": CANARY,
    }
    one = Transcript(await websocket.create(**settings, input=CANARY)).response
    call = one["output"][0]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": CANARY}
    two = Transcript(
        await websocket.create(**settings, input=[output], previous_response_id=one["id"])
    ).response
    whole = [{"role": "user", "content": CANARY}, call, output]
    three = (await http.create(bearer(key), **settings, input=whole)).json()
    managed = [{"type": "compaction", "compact_threshold": 1000}]
    four = (
        await http.create(
            bearer(key),
            **{**settings, "tools": []},
            input=f"{CANARY} " * 500,
            context_management=managed,
        )
    ).json()
    assert "compaction" == four["output"][0]["type"]
    asked: Json = {"model": "sim", "input": whole, "instructions": CANARY}
    window = (await http.request("POST", "/v1/responses/compact", asked, bearer(key))).json()
    five = (await http.create(bearer(key), **settings, input=window["output"])).json()
    foreign = (await http.create(bearer(BOB), **settings, input=window["output"])).error()
    assert "invalid_encrypted_content" == foreign["code"]
    faults: list[Json] = [
        {"metadata": {"sim.fault": "error:2", "note": CANARY}},
        {"metadata": {"sim.fault": CANARY}},
        {"model": CANARY},
        {"previous_response_id": CANARY},
        {"temperature": CANARY},
        {"tool_choice": {"type": "function", "name": CANARY}},
        {"input": [{**output, "call_id": CANARY}]},
        {"input": [{"role": CANARY, "content": CANARY}]},
        {"input": [{"type": "reasoning", "summary": [], "encrypted_content": CANARY}]},
        {"input": [{"type": "compaction", "encrypted_content": CANARY}]},
        {"input": [{"type": "compaction_trigger", "id": CANARY}, call]},
        {"context_management": [{"type": CANARY}]},
    ]
    for fault in faults:
        fields = {**settings, "input": CANARY, **fault}
        for stream in (False, True):
            await http.create(bearer(key), **fields, stream=stream)
        await websocket.send_create(**fields, stream_id="faults")
        event = await websocket.read_event()
        while event["type"] not in ("error", "response.failed"):
            event = await websocket.read_event()
    for body in (f'{{"input": "{CANARY}', f'"{CANARY}"', f'{{"{CANARY}": {CANARY}}}'):
        await http.request("POST", "/v1/responses", body.encode(), bearer(key))
        await websocket.send(frame(BINARY, body.encode()))
        await websocket.read_error()
    await websocket.send_event(type=CANARY)
    await websocket.read_error()
    await http.request("GET", f"/v1/responses/{CANARY}", headers=bearer(key))
    await http.request("GET", f"/{CANARY}?{CANARY}={CANARY}", headers=bearer(key))
    await http.create(bearer(CANARY + "-not-a-key"), model="sim", input=CANARY)
    return [one["id"], two["id"], three["id"], four["id"], five["id"]]


@pytest.mark.parametrize("store", [False, True], ids=["store:false", "store:true"])
async def test_a_canary(
    tmp_path: Path, log: io.StringIO, capfd: pytest.CaptureFixture[str], store: bool
) -> None:
    """No log line holds content or a key; with store:false no file does, nor an id of it."""
    keys = (KeyConfig(owner="alice", key=ALICE), KeyConfig(owner="bob", key=BOB))
    async with (
        serving(config(tmp_path, store="sqlite", keys=keys)) as server,
        connect(server.url) as http,
        open_websocket(server.url, bearer(ALICE)) as websocket,
    ):
        ids = await converse(http, websocket, ALICE, store=store)
        while_open = on_disk(tmp_path)
    for disk in (while_open, on_disk(tmp_path)):
        assert disk  # there is a database and a sealing key
        assert ALICE.encode() not in disk
        # Where it may be kept, it is: so a file that held it would be noticed.
        assert store == (CANARY.encode() in disk)
        assert [store] * 5 == [one.encode() in disk for one in ids]
    printed = capfd.readouterr()
    for text in (log.getvalue(), printed.out, printed.err):
        assert CANARY not in text
        assert ALICE not in text
        assert BOB not in text


async def test_a_bug_does_not_quote_its_input(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody foresaw is a 500 that says nothing, and a log line without its message."""

    def broken(*args: object) -> None:
        raise ValueError(f"cannot digest {args} and {CANARY}")

    monkeypatch.setattr(TokenModel, "prepare", broken)
    async with (
        serving(config(tmp_path)) as server,
        connect(server.url) as http,
        open_websocket(server.url) as websocket,
    ):
        for stream in (False, True):
            answer = await http.create(model="sim", input=CANARY, stream=stream)
            assert (500, "server_error") == (answer.status, answer.error()["code"])
            assert CANARY.encode() not in answer.body
        event = await websocket.refused(model="sim", input=CANARY)
        assert (500, "server_error") == (event["status"], event["error"]["code"])
        assert CANARY not in str(event)
        monkeypatch.undo()
        assert (await http.create(model="sim", input="x")).status == 200
        Transcript(await websocket.create(model="sim", input="x"))
    assert CANARY not in log.getvalue()
    lines = log.getvalue().splitlines()
    assert 3 == sum('"error": "ValueError"' in line and "broken" in line for line in lines)


async def test_a_bug_in_mid_stream(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same after the response began: it fails like any other."""
    async with serving(config(tmp_path)) as server, open_websocket(server.url) as websocket:
        engine = server.engines["sim"]

        def broken(*args: object) -> None:
            raise KeyError(CANARY)

        monkeypatch.setattr(engine, "_begin", broken)
        transcript = Transcript(await websocket.create(model="sim", input=CANARY))
        assert transcript.status == "failed"
        assert transcript.response["error"]["code"] == "server_error"
        monkeypatch.undo()
        Transcript(await websocket.create(model="sim", input="x"))
    assert CANARY not in log.getvalue()
    assert '"error": "KeyError"' in log.getvalue()
