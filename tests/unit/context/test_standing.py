"""Tests of `turnwire.context.standing`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from turnwire.context.chain import Context
from turnwire.context.standing import NOTHING_STANDS, Standing, applied, stand
from turnwire.errors import InvalidRequest
from turnwire.protocol.codec import decode_items, decode_tools
from turnwire.protocol.items import Item
from turnwire.protocol.requests import (
    CreateResponse,
    Effort,
    JsonObjectFormat,
    PlainTextFormat,
    ReasoningConfig,
    TextConfig,
)
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolSet

USER: dict[str, Any] = {"role": "user", "content": "Hi"}


def adding(*names: str) -> dict[str, Any]:
    """An item that adds functions by these names, and a hosted tool."""
    tools = [{"type": "function", "name": name} for name in names]
    return {"type": "additional_tools", "role": "developer", "tools": [*tools, {"type": "mcp"}]}


def update(**fields: Any) -> dict[str, Any]:
    """An update of the configuration."""
    return {"type": "configuration_update", **fields}


def effort(value: str | None) -> dict[str, Any]:
    """An update of the effort."""
    return update(reasoning={"effort": value})


def formatted(kind: str) -> dict[str, Any]:
    """An update of the text format."""
    return update(text={"format": {"type": kind}})


def items(*sent: dict[str, Any]) -> tuple[Item, ...]:
    """Decode what a client sends."""
    return decode_items(Raw(json.dumps(sent).encode()))


def tools(*names: str) -> ToolSet:
    """A request's tools."""
    return decode_tools(Raw(json.dumps(adding(*names)["tools"]).encode()))


def summary(standing: Standing) -> tuple[list[str], Effort | None, object]:
    return list(standing.tools.offered), standing.effort, standing.text_format


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param([USER], ([], None, None), id="nothing"),
        pytest.param(
            [adding("f"), USER, adding("g", "h")], (["f", "g", "h"], None, None), id="tools"
        ),
        pytest.param([effort("low"), USER, effort("high")], ([], "high", None), id="the last wins"),
        pytest.param([effort("low"), effort(None)], ([], None, None), id="taken back"),
        pytest.param(
            [formatted("json_object"), effort("low")],
            ([], "low", JsonObjectFormat()),
            id="each by itself",
        ),
        pytest.param(
            [formatted("json_object"), formatted("text")],
            ([], None, PlainTextFormat()),
            id="plain text is a format too",
        ),
    ],
)
def test_what_stands(
    sent: list[dict[str, Any]], expected: tuple[list[str], Effort | None, object]
) -> None:
    """Tools add up; a setting holds until the next one."""
    assert expected == summary(stand(NOTHING_STANDS, items(*sent)))


def test_nothing_new_is_nothing_made() -> None:
    """A turn that changes nothing shares what stood before, tools and all."""
    before = stand(NOTHING_STANDS, items(adding("f")))
    assert before is stand(before, items(USER, USER))
    context = Context(Context(None, items(adding("f"))), items(USER))
    assert context.parent is not None
    assert context.parent.standing is context.standing


def test_hosted_tools_are_counted_and_not_offered() -> None:
    """What cannot be run is left out, once for each item."""
    assert ("mcp", "mcp") == stand(NOTHING_STANDS, items(adding("f"), adding("g"))).tools.left_out


def test_a_name_is_added_once() -> None:
    """A second tool of the same name is the client's error, at its place."""
    with pytest.raises(InvalidRequest) as caught:
        Context(Context(None, items(adding("f"))), items(USER, adding("g", "f")))
    assert ("input[1].tools[1].name", "invalid_value") == (caught.value.param, caught.value.code)


CHANGES = st.lists(
    st.one_of(
        st.just(USER),
        st.sampled_from([None, "none", "low"]).map(effort),
        st.sampled_from(["text", "json_object"]).map(formatted),
        st.just("tool"),
    ),
    max_size=8,
)


@given(CHANGES, st.integers(0, 8))
def test_in_two_steps_as_at_once(changes: list[Any], cut: int) -> None:
    """Wherever a history is cut, the same stands at its end."""
    sent = items(*(adding(f"f{n}") if one == "tool" else one for n, one in enumerate(changes)))
    whole = stand(NOTHING_STANDS, sent)
    steps = stand(stand(NOTHING_STANDS, sent[:cut]), sent[cut:])
    assert summary(whole) == summary(steps)
    assert (whole.tools.raw, whole.tools.left_out) == (steps.tools.raw, steps.tools.left_out)


def test_what_the_history_sets_wins() -> None:
    """The request's own effort and format give way; the rest of its settings stays."""
    request = CreateResponse(
        model="sim",
        reasoning=ReasoningConfig(effort="low", summary="auto"),
        text=TextConfig(format=PlainTextFormat(), verbosity="high"),
    )
    standing = stand(NOTHING_STANDS, items(effort("high"), formatted("json_object")))
    changed = applied(standing, request, EMPTY_TOOL_SET)
    assert ReasoningConfig(effort="high", summary="auto") == changed.reasoning
    assert TextConfig(format=JsonObjectFormat(), verbosity="high") == changed.text
    assert "sim" == changed.model
    assert "low" == (request.reasoning and request.reasoning.effort)
    bare = applied(standing, CreateResponse(), EMPTY_TOOL_SET)
    assert ("high", JsonObjectFormat()) == (
        bare.reasoning and bare.reasoning.effort,
        bare.text and bare.text.format,
    )


def test_what_the_history_does_not_set_stays() -> None:
    """Without an update the request is the same object."""
    request = CreateResponse(reasoning=ReasoningConfig(effort="low"))
    assert request is applied(NOTHING_STANDS, request, EMPTY_TOOL_SET)
    assert request is applied(stand(NOTHING_STANDS, items(adding("f"))), request, tools("g"))


def test_a_request_and_its_history_share_no_name() -> None:
    """A tool of the request by the name of one that was added is refused, at its place."""
    standing = stand(NOTHING_STANDS, items(adding("f")))
    with pytest.raises(InvalidRequest) as caught:
        applied(standing, CreateResponse(), tools("g", "f"))
    assert "tools[1].name" == caught.value.param
