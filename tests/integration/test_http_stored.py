"""Reading and cancelling stored responses over real sockets (protocol.md sections 10 and 12)."""

from __future__ import annotations

import json

import pytest
from openai import AsyncOpenAI, BadRequestError
from tests.integration.serving import ALICE, BOB, Serving, bearer
from tests.integration.wire import HttpConnection, Json, connect, write_request


def response_id_of(stream: bytes) -> str:
    """Of the first event."""
    return stream.decode().partition('"id":"')[2].partition('"')[0]


async def test_what_cannot_be_cancelled(http: HttpConnection, client: AsyncOpenAI) -> None:
    """A response that ended within its request is not cancelled, and stays as it is."""
    for fields in ({}, {"metadata": {"sim.fault": "error:1"}}):
        answer = await http.create(model="sim", input="hi", stream=True, **fields)
        assert 200 == answer.status
        response_id = response_id_of(answer.body)
        before = (await http.request("GET", f"/v1/responses/{response_id}")).body
        refused = await http.request("POST", f"/v1/responses/{response_id}/cancel")
        assert 400 == refused.status
        assert "Cannot cancel a synchronous response." == refused.error()["message"]
        assert "invalid_request_error" == refused.error()["type"]
        assert before == (await http.request("GET", f"/v1/responses/{response_id}")).body
        with pytest.raises(BadRequestError, match="synchronous"):
            await client.responses.cancel(response_id)


async def test_cancelling_what_is_not_there(keyed_server: Serving) -> None:
    """Unknown, unstored, foreign and running responses cannot be told apart."""
    async with connect(keyed_server.url) as wire, connect(keyed_server.url) as other:
        fields = {"model": "sim", "input": "hi"}
        kept = (await wire.create(bearer(ALICE), **fields)).json()["id"]
        unkept = (await wire.create(bearer(ALICE), store=False, **fields)).json()["id"]
        body = json.dumps({"model": "sim-slow", "input": "hi", "stream": True}).encode()
        await other.send(write_request("POST", "/v1/responses", body, bearer(ALICE)))
        await other.read_head()
        running = response_id_of(await other.read_chunk())
        for key, response_id in ((BOB, kept), (ALICE, unkept), (ALICE, "resp_x"), (ALICE, running)):
            path = f"/v1/responses/{response_id}/cancel"
            answer = await wire.request("POST", path, headers=bearer(key))
            assert (404, "not_found") == (answer.status, answer.error()["code"])
        assert 401 == (await wire.request("POST", f"/v1/responses/{kept}/cancel")).status


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stream=true", "stream"),
        ("stream=true&starting_after=3", "stream"),
        ("stream=maybe", "stream"),
        ("stream=true&starting_after=-1", "starting_after"),
        ("starting_after=x", "starting_after"),
        ("include=x", "include"),
        ("include[]=x", "include"),
        ("include_obfuscation=x", "include_obfuscation"),
    ],
)
async def test_queries_that_cannot_be_answered(
    http: HttpConnection, query: str, param: str
) -> None:
    """What was not created in the background has no stream, and bad parameters are named."""
    response_id = (await http.create(model="sim", input="hi")).json()["id"]
    answer = await http.request("GET", f"/v1/responses/{response_id}?{query}")
    assert (400, param) == (answer.status, answer.error()["param"])
    if query == "stream=true":
        assert (
            "This response cannot be streamed because it was not created with background=true."
            == answer.error()["message"]
        )


async def test_queries_that_change_nothing(http: HttpConnection) -> None:
    """Defaults spelled out and unknown parameters give the same object."""
    created = await http.create(model="sim", input="hi")
    path = f"/v1/responses/{created.json()['id']}"
    for query in ("", "?stream=false", "?starting_after=2", "?stream=false&x=y"):
        assert created.body == (await http.request("GET", path + query)).body
    assert 404 == (await http.request("GET", "/v1/responses/resp_x?stream=true")).status


SEAL = "reasoning.encrypted_content"
ASKED = {"role": "user", "content": "and now"}


@pytest.mark.parametrize("asked_before", [True, False])
async def test_reasoning_by_include(http: HttpConnection, *, asked_before: bool) -> None:
    """The seal shows if the reader asks for it, and can be handed back then."""
    fields: Json = {"model": "sim", "input": "hi", "reasoning": {"effort": "low"}}
    created = (await http.create(**fields, include=[SEAL] if asked_before else [])).json()
    path = f"/v1/responses/{created['id']}"
    plain = (await http.request("GET", path)).json()
    (thought,) = [item for item in plain["output"] if item["type"] == "reasoning"]
    assert {"type", "id", "summary"} == set(thought)
    sealed = (await http.request("GET", f"{path}?include[]={SEAL}")).json()
    (with_seal,) = [item for item in sealed["output"] if item["type"] == "reasoning"]
    assert {*thought, "encrypted_content"} == set(with_seal)
    expected = sealed if asked_before else plain
    assert created == expected
    again = await http.create(model="sim", input=[*sealed["output"], ASKED])
    assert 200 == again.status, again.body
