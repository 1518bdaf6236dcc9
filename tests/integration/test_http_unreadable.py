"""Requests that cannot be read as HTTP, or whose rest does not come: an answer like any other."""

from __future__ import annotations

import pytest
from tests.integration.serving import Serving
from tests.integration.wire import Answer, connect

from turnwire.server.bodies import Bodies

GET = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n"
SECRET = b"sk-secret-0123456789"

# name: (what is sent, what the message says is wrong)
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "no HTTP": (SECRET + b"\r\n\r\n", "Invalid method"),
    "bytes in the path": (b"GET /v1/" + SECRET + b"\xff HTTP/1.1\r\n\r\n", "url path"),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", "'Host' header"),
    "two hosts": (GET + b"Host: other\r\n\r\n", "'Host' header"),
    "no header": (GET + SECRET + b" \r\n\r\n", "Invalid header token"),
    "a control character": (
        GET + b"Authorization: Bearer " + SECRET + b"\x00\r\n\r\n",
        "Invalid header value",
    ),
    "a long header": (
        GET + b"Authorization: Bearer " + SECRET * 500 + b"\r\n\r\n",
        "more than 8190 bytes",
    ),
    "no length": (GET + b"Content-Length: " + SECRET + b"\r\n\r\n", "Content-Length"),
    "two lengths": (
        GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding",
    ),
    "no chunk": (GET + b"Transfer-Encoding: chunked\r\n\r\n" + SECRET + b"\r\n", "chunk size"),
}


def read(data: bytes) -> Answer:
    """An answer that ends with its connection."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(status=int(status.split(" ")[1]), headers=headers, body=body)


@pytest.mark.parametrize(("sent", "reason"), UNREADABLE.values(), ids=UNREADABLE)
async def test_what_is_no_request(server: Serving, sent: bytes, reason: str) -> None:
    """It gets an error in the protocol's shape, which says what is wrong and quotes nothing."""
    async with connect(server.url) as wire:
        await wire.send(sent)
        answer = read(await wire.read_all())
    assert (400, "invalid_request") == (answer.status, answer.error()["code"])
    assert reason in answer.error()["message"]
    assert SECRET not in answer.body
    assert answer.headers["x-request-id"].startswith("req_")
    assert "2020-10-01" == answer.headers["openai-version"]
    assert "0" == answer.headers["openai-processing-ms"]


async def test_after_a_request(server: Serving) -> None:
    """It ends a connection that was good until then."""
    async with connect(server.url) as wire:
        assert 200 == (await wire.request("GET", "/v1/models")).status
        await wire.send(GET + b"nonsense\r\n\r\n")
        assert 400 == read(await wire.read_all()).status


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/compact", "/v1/conversations"])
async def test_half_a_body(server: Serving, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops within its body is told so, and let go."""
    monkeypatch.setattr(server.server._bodies, "stalled_sec", 0.01)
    async with connect(server.url) as wire:
        await wire.send(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{{".encode()
        )
        answer = await wire.read_answer()
    assert (408, "request_timeout") == (answer.status, answer.error()["code"])
    assert 60 == Bodies(1).stalled_sec


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("POST", "/v1/responses/resp_0/cancel"), ("GET", "/health")],
)
async def test_expectations(server: Serving, method: str, path: str) -> None:
    """What cannot be met is a 417 in the protocol's shape, wherever it is sent."""
    async with connect(server.url) as wire:
        answer = await wire.request(method, path, headers={"Expect": "miracles"})
        assert (417, "invalid_request") == (answer.status, answer.error()["code"])
        assert answer.headers["openai-processing-ms"].isdigit()
        assert answer.headers["x-request-id"].startswith("req_")
