"""A server whose model is behind chat completions, over real sockets on both sides."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from tests.contracts.endpoint import Asked, Endpoint, Reply, end, endpoint, sse, text, usage
from tests.contracts.sim_endpoint import simulated
from tests.integration.agent import TOOLS, asker, play
from tests.integration.recorder import Transcript
from tests.integration.serving import config, eventually, shipped
from tests.integration.wire import Json, connect, open_websocket, read_sse, write_request

from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.models.chat.model import ChatModel
from turnwire.models.chat.options import ChatOptions, MessageRules, Patience
from turnwire.models.token_model import TokenModel
from turnwire.server.app import Server, serve

KEY = "sk-upstream-0123456789"
CANARY = "Canary7Tweety"
WELL = Reply(sse(text("All is well."), end(), usage(20, 4)))


def on_disk(folder: Path) -> bytes:
    """Every byte of every file."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@asynccontextmanager
async def served(
    tmp_path: Path, script: Callable[[Asked], Reply], **options: Any
) -> AsyncIterator[tuple[Server, Endpoint]]:
    """A server with the one model `chat`, and the endpoint behind it."""
    async with endpoint(script) as one:
        patience = Patience(max_retries=0, backoff_sec=0.0)
        chosen = ChatOptions(
            base_url=one.url, model="up", api_key=KEY, patience=patience, **options
        )
        models = [ChatModel("chat", chosen)]
        async with serve(config(tmp_path, store="sqlite"), models=models) as server:
            try:
                yield server, one
            finally:
                await models[0].aclose()


async def test_one_tool_loop(tmp_path: Path) -> None:
    """Over a socket with new items only, and over HTTP in full: the endpoint sees the same."""
    renderer, vocabulary, author = shipped()
    mind = TokenModel("sim", renderer, SimEngine(vocabulary, SimProfile(), author))
    rules = MessageRules(reasoning_field="reasoning_content")
    controls = {"metadata": {"sim.tool_calls": "6", "sim.parallel_calls": "2"}}
    async with (
        served(tmp_path, simulated(mind), rules=rules, extra=controls) as (server, _),
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client,
    ):
        played = []
        for kind in ("websocket", "sse", "json"):
            settings = {
                "model": "chat",
                "tools": TOOLS,
                "reasoning": {"effort": "low"},
                "include": ["reasoning.encrypted_content"],
                "instructions": "Work in small steps.",
            }
            async with asker(kind, client, **settings) as conversation:
                played.append(await play(conversation, "Make the tests pass.", max_turns=9))
                assert all(cached > 0 for cached in conversation.cached[1:])
    websocket, streamed, plain = played
    assert websocket == streamed == plain
    assert [2] * 6 + [0] == [len(turn.calls) for turn in websocket]
    assert all(turn.num_reasoning > 0 for turn in websocket)
    assert websocket[-1].text


FAULTS: dict[str, tuple[Reply, str, int]] = {
    "cut": (Reply(sse(text("Hel"), done=False), cut=True), "server_error", 500),
    "no end": (Reply(sse(text("Hel"), done=False)), "server_error", 500),
    "500": (Reply(status=500), "server_error", 500),
    "401": (Reply([KEY.encode()], status=401), "server_error", 500),
    "429": (Reply(status=429, headers={"Retry-After": "7"}), "rate_limit_exceeded", 429),
    "too long": (
        Reply([b'{"error":{"message":"maximum context length is 9"}}'], status=400),
        "context_length_exceeded",
        400,
    ),
}


@pytest.mark.parametrize(("fault", "code", "status"), FAULTS.values(), ids=FAULTS)
async def test_faults_over_each_transport(
    tmp_path: Path, fault: Reply, code: str, status: int
) -> None:
    """The response fails with the protocol's code, and the same connection goes on."""
    replies: list[Reply] = []
    async with served(tmp_path, lambda _: replies.pop(0)) as (server, _):
        async with open_websocket(server.url) as websocket:
            replies[:] = [fault, WELL]
            # Not through the official types: they lack the code that Codex wants for a context.
            events = await websocket.create(model="chat", input="hi", store=False)
            failed = events[-1]["response"]
            assert ("failed", code) == (failed["status"], failed["error"]["code"])
            assert "'chat'" in failed["error"]["message"]
            assert KEY not in json.dumps(events)
            following = await websocket.create(model="chat", input="hi")
            assert "completed" == Transcript(following).status
        async with connect(server.url) as http:
            replies[:] = [fault, fault, WELL]
            streamed = await http.create(model="chat", input="hi", stream=True)
            *_, error, last = read_sse(streamed.chunks)
            assert ("error", "response.failed") == (error["type"], last["type"])
            plain = await http.create(model="chat", input="hi")
            assert status == plain.status
            if status == 429:
                assert "7" == plain.headers["retry-after"]
            assert 200 == (await http.create(model="chat", input="hi")).status


@pytest.mark.parametrize("how", ["hang up", "cancel", "close sse"])
async def test_who_leaves_stops_the_endpoint(tmp_path: Path, how: str) -> None:
    """The connection to the endpoint is closed, and the place is free."""
    never = Reply([*sse(text("Hel"), done=False), b"never"], gate=asyncio.Event())
    async with served(tmp_path, lambda _: never) as (server, one):
        model = server.registry.get("chat")
        if how == "close sse":
            async with connect(server.url) as http:
                body = json.dumps({"model": "chat", "input": "hi", "stream": True}).encode()
                await http.send(write_request("POST", "/v1/responses", body))
                await eventually(lambda: model.num_running == 1 and len(one.asked) == 1)
        else:
            async with open_websocket(server.url) as websocket:
                await websocket.send_create(model="chat", input="hi", store=False)
                events = [await websocket.read_event()]
                while events[-1]["type"] != "response.output_text.delta":
                    events.append(await websocket.read_event())
                if how == "cancel":
                    await websocket.send_event(
                        type="response.cancel", response_id=events[0]["response"]["id"]
                    )
                    events += await websocket.read_response()
                    assert "cancelled" == events[-1]["response"]["status"]
        await eventually(lambda: one.num_left == 1 and model.num_running == 0)


async def test_what_is_filtered_is_incomplete(tmp_path: Path) -> None:
    """The response says why it ends early, and its message is cut."""
    reply = Reply(sse(text("Hel"), end("content_filter"), usage(9, 1)))
    async with (
        served(tmp_path, lambda _: reply) as (server, _),
        open_websocket(server.url) as websocket,
    ):
        response = Transcript(await websocket.create(model="chat", input="hi")).response
        assert "incomplete" == response["status"]
        assert {"reason": "content_filter"} == response["incomplete_details"]
        assert "incomplete" == response["output"][0]["status"]


async def test_counting_is_an_estimate(tmp_path: Path) -> None:
    """Nobody is asked for it; it grows with what would be sent."""
    async with (
        served(tmp_path, lambda _: WELL) as (server, one),
        connect(server.url) as http,
    ):
        counted = []
        for words in (100, 200):
            body: Json = {"model": "chat", "input": "word " * words}
            answer = await http.request("POST", "/v1/responses/input_tokens", body)
            counted.append(answer.json()["input_tokens"])
        assert 100 <= counted[0] < counted[1] <= 300
        assert [] == one.asked


async def test_nothing_of_it_is_logged_or_stored(tmp_path: Path, log: io.StringIO) -> None:
    """Neither the key nor what was said, also where the endpoint fails and quotes both."""
    quoting = json.dumps({"error": {"message": f"{CANARY} {KEY}"}}).encode()
    replies = [
        Reply(sse(text(CANARY), end())),
        Reply([quoting], status=500),
        Reply([quoting], status=401),
        Reply([b"data: " + quoting + b"\n\n"]),
        Reply([f"data: {{{CANARY} {KEY}\n\n".encode()]),
    ]
    async with (
        served(tmp_path, lambda _: replies.pop(0)) as (server, _),
        open_websocket(server.url) as websocket,
    ):
        statuses = [
            Transcript(await websocket.create(model="chat", input=CANARY, store=False)).status
            for _ in list(replies)
        ]
        assert ["completed"] + ["failed"] * 4 == statuses
    written = on_disk(tmp_path)
    for secret in (KEY, CANARY):
        assert secret not in log.getvalue()
        assert secret.encode() not in written
