"""Request bodies over real sockets: compressed, of the wrong kind, announced before they come."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.integration.serving import config, serving
from tests.integration.wire import Answer, HttpConnection, connect

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ASK = {"model": "sim", "input": "hi", "metadata": {"sim.output_tokens": "4"}}
BODY = json.dumps(ASK).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}
PATHS = ["/v1/responses", "/v1/responses/input_tokens"]


def head_of(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A request's head with exactly these headers."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def post(
    wire: HttpConnection, body: bytes, headers: Mapping[str, str], path: str = PATHS[0]
) -> Answer:
    """Send a body under these headers and no others."""
    await wire.send(head_of(path, body, headers) + body)
    return await wire.read_answer()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("GZIP", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("zstd", zstd.compress(BODY)),
        ("identity", BODY),
    ],
)
async def test_codings(http: HttpConnection, path: str, coding: str, body: bytes) -> None:
    """A body compressed in a known way is as good as a plain one, and so is the next request."""
    answer = await post(http, body, {"Content-Encoding": coding}, path)
    assert 200 == answer.status, answer.body
    assert 200 == (await post(http, BODY, {}, path)).status


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Encoding": "br"}, BODY, 415, "unsupported_media_type"),
        ({"Content-Encoding": "gzip, gzip"}, BODY, 415, "unsupported_media_type"),
        ({"Content-Type": "text/plain"}, BODY, 415, "unsupported_media_type"),
        (
            {"Content-Type": "application/x-www-form-urlencoded"},
            BODY,
            415,
            "unsupported_media_type",
        ),
        ({"Content-Encoding": "gzip"}, BODY, 400, "invalid_request"),
        ({"Content-Encoding": "deflate"}, BODY, 400, "invalid_request"),
        ({"Content-Encoding": "zstd"}, BODY, 400, "invalid_request"),
        ({"Content-Encoding": "gzip"}, gzip.compress(BODY, mtime=0)[:-1], 400, "invalid_request"),
        ({"Content-Encoding": "zstd"}, zstd.compress(BODY)[:-1], 400, "invalid_request"),
        ({"Content-Encoding": "gzip"}, b"", 400, "invalid_json"),
    ],
)
async def test_bodies_that_are_refused(
    http: HttpConnection, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    """What is of another kind is a 415, what is not what it says is a 400; the server goes on."""
    answer = await post(http, body, headers)
    assert (status, code) == (answer.status, answer.error()["code"])
    assert 200 == (await post(http, BODY, {})).status


async def test_headers_that_are_no_text(http: HttpConnection) -> None:
    """Bytes that are not UTF-8 in what an error quotes are no fault of the server."""
    for name in ("Content-Type", "Content-Encoding"):
        head = head_of(PATHS[0], BODY, {name: "@"}).replace(b"@", b"\x80\xff")
        await http.send(head + BODY)
        answer = await http.read_answer()
        assert (415, "unsupported_media_type") == (answer.status, answer.error()["code"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json"},
        {"Content-Type": "application/json; charset=utf-8"},
    ],
)
async def test_content_types(http: HttpConnection, headers: dict[str, str]) -> None:
    """JSON may say so, with or without its charset, or say nothing."""
    assert 200 == (await post(http, BODY, headers)).status


@pytest.mark.parametrize("coding", list(PACKERS))
async def test_bombs(tmp_path: Path, coding: str) -> None:
    """A body that becomes too large is a 413, however small it came."""
    pack = PACKERS[coding]
    async with (
        serving(config(tmp_path, max_body_bytes=65_536)) as server,
        connect(server.url) as wire,
    ):
        bomb = pack(b" " * 2**25)
        assert len(bomb) < 65_536
        answer = await post(wire, bomb, {"Content-Encoding": coding})
        assert (413, "payload_too_large") == (answer.status, answer.error()["code"])
        fits = pack(BODY + b" " * (65_536 - len(BODY)))
        assert 200 == (await post(wire, fits, {"Content-Encoding": coding})).status


async def test_expect(tmp_path: Path) -> None:
    """A client that asks first is told to go on, unless its body would be refused for its size."""
    expect = {"Expect": "100-continue"}
    async with serving(config(tmp_path, max_body_bytes=4096)) as server:
        async with connect(server.url) as wire:
            for _ in range(2):
                await wire.send(head_of(PATHS[0], BODY, expect))
                assert 100 == (await wire.read_head()).status
                await wire.send(BODY)
                assert 200 == (await wire.read_answer()).status
        async with connect(server.url) as wire:
            await wire.send(head_of(PATHS[0], b"x" * 5000, expect))
            answer = await wire.read_answer()
            assert (413, "payload_too_large") == (answer.status, answer.error()["code"])
        async with connect(server.url) as wire:
            answer = await post(wire, BODY, {"Expect": "miracles"})
            assert (417, "invalid_request") == (answer.status, answer.error()["code"])
