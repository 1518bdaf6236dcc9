"""Clients that send their whole conversation with every turn are recognised, on every transport."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent import TOOLS
from tests.integration.recorder import essence
from tests.integration.serving import ALICE, BOB, Serving, bearer, config, serving
from tests.integration.test_continuation import VIAS, Via, ask, outputs, user
from tests.integration.wire import Json, connect

from turnwire.config import KeyConfig, LimitsConfig

SETTINGS: Json = {
    "tools": TOOLS,
    "reasoning": {"effort": "low"},
    "instructions": "Do.",
    "metadata": {"sim.tool_calls": "3"},
}
LONG = "A long question. " * 400


@pytest.fixture
async def knowing(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that recognises what it knows."""
    async with serving(config(tmp_path, limits=LimitsConfig())) as server:
        yield server


@pytest.fixture
async def forgetful(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that reads everything anew."""
    async with serving(config(tmp_path / "other")) as server:
        yield server


def lean(items: list[Json]) -> list[Json]:
    """Items as clients keep them: without what they do not need."""
    differ = ("id", "status")
    return [{name: value for name, value in item.items() if name not in differ} for item in items]


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("via", VIAS)
async def test_a_resent_conversation_is_continued(
    knowing: Serving, forgetful: Serving, via: Via, store: bool
) -> None:
    """Every turn after the first is appended, and says what a server without memory says."""
    settings = {**SETTINGS, "store": store, "include": ["reasoning.encrypted_content"]}
    sent = [user(LONG)]
    for number in range(4):
        response = await ask(knowing, via, input=sent, **settings)
        assert number == knowing.count("context_render_total", mode="append", reason="resent")
        sent = [*sent, *lean(response["output"]), *outputs(response)]
    assert (1, 3) == tuple(
        knowing.count("resent_histories_total", outcome=outcome) for outcome in ("first", "hit")
    )
    assert knowing.count("resent_tokens_kept_total") > 3 * len(LONG) / 8
    # Each server seals with a key of its own, so the other cannot be sent thoughts.
    thoughtless = [item for item in sent if item.get("type") != "reasoning"]
    for items in (thoughtless, [*thoughtless, user("And?")]):
        one = await ask(knowing, via, input=items, **settings)
        other = await ask(forgetful, via, input=items, **settings)
        assert essence(one) == essence(other)
        assert one["usage"]["input_tokens"] == other["usage"]["input_tokens"]


async def test_transports_and_ways_to_continue_share_what_is_known(knowing: Serving) -> None:
    """What went by `previous_response_id` over one transport is recognised over another."""
    sent: list[Json] = [user("Hello")]
    one = await ask(knowing, "websocket", input=sent, **SETTINGS)
    two = await ask(knowing, "sse", input=outputs(one), previous_response_id=one["id"], **SETTINGS)
    three = await ask(
        knowing, "json", input=outputs(two), previous_response_id=two["id"], **SETTINGS
    )
    # What was stored has no sealed thoughts; the same turns with them are the same conversation.
    include = {"include": ["reasoning.encrypted_content"]}
    for _ in range(2):
        twin = await ask(knowing, "json", input=sent, **SETTINGS, **include)
        sent += [*twin["output"], *outputs(twin)]
    again = await ask(knowing, "websocket", input=sent, **SETTINGS)
    assert essence(three) == essence(again)
    assert three["usage"]["input_tokens"] == again["usage"]["input_tokens"]


async def test_a_changed_history_is_rendered_from_where_it_changed(
    knowing: Serving, forgetful: Serving
) -> None:
    """Edits, other instructions and other tools give what they give without a memory."""
    settings: Json = {"store": False, "tools": TOOLS, "metadata": {"sim.tool_calls": "0"}}
    sent = [user(LONG)]
    for text in ("one", "two", "three"):
        response = await ask(knowing, "json", input=sent, **settings)
        sent = [*sent, *response["output"], user(text)]
    edited = json.loads(json.dumps(sent))
    edited[3]["content"][0]["text"] = "No."
    for items, changes in (
        (sent, {}),
        (edited, {}),
        (sent[:-1], {}),
        (sent[:3], {}),
        (sent, {"instructions": "Be brief."}),
        (sent, {"tools": TOOLS[:1]}),
        ([{**sent[0], "role": "developer"}, *sent[1:]], {}),
    ):
        asked: Json = {**settings, **changes}
        one = await ask(knowing, "json", input=items, **asked)
        other = await ask(forgetful, "json", input=items, **asked)
        assert essence(one) == essence(other)
        assert one["usage"]["input_tokens"] == other["usage"]["input_tokens"]
    count = {
        outcome: knowing.count("resent_histories_total", outcome=outcome)
        for outcome in ("first", "hit", "partial", "miss")
    }
    assert {"first": 1, "hit": 2 + 5, "partial": 1, "miss": 1} == count


async def test_what_is_stored_is_whole(knowing: Serving) -> None:
    """A stored turn behind one of store:false can be continued: the client sent all of it."""
    sent = [user("Hello")]
    one = await ask(knowing, "json", input=sent, store=False)
    sent += [*lean(one["output"]), user("More")]
    two = await ask(knowing, "json", input=sent, store=True)
    assert 1 == knowing.count("resent_histories_total", outcome="hit")
    three = await ask(knowing, "json", input="Go on", previous_response_id=two["id"])
    whole = [*sent, *lean(two["output"]), user("Go on")]
    assert essence(three) == essence(await ask(knowing, "json", input=whole))
    async with connect(knowing.url) as wire:
        listed = await wire.request("GET", f"/v1/responses/{two['id']}/input_items?order=asc")
        texts = [item["content"][0]["text"] for item in listed.json()["data"]]
        assert ["Hello", one["output"][0]["content"][0]["text"], "More"] == texts
        assert 404 == (await wire.request("GET", f"/v1/responses/{one['id']}")).status


async def test_a_stored_parent_is_not_stored_again(knowing: Serving) -> None:
    """Turns of a client that resends and stores are links of a chain, and outlive each other."""
    sent = [user("Hello")]
    one = await ask(knowing, "json", input=sent)
    sent += [*one["output"], user("More")]
    two = await ask(knowing, "json", input=sent)
    async with connect(knowing.url) as wire:
        assert 200 == (await wire.request("DELETE", f"/v1/responses/{one['id']}")).status
        listed = await wire.request("GET", f"/v1/responses/{two['id']}/input_items")
        assert 3 == len(listed.json()["data"])
        sent += [*two["output"], user("Still there?")]
        three = await ask(knowing, "json", input=sent)
        four = await ask(knowing, "json", input="And?", previous_response_id=three["id"])
        whole = [*sent, *three["output"], user("And?")]
        assert essence(four) == essence(await ask(knowing, "json", input=whole))


async def test_owners_do_not_know_each_others(tmp_path: Path) -> None:
    """The same words of another owner are a conversation that nobody has seen."""
    keys = [KeyConfig(owner="alice", key=ALICE), KeyConfig(owner="bob", key=BOB)]
    async with serving(config(tmp_path, keys=keys, limits=LimitsConfig())) as server:
        sent: list[Json] = [user(LONG), {"role": "assistant", "content": "Yes."}, user("More")]
        for key, outcome in ((ALICE, "miss"), (ALICE, "hit"), (BOB, "miss"), (BOB, "hit")):
            before = server.count("resent_histories_total", outcome=outcome)
            async with connect(server.url) as wire:
                answer = await wire.create(bearer(key), model="sim", input=sent, store=False)
            assert 200 == answer.status
            assert before + 1 == server.count("resent_histories_total", outcome=outcome)


async def test_counting_knows_and_learns_nothing(knowing: Serving) -> None:
    """`input_tokens` of a resent conversation is what its turn reports."""
    sent = [user(LONG)]
    one = await ask(knowing, "json", input=sent, store=False)
    sent += [*one["output"], user("More")]
    async with connect(knowing.url) as wire:
        body: dict[str, Any] = {"model": "sim", "input": sent}
        answer = await wire.request("POST", "/v1/responses/input_tokens", json.dumps(body).encode())
        counted = answer.json()["input_tokens"]
    assert 0 == knowing.count("resent_histories_total", outcome="hit")
    two = await ask(knowing, "json", input=sent, store=False)
    assert counted == two["usage"]["input_tokens"]
