"""GET /v1/responses/{id}/input_items over real sockets (protocol.md section 14.2)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from openai import AsyncOpenAI
from tests.integration.serving import ALICE, BOB, Serving, bearer
from tests.integration.wire import HttpConnection, Json, connect

PIXEL = "data:image/png;base64,iVBORw0KGgo="


async def items(wire: HttpConnection, response_id: str, query: str = "") -> Json:
    """One page."""
    answer = await wire.request("GET", f"/v1/responses/{response_id}/input_items{query}")
    assert 200 == answer.status, answer.body
    listed = answer.json()
    assert {"object", "data", "first_id", "last_id", "has_more"} == set(listed)
    assert "list" == listed["object"]
    ids = [item["id"] for item in listed["data"]]
    assert [listed["first_id"], listed["last_id"]] == ([ids[0], ids[-1]] if ids else [None, None])
    return listed


async def created(wire: HttpConnection, **fields: Any) -> Json:
    """A stored response."""
    answer = await wire.create(**{"model": "sim", **fields})
    assert 200 == answer.status, answer.body
    return answer.json()


def texts(listed: Json) -> list[str]:
    """Text of the messages of a page."""
    return [part["text"] for item in listed["data"] for part in item.get("content", ())]


async def test_the_items_of_a_chain(http: HttpConnection) -> None:
    """All that the model was given is listed, newest first: earlier input and output too."""
    one = await created(http, input="first")
    two = await created(http, input="second", previous_response_id=one["id"])
    said = one["output"][0]["content"][0]["text"]
    listed = await items(http, two["id"])
    assert ["second", said, "first"] == texts(listed)
    assert ["user", "assistant", "user"] == [item["role"] for item in listed["data"]]
    assert one["output"][0]["id"] == listed["data"][1]["id"]
    assert {"completed"} == {item["status"] for item in listed["data"]}
    assert ["first"] == texts(await items(http, one["id"]))
    assert listed == await items(http, two["id"])
    # A parent that was deleted leaves its items to its children.
    await http.request("DELETE", f"/v1/responses/{one['id']}")
    assert listed == await items(http, two["id"])


async def test_paging(http: HttpConnection) -> None:
    """Pages of any size, followed by `after`, join to the whole list in both orders."""
    given = [{"role": "user", "content": f"m{n}"} for n in range(7)]
    response = await created(http, input=given)
    expected = [f"m{n}" for n in range(7)]
    for order, wanted in (("asc", expected), ("desc", expected[::-1])):
        for limit in (1, 3, 7, 100):
            seen: list[str] = []
            after = ""
            while True:
                query = f"?order={order}&limit={limit}{after}"
                listed = await items(http, response["id"], query)
                seen += texts(listed)
                if not listed["has_more"]:
                    break
                after = f"&after={quote(listed['last_id'])}"
            assert wanted == seen
    listed = await items(http, response["id"], "?limit=1&order=asc")
    last = (await items(http, response["id"], "?limit=1"))["data"][0]["id"]
    assert [] == (await items(http, response["id"], f"?order=asc&after={last}"))["data"]
    assert listed["has_more"]


async def test_ids(http: HttpConnection) -> None:
    """Every item has an id of its own that stays: the client's, or one from its place."""
    given = [
        {"role": "user", "id": "msg_mine", "content": "a"},
        {"role": "user", "id": "msg_mine", "content": "b"},
        {"type": "something_new", "value": [1]},
        {"type": "item_reference", "id": "msg_mine"},
    ]
    response = await created(http, input=given)
    listed = await items(http, response["id"], "?order=asc")
    ids = [item["id"] for item in listed["data"]]
    assert "msg_mine" == ids[0]
    assert 4 == len(set(ids))
    assert {"type": "something_new", "value": [1], "id": ids[2]} == listed["data"][2]
    assert listed == await items(http, response["id"], "?order=asc")


async def test_reasoning_stays_sealed(http: HttpConnection) -> None:
    """Reasoning shows no text, and its seal only where `include` asks for it."""
    one = await created(http, input="think", reasoning={"effort": "low"})
    two = await created(http, input="go on", previous_response_id=one["id"])
    plain = await items(http, two["id"])
    (thought,) = [item for item in plain["data"] if item["type"] == "reasoning"]
    assert {"type", "id", "summary"} == set(thought)
    for spelling in ("include[]", "include"):
        asked = await items(http, two["id"], f"?{spelling}=reasoning.encrypted_content")
        (sealed,) = [item for item in asked["data"] if item["type"] == "reasoning"]
        assert {*thought, "encrypted_content"} == set(sealed)
        # What it shows can be handed back.
        history = sorted(asked["data"], key=lambda item: item["type"] == "message")
        await created(http, input=[*history[:1], {"role": "user", "content": "and now"}])


async def test_images_show_their_url_on_demand(http: HttpConnection) -> None:
    """`message.input_image.image_url` decides whether an image brings its bytes."""
    image = {"type": "input_image", "image_url": PIXEL}
    response = await created(http, input=[{"role": "user", "content": [image]}])
    (bare,) = (await items(http, response["id"]))["data"]
    assert [{"type": "input_image", "detail": "auto"}] == bare["content"]
    query = "?include[]=message.input_image.image_url"
    (full,) = (await items(http, response["id"], query))["data"]
    assert [{**image, "detail": "auto"}] == full["content"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=msg_unknown", "after"),
        ("include[]=all", "include"),
    ],
)
async def test_bad_queries(http: HttpConnection, query: str, param: str) -> None:
    """A parameter out of place is a 400 that names it."""
    response = await created(http, input="hi")
    answer = await http.request("GET", f"/v1/responses/{response['id']}/input_items?{query}")
    assert (400, param) == (answer.status, answer.error()["param"])


async def test_who_may_list(keyed_server: Serving) -> None:
    """Unknown, deleted, unstored and foreign responses are all the same 404."""
    async with connect(keyed_server.url) as wire:
        fields = {"model": "sim", "input": "hi"}
        kept = (await wire.create(bearer(ALICE), **fields)).json()["id"]
        unkept = (await wire.create(bearer(ALICE), store=False, **fields)).json()["id"]
        gone = (await wire.create(bearer(ALICE), **fields)).json()["id"]
        await wire.request("DELETE", f"/v1/responses/{gone}", headers=bearer(ALICE))
        for key, response_id in ((BOB, kept), (ALICE, unkept), (ALICE, gone), (ALICE, "resp_x")):
            path = f"/v1/responses/{response_id}/input_items"
            answer = await wire.request("GET", path, headers=bearer(key))
            assert (404, "not_found") == (answer.status, answer.error()["code"])
        path = f"/v1/responses/{kept}/input_items"
        assert 401 == (await wire.request("GET", path)).status
        assert 200 == (await wire.request("GET", path, headers=bearer(ALICE))).status


async def test_the_official_client(client: AsyncOpenAI) -> None:
    """The official client pages through calls, outputs and messages by itself."""
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "done"}
    given: Any = [{"role": "user", "content": "go"}, call, output]
    response = await client.responses.create(model="sim", input=given)
    seen = [
        item.type
        async for item in client.responses.input_items.list(response.id, limit=1, order="asc")
    ]
    assert ["message", "function_call", "function_call_output"] == seen


async def test_a_large_conversation(http: HttpConnection) -> None:
    """A conversation of some hundred kilobytes is listed as any other."""
    given = [{"role": "user", "content": "word " * 1000} for _ in range(60)]
    response = await created(http, input=given)
    listed = await items(http, response["id"], "?limit=100")
    assert 60 == len({item["id"] for item in listed["data"]})
    assert len(json.dumps(listed)) > 300_000
