"""Background responses over real sockets: begun, left, polled, resumed, cancelled, deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import ResponseStreamEvent
from tests.integration.recorder import Transcript, check_response, essence
from tests.integration.serving import ALICE, BOB, Serving, bearer, config, eventually, serving
from tests.integration.wire import (
    Answer,
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    read_sse,
    write_request,
)

from turnwire.config import BackgroundConfig
from turnwire.engines.sim import SimProfile
from turnwire.errors import ServiceError, StoreError
from turnwire.store.base import StoredTurn

QUICK: Json = {"model": "sim", "input": "Tell me.", "background": True}
TALKING: Json = {**QUICK, "model": "sim-slow", "metadata": {"sim.output_tokens": "100000"}}
STALLED: Json = {**QUICK, "metadata": {"sim.fault": "stall:3600"}}
DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server whose model answers one at a time; the others wait."""
    async with serving(config(tmp_path), ["sim"], profiles={"sim": SimProfile(slots=1)}) as running:
        yield running


def event_of(chunk: bytes) -> Json:
    """The event of one chunk."""
    event: Json = json.loads(chunk.split(b"\n")[1].removeprefix(b"data: "))
    return event


async def begin_stream(wire: HttpConnection, **fields: Any) -> tuple[str, list[bytes]]:
    """Start a streamed background response; its id, and the chunks up to in_progress."""
    body = json.dumps({**fields, "stream": True}).encode()
    await wire.send(write_request("POST", "/v1/responses", body))
    assert 200 == (await wire.read_head()).status
    chunks = [await wire.read_chunk() for _ in range(3)]
    assert [event_of(chunk)["type"] for chunk in chunks] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    return event_of(chunks[0])["response"]["id"], chunks


async def get(wire: HttpConnection, response_id: str, query: str = "") -> Json:
    """The response as it is now."""
    answer = await wire.request("GET", f"/v1/responses/{response_id}{query}")
    assert 200 == answer.status, answer.body
    return answer.json()


async def ended(server: Serving, response_id: str) -> Json:
    """Poll until the response has ended."""
    async with connect(server.url) as wire, asyncio.timeout(20):
        while True:
            response = await get(wire, response_id)
            check_response(response)
            if response["status"] not in ("queued", "in_progress"):
                return response
            await asyncio.sleep(0.005)


async def stream(server: Serving, response_id: str, query: str = "") -> list[bytes]:
    """Read a replay to its end; its chunks, without `[DONE]`."""
    async with connect(server.url) as wire:
        answer = await wire.request("GET", f"/v1/responses/{response_id}?stream=true{query}")
    assert 200 == answer.status, answer.body
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    *events, done = answer.chunks
    assert DONE == done
    return events


# --- polling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [True, False])
async def test_poll(server: Serving, http: HttpConnection, store: bool) -> None:
    """A background response is queued at once, and polled until it has completed."""
    answer = await http.create(**QUICK, store=store)
    begun = answer.json()
    check_response(begun)
    assert (200, "queued", True) == (answer.status, begun["status"], begun["background"])
    response = await ended(server, begun["id"])
    assert ("completed", begun["id"], store) == (
        response["status"],
        response["id"],
        response["store"],
    )
    plain = (await http.create(**{**QUICK, "background": False})).json()
    assert essence(plain) == essence(response)
    assert 1 == server.count("responses_total", status="completed", transport="background")


async def test_states(narrow: Serving) -> None:
    """It is queued until the model has a place for it, then in progress, with no output yet."""
    async with connect(narrow.url) as http:
        ids = [(await http.create(**STALLED)).json()["id"] for _ in range(2)]
        await eventually(lambda: narrow.engines["sim"].num_running == 1)
        states = [await get(http, response_id) for response_id in ids]
        for state in states:
            check_response(state)
        assert ["in_progress", "queued"] == [state["status"] for state in states]
        for response_id in reversed(ids):
            assert 200 == (await http.request("POST", f"/v1/responses/{response_id}/cancel")).status
    await narrow.idle()


async def test_losing_the_connection_does_not_stop_it(server: Serving) -> None:
    """Whoever began a response may leave at any moment; it goes on."""
    async with connect(server.url) as wire:
        response_id, _ = await begin_stream(wire, **QUICK)
        wire.reset()
    assert "completed" == (await ended(server, response_id))["status"]


async def test_refusals_are_plain(server: Serving, http: HttpConnection) -> None:
    """What is wrong with a request is said at once, and nothing is left of it."""
    wrong: list[Json] = [
        {"model": "nobody"},
        {"previous_response_id": "resp_x"},
        {"tool_choice": "wrong"},
        {"input": []},
    ]
    for fields in wrong:
        for streamed in (False, True):
            answer = await http.create(**{**QUICK, **fields, "stream": streamed})
            assert 400 == answer.status, fields
            answer.error()
    assert 0 == server.count("responses_in_flight")
    assert 200 == (await http.request("GET", "/metrics")).status
    assert 0 == server.count("background_held")


async def test_an_engine_that_fails(server: Serving, http: HttpConnection) -> None:
    """A fault while it runs ends it as failed, with the error as it is told to a stream."""
    fields = {**QUICK, "metadata": {"sim.fault": "error:5"}}
    response = await ended(server, (await http.create(**fields)).json()["id"])
    assert ("failed", "server_error") == (response["status"], response["error"]["code"])
    chunks = (await http.create(**fields, stream=True)).chunks
    assert "failed" == Transcript(read_sse(chunks), background=True).status


async def test_warm_up(server: Serving, http: HttpConnection) -> None:
    """A prefix can be prepared in the background too; it has no output and can be continued."""
    fields = {**QUICK, "input": "word " * 100, "prompt_cache_options": {"prewarm": True}}
    chunks = (await http.create(**fields, stream=True)).chunks
    transcript = Transcript(read_sse(chunks), background=True)
    assert ("completed", []) == (transcript.status, transcript.output)
    after = await http.create(model="sim", input="Go on.", previous_response_id=transcript.id)
    assert after.json()["usage"]["input_tokens_details"]["cached_tokens"] > 0


async def test_nothing_is_left(server: Serving, http: HttpConnection) -> None:
    """Of a response that ended no task is left, nor what it was asked."""
    tasks = asyncio.all_tasks()
    response_id = (await http.create(**{**QUICK, "input": "x" * 100_000})).json()["id"]
    await ended(server, response_id)
    await server.idle()
    await http.request("GET", "/metrics")
    assert tasks >= asyncio.all_tasks()
    assert 1 == server.count("background_held")
    assert server.count("background_held_bytes") < 10_000


# --- streaming and coming back -----------------------------------------------------------------


@pytest.mark.parametrize("store", [True, False])
async def test_replay(server: Serving, http: HttpConnection, store: bool) -> None:
    """A stream can be read again from anywhere, with the same bytes, also after its end."""
    fields = {**QUICK, "store": store, "reasoning": {"effort": "low", "summary": "auto"}}
    whole = (await http.create(**fields, stream=True)).chunks
    transcript = Transcript(read_sse(whole), background=True)
    assert "completed" == transcript.status
    events = whole[:-1]
    assert events == await stream(server, transcript.id)
    for after in (0, 1, 2, len(events) // 2, len(events) - 2):
        assert events[after + 1 :] == await stream(
            server, transcript.id, f"&starting_after={after}"
        )
    for after in (len(events) - 1, len(events), 10**9):
        assert [] == await stream(server, transcript.id, f"&starting_after={after}")
    # Without stream it is one object, whatever else the query says.
    assert transcript.response == await get(http, transcript.id, "?starting_after=3")


async def test_leave_and_come_back(server: Serving) -> None:
    """A reader that was cut off goes on with the next event, live, beside others."""
    fields = {**TALKING, "metadata": {"sim.output_tokens": "40"}}
    async with connect(server.url) as wire:
        response_id, chunks = await begin_stream(wire, **fields)
        chunks += [await wire.read_chunk() for _ in range(4)]
        wire.reset()
    seen = event_of(chunks[-1])["sequence_number"]
    rest, everything, ahead = await asyncio.gather(
        stream(server, response_id, f"&starting_after={seen}"),
        stream(server, response_id),
        stream(server, response_id, f"&starting_after={seen + 10}"),
    )
    assert everything == [*chunks, *rest]
    assert everything[seen + 11 :] == ahead
    transcript = Transcript(read_sse([*everything, DONE]), background=True)
    assert "completed" == transcript.status
    assert transcript.response == await ended(server, response_id)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"background": False}, "it was not created with background=true"),
        ({"background": False, "stream": True}, "it was not created with background=true"),
        ({}, "it was not created with stream=true"),
        ({"store": False}, "it was not created with stream=true"),
    ],
)
async def test_what_cannot_be_streamed(
    server: Serving, http: HttpConnection, fields: Json, why: str
) -> None:
    """Only what was created in the background, as a stream, can be read as one later."""
    answer = await http.create(**{**QUICK, **fields})
    response_id = (
        read_sse(answer.chunks)[0]["response"]["id"] if answer.chunks else answer.json()["id"]
    )
    for _ in range(2):
        refused = await http.request("GET", f"/v1/responses/{response_id}?stream=true")
        assert (400, "stream") == (refused.status, refused.error()["param"])
        assert f"This response cannot be streamed because {why}." == refused.error()["message"]
        assert "invalid_request_error" == refused.error()["type"]
        await ended(server, response_id)


async def test_slow_deltas_are_kept_apart(server: Serving, http: HttpConnection) -> None:
    """A log far from its bound keeps each delta by itself, as it was streamed."""
    fields = {**QUICK, "metadata": {"sim.output_tokens": "32"}}
    events = read_sse((await http.create(**fields, stream=True)).chunks)
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert len(deltas) > 20


async def test_a_log_that_is_full(tmp_path: Path) -> None:
    """A log joins deltas before it is full; when it is, its beginning can no longer be read."""
    told = structs.replace(config(tmp_path), background=BackgroundConfig(max_events=30))
    async with serving(told, ["sim"]) as server, connect(server.url) as http:
        fields = {**QUICK, "metadata": {"sim.output_tokens": "300"}, "stream": True}
        whole = (await http.create(**fields)).chunks
        transcript = Transcript(read_sse(whole), background=True)
        assert len(whole) < 40
        assert len(transcript.text) > 500
        assert whole[:-1] == await stream(server, transcript.id)
        calls: Json = {
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
            "tool_choice": "required",
            "input": "x" * 100,
        }
        told_of = await http.create(**{**fields, **calls, "reasoning": {"effort": "low"}})
        assert 200 == told_of.status


async def test_the_beginning_of_a_log_goes(tmp_path: Path) -> None:
    """Who asks for events that are gone is told which is the first one left."""
    told = structs.replace(config(tmp_path), background=BackgroundConfig(max_events=4))
    async with serving(told, ["sim"]) as server, connect(server.url) as http:
        response_id = (await http.create(**QUICK, stream=False)).json()["id"]
        await ended(server, response_id)
        async with connect(server.url) as other:
            body = json.dumps({**QUICK, "stream": True}).encode()
            await other.send(write_request("POST", "/v1/responses", body))
            await other.read_head()
            created = event_of(await other.read_chunk())
            response_id = created["response"]["id"]
        response = await ended(server, response_id)
        refused = await http.request("GET", f"/v1/responses/{response_id}?stream=true")
        assert (400, "starting_after") == (refused.status, refused.error()["param"])
        first = int(refused.error()["message"].partition("number ")[2].partition(" ")[0])
        left = await stream(server, response_id, f"&starting_after={first - 1}")
        assert 4 == len(left)
        assert response == event_of(left[-1])["response"]


# --- cancelling and deleting -------------------------------------------------------------------


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("fields", [STALLED, TALKING], ids=["silent", "talking"])
async def test_cancel(server: Serving, http: HttpConnection, fields: Json, store: bool) -> None:
    """Cancelling stops the engine, empties the output, ends open streams; twice is once."""
    async with connect(server.url) as wire:
        response_id, chunks = await begin_stream(wire, **fields, store=store)
        path = f"/v1/responses/{response_id}"
        answers = [await http.request("POST", f"{path}/cancel") for _ in range(2)]
        assert [200, 200] == [answer.status for answer in answers]
        assert answers[0].body == answers[1].body == (await http.request("GET", path)).body
        while chunk := await wire.read_chunk():
            chunks.append(chunk)
    transcript = Transcript(read_sse(chunks), background=True)
    assert ("cancelled", []) == (transcript.status, transcript.output)
    assert transcript.response == answers[0].json()
    assert chunks[:-1] == await stream(server, response_id)
    await server.idle()
    assert 1 == server.count("responses_total", status="cancelled", transport="background")
    refused = await http.create(model="sim", input="and", previous_response_id=response_id)
    assert "previous_response_not_found" == refused.error()["code"]


async def test_cancel_at_once_by_many(server: Serving, http: HttpConnection) -> None:
    """However many cancel it at the same moment, all get the one cancelled object."""
    response_id = (await http.create(**STALLED)).json()["id"]

    async def cancel() -> bytes:
        async with connect(server.url) as wire:
            answer = await wire.request("POST", f"/v1/responses/{response_id}/cancel")
            assert 200 == answer.status
            return answer.body

    bodies = await asyncio.gather(*(cancel() for _ in range(8)))
    assert 1 == len(set(bodies))


async def test_cancel_while_queued(narrow: Serving) -> None:
    """What waits for a place is cancelled as well, and its stream never says in_progress."""
    async with connect(narrow.url) as http, connect(narrow.url) as wire:
        first = (await http.create(**STALLED)).json()["id"]
        body = json.dumps({**STALLED, "stream": True}).encode()
        await wire.send(write_request("POST", "/v1/responses", body))
        await wire.read_head()
        chunks = [await wire.read_chunk() for _ in range(2)]
        second = event_of(chunks[0])["response"]["id"]
        answer = await http.request("POST", f"/v1/responses/{second}/cancel")
        assert "cancelled" == answer.json()["status"]
        while chunk := await wire.read_chunk():
            chunks.append(chunk)
        assert 200 == (await http.request("POST", f"/v1/responses/{first}/cancel")).status
    assert "cancelled" == Transcript(read_sse(chunks), background=True).status
    await narrow.idle()


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "completed"),
        ({"max_output_tokens": 16}, "incomplete"),
        ({"metadata": {"sim.fault": "error:3"}}, "failed"),
    ],
)
async def test_cancel_too_late(
    server: Serving, http: HttpConnection, fields: Json, status: str, store: bool
) -> None:
    """What has ended cannot be cancelled, and stays as it ended."""
    response_id = (await http.create(**QUICK, **fields, store=store)).json()["id"]
    assert status == (await ended(server, response_id))["status"]
    refused = await http.request("POST", f"/v1/responses/{response_id}/cancel")
    assert 400 == refused.status
    a = "an" if status == "incomplete" else "a"
    assert f"Cannot cancel {a} {status} response." == refused.error()["message"]
    assert status == (await get(http, response_id))["status"]


@pytest.mark.parametrize("how", ["cancel", "the server ends"])
async def test_too_late_to_stop(
    server: Serving, http: HttpConnection, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What is about to be stored as completed completes, whoever wants it to stop meanwhile."""
    store = server.server._store
    finish, begun, may_go_on = store.finish, asyncio.Event(), asyncio.Event()

    async def slow(turn: StoredTurn) -> bool:
        begun.set()
        await may_go_on.wait()
        return await finish(turn)

    monkeypatch.setattr(store, "finish", slow)
    creating = asyncio.create_task(http.create(**QUICK, stream=True))
    await begun.wait()
    (order,) = server.server._turns.running.orders()
    stopping: asyncio.Task[Any] | None = None
    if how == "cancel":
        stopping = asyncio.create_task(cancelled(server, order.response_id))
        await asyncio.sleep(0.01)
    else:
        server.server._turns.running.stop_all(ServiceError("It ends."))
    may_go_on.set()
    transcript = Transcript(read_sse((await creating).chunks), background=True)
    assert "completed" == transcript.status
    assert transcript.response == await get(http, order.response_id)
    if stopping is not None:
        answer = await stopping
        assert (400, "Cannot cancel a completed response.") == (
            answer.status,
            answer.error()["message"],
        )


async def cancelled(server: Serving, response_id: str) -> Answer:
    """Cancel over a connection of its own."""
    async with connect(server.url) as wire:
        return await wire.request("POST", f"/v1/responses/{response_id}/cancel")


@pytest.mark.parametrize("failing", ["begin", "finish"])
async def test_a_store_that_fails(
    server: Serving, http: HttpConnection, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """What cannot be stored is refused before it begins, and has failed where it already runs."""

    async def broken(turn: StoredTurn) -> bool:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(server.server._store, failing, broken)
    answer = await http.create(**QUICK)
    if failing == "begin":
        assert (500, "server_error") == (answer.status, answer.error()["code"])
        assert 0 == server.count("responses_in_flight")
        return
    response = await ended(server, answer.json()["id"])
    assert ("failed", "server_error") == (response["status"], response["error"]["code"])
    assert "disk" not in response["error"]["message"]


@pytest.mark.parametrize("store", [True, False])
async def test_delete(server: Serving, http: HttpConnection, store: bool) -> None:
    """A running response is not deleted; one that has ended is, with its events."""
    async with connect(server.url) as wire:
        response_id, _ = await begin_stream(wire, **STALLED, store=store)
        path = f"/v1/responses/{response_id}"
        refused = await http.request("DELETE", path)
        assert 400 == refused.status
        assert "Cannot delete an in-flight response." == refused.error()["message"]
        await http.request("POST", f"{path}/cancel")
    deleted = await http.request("DELETE", path)
    assert {"id": response_id, "object": "response", "deleted": True} == deleted.json()
    for method, more in (("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel"), ("DELETE", "")):
        assert 404 == (await http.request(method, f"{path}{more}")).status


# --- continuing --------------------------------------------------------------------------------


async def test_continue(
    server: Serving, http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """A running response cannot be continued, and says so; once it has completed it can."""
    running = (await http.create(**STALLED)).json()["id"]
    fields = {"model": "sim", "input": "And now?", "previous_response_id": running}
    refused = await http.create(**fields)
    assert (400, "response_not_completed", "previous_response_id") == (
        refused.status,
        refused.error()["code"],
        refused.error()["param"],
    )
    event = await websocket.refused(**fields)
    assert "response_not_completed" == event["error"]["code"]
    await http.request("POST", f"/v1/responses/{running}/cancel")

    first = (await http.create(**QUICK)).json()["id"]
    done = await ended(server, first)
    second = (await http.create(**{**QUICK, "input": "And?"}, previous_response_id=first)).json()
    continued = await ended(server, second["id"])
    history = [{"role": "user", "content": QUICK["input"]}, *done["output"]]
    resent = await http.create(model="sim", input=[*history, {"role": "user", "content": "And?"}])
    assert essence(resent.json()) == essence(continued)


async def test_conversation(server: Serving, http: HttpConnection) -> None:
    """A conversation is busy while a background response runs in it, and grows at its end."""
    path = f"/v1/conversations/{(await http.request('POST', '/v1/conversations', {})).json()['id']}"

    async def texts() -> list[str]:
        listed = (await http.request("GET", f"{path}/items?order=asc")).json()["data"]
        return [item["content"][0]["text"] for item in listed]

    conversation = path.rpartition("/")[2]
    running = (await http.create(**STALLED, conversation=conversation)).json()
    assert {"id": conversation} == running["conversation"]
    locked = await http.create(**QUICK, conversation=conversation)
    assert (409, "conversation_locked") == (locked.status, locked.error()["code"])
    await http.request("POST", f"/v1/responses/{running['id']}/cancel")
    assert [] == await texts()

    said = []
    for question in ("One?", "Two?"):
        asked = {**QUICK, "input": question, "conversation": conversation}
        begun = (await http.create(**asked)).json()
        response = await ended(server, begun["id"])
        assert "completed" == response["status"]
        said += [question, response["output"][0]["content"][0]["text"]]
        assert said == await texts()
        listed = await http.request("GET", f"/v1/responses/{begun['id']}/input_items?order=asc")
        assert said[:-1] == [item["content"][0]["text"] for item in listed.json()["data"]]
    fields: Json = {"model": "sim", "input": "Three?"}
    by_name = await http.create(**fields, conversation=conversation)
    by_response = await http.create(**fields, previous_response_id=begun["id"])
    assert essence(by_name.json()) == essence(by_response.json())


async def test_input_items_of_a_running_response(http: HttpConnection) -> None:
    """What went in can be listed while it runs."""
    response_id = (await http.create(**STALLED)).json()["id"]
    listed = (await http.request("GET", f"/v1/responses/{response_id}/input_items")).json()
    assert "Tell me." == listed["data"][0]["content"][0]["text"]
    await http.request("POST", f"/v1/responses/{response_id}/cancel")


# --- owners, limits, memory, end ---------------------------------------------------------------


async def test_another_owner(keyed_server: Serving) -> None:
    """Another owner's background response does not exist, running or ended."""
    async with connect(keyed_server.url) as wire:
        for fields in (STALLED, {**STALLED, "store": False}):
            created = await wire.create(bearer(ALICE), **fields)
            path = f"/v1/responses/{created.json()['id']}"
            for _ in range(2):
                for method, more in (
                    ("GET", ""),
                    ("GET", "?stream=true"),
                    ("POST", "/cancel"),
                    ("DELETE", ""),
                ):
                    answer = await wire.request(method, path + more, headers=bearer(BOB))
                    assert 404 == answer.status
                cancelled = await wire.request("POST", f"{path}/cancel", headers=bearer(ALICE))
                assert 200 == cancelled.status


async def test_too_many(tmp_path: Path) -> None:
    """Above the limit a background response is refused with 503; others go on."""
    told = structs.replace(config(tmp_path), background=BackgroundConfig(max_running=2))
    async with serving(told, ["sim"]) as server, connect(server.url) as http:
        ids = [(await http.create(**STALLED)).json()["id"] for _ in range(2)]
        refused = await http.create(**QUICK)
        assert (503, "server_is_overloaded", "5") == (
            refused.status,
            refused.error()["code"],
            refused.headers["retry-after"],
        )
        assert 200 == (await http.create(model="sim", input="hi")).status
        await http.request("GET", "/metrics")
        assert 2 == server.count("background_held")
        assert server.count("background_held_bytes") > 0
        for response_id in ids:
            await http.request("POST", f"/v1/responses/{response_id}/cancel")
        assert 200 == (await http.create(**QUICK)).status


async def test_too_much(tmp_path: Path) -> None:
    """What requests hold that nobody waits for is bounded as well; when they end, others begin."""
    told = structs.replace(config(tmp_path), background=BackgroundConfig(max_bytes=150_000))
    large = {**STALLED, "input": "word " * 20_000}
    async with serving(told, ["sim"]) as server, connect(server.url) as http:
        ids = [(await http.create(**large)).json()["id"] for _ in range(2)]
        refused = await http.create(**large)
        assert (503, "server_is_overloaded") == (refused.status, refused.error()["code"])
        for response_id in ids:
            await http.request("POST", f"/v1/responses/{response_id}/cancel")
        assert 200 == (await http.create(**large)).status


async def test_forgotten(tmp_path: Path) -> None:
    """After its time an unstored response is gone, and a stored one has no events any more."""
    told = structs.replace(config(tmp_path), background=BackgroundConfig(keep_sec=0.0))
    async with serving(told, ["sim"], beat_sec=0.01) as server, connect(server.url) as http:
        ids = []
        for store in (True, False):
            events = read_sse((await http.create(**QUICK, store=store, stream=True)).chunks)
            ids.append(events[0]["response"]["id"])

        async def held() -> float:
            await http.request("GET", "/metrics")
            return server.count("background_held")

        async with asyncio.timeout(20):
            while await held():  # noqa: ASYNC110  # what is watched has no event to wait for
                await asyncio.sleep(0.005)
        stored, unstored = ids
        assert "completed" == (await get(http, stored))["status"]
        refused = await http.request("GET", f"/v1/responses/{stored}?stream=true")
        assert (400, "stream") == (refused.status, refused.error()["param"])
        assert 404 == (await http.request("GET", f"/v1/responses/{unstored}")).status
        assert 0 == server.count("background_held_bytes")


def content_of(folder: Path) -> bytes:
    """What all files of a folder hold."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_unstored_never_reaches_the_disk(tmp_path: Path) -> None:
    """What is said in a background response with store:false is in no file."""
    told = config(tmp_path, store="sqlite")
    async with serving(told, ["sim"]) as server, connect(server.url) as http:
        fields = {**QUICK, "store": False, "input": "xyzzy-plugh"}
        response_id = (await http.create(**fields)).json()["id"]
        await ended(server, response_id)
        content = content_of(tmp_path)
    assert b"SQLite" in content
    assert b"xyzzy" not in content
    assert response_id.encode() not in content


async def test_the_server_ends(tmp_path: Path) -> None:
    """At the end a running response has its time, then fails, and open streams hear of it."""
    told = config(tmp_path, store="sqlite")
    told = structs.replace(told, server=structs.replace(told.server, shutdown_grace_sec=0.1))
    async with serving(told, ["sim"]) as server, connect(server.url) as wire:
        response_id, chunks = await begin_stream(wire, **STALLED)
        ending = asyncio.create_task(server.server.drain())
        while chunk := await wire.read_chunk():
            chunks.append(chunk)
        await ending
    transcript = Transcript(read_sse(chunks), background=True)
    assert ("failed", "server_error") == (transcript.status, transcript.response["error"]["code"])
    async with serving(told, ["sim"]) as server, connect(server.url) as http:
        assert transcript.response == await get(http, response_id)
        assert 0 == server.count("background_abandoned_total")
        refused = await http.request("GET", f"/v1/responses/{response_id}?stream=true")
        assert "no longer kept" in refused.error()["message"]


async def test_no_new_ones_while_draining(server: Serving, http: HttpConnection) -> None:
    """A server that is ending takes no background response; those that are there can be read."""
    response_id = (await http.create(**QUICK)).json()["id"]
    await ended(server, response_id)
    await server.server.drain()
    assert 503 == (await http.create(**QUICK)).status
    assert "completed" == (await get(http, response_id))["status"]


# --- the official client -----------------------------------------------------------------------


async def test_official_client(client: AsyncOpenAI) -> None:
    """The official client begins, polls and cancels as its documentation shows."""
    response = await client.responses.create(model="sim", input="hi", background=True)
    assert "queued" == response.status
    async with asyncio.timeout(20):
        while response.status in ("queued", "in_progress"):
            await asyncio.sleep(0.005)
            response = await client.responses.retrieve(response.id)
    assert ("completed", True) == (response.status, bool(response.output_text))
    with pytest.raises(BadRequestError, match="Cannot cancel a completed response"):
        await client.responses.cancel(response.id)
    running = await client.responses.create(**STALLED)
    cancelled = await client.responses.cancel(running.id)
    assert ("cancelled", []) == (cancelled.status, cancelled.output)
    await client.responses.delete(running.id)


async def test_official_client_resumes(client: AsyncOpenAI) -> None:
    """The official client leaves a stream and goes on from its cursor, without a gap."""
    fields = {**TALKING, "metadata": {"sim.output_tokens": "40"}}
    seen: list[ResponseStreamEvent] = []
    response_id = ""
    async with await client.responses.create(**fields, stream=True) as events:
        async for event in events:
            seen.append(event)
            if event.type == "response.created":
                response_id = event.response.id
            if event.sequence_number == 8:
                break
    rest = await client.responses.retrieve(response_id, stream=True, starting_after=8)
    seen += [event async for event in rest]
    whole = await client.responses.retrieve(response_id, stream=True)
    again = [event async for event in whole]
    assert again == seen
    assert list(range(len(seen))) == numbers(seen)
    assert "response.completed" == seen[-1].type


def numbers(events: Sequence[ResponseStreamEvent]) -> list[int]:
    """The sequence numbers."""
    return [event.sequence_number for event in events]
