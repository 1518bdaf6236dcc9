"""Conversations and their items over HTTP, without a model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from openai import AsyncOpenAI, ConflictError, NotFoundError
from openai.types.conversations import Conversation, ConversationItemList
from tests.integration.recorder import essence
from tests.integration.serving import config, serving
from tests.integration.wire import HttpConnection, Json, WebSocketConnection, connect

UNKNOWN = "conv_" + "0" * 48
USER: Json = {"type": "message", "role": "user", "content": "x"}
CALL: Json = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT: Json = {"type": "function_call_output", "call_id": "c1", "output": "done"}


async def begin(http: HttpConnection, *items: Json, **fields: Any) -> str:
    """The path of a new conversation."""
    made = await http.request("POST", "/v1/conversations", {"items": list(items), **fields})
    assert made.status == 200, made.body
    return f"/v1/conversations/{made.json()['id']}"


async def listed(http: HttpConnection, path: str, query: str = "order=asc") -> Json:
    """A page of a conversation's items."""
    answer = await http.request("GET", f"{path}/items?{query}")
    assert answer.status == 200, answer.body
    page = answer.json()
    data = page["data"]
    if data:  # the ids of an empty page are null, which the official type does not know
        ConversationItemList.model_validate(page, strict=True)
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    assert ends == (page["first_id"], page["last_id"])
    assert page["object"] == "list"
    return page


def named(item_id: str, text: str = "x") -> Json:
    """A message with an id."""
    return {**USER, "id": item_id, "content": text}


@pytest.mark.parametrize("body", [{}, {"items": None, "metadata": None}, {"items": []}, b""])
async def test_an_empty_conversation(http: HttpConnection, body: Json | bytes) -> None:
    """A conversation needs nothing; its metadata is {} then."""
    before = int(time.time())
    made = await http.request("POST", "/v1/conversations", body)
    assert made.status == 200
    conversation = made.json()
    Conversation.model_validate(conversation, strict=True)
    assert {"id", "object", "created_at", "metadata"} == set(conversation)
    assert ("conversation", {}) == (conversation["object"], conversation["metadata"])
    assert before <= conversation["created_at"] <= int(time.time())
    path = f"/v1/conversations/{conversation['id']}"
    assert conversation == (await http.request("GET", path)).json()
    page = await listed(http, path)
    assert ([], False, None) == (page["data"], page["has_more"], page["first_id"])


async def test_metadata(http: HttpConnection) -> None:
    """Metadata is kept and replaced as a whole."""
    path = await begin(http, metadata={"a": "1", "b": "2"})
    before = (await http.request("GET", path)).json()
    assert before["metadata"] == {"a": "1", "b": "2"}
    changed = await http.request("POST", path, {"metadata": {"c": "ü"}})
    assert (200, {**before, "metadata": {"c": "ü"}}) == (changed.status, changed.json())
    assert changed.json() == (await http.request("GET", path)).json()
    cleared = await http.request("POST", path, {"metadata": None})
    assert cleared.json()["metadata"] == {}


async def test_delete(http: HttpConnection) -> None:
    """A deleted conversation is gone with its items, and is deleted once."""
    path = await begin(http, named("msg_x"))
    gone = await http.request("DELETE", path)
    expected = {"id": path.rpartition("/")[2], "object": "conversation.deleted", "deleted": True}
    assert (200, expected) == (gone.status, gone.json())
    for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/items"), ("GET", "/items/msg_x")):
        answer = await http.request(method, path + rest)
        assert (404, "not_found") == (answer.status, answer.error()["code"])


async def test_items_have_ids_statuses_and_parts(http: HttpConnection) -> None:
    """What is added comes back normalised: in the answer, in the list, and one by one."""
    path = await begin(http)
    added = await http.request(
        "POST",
        f"{path}/items",
        {
            "items": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                CALL,
                OUTPUT,
                {"type": "reasoning", "summary": []},
                {"type": "web_search_call", "status": "completed", "action": {"type": "search"}},
                {"type": "mcp_list_tools", "server_label": "x", "tools": []},
            ]
        },
    )
    assert added.status == 200
    page = added.json()
    assert not page["has_more"]
    items = page["data"]
    assert items == (await listed(http, path, "order=asc&limit=6"))["data"] + [items[-1]]
    said = {"type": "output_text", "text": "b", "annotations": [], "logprobs": []}
    assert items[0]["content"] == [{"type": "input_text", "text": "a"}]
    assert items[1]["content"] == [said]
    assert ["msg_", "msg_", "fc_", "fco_", "rs_", "item_", "item_"] == [
        item["id"].rpartition("_")[0] + "_" for item in items
    ]
    assert ["completed"] * 4 == [item["status"] for item in items[:4]]
    assert "status" not in items[4]
    for item in items:
        one = await http.request("GET", f"{path}/items/{item['id']}")
        assert (200, item) == (one.status, one.json())


async def test_images_are_shown_on_demand(http: HttpConnection) -> None:
    """Optional parts of items are shown where `include` names them, in every listing."""
    url = "data:image/png;base64,AAAA"
    image = {**USER, "content": [{"type": "input_image", "image_url": url}]}
    path = await begin(http)
    include = "include[]=message.input_image.image_url"
    shown = await http.request("POST", f"{path}/items?{include}", {"items": [image]})
    hidden = await http.request("POST", f"{path}/items", {"items": [image]})
    for answer, expected in ((shown, url), (hidden, None)):
        [item] = answer.json()["data"]
        assert expected == item["content"][0].get("image_url")
        one = f"{path}/items/{item['id']}"
        got = (await http.request("GET", f"{one}?{include}")).json()
        assert got["content"][0]["image_url"] == url
        assert "image_url" not in (await http.request("GET", one)).json()["content"][0]


async def test_pages(http: HttpConnection) -> None:
    """Both orders, from any item on, newest first unless told otherwise."""
    ids = [f"msg_{number:02}" for number in range(20)]
    path = await begin(http, *map(named, ids))
    more = [f"msg_{number}" for number in range(20, 25)]
    await http.request("POST", f"{path}/items", {"items": [named(one) for one in more]})
    ids += more

    async def page(query: str) -> tuple[list[str], bool]:
        found = await listed(http, path, query)
        return [item["id"] for item in found["data"]], found["has_more"]

    assert (ids[::-1][:20], True) == await page("")
    assert (ids, False) == await page("order=asc&limit=25")
    assert (ids[:24], True) == await page("order=asc&limit=24")
    assert (ids[3:5], True) == await page("order=asc&limit=2&after=msg_02")
    assert (ids[:2][::-1], False) == await page("limit=2&after=msg_02")
    assert ([], False) == await page("after=msg_00")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=msg_none", "after"),
        ("include=everything", "include"),
    ],
)
async def test_bad_queries(http: HttpConnection, query: str, param: str) -> None:
    """A query that cannot be used is refused by name."""
    path = await begin(http, USER)
    answer = await http.request("GET", f"{path}/items?{query}")
    assert (400, param) == (answer.status, answer.error()["param"])


@pytest.mark.parametrize("item_id", ["msg_{1}", "a/b", "a?b", "..", "50%", "é"])
async def test_ids_of_a_client(http: HttpConnection, item_id: str) -> None:
    """An item under any id that is kept can be read, listed from, and removed."""
    path = await begin(http, named(item_id), named("last"))
    item = f"{path}/items/{quote(item_id, safe='')}"
    assert item_id == (await http.request("GET", item)).json()["id"]
    page = await listed(http, path, f"order=asc&after={quote(item_id, safe='')}")
    assert "last" == page["first_id"]
    assert 200 == (await http.request("DELETE", item)).status
    assert ["last"] == [one["id"] for one in (await listed(http, path))["data"]]


async def test_delete_an_item(http: HttpConnection) -> None:
    """A deleted item is gone, and the answer is the conversation."""
    path = await begin(http, named("msg_a"), named("msg_b"))
    gone = await http.request("DELETE", f"{path}/items/msg_a")
    assert (200, (await http.request("GET", path)).json()) == (gone.status, gone.json())
    assert ["msg_b"] == [item["id"] for item in (await listed(http, path))["data"]]
    for method in ("GET", "DELETE"):
        answer = await http.request(method, f"{path}/items/msg_a")
        assert (404, "not_found") == (answer.status, answer.error()["code"])
    again = await http.request("POST", f"{path}/items", {"items": [named("msg_a")]})
    assert again.status == 200
    assert ["msg_b", "msg_a"] == [item["id"] for item in (await listed(http, path))["data"]]


BAD_ITEMS: dict[str, tuple[Any, str, str]] = {
    "none": ([], "array_below_min_length", "items"),
    "too many": ([USER] * 21, "array_above_max_length", "items"),
    "no list": ("x", "invalid_type", "items"),
    "null": (None, "invalid_type", "items"),
    "no object": ([5], "invalid_type", "items[0]"),
    "no type": ([USER, {"content": "x"}], "missing_required_parameter", "items[1].type"),
    "bad part": (
        [{**USER, "content": [{"type": "x"}]}],
        "invalid_value",
        "items[0].content[0].type",
    ),
    "id taken": ([USER, named("msg_taken")], "invalid_value", "items[1].id"),
    "id twice": ([named("msg_a"), named("msg_a")], "invalid_value", "items[1].id"),
    "empty id": ([named("")], "invalid_value", "items[0].id"),
    "long id": ([named("m" * 257)], "invalid_value", "items[0].id"),
    "strange id": ([named("msg_\u0000")], "invalid_value", "items[0].id"),
    "noise": (
        [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}],
        "invalid_encrypted_content",
        "items[0].encrypted_content",
    ),
}


@pytest.mark.parametrize(("items", "code", "param"), BAD_ITEMS.values(), ids=BAD_ITEMS)
async def test_bad_items(http: HttpConnection, items: Any, code: str, param: str) -> None:
    """Of items of which one cannot be used none is added, and the answer names it."""
    path = await begin(http, named("msg_taken"))
    answer = await http.request("POST", f"{path}/items", {"items": items})
    error = answer.error()
    assert (400, code, param) == (answer.status, error["code"], error["param"])
    assert 1 == len((await listed(http, path))["data"])
    if items and code != "invalid_value":
        answer = await http.request("POST", "/v1/conversations", {"items": items})
        assert (400, code, param) == (
            answer.status,
            answer.error()["code"],
            answer.error()["param"],
        )


async def test_references_by_hand(http: HttpConnection) -> None:
    """A reference adds a copy of what it leads to, or is refused if that is nowhere."""
    made = (await http.create(model="sim", input="Hello")).json()
    said = made["output"][0]
    reference = {"type": "item_reference", "id": said["id"]}
    path = await begin(http, reference)
    added = await http.request("POST", f"{path}/items", {"items": [reference]})
    assert added.status == 200
    first, second = (await listed(http, path))["data"]
    assert said == first
    assert first["content"] == second["content"]
    assert first["id"] != second["id"]
    nowhere = {"items": [{"type": "item_reference", "id": "msg_none"}]}
    for where in ("/v1/conversations", f"{path}/items"):
        answer = await http.request("POST", where, nowhere)
        assert (404, "items") == (answer.status, answer.error()["param"])


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("GET", "", None),
        ("POST", "", {"metadata": {}}),
        ("DELETE", "", None),
        ("GET", "/items", None),
        ("POST", "/items", {"items": [USER]}),
        ("GET", "/items/msg_x", None),
        ("DELETE", "/items/msg_x", None),
    ],
)
async def test_unknown_and_malformed(
    http: HttpConnection, method: str, rest: str, body: Json | None
) -> None:
    """An unknown conversation is a 404, an id that is none a 400 that names the parameter."""
    answer = await http.request(method, f"/v1/conversations/{UNKNOWN}{rest}", body)
    assert (404, "not_found") == (answer.status, answer.error()["code"])
    for strange in ("resp_1", "conv_", "conv_%00", "conv_%27%20OR%201", "conv_" + "x" * 129):
        answer = await http.request(method, f"/v1/conversations/{strange}{rest}", body)
        assert (400, "conversation_id") == (answer.status, answer.error()["param"])


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b'{"metadata":{"a":"\xff"}}', "invalid_json", None),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata"),
        ({"metadata": {"k" * 65: ""}}, "string_above_max_length", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata"),
        ({"metadata": {f"{n}": "" for n in range(17)}}, "object_above_max_pairs", "metadata"),
    ],
)
async def test_bad_bodies(
    http: HttpConnection, body: Json | bytes, code: str, param: str | None
) -> None:
    """Bodies are checked alike when a conversation is made and when it is changed."""
    path = await begin(http)
    for where in ("/v1/conversations", path):
        answer = await http.request("POST", where, body)
        error = answer.error()
        assert (400, code, param) == (answer.status, error["code"], error["param"])


async def test_what_is_missing(http: HttpConnection) -> None:
    """A change says what to change."""
    path = await begin(http)
    for where, param in ((path, "metadata"), (f"{path}/items", "items")):
        answer = await http.request("POST", where, {})
        assert (400, "missing_required_parameter", param) == (
            answer.status,
            answer.error()["code"],
            answer.error()["param"],
        )


async def test_a_restart(tmp_path: Path) -> None:
    """Conversations and items are there after a restart on the same directory."""
    told = config(tmp_path, store="sqlite")
    async with serving(told) as before, connect(before.url) as http:
        path = await begin(http, USER, CALL, metadata={"a": "b"})
        conversation = (await http.request("GET", path)).json()
        page = await listed(http, path)
    async with serving(told) as after, connect(after.url) as http:
        assert conversation == (await http.request("GET", path)).json()
        assert page == await listed(http, path)


async def test_the_official_client(client: AsyncOpenAI) -> None:
    """Every method of the official client's conversations does what it says."""
    conversations = client.conversations
    made = await conversations.create(
        items=[{"role": "user", "content": "one", "type": "message"}], metadata={"a": "b"}
    )
    assert made == await conversations.retrieve(made.id)
    updated = await conversations.update(made.id, metadata={"c": "d"})
    assert updated.metadata == {"c": "d"}
    added = await conversations.items.create(
        made.id,
        items=[{"role": "user", "content": f"{number}", "type": "message"} for number in range(20)],
    )
    assert 20 == len(added.data)
    ids = [item.id async for item in conversations.items.list(made.id, order="asc", limit=7)]
    assert 21 == len(set(ids))
    assert [item.id for item in added.data] == ids[1:]
    first = ids[0]
    assert first is not None
    item = await conversations.items.retrieve(first, conversation_id=made.id)
    assert (first, "message") == (item.id, item.type)
    left = await conversations.items.delete(first, conversation_id=made.id)
    assert updated == left
    gone = await conversations.delete(made.id)
    assert (made.id, True) == (gone.id, gone.deleted)
    with pytest.raises(NotFoundError):
        await conversations.retrieve(made.id)


async def test_responses_of_the_official_client(client: AsyncOpenAI) -> None:
    """Responses made in a conversation, streamed or not, follow each other in it."""
    made = await client.conversations.create()
    one = await client.responses.create(model="sim", input="one", conversation=made.id)
    assert one.conversation is not None
    assert made.id == one.conversation.id
    stream = await client.responses.create(
        model="sim", input="two", conversation={"id": made.id}, stream=True
    )
    events = [event async for event in stream]
    last = events[-1]
    assert last.type == "response.completed"
    items = [item async for item in client.conversations.items.list(made.id, order="asc")]
    kept = [item.model_dump(exclude_none=True) for item in items]
    for response, item in ((one, kept[1]), (last.response, kept[3])):
        said = essence({"output": [response.output[0].model_dump(exclude_none=True)]})
        assert said == essence({"output": [item]})


async def test_the_official_client_does_not_retry(
    client: AsyncOpenAI, websocket: WebSocketConnection
) -> None:
    """A conversation that is in use is told to the caller at once."""
    made = await client.conversations.create()
    await websocket.send_create(model="sim-slow", input="x", conversation=made.id)
    await websocket.read_event()
    eager = client.with_options(max_retries=5)
    with pytest.raises(ConflictError) as raised:
        await eager.responses.create(model="sim", input="y", conversation=made.id)
    assert raised.value.code == "conversation_locked"
    assert raised.value.response.request.headers["x-stainless-retry-count"] == "0"
