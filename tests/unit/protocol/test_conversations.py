"""Bodies of conversations, decoded and encoded."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from turnwire.errors import InvalidJson, InvalidRequest
from turnwire.protocol.conversations import (
    MAX_ITEMS_PER_CALL,
    check_conversation_id,
    decode_new_conversation,
    decode_new_items,
    decode_new_metadata,
    encode_conversation,
    items_of,
)
from turnwire.protocol.requests import ABSENT


@pytest.mark.parametrize("body", [b"", b"{}", b'{"items":null,"metadata":null}', b'{"x":1}'])
def test_nothing_is_needed(body: bytes) -> None:
    """A conversation may begin with nothing, said in any way."""
    asked = decode_new_conversation(body)
    assert ((), None) == (items_of(asked.items), asked.metadata)


def test_both_fields() -> None:
    """Items and metadata are read."""
    asked = decode_new_conversation(
        b'{"items":[{"role":"user","content":"x"}],"metadata":{"a":"b"}}'
    )
    assert (1, {"a": "b"}) == (len(items_of(asked.items)), asked.metadata)


@pytest.mark.parametrize("raw", [ABSENT, Raw(b"null"), Raw(b"[]")])
def test_no_items_where_some_are_needed(raw: Raw) -> None:
    """Adding nothing is a mistake."""
    with pytest.raises(InvalidRequest):
        items_of(raw, least=1)


@pytest.mark.parametrize("count", [MAX_ITEMS_PER_CALL, MAX_ITEMS_PER_CALL + 1])
def test_how_many_items(count: int) -> None:
    """The limit itself is allowed."""
    raw = Raw(json.dumps([{"role": "user", "content": "x"}] * count).encode())
    if count <= MAX_ITEMS_PER_CALL:
        assert count == len(items_of(raw))
    else:
        with pytest.raises(InvalidRequest) as raised:
            items_of(raw)
        assert ("array_above_max_length", "items") == (raised.value.code, raised.value.param)


def test_bytes_that_are_not_text() -> None:
    """Not even what stays raw may hold bytes that are no UTF-8."""
    with pytest.raises(InvalidJson):
        decode_new_items(b'{"items":[{"type":"x","y":"\xff"}]}')


def test_missing_fields() -> None:
    """A change names what it changes; null metadata is a way to say none."""
    for decode, param in ((decode_new_items, "items"), (decode_new_metadata, "metadata")):
        with pytest.raises(InvalidRequest) as raised:
            decode(b"{}")
        assert param == raised.value.param
    assert decode_new_metadata(b'{"metadata":null}').metadata is None


@pytest.mark.parametrize("good", ["conv_a", "conv_" + "0" * 48, "conv_A-b_9"])
def test_ids(good: str) -> None:
    """What could be an id passes as it is."""
    assert good == check_conversation_id(good, "conversation")


@pytest.mark.parametrize(
    "bad", ["", "conv_", "conv", "resp_a", "conv_a\n", "conv_\ud800", "conv_ü"]
)
def test_malformed_ids(bad: str) -> None:
    """What could not is refused by name."""
    with pytest.raises(InvalidRequest) as raised:
        check_conversation_id(bad, "conversation_id")
    assert ("invalid_value", "conversation_id") == (raised.value.code, raised.value.param)


def test_encode() -> None:
    """A conversation is shown with all of its fields."""
    assert {
        "id": "conv_x",
        "object": "conversation",
        "created_at": 7,
        "metadata": {"a": "b"},
    } == json.loads(encode_conversation("conv_x", 7, b'{"a":"b"}'))
