"""Clients that read slowly, late or never: they wait for themselves, and nobody else does."""

from __future__ import annotations

import asyncio
import io
import json
import os
from pathlib import Path

import pytest
from tests.integration.recorder import Transcript
from tests.integration.serving import Serving, eventually
from tests.integration.sockets import Lanes, open_narrow, plain, served, talking
from tests.integration.wire import PING, TEXT, frame, open_websocket

from turnwire.config import WebSocketConfig

# As bytes on the wire, some 40 times what the server may hold for one client.
LONG = 60_000


def resident_bytes() -> int:
    """Memory of this process: the server's, and the client's."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def settled(server: Serving) -> int:
    """Wait until the server makes nothing more for its clients; bytes that it holds for them."""
    sockets = list(server.server._sockets)
    before, now = -1, 0
    while before != now:
        await asyncio.sleep(0.1)  # nothing announces that nothing more comes
        before, now = now, sum(one._outbox.num_bytes for one in sockets)
    return sum(one._outbox._transport.get_write_buffer_size() for one in sockets)


async def serve_another(server: Serving) -> None:
    """Another client gets its answers."""
    async with open_websocket(server.url) as other:
        for _ in range(5):
            assert "completed" == Transcript(await other.create(**talking(20))).status


async def test_a_client_that_stops_reading(server: Serving) -> None:
    """Its generation pauses with little held for it; later it gets everything, in order."""
    async with open_narrow(server.url) as narrow:
        before = resident_bytes()
        await narrow.create(**talking(LONG))
        await eventually(lambda: server.engines["sim"].num_running == 1)
        held = await settled(server)
        # The high-water mark, and what one step of the engine can bring above it.
        assert held < 400_000
        assert resident_bytes() - before < 20_000_000
        assert 1 == server.engines["sim"].num_running
        assert 0 == server.count("output_tokens_total")
        await serve_another(server)
        assert held == await settled(server)
        events = await (await narrow.read_on()).read_response()
    answer = plain(events)
    assert LONG + 1 == answer.response["usage"]["output_tokens"]
    sizes = [
        len(event["delta"]) for event in events if event["type"] == "response.output_text.delta"
    ]
    assert len(sizes) < LONG / 2
    assert max(sizes) > 1000
    await server.idle()


async def test_lanes_of_a_client_that_stops_reading(server: Serving) -> None:
    """Sixteen lanes share what is held for the client, and each gets its whole answer."""
    async with open_narrow(server.url) as narrow:
        for number in range(16):
            await narrow.create(**talking(4000, stream_id=f"{number}"))
        await eventually(lambda: server.engines["sim"].num_running == 16)
        assert await settled(server) < 1_500_000
        await serve_another(server)
        lanes = Lanes(await narrow.read_on())
        texts = {(await lanes.response(f"{number}")).text for number in range(16)}
        assert 1 == len(texts)
    await server.idle()


async def test_a_cancel_while_others_wait_to_send(server: Serving) -> None:
    """A lane that is cancelled while it waits for the client leaves the other lanes waiting."""
    async with open_narrow(server.url) as narrow:
        for lane in ("a", "b", "c"):
            await narrow.create(**talking(8000, stream_id=lane))
        await eventually(lambda: server.engines["sim"].num_running == 3)
        await settled(server)
        await narrow.send(frame(TEXT, b'{"type":"response.cancel","stream_id":"b"}'))
        await eventually(lambda: server.engines["sim"].num_running == 2)
        lanes = Lanes(await narrow.read_on())
        assert "cancelled" == (await lanes.response("b")).status
        assert "completed" == (await lanes.response("a")).status
        assert "completed" == (await lanes.response("c")).status
        await lanes.wire.send_create(**talking(8000, stream_id="b"))
        assert "completed" == (await lanes.response("b")).status
    await server.idle()


async def test_a_client_that_never_reads(tmp_path: Path, log: io.StringIO) -> None:
    """It is cut off in time, and its slots are free; one that takes a little at a time is not."""
    websocket = WebSocketConfig(stalled_sec=0.5)
    async with served(tmp_path, websocket=websocket) as server:
        async with open_narrow(server.url) as never, open_narrow(server.url) as slow:
            for narrow in (never, slow):
                await narrow.create(**talking(LONG))
                await narrow.create(**talking(LONG, stream_id="other"))

            async def sip() -> None:
                while await slow.sip(2048):  # noqa: ASYNC110  # slowness is the point
                    await asyncio.sleep(0.002)

            sipping = asyncio.create_task(sip())
            await eventually(lambda: server.engines["sim"].num_running == 4)
            await eventually(lambda: server.engines["sim"].num_running == 2)
            await eventually(lambda: server.count("websocket_connections") == 1)
            assert 1 == server.count("websocket_closes_total", code="1006")
            await serve_another(server)
            # As long again: the slow one is still there.
            await asyncio.sleep(0.6)
            assert 1 == server.count("websocket_connections")
            assert not sipping.done()
            sipping.cancel()
        await server.idle()
        await eventually(lambda: server.count("websocket_connections") == 0)
    assert "" == log.getvalue()


async def test_a_client_that_floods_without_reading(tmp_path: Path, log: io.StringIO) -> None:
    """What it sends is left in the network once enough is held; it is cut off like any other."""
    async with served(tmp_path, websocket=WebSocketConfig(stalled_sec=1.0)) as server:
        bad = frame(TEXT, b"{") * 500
        async with open_narrow(server.url) as narrow:
            before = resident_bytes()

            async def flood() -> None:
                while True:
                    await narrow.send(bad)

            flooding = asyncio.create_task(flood())
            await eventually(lambda: server.count("errors_total", code="invalid_json") > 500)
            assert await settled(server) < 1_500_000
            await serve_another(server)
            await eventually(lambda: server.count("websocket_closes_total", code="1006") == 1)
            assert resident_bytes() - before < 20_000_000
            with pytest.raises(OSError, match=r"reset|pipe"):
                await flooding
        await eventually(lambda: server.count("websocket_connections") == 0)
    assert "" == log.getvalue()


async def test_a_flood_of_pings(tmp_path: Path, log: io.StringIO) -> None:
    """Pings without end are answered to who reads, and cost nobody else; see above for the rest."""
    async with served(tmp_path, websocket=WebSocketConfig(stalled_sec=1.0)) as server:
        pings = frame(PING, b"x" * 125) * 500
        async with open_narrow(server.url) as narrow:
            before = resident_bytes()

            async def flood() -> None:
                while True:
                    await narrow.send(pings)

            flooding = asyncio.create_task(flood())
            (one,) = server.server._sockets
            transport = one._outbox._transport
            await eventually(lambda: transport.get_write_buffer_size() > 60_000)
            await serve_another(server)
            await eventually(lambda: server.count("websocket_closes_total", code="1006") == 1)
            assert resident_bytes() - before < 20_000_000
            with pytest.raises(OSError, match=r"reset|pipe"):
                await flooding
        await eventually(lambda: server.count("websocket_connections") == 0)
    assert "" == log.getvalue()


async def test_a_client_that_sends_byte_by_byte(server: Serving) -> None:
    """A message in packets of one byte is the message; others are served between any two."""
    body = json.dumps({"type": "response.create", **talking(8)}).encode()
    data = frame(TEXT, body)
    async with open_websocket(server.url) as websocket:
        for at in range(len(data)):
            await websocket.send(data[at : at + 1])
            await asyncio.sleep(0)
            if at % 40 == 0:
                await serve_another(server)
        assert "completed" == Transcript(await websocket.read_response()).status


async def test_the_unread_rest_of_a_closed_socket(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who says goodbye and does not read leaves no socket and no bytes behind in the server."""
    monkeypatch.setattr("turnwire.server.websocket.LINGER_SEC", 0.05)
    files = len(os.listdir("/proc/self/fd"))
    async with open_narrow(server.url) as narrow:
        await narrow.create(**talking(LONG))
        await eventually(lambda: server.engines["sim"].num_running == 1)
        assert await settled(server) > 0
        # A client that was killed would reset the connection; this one lives on, with its end.
        await narrow.send(frame(0x8, (1000).to_bytes(2, "big")))
        await eventually(lambda: len(os.listdir("/proc/self/fd")) == files + 1)
    await server.idle()
