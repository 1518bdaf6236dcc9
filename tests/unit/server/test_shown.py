"""What leaves the store, by kind of item."""

from __future__ import annotations

import pytest

from turnwire.protocol.items import (
    CustomToolCallOutput,
    FunctionCall,
    InputImage,
    InputText,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    ReasoningText,
    SummaryText,
)
from turnwire.server.shown import shown_item

SEAL = "reasoning.encrypted_content"
URL = "message.input_image.image_url"
TEXT = InputText(text="look")
THOUGHT = Reasoning(
    id="rs_1", summary=(SummaryText(text="s"),), content=(ReasoningText(text="secret"),)
)
SEALED = Reasoning(id="rs_1", summary=(SummaryText(text="s"),), encrypted_content="x")
BARE = Reasoning(id="rs_1", summary=(SummaryText(text="s"),))
CALL = FunctionCall(id="fc_1", call_id="c", name="f", arguments="{}", status="incomplete")


def message(*content: InputText | InputImage, done: bool = True) -> Message:
    """A message of the user."""
    return Message(id="m", role="user", content=content, status="completed" if done else None)


@pytest.mark.parametrize(
    ("item", "include", "expected"),
    [
        pytest.param(THOUGHT, {SEAL}, BARE, id="text never"),
        pytest.param(SEALED, set(), BARE, id="seal only if asked"),
        pytest.param(SEALED, {URL}, BARE, id="seal not for other reasons"),
        pytest.param(SEALED, {SEAL}, SEALED, id="seal if asked"),
        pytest.param(message(TEXT, done=False), set(), message(TEXT), id="a status"),
        pytest.param(
            message(TEXT, InputImage(image_url="data:,")),
            set(),
            message(TEXT, InputImage(detail="auto")),
            id="an image without its bytes",
        ),
        pytest.param(
            message(InputImage(image_url="data:,", detail="low")),
            {URL},
            message(InputImage(image_url="data:,", detail="low")),
            id="an image in full",
        ),
        pytest.param(CALL, set(), CALL, id="a status that is there stays"),
        pytest.param(
            CustomToolCallOutput(id="o", call_id="c", output="x"),
            set(),
            CustomToolCallOutput(id="o", call_id="c", output="x", status="completed"),
            id="an output",
        ),
        pytest.param(
            OpaqueItem(type="x", raw=b"{}"), set(), OpaqueItem(type="x", raw=b"{}"), id="opaque"
        ),
    ],
)
def test_shown(item: Item, include: set[str], expected: Item) -> None:
    """Optional parts show where they were asked for, reasoning text nowhere."""
    assert expected == shown_item(item, include)
