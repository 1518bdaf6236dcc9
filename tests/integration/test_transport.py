"""Bytes on the wire: packets that split anywhere, frames, headers, connections that are kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.recorder import Transcript, check_response, essence
from tests.integration.serving import Serving
from tests.integration.wire import (
    CLOSE,
    PONG,
    TEXT,
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

SHORT: Json = {"model": "sim", "input": "é🦊", "store": False, "max_output_tokens": 16}
BODY = json.dumps(SHORT, ensure_ascii=False).encode()
STREAMED = json.dumps({**SHORT, "stream": True}, ensure_ascii=False).encode()
CREATE = json.dumps({"type": "response.create", **SHORT}, ensure_ascii=False).encode()


async def test_a_request_split_anywhere(http: HttpConnection) -> None:
    """A request in two packets, split at any byte, is the request in one."""
    request = write_request("POST", "/v1/responses", BODY)
    expected = essence((await http.create(**SHORT)).json())
    for position in range(1, len(request)):
        await http.send_split(request, position)
        answer = await http.read_answer()
        assert answer.status == 200, position
        assert expected == essence(answer.json())


async def test_a_streamed_request_split_anywhere(http: HttpConnection) -> None:
    """The same for a request whose answer is a stream."""
    request = write_request("POST", "/v1/responses", STREAMED)
    expected = essence((await http.create(**SHORT)).json())
    # Everything in front of the body is read by the same code whatever the body says.
    for position in range(len(request) - len(STREAMED) - 4, len(request)):
        await http.send_split(request, position)
        answer = await http.read_answer()
        events = read_sse(answer.chunks)
        assert expected == essence(events[-1]["response"])


async def test_a_handshake_split_anywhere(server: Serving) -> None:
    """A handshake and the first frame right behind it, split at any byte, are taken as sent."""
    sent = handshake() + frame(TEXT, CREATE)
    expected: list[Json] | None = None
    for position in range(1, len(sent)):
        async with open_websocket(
            server.url, chunks=[sent[:position], sent[position:]]
        ) as websocket:
            events = await websocket.read_response()
        said = essence(events[-1]["response"])
        assert said == (expected or said)
        expected = said


async def test_a_frame_split_anywhere(websocket: WebSocketConnection) -> None:
    """A frame in two packets, split at any byte, is the frame in one."""
    data = frame(TEXT, CREATE)
    expected = essence((await websocket.create(**SHORT))[-1]["response"])
    for position in range(1, len(data)):
        await websocket.send_split(data, position)
        assert expected == essence((await websocket.read_response())[-1]["response"])


async def test_frames_in_one_packet(websocket: WebSocketConnection) -> None:
    """Frames that arrive together are answered one after the other."""
    await websocket.send(frame(TEXT, CREATE) * 3)
    answers = [Transcript(await websocket.read_response()) for _ in range(3)]
    assert len({answer.id for answer in answers}) == 3


async def test_requests_in_one_packet(http: HttpConnection) -> None:
    """Pipelined requests are answered in order."""
    await http.send(
        write_request("POST", "/v1/responses", BODY)
        + write_request("POST", "/v1/responses", STREAMED)
        + write_request("GET", "/health")
    )
    check_response((await http.read_answer()).json())
    Transcript(read_sse((await http.read_answer()).chunks), sse=True)
    assert {"status": "ok"} == (await http.read_answer()).json()


async def test_a_chunked_request(http: HttpConnection) -> None:
    """A body in chunks of one byte is the body."""
    head = write_request("POST", "/v1/responses", headers={"Transfer-Encoding": "chunked"})
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    await http.send(head + chunks + b"0\r\n\r\n")
    assert (await http.read_answer()).status == 200


# What a client sends may be printed over many lines; an SSE frame has one.
PRETTY: dict[str, Any] = {
    **SHORT,
    "input": [{"role": "user", "content": "line\r\nline\u2028line\u0085"}],
    "instructions": "one\ntwo\r\nthree",
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object", "title": "a\nb"}},
        {"type": "custom", "name": "c"},
        {"type": "web_search", "filters": {"allowed": ["x"]}},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "custom", "name": "c"}],
    },
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "metadata": {"k": "a\nb"},
    "stream": True,
}


@pytest.mark.parametrize("indent", [None, 2, "\t"])
async def test_sse_frames(http: HttpConnection, indent: int | str | None) -> None:
    """Every chunk is one whole frame, its JSON on one line; `[DONE]` is the last chunk."""
    body = json.dumps(PRETTY, indent=indent).replace("\n", "\r\n").encode()
    answer = await http.request("POST", "/v1/responses", body)
    assert answer.status == 200
    events = read_sse(answer.chunks)  # checks each of them
    response = Transcript(events, sse=True).response
    assert response["instructions"] == PRETTY["instructions"]
    assert response["metadata"] == PRETTY["metadata"]
    assert response["tools"][0]["parameters"] == PRETTY["tools"][0]["parameters"]
    assert response["tool_choice"] == PRETTY["tool_choice"]


async def test_sse_of_a_failure_ends_too(http: HttpConnection) -> None:
    """A stream that fails ends with `[DONE]` like any other."""
    answer = await http.create(
        model="sim", input="x", stream=True, metadata={"sim.fault": "error:3"}
    )
    types = [event["type"] for event in read_sse(answer.chunks)]
    assert ["error", "response.failed"] == types[-2:]


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_sse_for_an_old_client(server: Serving, connection: str) -> None:
    """HTTP/1.0 has no chunks: the same frames, and the end of the connection is the end."""
    headers = {"Connection": connection}
    request = write_request("POST", "/v1/responses", STREAMED, headers)
    request = request.replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connect(server.url) as wire:
        await wire.send(request)
        answer = await wire.read_all()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"200"
    assert b"chunked" not in head.lower()
    frames = [piece + b"\n\n" for piece in body.split(b"\n\n")[:-1]]
    assert Transcript(read_sse(frames), sse=True).status == "incomplete"


async def test_no_done_on_a_socket(websocket: WebSocketConnection) -> None:
    """A socket gets text frames that are JSON, and nothing after the terminal event."""
    await websocket.send_create(**SHORT)
    payloads: list[bytes] = []
    while not payloads or json.loads(payloads[-1])["type"] != "response.incomplete":
        opcode, payload = await websocket.read_frame()
        assert opcode == TEXT
        payloads.append(payload)
    await websocket.send(frame(0x9, b"what else?"))
    assert (PONG, b"what else?") == await websocket.read_frame()
    assert not any(b"[DONE]" in payload or b"\n" in payload for payload in payloads)
    await websocket.send(frame(CLOSE, b""))
    await websocket.read_close()


async def test_headers(server: Serving, http: HttpConnection) -> None:
    """Every answer says who it is, which protocol it speaks and how long it took."""
    json_type, sse_type = "application/json", "text/event-stream"
    answers = {
        "json": (await http.create(**SHORT), json_type),
        "stream": (await http.create(**SHORT, stream=True), sse_type),
        "error": (await http.create(model="nothing"), json_type),
        "failed": (
            await http.create(model="sim", input="x", metadata={"sim.fault": "error:0"}),
            json_type,
        ),
        "not found": (await http.request("GET", "/v1/responses/resp_0"), json_type),
        "nowhere": (await http.request("GET", "/nowhere"), json_type),
        "models": (await http.request("GET", "/v1/models"), json_type),
        "metrics": (await http.request("GET", "/metrics"), "text/plain"),
    }
    await http.send(handshake())
    headers = [(await http.read_head()).headers]
    for answer, kind in answers.values():
        assert answer.headers["content-type"].partition(";")[0] == kind
        headers.append(answer.headers)
    stream = answers["stream"][0].headers
    assert stream["content-type"] == "text/event-stream; charset=utf-8"
    assert stream["cache-control"] == "no-cache"
    for one in headers:
        assert one["openai-version"] == "2020-10-01"
        assert one["openai-processing-ms"].isdigit()
        assert one["x-request-id"].startswith("req_")
        assert one["server"] == "turnwire"
    assert len({one["x-request-id"] for one in headers}) == len(headers)


async def test_a_connection_is_kept(server: Serving, http: HttpConnection) -> None:
    """One connection serves JSON, streams, refusals and failures, one after the other."""
    for _ in range(2):
        assert (await http.create(**SHORT)).status == 200
        assert read_sse((await http.create(**SHORT, stream=True)).chunks)
        assert (await http.create(model="nothing")).status == 400
        assert (await http.request("POST", "/v1/responses", b"{")).status == 400
        failing: Json = {"model": "sim", "input": "x", "metadata": {"sim.fault": "error:1"}}
        assert (await http.create(**failing)).status == 500
        assert read_sse((await http.create(**failing, stream=True)).chunks)
        assert (await http.request("GET", "/v1/nothing")).status == 404
        assert (await http.request("GET", "/v1/responses")).status == 426
        # Then the same connection becomes a WebSocket's, or not, as it is asked.
    await http.send(handshake())
    assert (await http.read_head()).status == 101
    socket = WebSocketConnection(http.reader, http.writer)
    assert Transcript(await socket.create(**SHORT)).status == "incomplete"
    assert server.count("websocket_connections") == 1


async def test_a_large_event_comes_whole(websocket: WebSocketConnection) -> None:
    """An event of more than 64 KiB is one frame with a 64-bit length."""
    long = "x" * 100_000
    transcript = Transcript(await websocket.create(**SHORT, instructions=long))
    assert transcript.response["instructions"] == long


async def test_a_large_request(http: HttpConnection, websocket: WebSocketConnection) -> None:
    """A message of a few megabytes, as with an image in it, is taken on both transports."""
    image = "data:image/png;base64," + "A" * 3_000_000
    content = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": image}]
    fields: Json = {**SHORT, "input": [{"role": "user", "content": content}]}
    plain = (await http.create(**fields)).json()
    check_response(plain)
    assert essence(plain) == essence(Transcript(await websocket.create(**fields)).response)
