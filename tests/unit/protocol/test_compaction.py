"""Compaction on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import InvalidJson, InvalidRequest
from turnwire.protocol.compaction import (
    CompactedResponse,
    decode_compact,
    decode_summary,
    encode_summary,
    take_trigger,
)
from turnwire.protocol.items import (
    CompactionTrigger,
    CustomToolCall,
    FunctionCall,
    InputText,
    Item,
    Message,
    Summary,
)
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.responses import Usage

HI = Message(role="user", content=(InputText(text="hi"),))
TRIGGER = CompactionTrigger()
TEXT = st.text(max_size=20)
CALL_ID = st.text(min_size=1, max_size=64)
SUMMARIES = st.builds(
    Summary,
    text=TEXT,
    retained=st.lists(st.binary(min_size=16, max_size=16), max_size=3).map(tuple),
    kept=st.lists(
        st.one_of(
            st.builds(FunctionCall, call_id=CALL_ID, name=TEXT, arguments=TEXT),
            st.builds(CustomToolCall, call_id=CALL_ID, name=TEXT, input=TEXT),
        ),
        max_size=3,
    ).map(tuple),
)


@given(SUMMARIES)
def test_what_is_sealed_comes_back(summary: Summary) -> None:
    """Every part of a summary survives being encoded."""
    assert summary == decode_summary(encode_summary(summary, "sim"))


@pytest.mark.parametrize("content", [b"", b"a thought", b"{}", b'{"v":"compaction-0"}', b"\xff"])
def test_what_is_no_summary(content: bytes) -> None:
    """Other sealed text is told apart."""
    with pytest.raises(ValueError, match="no content of a compaction item"):
        decode_summary(content)


def test_a_body_is_a_create_with_less() -> None:
    """What both have is passed on; nothing is stored."""
    body: dict[str, Any] = {
        "model": "sim",
        "input": "hi",
        "previous_response_id": "resp_1",
        "prompt_cache_key": "k",
        "instructions": "briefly",
        "tools": [],
        "reasoning": {"effort": 5},
    }
    asked = decode_compact(json.dumps(body).encode())
    assert "briefly" == asked.instructions
    create = asked.as_create()
    assert isinstance(create, CreateResponse)
    assert ("sim", "resp_1", "k", False, None) == (
        create.model,
        create.previous_response_id,
        create.prompt_cache_key,
        create.store,
        create.instructions,
    )


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"input": "x"}', "missing_required_parameter", "model"),
        (b'{"model": 5}', "invalid_type", "model"),
        (b'{"model": "sim", "prompt_cache_retention": "ever"}', "invalid_value",
         "prompt_cache_retention"),
        (b'{"model": "sim", "service_tier": "first"}', "invalid_value", "service_tier"),
    ],
)  # fmt: skip
def test_bad_bodies(body: bytes, code: str, param: str) -> None:
    """The field at fault is named."""
    with pytest.raises(InvalidRequest) as caught:
        decode_compact(body)
    assert (code, param) == (caught.value.code, caught.value.param)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model": "\xff"}', b'{"input": "\xff"}'])
def test_what_is_no_object(body: bytes) -> None:
    """Neither is text that is not UTF-8, also where nobody decodes it."""
    with pytest.raises(InvalidJson):
        decode_compact(body)


@pytest.mark.parametrize(
    ("items", "rest", "asked"),
    [([], [], False), ([HI], [HI], False), ([HI, TRIGGER], [HI], True), ([TRIGGER], [], True)],
)
def test_a_trigger_is_taken_off(items: list[Item], rest: list[Item], *, asked: bool) -> None:
    """At the end it is a request, and no item."""
    assert (rest, asked) == (list(take_trigger(items)[0]), take_trigger(items)[1])


@pytest.mark.parametrize(("items", "place"), [([TRIGGER, HI], 0), ([HI, TRIGGER, TRIGGER], 1)])
def test_a_trigger_elsewhere(items: list[Item], place: int) -> None:
    """The first that is not at the end is named."""
    with pytest.raises(InvalidRequest, match="must be the final input item") as caught:
        take_trigger(items, "items")
    assert f"items[{place}]" == caught.value.param


def test_the_answer_names_its_kind() -> None:
    """`object` tells it from a response."""
    usage = Usage.count(prompt=1, cached=0, output=1, reasoning=0)
    made = CompactedResponse(id="resp_1", created_at=1, output=[], usage=usage)
    assert "response.compaction" == made.object
