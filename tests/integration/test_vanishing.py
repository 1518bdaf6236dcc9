"""Clients that go away, with or without a word: what they used is free again."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from tests.integration.recorder import Transcript
from tests.integration.serving import Serving, eventually
from tests.integration.wire import (
    CLOSE,
    TERMINAL,
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    frame,
    handshake,
    open_websocket,
    read_sse,
    write_request,
)

How = Literal["reset", "close"]
HOWS: list[How] = ["reset", "close"]
# One slot and no place to wait: if the slot is not given back the next request is a 503.
SLOW: Json = {
    "model": "sim-single",
    "input": "Tell me.",
    "metadata": {"sim.output_tokens": "100000"},
}
STALLED: Json = {"model": "sim-single", "input": "x", "metadata": {"sim.fault": "stall:3600"}}
QUICK: Json = {"model": "sim-single", "input": "x", "max_output_tokens": 16}


async def check_free(server: Serving, response_id: str | None = None) -> None:
    """Nothing runs, the slot serves the next one, and the aborted response is not kept."""
    await server.idle()
    async with connect(server.url) as wire:
        assert (await wire.create(**QUICK)).status == 200
        if response_id is not None:
            assert (await wire.request("GET", f"/v1/responses/{response_id}")).status == 404


async def leave(wire: HttpConnection | WebSocketConnection, how: How) -> None:
    """Go away."""
    if how == "reset":
        wire.reset()
    elif isinstance(wire, WebSocketConnection):
        await wire.send(frame(CLOSE, (1000).to_bytes(2, "big")))
    else:
        wire.close()


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("fields", [SLOW, STALLED], ids=["in mid-stream", "before the first token"])
async def test_in_a_stream(server: Serving, fields: Json, how: How) -> None:
    """A client that leaves its stream stops its response; nothing of it is kept."""
    async with connect(server.url) as wire:
        body = json.dumps({**fields, "stream": True}).encode()
        await wire.send(write_request("POST", "/v1/responses", body))
        assert (await wire.read_head()).status == 200
        first = await wire.read_chunk()
        assert server.count("responses_in_flight") == 1
        await leave(wire, how)
        response_id = json.loads(first.split(b"data: ")[1])["response"]["id"]
    await check_free(server, response_id)
    assert server.count("responses_total", status="aborted", transport="sse") == 1


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("fields", [SLOW, STALLED], ids=["in mid-stream", "before the first token"])
async def test_on_a_socket(server: Serving, fields: Json, how: How) -> None:
    """A client that leaves its socket stops all that runs there, and what waits never starts."""
    async with open_websocket(server.url) as wire:
        await wire.send_create(**fields)
        created = await wire.read_event()
        await wire.send_create(**fields)  # waits in the lane
        await wire.send_create(**{**STALLED, "model": "sim"}, stream_id="other")
        await eventually(lambda: server.count("responses_in_flight") == 2)
        await leave(wire, how)
    await check_free(server, created["response"]["id"])
    assert server.count("responses_total", status="aborted", transport="websocket") == 2
    assert server.count("websocket_connections") == 0


async def test_while_it_waits_for_an_answer(server: Serving) -> None:
    """A client that leaves before its JSON answer stops the response."""
    async with connect(server.url) as wire:
        await wire.send(write_request("POST", "/v1/responses", json.dumps(STALLED).encode()))
        await eventually(lambda: server.count("responses_in_flight") == 1)
        wire.reset()
    await check_free(server)
    assert server.count("responses_total", status="aborted", transport="http") == 1


async def test_in_its_own_request(server: Serving) -> None:
    """A client that leaves in the middle of what it sends leaves nothing behind."""
    whole = write_request("POST", "/v1/responses", json.dumps(SLOW).encode())
    opening = handshake()
    for data in (whole[:20], whole[:-5], opening[:-5], opening + frame(1, b"x" * 99)[:50]):
        async with connect(server.url) as wire:
            await wire.send(data)
            wire.reset()
    await check_free(server)


async def test_before_its_answer_began(server: Serving, log: io.StringIO) -> None:
    """A client that leaves the moment it has asked is nobody's error: the log says nothing."""
    fields: Json = {**SLOW, "model": "sim"}
    for stream in (True, False):
        body = json.dumps({**fields, "stream": stream}).encode()
        for _ in range(10):
            async with connect(server.url) as wire:
                await wire.send(write_request("POST", "/v1/responses", body))
                wire.reset()
    for _ in range(10):
        async with open_websocket(server.url) as wire:
            await wire.send_create(**fields)
            wire.reset()
    await check_free(server)
    assert log.getvalue() == ""


async def test_many_at_once(server: Serving) -> None:
    """A crowd that vanishes at once leaves the server as it was."""

    async def come_and_go(number: int) -> None:
        async with open_websocket(server.url) as wire:
            await wire.send_create(**{**STALLED, "model": "sim"})
            assert (await wire.read_event())["type"] == "response.created"
            await leave(wire, HOWS[number % 2])

    await asyncio.gather(*(come_and_go(number) for number in range(40)))
    await check_free(server)
    await eventually(lambda: server.count("websocket_connections") == 0)
    assert server.count("responses_total", status="aborted", transport="websocket") == 40


async def test_a_cancel(server: Serving) -> None:
    """response.cancel ends the running response as cancelled, and the lane goes on."""
    async with open_websocket(server.url) as wire:
        first = Transcript(await wire.create(model="sim", input="one", store=False))
        await wire.send_create(**SLOW)
        events = [await wire.read_event() for _ in range(4)]
        await wire.send_event(type="response.cancel", response_id=events[0]["response"]["id"])
        while events[-1]["type"] not in TERMINAL:
            events.append(await wire.read_event())
        cancelled = Transcript(events)
        assert (cancelled.status, cancelled.output) == ("cancelled", [])
        await wire.send_event(type="response.cancel", response_id=cancelled.id)  # is over: ignored
        # The lane's latest is the response before it.
        second = await wire.create(
            model="sim", input="two", store=False, previous_response_id=first.id
        )
        assert Transcript(second).status == "completed"
    await check_free(server)
    async with connect(server.url) as http:
        kept = await http.request("GET", f"/v1/responses/{cancelled.id}")
        assert cancelled.response == kept.json()
        more = await http.create(model="sim", input="x", previous_response_id=cancelled.id)
        assert more.error()["code"] == "previous_response_not_found"


async def test_a_late_reader(server: Serving) -> None:
    """A client that reads only later gets everything, and holds up nobody meanwhile."""
    place = urlsplit(server.url)
    sock = socket.create_connection((place.hostname, place.port or 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.setblocking(False)
    fields: dict[str, Any] = {
        "model": "sim",
        "input": "x",
        "metadata": {"sim.output_tokens": "8000"},
        "stream": True,
    }
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(
        sock, write_request("POST", "/v1/responses", json.dumps(fields).encode())
    )
    async with connect(server.url) as other:
        for _ in range(20):
            assert (await other.create(model="sim", input="x")).status == 200
    reader, writer = await asyncio.open_connection(sock=sock, limit=2**20)
    answer = await HttpConnection(reader, writer).read_answer()
    writer.close()
    transcript = Transcript(read_sse(answer.chunks), sse=True)
    assert transcript.response["usage"]["output_tokens"] == 8001
