"""Conversations resent as references to stored items, as the AI SDK does unless told otherwise."""

from __future__ import annotations

from typing import Any

from openai import AsyncOpenAI
from tests.integration.serving import ALICE, BOB, Serving, bearer
from tests.integration.wire import HttpConnection, connect

TALK: dict[str, Any] = {"model": "sim", "metadata": {"sim.output_tokens": "8"}}


def user(text: str) -> Any:
    """A message of the user."""
    return {"role": "user", "content": text}


async def test_references_are_the_items(client: AsyncOpenAI) -> None:
    """References without a parent give the same answer as the items themselves."""
    first = await client.responses.create(input=[user("a")], **TALK)
    (made,) = first.output
    reference: Any = {"type": "item_reference", "id": made.id}
    referred = await client.responses.create(input=[user("a"), reference, user("b")], **TALK)
    whole: Any = [user("a"), made.to_dict(), user("b")]
    resent = await client.responses.create(input=whole, **TALK)
    assert resent.output_text == referred.output_text
    assert resent.usage is not None
    assert referred.usage is not None
    assert resent.usage.input_tokens == referred.usage.input_tokens


async def test_references_stay_with_their_owner(keyed_server: Serving) -> None:
    """What is stored for another owner, was deleted, or not stored, cannot be referred to."""
    async with connect(keyed_server.url) as http:

        async def refer(key: str, item_id: str) -> int:
            sent = [{"type": "item_reference", "id": item_id}, user("b")]
            answer = await http.create(bearer(key), input=sent, **TALK)
            return answer.status

        async def say(**more: Any) -> Any:
            answer = await http.create(bearer(ALICE), input="a", **TALK, **more)
            return answer.json()

        stored, unstored = await say(), await say(store=False)
        item_id = stored["output"][0]["id"]
        assert 404 == await refer(ALICE, unstored["output"][0]["id"])
        assert 404 == await refer(BOB, item_id)
        assert 200 == await refer(ALICE, item_id)
        await delete(http, stored["id"])
        assert 404 == await refer(ALICE, item_id)


async def delete(http: HttpConnection, response_id: str) -> None:
    """Delete one of Alice's responses."""
    answer = await http.request("DELETE", f"/v1/responses/{response_id}", headers=bearer(ALICE))
    assert 200 == answer.status
