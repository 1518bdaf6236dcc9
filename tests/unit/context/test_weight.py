"""Tests of `turnwire.context.weight`: what is bounded in bytes counts what is really held."""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import Any, Final

import pytest
from msgspec import Raw
from tests.integration.exactness import Told, family

from turnwire.context.chain import Context
from turnwire.context.known import KnownContexts
from turnwire.context.weight import LINK_BYTES, weight_of
from turnwire.models.base import Settings
from turnwire.models.token_model import TokenModel
from turnwire.protocol.codec import decode_items

Json = dict[str, Any]
MOST: Final = 3
"""How many times what was counted may be held at most."""


def user(content: Any, **fields: Any) -> Json:
    """A message of the user."""
    return {"type": "message", "role": "user", "content": content, **fields}


def call(number: int, name: str) -> Json:
    """A call."""
    return {"type": "function_call", "call_id": f"c{number}", "name": name, "arguments": "{}"}


PARTS = [{"type": "input_text", "text": ""}] * 20_000
NOTED = {"type": "output_text", "text": "x", "annotations": [{"a": "b" * 100}] * 300}
INPUTS: Final[dict[str, list[Json]]] = {
    "one long text": [user("the quick brown fox " * 2000)],
    "wide characters": [user("日本語テキスト" * 1500)],
    "no words at all": [user("")] * 2000,
    "many parts": [user(PARTS)],
    "annotations": [{"type": "message", "role": "assistant", "content": [NOTED]}] * 5,
    "ids": [user("x", id="i" * 10_000)] * 20,
    "names": [call(number, "n" * 1000) for number in range(100)],
    "summaries": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "z" * 1000}]}]
    * 50,
    "files": [user([{"type": "input_file", "file_url": "u" * 10_000}])] * 20,
    "what nobody knows": [{"type": "web_search_call", "queries": ["q" * 10_000]}] * 10,
}


@pytest.mark.parametrize("name", ["turnwire", "llama3", "harmony"])
@pytest.mark.parametrize("sent", INPUTS.values(), ids=INPUTS)
def test_what_is_held_is_counted(name: str, sent: list[Json]) -> None:
    """However an input is made, a bound in bytes is one on memory."""
    of = family(name)
    model = TokenModel("m", of.template, Told(of.tokenizer, 1 << 30))
    raw = Raw(json.dumps(sent).encode())
    model.prepare(None, decode_items(raw), Settings(warm_up=True))  # what is made once
    known = KnownContexts(1 << 40)
    of.tokenizer.texts.clear()
    gc.collect()
    tracemalloc.start()
    try:
        context = model.prepare(None, decode_items(raw), Settings(warm_up=True)).context
        known.put("me", context)
        of.tokenizer.texts.clear()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert known.num_bytes == context.num_bytes
    assert held < MOST * known.num_bytes


def test_a_chain_weighs_what_its_links_weigh() -> None:
    """Every link counts, and every item in it."""
    items = decode_items(Raw(json.dumps([user("a"), user("b" * 100)]).encode()))
    first = Context(None, items[:1])
    assert LINK_BYTES + weight_of(items[0]) == first.num_bytes
    assert first.num_bytes + LINK_BYTES + weight_of(items[1]) == Context(first, items[1:]).num_bytes
    assert weight_of(items[0]) + 4 * 99 == weight_of(items[1])
