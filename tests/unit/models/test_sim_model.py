"""The simulated models stage refusals and phases; the rest is the token model's."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw, structs

from turnwire.errors import InvalidRequest
from turnwire.models.base import Settings
from turnwire.models.embedded import embedded_models
from turnwire.models.sim_model import Staging
from turnwire.parts import (
    CallArguments,
    CallStarted,
    Finished,
    ItemFinished,
    Part,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from turnwire.protocol.codec import decode_items, decode_tools
from turnwire.protocol.requests import JsonObjectFormat

MODEL = next(model for model in embedded_models() if model.name == "sim")
ITEMS = decode_items(Raw(b'"Hello"'))
TOOLS = decode_tools(
    Raw(json.dumps([{"type": "function", "name": "f", "parameters": {"type": "object"}}]).encode())
)

END = ItemFinished()
ON_THE_WAY, AT_LAST = ItemFinished(phase="commentary"), ItemFinished(phase="final_answer")
CALL = CallStarted(name="f", call_id="c")
STOP = Finished(
    reason="stop",
    num_prompt_tokens=1,
    num_cached_tokens=0,
    num_output_tokens=1,
    num_reasoning_tokens=0,
)
CUT = structs.replace(STOP, reason="max_output_tokens")
STEERED = structs.replace(STOP, reason="steered")


@pytest.mark.parametrize(
    ("refusal", "phases", "given", "expected"),
    [
        pytest.param(
            False,
            True,
            [TextDelta("a"), END, STOP],
            [TextDelta("a"), AT_LAST, STOP],
            id="the last message is the answer",
        ),
        pytest.param(
            False,
            True,
            [TextDelta("a"), END, CALL, CallArguments("{}"), END, STOP],
            [TextDelta("a"), ON_THE_WAY, CALL, CallArguments("{}"), END, STOP],
            id="before a call it is commentary",
        ),
        pytest.param(
            False,
            True,
            [TextDelta("a"), END, TextDelta("b"), END, STOP],
            [TextDelta("a"), ON_THE_WAY, TextDelta("b"), AT_LAST, STOP],
            id="before another message too",
        ),
        pytest.param(
            False,
            True,
            [ReasoningDelta("a"), END, TextDelta("b"), CUT],
            [ReasoningDelta("a"), END, TextDelta("b"), CUT],
            id="a message that is cut has none",
        ),
        pytest.param(
            False,
            True,
            [TextDelta("a"), END, STEERED],
            [TextDelta("a"), ON_THE_WAY, STEERED],
            id="what is steered goes on",
        ),
        pytest.param(
            True,
            False,
            [ReasoningDelta("a"), END, TextDelta("b"), TextDelta("c"), END, STOP],
            [ReasoningDelta("a"), END, RefusalDelta("b"), RefusalDelta("c"), END, STOP],
            id="a refusal",
        ),
        pytest.param(
            True,
            True,
            [TextDelta("a"), END, STOP],
            [RefusalDelta("a"), AT_LAST, STOP],
            id="a refusal is an answer",
        ),
    ],
)
def test_staging(refusal: bool, phases: bool, given: list[Part], expected: list[Part]) -> None:
    """Parts come in their order, none lost, with what was asked for."""
    staging = Staging(refusal=refusal, phases=phases)
    assert expected == [one for part in given for one in staging.feed(part)]


async def parts_of(settings: Settings) -> list[Part]:
    """What the model answers."""
    prepared = MODEL.prepare(None, ITEMS, settings)
    return [part async for part in prepared.respond()]


async def test_a_refusal_is_in_the_same_words() -> None:
    """The text of the message becomes the refusal, also where JSON was asked for."""
    plain = await parts_of(Settings())
    refused = await parts_of(
        Settings(text_format=JsonObjectFormat(), hints={"sim.refusal": "true"})
    )
    said = "".join(part.text for part in plain if isinstance(part, TextDelta))
    assert said == "".join(part.text for part in refused if isinstance(part, RefusalDelta))
    assert not any(isinstance(part, TextDelta) for part in refused)


async def test_phases_bring_some_words_before_calls() -> None:
    """Free calls have commentary before them; without the control there is none."""
    plain = await parts_of(Settings(tools=TOOLS))
    phased = await parts_of(Settings(tools=TOOLS, hints={"sim.phases": "true"}))
    assert isinstance(plain[0], CallStarted)
    assert isinstance(phased[0], TextDelta)
    phases = [part.phase for part in phased if isinstance(part, ItemFinished)]
    assert ["commentary", None] == phases


@pytest.mark.parametrize("name", ["sim.refusal", "sim.phases"])
def test_malformed_controls(name: str) -> None:
    """They are true or false."""
    with pytest.raises(InvalidRequest, match="true or false") as refused:
        MODEL.prepare(None, ITEMS, Settings(hints={name: "1"}))
    assert f"metadata.{name}" == refused.value.param
    MODEL.prepare(None, ITEMS, Settings(hints={name: "false"}))
