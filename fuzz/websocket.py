"""Bytes behind the handshake: frames of every wrong kind, sent in pieces to a real server.

An input is a recipe, a line for each frame: `81m {"type":...}`. The first two hex digits are the
frame's first byte (RFC 6455 section 5.2: FIN, reserved bits, opcode). Then `m` masks it as a
client must, `u` does not, `w` masks with nothing but announces a mask, and a number after it is
the length to announce instead of the true one. A line that does not begin so is sent as it is.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import struct
import zlib
from collections.abc import Hashable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from tests.integration.wire import CLOSE, PONG, TEXT, WebSocketConnection, check_accepted, handshake
from tests.judges.judge import SocketJudge

from fuzz.served import LISTEN_SEC, Served, leave

__all__ = ["WebSockets", "cook"]

LINE: Final = re.compile(rb"([0-9a-f]{2})([muw])(\d{1,20})? (.*)", re.DOTALL)
MAX_PIECES: Final = 6


def cook(recipe: bytes) -> bytes:
    """The bytes that a recipe stands for."""
    return b"".join(map(_frame, recipe.split(b"\n")))


def _frame(line: bytes) -> bytes:
    found = LINE.fullmatch(line)
    if found is None:
        return line
    first, mode, told, payload = found.groups()
    size = min(int(told), 2**64 - 1) if told else len(payload)
    flag = 0 if mode == b"u" else 0x80
    if size < 126:
        head = bytes([int(first, 16), flag | size])
    elif size < 65_536:
        head = struct.pack("!BBH", int(first, 16), flag | 126, size)
    else:
        head = struct.pack("!BBQ", int(first, 16), flag | 127, size)
    if mode != b"m":
        return head + payload
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


READ_TOOLS: Final = frozenset({"custom", "function", "namespace"})
"""Types of tools that a server reads; others are echoed as they come, right or wrong."""


class _Lenient(SocketJudge):
    """A judge that leaves alone what an attack has made of tools that nobody reads."""

    def take_event(self, event: dict[str, Any]) -> None:
        response = event.get("response")
        if isinstance(response, dict) and isinstance(response.get("tools"), list):
            tools = [one for one in response["tools"] if one.get("type") in READ_TOOLS]
            event = {**event, "response": {**response, "tools": tools}}
        super().take_event(event)


class WebSockets(Served):
    """WebSocket mode of a server; a connection for each input."""

    def play(self, data: bytes) -> Hashable:
        """Send what the recipe gives, in pieces, listen a little, and go away."""
        return self.run(self._play(data))

    async def _play(self, recipe: bytes) -> Hashable:
        rng = random.Random(zlib.crc32(recipe))  # the input decides how it is sent
        data = cook(recipe)
        cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, MAX_PIECES)))
        place = urlsplit(self.serving.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**24)
        wire = WebSocketConnection(reader, writer, _Lenient())
        try:
            await wire.send(handshake())
            check_accepted(await wire.read_head())
            with suppress(ConnectionError):
                for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                    await wire.send(data[start:end])
                    await asyncio.sleep(0)
            said = await self._listen(wire)
        finally:
            leave(wire, rng)
        return tuple(said)

    async def _listen(self, wire: WebSocketConnection) -> list[Hashable]:
        """Kinds of events and close codes; every frame must be one that clients can read."""
        said: list[Hashable] = []
        loop = asyncio.get_running_loop()
        until = loop.time() + LISTEN_SEC
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            while len(said) < 20:
                async with asyncio.timeout_at(until):
                    opcode, payload = await wire.read_frame()
                kind: Hashable
                match opcode:
                    case _ if opcode == TEXT:
                        event = json.loads(payload)
                        kind = event["error"]["code"] if event["type"] == "error" else event["type"]
                        assert kind != "server_error", event
                    case _ if opcode == CLOSE:
                        kind = int.from_bytes(payload[:2], "big")
                        assert kind in {1000, 1001, 1002, 1003, 1007, 1009, 1012} or kind >= 3000
                    case _:
                        assert opcode == PONG, f"opcode {opcode}"
                        assert len(payload) <= 125
                        kind = "pong"
                if kind not in said:
                    said.append(kind)
        return said
