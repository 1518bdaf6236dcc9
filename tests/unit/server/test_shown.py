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
from turnwire.server.shown import shown_item, shown_response

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


def response(*output: str) -> bytes:
    """A response object, as our encoder writes it, with something before and after."""
    return b'{"id":"r","output":[%b],"x":[1.0, {"output":[]}]}' % ",".join(output).encode()


BARE_JSON = '{"type":"reasoning","id":"rs_1","summary":[]}'
NEW_JSON = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"new"}'
OLD_JSON = '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"old"}'
SAID_JSON = '{"type":"message","id":"m","role":"assistant","content":[],"encrypted_content":"no"}'


@pytest.mark.parametrize(
    ("given", "stored", "include", "expected"),
    [
        pytest.param([SAID_JSON], [], {SEAL}, [SAID_JSON], id="no reasoning"),
        pytest.param([BARE_JSON], [NEW_JSON], set(), [BARE_JSON], id="not asked for"),
        pytest.param([OLD_JSON], [NEW_JSON], {URL}, [BARE_JSON], id="not asked for now"),
        pytest.param([OLD_JSON], [NEW_JSON], {SEAL}, [OLD_JSON], id="asked for both times"),
        pytest.param(
            [SAID_JSON, BARE_JSON], [NEW_JSON], {SEAL}, [SAID_JSON, NEW_JSON], id="asked for now"
        ),
        pytest.param([BARE_JSON], [], {SEAL}, [BARE_JSON], id="none kept"),
    ],
)
def test_shown_response(
    given: list[str], stored: list[str], include: set[str], expected: list[str]
) -> None:
    """A seal shows if it is asked for when reading; everything else stays, byte for byte."""
    output = f"[{','.join(stored)}]".encode()
    assert response(*expected) == shown_response(response(*given), output, include)
