"""Bytes on an HTTP connection: requests of every wrong kind, sent in pieces to a real server.

An input is a request with plain line ends; those of the head become CRLF, and `AUTO` becomes the
length of the body, so that what is wrong is what was meant to be.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import zlib
from collections.abc import Hashable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from tests.integration.wire import Wire

from fuzz.served import LISTEN_SEC, Served, leave

__all__ = ["Http", "cook"]

MAX_PIECES: Final = 5
LIBRARY: Final = b"Server got itself in trouble"
STATUS: Final = re.compile(rb"HTTP/\d\.\d (\d{3}) ")


def cook(request: bytes) -> bytes:
    """The bytes that an input stands for."""
    head, separator, body = request.partition(b"\n\n")
    head = head.replace(b"AUTO", str(len(body)).encode())
    return (head + separator).replace(b"\n", b"\r\n") + body


class Http(Served):
    """The HTTP side of a server; a connection for each input."""

    def play(self, data: bytes) -> Hashable:
        """Send the request in pieces, listen a little, and go away."""
        return self.run(self._play(data))

    async def _play(self, request: bytes) -> Hashable:
        rng = random.Random(zlib.crc32(request))  # the input decides how it is sent
        data = cook(request)
        cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, MAX_PIECES)))
        place = urlsplit(self.serving.url)
        wire = Wire(*await asyncio.open_connection(place.hostname, place.port, limit=2**24))
        try:
            with suppress(ConnectionError):
                for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                    await wire.send(data[start:end])
                    await asyncio.sleep(0)
            return self._judge(data, await self._listen(wire))
        finally:
            leave(wire, rng)

    async def _listen(self, wire: Wire) -> bytes:
        heard = b""
        until = asyncio.get_running_loop().time() + LISTEN_SEC
        with suppress(ConnectionError, TimeoutError):
            while len(heard) < 2**20:
                async with asyncio.timeout_at(until):
                    more = await wire.reader.read(65_536)
                if not more:
                    break
                heard += more
        return heard

    def _judge(self, asked: bytes, heard: bytes) -> Hashable:
        """What was answered must be an answer, and never our own fault."""
        if not heard:
            return "silence"
        found = STATUS.match(heard)
        assert found, heard[:200]
        status = int(found[1])
        # The library answers an `Expect` that is not ASCII by itself, before the server is asked.
        assert status < 500 or (b"expect:" in asked.lower() and LIBRARY in heard), heard[:2_000]
        head, _, body = heard.partition(b"\r\n\r\n")
        if b"Content-Type: application/json" not in head or status < 400:
            return status
        try:
            error = json.loads(body)["error"]
        except ValueError:
            return status  # more answers follow, or the rest had not come
        return status, error["code"], re.sub(r"\d+", "0", str(error["param"]))[:60]
