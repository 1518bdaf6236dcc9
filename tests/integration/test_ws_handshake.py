"""Who gets a WebSocket and who does not; frames, compression and sizes."""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.integration.recorder import Transcript
from tests.integration.serving import ALICE, BOB, Serving, bearer, eventually
from tests.integration.sockets import Lanes, served, talking
from tests.integration.wire import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Answer,
    Json,
    WebSocketConnection,
    connect,
    frame,
    handshake,
    open_websocket,
    write_request,
)
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosedError

from turnwire.config import KeyConfig, LimitsConfig, WebSocketConfig

KEYS = (KeyConfig(owner="alice", key=ALICE), KeyConfig(owner="bob", key=BOB))
COMPRESSED = WebSocketConfig(compression=True)
UPGRADE = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}


async def knock(url: str, data: bytes) -> Answer:
    """The answer to a handshake that is refused; the connection goes on or is closed."""
    async with connect(url) as wire:
        await wire.send(data)
        return await wire.read_answer()


async def test_without_a_key(keyed_server: Serving) -> None:
    """Nobody known is a 401 before the upgrade, whatever was sent instead of a key."""
    for headers in (None, bearer("sk-nobody"), {"Authorization": ALICE}):
        answer = await knock(keyed_server.url, handshake(headers))
        assert (401, "invalid_api_key") == (answer.status, answer.error()["code"])
    assert 0 == keyed_server.count("websocket_connections")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost.example.com"},
    ],
    ids=lambda headers: headers["Origin"],
)
async def test_a_page_from_elsewhere(server: Serving, headers: dict[str, str]) -> None:
    """A server without keys opens no socket to a web page from elsewhere."""
    answer = await knock(server.url, handshake(headers))
    assert (403, "permission_denied") == (answer.status, answer.error()["code"])


async def test_a_name_from_elsewhere(server: Serving) -> None:
    """Nor to one that reaches it under a name of its own."""
    data = handshake().replace(b"Host: localhost", b"Host: rebound.example.com:8787")
    answer = await knock(server.url, data)
    assert (403, "permission_denied") == (answer.status, answer.error()["code"])


async def test_a_page_of_this_machine(server: Serving) -> None:
    """A page of this machine, and any page for who has a key, may connect."""
    async with open_websocket(server.url, {"Origin": "http://localhost:3000"}) as wire:
        await wire.send_create(**talking(4))
        assert "completed" == (await Lanes(wire).response(None)).status


async def test_a_page_with_a_key(keyed_server: Serving) -> None:
    """Where there are keys, the key decides, not the page."""
    headers = {"Origin": "https://example.com", **bearer(ALICE)}
    async with open_websocket(keyed_server.url, headers) as wire:
        await wire.send_create(**talking(4))
        assert "completed" == (await Lanes(wire).response(None)).status


async def test_no_upgrade(server: Serving) -> None:
    """A plain GET, and a handshake that is none, is a 426 that says what to do."""
    plain_get = write_request("GET", "/v1/responses")
    old = handshake().replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12")
    no_key = handshake().replace(b"Sec-WebSocket-Key: ", b"X-Nothing: ")
    for data in (plain_get, old, no_key):
        answer = await knock(server.url, data)
        assert (426, "upgrade_required") == (answer.status, answer.error()["code"])
        assert UPGRADE == {name: answer.headers.get(name) for name in UPGRADE}


async def test_where_it_is_off(tmp_path: Path) -> None:
    """A server without WebSocket mode says 426, upon which clients fall back to HTTP."""
    async with served(tmp_path, websocket=WebSocketConfig(enabled=False)) as server:
        answer = await knock(server.url, handshake())
        assert (426, "upgrade_required") == (answer.status, answer.error()["code"])
        assert "upgrade" not in answer.headers
        async with connect(server.url) as http:
            assert 200 == (await http.create(**talking(4))).status


async def test_too_many_of_one_owner(tmp_path: Path) -> None:
    """An owner's connections are limited by themselves, and count only while they are open."""
    limits = LimitsConfig(max_connections_per_owner=2, max_connections=3)
    async with served(tmp_path, keys=KEYS, limits=limits) as server, AsyncExitStack() as open_:
        wires = [
            await open_.enter_async_context(open_websocket(server.url, bearer(ALICE)))
            for _ in range(2)
        ]
        answer = await knock(server.url, handshake(bearer(ALICE)))
        assert (429, "websocket_connection_limit_reached") == (
            answer.status,
            answer.error()["code"],
        )
        assert int(answer.headers["retry-after"]) > 0
        await open_.enter_async_context(open_websocket(server.url, bearer(BOB)))
        # Now it is the server that is full, for everyone.
        assert 429 == (await knock(server.url, handshake(bearer(BOB)))).status
        wires[0].reset()
        await eventually(lambda: server.count("websocket_connections") == 2)
        await open_.enter_async_context(open_websocket(server.url, bearer(ALICE)))


async def test_fragments_of_any_kind(server: Serving, websocket: WebSocketConnection) -> None:
    """Binary fragments, empty ones among them, with pings between, are one message."""
    data = json.dumps({"type": "response.create", **talking(4), "input": "é🦊"}).encode()
    pieces = [data[:1], b"", data[1:50], b"", data[50:], b""]
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        await websocket.send(frame(CONTINUATION if index else BINARY, piece, fin=last))
        await websocket.send(frame(PING, b"%d" % index))
        if not last:
            assert (PONG, b"%d" % index) == await websocket.read_frame()
    events: list[Json] = []
    while not events or events[-1]["type"] != "response.completed":
        opcode, payload = await websocket.read_frame()
        if opcode == TEXT:
            events.append(json.loads(payload))
    assert "completed" == Transcript(events).status


async def test_sizes(tmp_path: Path) -> None:
    """At the limit a message is taken; above it is an error of this message; far above, 1009."""
    most = 8192
    async with served(tmp_path, max_message_bytes=most) as server:
        async with open_websocket(server.url) as wire:
            body = json.dumps({"type": "response.create", **talking(4)}).encode()
            await wire.send(frame(TEXT, body + b" " * (most - len(body))))
            assert "completed" == Transcript(await wire.read_response()).status
            for size in (most + 1, most + 1_000_000):
                await wire.send(frame(TEXT, body + b" " * (size - len(body))))
                refused = await wire.read_error()
                assert (413, "payload_too_large") == (refused["status"], refused["error"]["code"])
            await wire.send_create(**talking(4))
            assert "completed" == Transcript(await wire.read_response()).status
        async with open_websocket(server.url) as wire:
            # Announced is enough: nothing of it has to arrive.
            await wire.send(b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4))
            assert 1009 == await wire.read_close()
        async with open_websocket(server.url) as wire:
            # In fragments, none of them large.
            for number in range(300):
                await wire.send(frame(CONTINUATION if number else TEXT, b" " * 8000, fin=False))
            assert 1009 == await wire.read_close()
        await eventually(lambda: server.count("websocket_connections") == 0)


def tools(num: int) -> list[Json]:
    """Tools whose echo is much larger than a packet, and compresses well."""
    return [
        {
            "type": "function",
            "name": f"tool_{number}",
            "description": f"Number {number}. é🦊 " * 40,
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
            "strict": True,
        }
        for number in range(num)
    ]


async def ask(connection: ClientConnection, **fields: object) -> Transcript:
    """One response over a client of the websockets library."""
    await connection.send(json.dumps({"type": "response.create", **fields}))
    events: list[Json] = []
    while not events or events[-1]["type"] != "response.completed":
        event = json.loads(await connection.recv())
        assert event["type"] != "error", event
        events.append(event)
    return Transcript(events)


async def test_compression(tmp_path: Path) -> None:
    """Agreed to, both directions are compressed, and everything arrives as it was sent."""
    async with served(tmp_path, websocket=COMPRESSED) as server:
        url = server.url.replace("http", "ws") + "/v1/responses"
        async with dial(url, compression="deflate", max_size=None) as connection:
            assert connection.response is not None
            agreed = connection.response.headers["Sec-WebSocket-Extensions"]
            assert "permessage-deflate" in agreed
            given = tools(100)
            first = await ask(connection, **talking(4), tools=given, tool_choice="none")
            assert given == first.response["tools"]
            (one,) = server.server._sockets
            # The tools come three times in each answer, and went up once.
            assert one._outbox.num_bytes < len(json.dumps(first.response)) / 2
            again = await ask(
                connection,
                **talking(4),
                tools=given,
                tool_choice="none",
                previous_response_id=first.id,
            )
            assert "completed" == again.status


async def test_compression_on_other_terms(tmp_path: Path) -> None:
    """A client may ask for a smaller window or no context; it can read what it gets."""
    async with served(tmp_path, websocket=COMPRESSED) as server:
        for offer in (
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=10",
        ):
            async with connect(server.url) as http:
                await http.send(handshake({"Sec-WebSocket-Extensions": offer}))
                accepted = await http.read_head()
                assert 101 == accepted.status
                wire = WebSocketConnection(http.reader, http.writer)
                await wire.send_create(**talking(4), tools=tools(20), tool_choice="none")
                first, second = await asyncio.wait_for(wire.reader.readexactly(2), 20)
                assert (0xC1, 126) == (first, second)
                size = int.from_bytes(await wire.reader.readexactly(2), "big")
                packed = await wire.reader.readexactly(size) + b"\x00\x00\xff\xff"
                bits = 10 if "bits=10" in offer else 15
                event = json.loads(zlib.decompressobj(-bits).decompress(packed))
                assert "response.created" == event["type"]


async def test_compression_declined(server: Serving) -> None:
    """Off, the offer is passed over, and frames are what they are."""
    url = server.url.replace("http", "ws") + "/v1/responses"
    async with dial(url, compression="deflate") as connection:
        assert connection.response is not None
        assert "Sec-WebSocket-Extensions" not in connection.response.headers
        assert "completed" == (await ask(connection, **talking(4))).status


async def test_a_compressed_bomb(tmp_path: Path) -> None:
    """A small message that unpacks to a large one ends at the limit, with 1009."""
    async with served(tmp_path, websocket=COMPRESSED, max_message_bytes=1_000_000) as server:
        url = server.url.replace("http", "ws") + "/v1/responses"
        async with dial(url, compression="deflate") as connection:
            await connection.send(" " * 50_000_000)
            with pytest.raises(ConnectionClosedError) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None
            assert 1009 == closed.value.rcvd.code
        await eventually(lambda: server.count("websocket_connections") == 0)
        async with dial(url, compression="deflate") as connection:
            assert "completed" == (await ask(connection, **talking(4))).status
