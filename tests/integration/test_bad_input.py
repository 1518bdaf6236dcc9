"""Whatever a client sends, the answer says what is wrong, and everyone else goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.recorder import Transcript
from tests.integration.serving import Serving, config, serving
from tests.integration.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    frame,
    open_websocket,
    write_request,
)

DEEP = 100_000
ASK: Json = {"model": "sim", "input": "Hello"}
OUTPUT: Json = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
CALL: Json = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}


@asynccontextmanager
async def bystander(server: Serving) -> AsyncIterator[None]:
    """Another client in mid-stream, for as long as the context is open; it must notice nothing."""
    async with open_websocket(server.url) as socket:
        await socket.send_create(
            model="sim-slow", input="Tell me.", metadata={"sim.output_tokens": "1000"}
        )
        events = [await socket.read_event() for _ in range(5)]
        yield
        # What comes now was made after whatever happened meanwhile.
        await socket.send(frame(PING, b"still there?"))
        while True:
            opcode, payload = await socket.read_frame()
            if opcode == PONG:
                break
            events.append(json.loads(payload))
        events.append(await socket.read_event())
        assert list(range(len(events))) == [event["sequence_number"] for event in events]
        assert not {"error", "response.failed"} & {event["type"] for event in events}


async def still_serves(wire: HttpConnection | WebSocketConnection) -> None:
    """The same connection is good for another request."""
    if isinstance(wire, WebSocketConnection):
        assert Transcript(await wire.create(**ASK)).status == "completed"
    else:
        assert (await wire.create(**ASK)).status == 200


# name: (body, code); all 400 with param null and type invalid_request_error
NOT_JSON: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "invalid_json"),
    "malformed": (b'{"model": "sim", ', "invalid_json"),
    "trailing": (b'{"model": "sim"} {}', "invalid_json"),
    "a string": (b'"sim"', "invalid_json"),
    "an array": (b"[]", "invalid_json"),
    "null": (b"null", "invalid_json"),
    "not UTF-8": (
        b'{"type": "response.create", "model": "sim", "input": "\xff\xfe"}',
        "invalid_json",
    ),
    "half a surrogate": (
        b'{"type": "response.create", "model": "sim", "input": "\\ud800"}',
        "invalid_json",
    ),
    "deep arrays": (b"[" * DEEP + b"]" * DEEP, "invalid_json"),
    "deep objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "invalid_json"),
    "deep in input": (
        b'{"type": "response.create", "model": "sim", "input": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        "invalid_json",
    ),
    "deep in an unknown field": (
        b'{"type": "response.create", "model": "sim", "input": "x", "extra": '
        + b"[" * DEEP
        + b"]" * DEEP
        + b"}",
        "invalid_json",
    ),
    "deep and open": (b"[" * DEEP, "invalid_json"),
}


@pytest.mark.parametrize(("body", "code"), NOT_JSON.values(), ids=NOT_JSON)
async def test_not_json(
    server: Serving,
    http: HttpConnection,
    websocket: WebSocketConnection,
    body: bytes,
    code: str,
) -> None:
    """What is not a JSON object in UTF-8 is a 400 that says so, and the connection goes on."""
    async with bystander(server):
        answer = await http.request("POST", "/v1/responses", body)
        error = answer.error()
        assert (400, "invalid_request_error", code) == (answer.status, error["type"], error["code"])
        await still_serves(http)
        for opcode in (TEXT, BINARY):
            await websocket.send(frame(opcode, body))
            event = await websocket.read_error()
            assert (400, "invalid_request_error", code) == (
                event["status"],
                event["error"]["type"],
                event["error"]["code"],
            )
            assert "stream_id" not in event
        await still_serves(websocket)


# name: (fields, code on HTTP, param)
WRONG: dict[str, tuple[Json, str | None, str | None]] = {
    "model of a wrong type": ({"model": 1}, "invalid_type", "model"),
    "temperature of a wrong type": ({"temperature": "hot"}, "invalid_type", "temperature"),
    "temperature too high": ({"temperature": 2.5}, "decimal_above_max_value", "temperature"),
    "temperature too low": ({"temperature": -1}, "decimal_below_min_value", "temperature"),
    "too few output tokens": (
        {"max_output_tokens": 15},
        "integer_below_min_value",
        "max_output_tokens",
    ),
    "no tool calls": ({"max_tool_calls": 0}, "integer_below_min_value", "max_tool_calls"),
    "too many logprobs": ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs"),
    "unknown truncation": ({"truncation": "some"}, "invalid_value", "truncation"),
    "unknown effort": ({"reasoning": {"effort": "vast"}}, "invalid_value", "reasoning.effort"),
    "long identifier": (
        {"safety_identifier": "x" * 129},
        "string_above_max_length",
        "safety_identifier",
    ),
    "metadata of a wrong type": ({"metadata": {"a": 1}}, "invalid_type", "metadata"),
    "schema of a wrong type": (
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": 1}}},
        "invalid_type",
        "text.format.schema",
    ),
    "input of a wrong type": ({"input": 1}, "invalid_type", "input"),
    "item of a wrong type": ({"input": ["x"]}, "invalid_type", "input[0]"),
    "item without a type": (
        {"input": [{"text": "x"}]},
        "missing_required_parameter",
        "input[0].type",
    ),
    "content of a wrong type": (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]},
        "invalid_type",
        "input[0].content[0].text",
    ),
    "unknown role": (
        {"input": [{"role": "boss", "content": "x"}]},
        "invalid_value",
        "input[0].role",
    ),
    "tool without a name": (
        {"tools": [{"type": "function"}]},
        "missing_required_parameter",
        "tools[0].name",
    ),
    "tool with a bad name": (
        {"tools": [{"type": "function", "name": "a b"}]},
        "invalid_value",
        "tools[0].name",
    ),
    "tool twice": (
        {"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "f"}]},
        "invalid_value",
        "tools[1].name",
    ),
    "too many tools": (
        {"tools": [{"type": "function", "name": f"f{n}"} for n in range(129)]},
        "array_above_max_length",
        "tools",
    ),
    "choice of a tool that is not there": (
        {"tool_choice": {"type": "function", "name": "g"}},
        "invalid_value",
        "tool_choice",
    ),
    "choice demanded of nothing": ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
    "unknown model": ({"model": "gpt-0"}, "model_not_found", "model"),
    "missing model": ({"model": None}, "missing_required_parameter", "model"),
    "missing input": ({"input": None}, "missing_required_parameter", "input"),
    "empty input": ({"input": []}, "missing_required_parameter", "input"),
    "unknown parent": (
        {"previous_response_id": "resp_0"},
        "previous_response_not_found",
        "previous_response_id",
    ),
    "strange parent": (
        {"previous_response_id": "\u0000' OR 1=1; é🦊" * 50},
        "previous_response_not_found",
        "previous_response_id",
    ),
    "strange conversation": ({"conversation": "Ünïcode"}, "invalid_value", "conversation"),
    "strange conversation object": (
        {"conversation": {"id": "resp_1"}},
        "invalid_value",
        "conversation.id",
    ),
    "parent and conversation": (
        {"conversation": "conv_1", "previous_response_id": "resp_0"},
        "invalid_value",
        "conversation",
    ),
    "stored prompt": ({"prompt": {"id": "pmpt_1"}}, "unsupported_parameter", "prompt"),
    "output without its call": ({"input": [OUTPUT]}, None, "input"),
    "output before its call": ({"input": [OUTPUT, CALL]}, None, "input"),
    "call without its output": ({"input": [CALL]}, None, "input"),
    "two outputs for a call": ({"input": [CALL, OUTPUT, OUTPUT]}, "invalid_value", "input"),
    "reasoning that cannot be opened": (
        {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}]},
        "invalid_encrypted_content",
        "input[0].encrypted_content",
    ),
}


@pytest.mark.parametrize(("fields", "code", "param"), WRONG.values(), ids=WRONG)
async def test_wrong_fields(
    http: HttpConnection,
    websocket: WebSocketConnection,
    fields: Json,
    code: str | None,
    param: str | None,
) -> None:
    """A field that is wrong is a 400 with its code and path, before anything is streamed."""
    asked = {name: value for name, value in {**ASK, **fields}.items() if value is not None}
    answers = [await http.create(**asked), await http.create(**asked, stream=True)]
    for answer in answers:
        error = answer.error()
        assert (400, "invalid_request_error", code, param) == (
            answer.status,
            error["type"],
            error["code"],
            error["param"],
        )
    await websocket.send_create(**asked, stream_id="lane")
    event = await websocket.read_error()
    assert (400, "invalid_request_error", code or "invalid_request", param, "lane") == (
        event["status"],
        event["error"]["type"],
        event["error"]["code"],
        event["error"]["param"],
        event["stream_id"],
    )
    await still_serves(http)
    await still_serves(websocket)


async def test_messages_that_clients_match_on(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """Texts that agent programs look for are OpenAI's."""
    orphan = {"type": "function_call_output", "call_id": "call_9", "output": "x"}
    expected = "No tool call found for function call output with call_id call_9."
    assert (await http.create(model="sim", input=[orphan])).error()["message"] == expected
    event = await websocket.refused(model="sim", input=[orphan])
    assert event["error"]["message"] == expected
    answer = await http.create(model="sim", input=[{**CALL, "call_id": "call_9"}])
    assert answer.error()["message"] == "No tool output found for function call call_9."
    event = await websocket.refused(**ASK, previous_response_id="resp_abc")
    assert event["error"]["message"] == "Previous response with id 'resp_abc' not found."


@pytest.mark.parametrize(
    "lane", ["", "a b", "x" * 257, 7, None, "ü"], ids=["empty", "blank", "long", "int", "null", "ü"]
)
async def test_invalid_lanes(websocket: WebSocketConnection, lane: Any) -> None:
    """A stream_id that cannot name a lane is refused, on no lane."""
    event = await websocket.refused(**ASK, stream_id=lane)
    assert (400, "invalid_stream_id", "stream_id") == (
        event["status"],
        event["error"]["code"],
        event["error"]["param"],
    )
    assert "stream_id" not in event
    await still_serves(websocket)


async def test_too_many_lanes(websocket: WebSocketConnection) -> None:
    """The 33rd lane is refused under its own name; those that are known go on."""
    for number in range(32):
        Transcript(
            await websocket.create(**ASK, stream_id=f"{number}", max_output_tokens=16),
            stream_id=f"{number}",
        )
    event = await websocket.refused(**ASK, stream_id="one.more")
    assert (400, "websocket_stream_limit_reached", "stream_id", "one.more") == (
        event["status"],
        event["error"]["code"],
        event["error"]["param"],
        event["stream_id"],
    )
    Transcript(await websocket.create(**ASK, stream_id="31"), stream_id="31")
    await still_serves(websocket)


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({"type": "response.unheard"}, "unknown_event_type", "type"),
        ({"type": "session.update"}, "unknown_event_type", "type"),
        ({"model": "sim", "input": "x"}, "missing_required_parameter", "type"),
        ({"type": 7}, "invalid_type", "type"),
    ],
)
async def test_unknown_events(
    websocket: WebSocketConnection, event: Json, code: str, param: str
) -> None:
    """An event that is none is refused, on its lane, and the socket stays open."""
    await websocket.send_event(**event, stream_id="lane")
    refused = await websocket.read_error()
    assert (400, code, param, "lane") == (
        refused["status"],
        refused["error"]["code"],
        refused["error"]["param"],
        refused["stream_id"],
    )
    await still_serves(websocket)


async def test_fields_that_are_ignored(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """Private fields of clients, and those of the other transport, change nothing."""
    private: Json = {"client_metadata": {"a": 1}, "x": [None], "access_programs": {}}
    assert (await http.create(**ASK, **private, stream_id="", generate=False)).json()["output"]
    assert Transcript(await websocket.create(**ASK, **private, stream=True)).output
    assert Transcript(
        await websocket.create(**ASK, stream_options={"include_obfuscation": True})
    ).output


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", "/v1/responses", 405, "method_not_allowed"),
        ("DELETE", "/v1/responses", 405, "method_not_allowed"),
        ("HEAD", "/v1/responses", 405, "method_not_allowed"),
        ("POST", "/v1/responses/resp_0", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/responses", 404, "not_found"),
        ("GET", "/v1/responses", 426, "upgrade_required"),
        ("GET", "/v1/responses/resp_0", 404, "not_found"),
        ("DELETE", "/v1/responses/resp_0", 404, "not_found"),
        ("GET", "/v1/responses/%00%F0%9F%A6%8A'", 404, "not_found"),
        ("GET", "/v1/responses/%ff", 404, "not_found"),
        ("GET", "/v1/models/none", 404, "not_found"),
    ],
)
async def test_wrong_addresses(
    http: HttpConnection, method: str, path: str, status: int, code: str
) -> None:
    """A wrong method or path is answered in the protocol's shape, and the connection goes on."""
    await http.send(write_request(method, path))
    if method == "HEAD":
        # An answer to HEAD has no body, whatever it says of its length.
        assert (await http.read_head()).status == status
    else:
        answer = await http.read_answer()
        error = answer.error()
        assert (status, "invalid_request_error", code) == (
            answer.status,
            error["type"],
            error["code"],
        )
        if status == 405:
            assert answer.headers["allow"]
    await still_serves(http)


@pytest.mark.parametrize(
    ("path", "direction"),
    [
        ("/v1/chat/completions", "This server has the Responses API: POST to /v1/responses."),
        ("/responses", "The base address of this API ends in /v1."),
        ("/v1/embeddings", ""),
    ],
)
async def test_who_took_a_wrong_turn_is_told_the_way(
    http: HttpConnection, path: str, direction: str
) -> None:
    """A client of another API, or without `/v1` in its base address, learns what to change."""
    answer = await http.request("POST", path, b"{}")
    expected = f"Unknown request URL: POST {path}. {direction}".rstrip()
    assert (404, expected) == (answer.status, answer.json()["error"]["message"])


async def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    """A body above the limit is a 413, whether its size is announced or shows on the way."""
    async with serving(config(tmp_path, max_body_bytes=4096)) as server, bystander(server):
        body = json.dumps({**ASK, "instructions": "x" * 8192}).encode()
        async with connect(server.url) as wire:
            await wire.send(write_request("POST", "/v1/responses", body))
            answer = await wire.read_answer()
            assert (413, "payload_too_large") == (answer.status, answer.error()["code"])
        async with connect(server.url) as wire:
            head = write_request("POST", "/v1/responses", headers={"Transfer-Encoding": "chunked"})
            await wire.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            answer = await wire.read_answer()
            assert (413, "payload_too_large") == (answer.status, answer.error()["code"])
        async with connect(server.url) as wire:
            fits = json.dumps({**ASK, "instructions": "x" * 3072}).encode()
            assert (await wire.request("POST", "/v1/responses", fits)).status == 200


async def test_a_message_that_is_too_large(tmp_path: Path) -> None:
    """A message above the limit is an error; one that is far above it closes with 1009."""
    async with serving(config(tmp_path, max_message_bytes=4096)) as server, bystander(server):
        async with open_websocket(server.url) as socket:
            event = await socket.refused(**ASK, instructions="x" * 8192)
            assert (413, "payload_too_large") == (event["status"], event["error"]["code"])
            await still_serves(socket)
            await socket.send(frame(TEXT, b"x" * (4096 + 2 * 1_048_576)))
            assert await socket.read_close() == 1009
        await server_forgot(server, sockets=1)


async def server_forgot(server: Serving, *, sockets: int) -> None:
    """Wait until so many sockets are open."""
    async with asyncio.timeout(20):
        while server.count("websocket_connections") != sockets:  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_binary_frames(websocket: WebSocketConnection) -> None:
    """A binary frame of UTF-8 JSON is taken as if it were text."""
    body = json.dumps({"type": "response.create", **ASK, "input": "é🦊"}, ensure_ascii=False)
    await websocket.send(frame(BINARY, body.encode()))
    assert Transcript(await websocket.read_response()).status == "completed"


async def test_fragments(websocket: WebSocketConnection) -> None:
    """A message may come in fragments, with control frames between them."""
    body = json.dumps({"type": "response.create", **ASK, "input": "é🦊"}, ensure_ascii=False)
    data = body.encode()
    size = 7  # splits characters too
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    for index, piece in enumerate(pieces):
        opcode = TEXT if index == 0 else CONTINUATION
        await websocket.send(frame(opcode, piece, fin=index == len(pieces) - 1))
        if index == 3:
            await websocket.send(frame(PING, b"between"))
            assert (PONG, b"between") == await websocket.read_frame()
    assert Transcript(await websocket.read_response()).status == "completed"


async def test_pings(websocket: WebSocketConnection) -> None:
    """A ping is answered with what it brought, also while a response runs."""
    await websocket.send_create(
        model="sim", input="x", metadata={"sim.fault": "stall:60"}, stream_id="slow"
    )
    assert "response.created" == (await websocket.read_event())["type"]
    assert "response.in_progress" == (await websocket.read_event())["type"]
    for payload in (b"", b"x" * 125):
        await websocket.send(frame(PING, payload))
        assert (PONG, payload) == await websocket.read_frame()
    await websocket.send(frame(PONG, b"unasked for"))
    await still_serves(websocket)


# name: (frame, close code)
BROKEN: dict[str, tuple[bytes, int]] = {
    "a reserved bit": (b"\xf1\x80\x00\x00\x00\x00", 1002),
    "an unknown opcode": (frame(0x3, b"x"), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a ping in fragments": (frame(PING, b"x", fin=False), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a close code out of range": (frame(CLOSE, b"\x00\x01"), 1002),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
async def test_broken_frames(
    server: Serving, websocket: WebSocketConnection, data: bytes, code: int
) -> None:
    """What is not a frame of the protocol ends that connection, with the code that says why."""
    async with bystander(server):
        await websocket.send(data)
        assert code == await websocket.read_close()


async def test_a_polite_close(server: Serving, websocket: WebSocketConnection) -> None:
    """A close is answered with a close of the same code, and the socket is forgotten."""
    await still_serves(websocket)
    await websocket.send(frame(CLOSE, (1000).to_bytes(2, "big")))
    assert await websocket.read_close() == 1000
    assert await websocket.at_end()
    await server_forgot(server, sockets=0)
    assert server.count("websocket_closes_total", code="1000") == 1


async def test_not_http(server: Serving) -> None:
    """What is not HTTP is refused, and the server goes on."""
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET\r\n\r\n", b"\x00" * 64 + b"\r\n\r\n"):
        async with connect(server.url) as wire:
            await wire.send(data + b"\r\n\r\n")
            # What cannot be read has no version either: the answer is in the oldest one.
            assert b"400" == (await wire.read_line()).split(b" ")[1]
    async with connect(server.url) as wire:
        await still_serves(wire)
