"""What a key may see: its owner's data, and of others' not even that it exists."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.recorder import Transcript
from tests.integration.serving import ALICE, BOB, Serving, bearer, config, serving
from tests.integration.wire import (
    HttpConnection,
    Json,
    connect,
    handshake,
    open_websocket,
    read_sse,
)

from turnwire.config import KeyConfig

UNKNOWN = "resp_" + "0" * 48
NO_CONVERSATION = "conv_" + "0" * 48


@pytest.fixture
async def wire(keyed_server: Serving) -> AsyncIterator[HttpConnection]:
    """One keep-alive connection to `keyed_server`."""
    async with connect(keyed_server.url) as opened:
        yield opened


async def alices(wire: HttpConnection) -> str:
    """The id of a response that Alice stored."""
    answer = await wire.create(bearer(ALICE), model="sim", input="Hello")
    assert answer.status == 200
    response_id = answer.json()["id"]
    assert isinstance(response_id, str)
    return response_id


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_anothers_response_does_not_exist(wire: HttpConnection, method: str) -> None:
    """Reading or deleting another's response is answered as for one that never was."""
    theirs = await alices(wire)
    answers = [
        await wire.request(method, f"/v1/responses/{one}", headers=bearer(BOB))
        for one in (theirs, UNKNOWN)
    ]
    assert [404, 404] == [answer.status for answer in answers]
    assert answers[0].body.replace(theirs.encode(), UNKNOWN.encode()) == answers[1].body
    mine = await wire.request("GET", f"/v1/responses/{theirs}", headers=bearer(ALICE))
    assert mine.status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_anothers_parent_does_not_exist(wire: HttpConnection, stream: bool) -> None:
    """Continuing another's response over HTTP is answered as for one that never was."""
    theirs = await alices(wire)
    answers = [
        await wire.create(
            bearer(BOB), model="sim", input="More", previous_response_id=one, stream=stream
        )
        for one in (theirs, UNKNOWN)
    ]
    assert [400, 400] == [answer.status for answer in answers]
    assert answers[0].error()["code"] == "previous_response_not_found"
    assert answers[0].body.replace(theirs.encode(), UNKNOWN.encode()) == answers[1].body


async def test_anothers_parent_does_not_exist_on_a_socket(
    wire: HttpConnection, keyed_server: Serving
) -> None:
    """The same over WebSocket, for what is stored and for what another socket remembers."""
    stored = await alices(wire)
    async with (
        open_websocket(keyed_server.url, bearer(ALICE)) as hers,
        open_websocket(keyed_server.url, bearer(BOB)) as his,
    ):
        kept = Transcript(await hers.create(model="sim", input="Hello", store=False)).id
        expected = await his.refused(model="sim", input="More", previous_response_id=UNKNOWN)
        for one in (stored, kept):
            event = await his.refused(model="sim", input="More", previous_response_id=one)
            assert expected == json.loads(json.dumps(event).replace(one, UNKNOWN))
        # Nothing of this took it from Alice.
        Transcript(await hers.create(model="sim", input="More", previous_response_id=kept))


async def test_anothers_item_does_not_exist(wire: HttpConnection) -> None:
    """An item_reference to another's item is answered as for one that never was."""
    theirs = (await wire.create(bearer(ALICE), model="sim", input="Hello")).json()
    item = theirs["output"][0]["id"]
    unknown = "msg_" + "0" * 48
    answers = [
        await wire.create(bearer(BOB), model="sim", input=[{"type": "item_reference", "id": one}])
        for one in (item, unknown)
    ]
    assert [404, 404] == [answer.status for answer in answers]
    assert answers[0].body.replace(item.encode(), unknown.encode()) == answers[1].body


async def test_anothers_conversation_does_not_exist(
    wire: HttpConnection, keyed_server: Serving
) -> None:
    """Whatever is done to another's conversation is answered as for one that never was."""
    begun = {"items": [{"role": "user", "content": "x", "id": "msg_x"}]}
    made = await wire.request("POST", "/v1/conversations", begun, bearer(ALICE))
    theirs = made.json()["id"]
    calls: list[tuple[str, str, Json | None]] = [
        ("GET", "", None),
        ("POST", "", {"metadata": {"a": "b"}}),
        ("GET", "/items", None),
        ("POST", "/items", begun),
        ("GET", "/items/msg_x", None),
        ("DELETE", "/items/msg_x", None),
        ("DELETE", "", None),
    ]
    for method, rest, body in calls:
        mine, unknown = [
            await wire.request(method, f"/v1/conversations/{one}{rest}", body, bearer(BOB))
            for one in (theirs, NO_CONVERSATION)
        ]
        assert (404, 404) == (mine.status, unknown.status)
        assert mine.body.replace(theirs.encode(), NO_CONVERSATION.encode()) == unknown.body
    async with open_websocket(keyed_server.url, bearer(ALICE)) as hers:
        # That she is at it does not show either.
        await hers.send_create(model="sim-slow", conversation=theirs)
        events = [await hers.read_event()]
        mine, unknown = [
            await wire.create(bearer(BOB), model="sim", input="x", conversation=one)
            for one in (theirs, NO_CONVERSATION)
        ]
        assert (404, 404) == (mine.status, unknown.status)
        assert mine.body.replace(theirs.encode(), NO_CONVERSATION.encode()) == unknown.body
        await hers.send_event(type="response.cancel")
        Transcript([*events, *await hers.read_response()])
    path = f"/v1/conversations/{theirs}/items"
    items = (await wire.request("GET", path, headers=bearer(ALICE))).json()["data"]
    assert ["msg_x"] == [item["id"] for item in items]


async def test_anothers_reasoning_cannot_be_opened(wire: HttpConnection) -> None:
    """Reasoning sealed for one owner is as good as noise to another."""
    theirs = (
        await wire.create(
            bearer(ALICE), model="sim", input="Hello", store=False, reasoning={"effort": "low"}
        )
    ).json()["output"][0]
    answer = await wire.create(
        bearer(BOB), model="sim", input=[theirs, {"role": "user", "content": "x"}]
    )
    error = answer.error()
    assert (400, "invalid_encrypted_content", "input[0].encrypted_content") == (
        answer.status,
        error["code"],
        error["param"],
    )
    noise = {**theirs, "encrypted_content": "bm9pc2U="}
    again = await wire.create(
        bearer(BOB), model="sim", input=[noise, {"role": "user", "content": "x"}]
    )
    assert answer.body == again.body


async def test_the_cache_does_not_tell(wire: HttpConnection) -> None:
    """Another's prompt does not show as cached tokens."""
    prompt = "A secret that is long enough to fill some blocks of the cache. " * 20
    for key, cached in ((ALICE, False), (BOB, False), (ALICE, True), (BOB, True)):
        answer = await wire.create(bearer(key), model="sim", input=prompt, store=False)
        details = answer.json()["usage"]["input_tokens_details"]
        assert cached == (details["cached_tokens"] > 0)


WRONG = {
    "none": {},
    "unknown": bearer("sk-unknown-0123456789abcdef"),
    "empty": {"Authorization": "Bearer "},
    "basic": {"Authorization": "Basic c2s6"},
    "no scheme": {"Authorization": ALICE},
    "padded": bearer(ALICE + "x"),
}
GUARDED = [
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses"),
    ("GET", f"/v1/responses/{UNKNOWN}"),
    ("DELETE", f"/v1/responses/{UNKNOWN}"),
    ("POST", "/v1/conversations"),
    ("GET", f"/v1/conversations/{NO_CONVERSATION}"),
    ("POST", f"/v1/conversations/{NO_CONVERSATION}"),
    ("DELETE", f"/v1/conversations/{NO_CONVERSATION}"),
    ("GET", f"/v1/conversations/{NO_CONVERSATION}/items"),
    ("POST", f"/v1/conversations/{NO_CONVERSATION}/items"),
    ("GET", f"/v1/conversations/{NO_CONVERSATION}/items/msg_x"),
    ("DELETE", f"/v1/conversations/{NO_CONVERSATION}/items/msg_x"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/sim"),
]


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_without_a_key(wire: HttpConnection, headers: dict[str, str]) -> None:
    """Every endpoint answers 401 in the protocol's shape; the handshake before it upgrades."""
    for method, path in GUARDED:
        body = b"not even read" if method == "POST" else None
        answer = await wire.request(method, path, body, headers)
        error = answer.error()
        assert (401, "invalid_request_error", "invalid_api_key", None) == (
            answer.status,
            error["type"],
            error["code"],
            error["param"],
        )
        assert answer.headers["www-authenticate"] == "Bearer"
        assert ALICE not in error["message"]
    await wire.send(handshake(headers))
    refused = await wire.read_answer()
    assert (refused.status, refused.error()["code"]) == (401, "invalid_api_key")


async def test_open_endpoints(wire: HttpConnection) -> None:
    """Health and readiness ask for no key: those who watch have none."""
    for path, body in (("/health", {"status": "ok"}), ("/ready", {"status": "ready"})):
        answer = await wire.request("GET", path)
        assert (200, body) == (answer.status, answer.json())


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_a_server_without_keys(
    server: Serving, http: HttpConnection, headers: dict[str, str]
) -> None:
    """Where no key is configured, anything that is sent as one works."""
    answer = await http.create(headers, model="sim", input="Hello")
    assert answer.status == 200
    async with open_websocket(server.url, headers) as socket:
        Transcript(await socket.create(model="sim", input="Hello"))


@pytest.mark.parametrize(
    "headers",
    [{"Host": "rebound.example"}, {"Origin": "https://page.example"}],
    ids=["host", "origin"],
)
async def test_no_web_page_reaches_a_server_without_keys(
    server: Serving, headers: dict[str, str]
) -> None:
    """A page in a browser, or a name that was made to mean loopback, is refused: 403."""
    for request in (
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: 2\r\n%b\r\n{}",
        handshake().replace(b"Host: localhost\r\n", b"%b"),
    ):
        lines = {"Host": "localhost", **headers}
        sent = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()
        async with connect(server.url) as wire:
            await wire.send(request % sent)
            answer = await wire.read_answer()
            assert (403, "permission_denied") == (answer.status, answer.error()["code"])


async def test_models_of_a_key(wire: HttpConnection, keyed_server: Serving) -> None:
    """A key that is for some models only sees those, and gets 403 for the others."""
    for key, names in ((ALICE, ["sim", "sim-slow"]), (BOB, ["sim"])):
        listed = (await wire.request("GET", "/v1/models", headers=bearer(key))).json()
        assert names == [model["id"] for model in listed["data"]]
        assert {"list"} | {"model"} == {listed["object"], *(m["object"] for m in listed["data"])}
    one = await wire.request("GET", "/v1/models/sim", headers=bearer(BOB))
    assert (one.status, one.json()["id"]) == (200, "sim")
    hidden = await wire.request("GET", "/v1/models/sim-slow", headers=bearer(BOB))
    unknown = await wire.request("GET", "/v1/models/sim-none", headers=bearer(BOB))
    assert [404, 404] == [hidden.status, unknown.status]
    assert hidden.body.replace(b"sim-slow", b"sim-none") == unknown.body
    for stream in (False, True):
        refused = await wire.create(bearer(BOB), model="sim-slow", input="x", stream=stream)
        assert (403, "permission_error", "model") == (
            refused.status,
            refused.error()["type"],
            refused.error()["param"],
        )
    async with open_websocket(keyed_server.url, bearer(BOB)) as socket:
        event = await socket.refused(model="sim-slow", input="x")
        assert (403, "permission_error", "permission_denied", "model") == (
            event["status"],
            event["error"]["type"],
            event["error"]["code"],
            event["error"]["param"],
        )
        Transcript(await socket.create(model="sim", input="x"))


async def test_several_keys_of_one_owner(tmp_path: Path) -> None:
    """Keys of one owner see the same data."""
    keys = (KeyConfig(owner="alice", key=ALICE), KeyConfig(owner="alice", key=BOB))
    async with serving(config(tmp_path, keys=keys)) as server, connect(server.url) as wire:
        theirs = await alices(wire)
        answer = await wire.create(
            bearer(BOB), model="sim", input="More", previous_response_id=theirs, stream=True
        )
        response: Json = Transcript(read_sse(answer.chunks), sse=True).response
        assert response["previous_response_id"] == theirs
