"""What leaves the store, by kind of item."""

from __future__ import annotations

import pytest
from msgspec import Raw

from turnwire.protocol.codec import decode_items, encode_item
from turnwire.protocol.items import (
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)
from turnwire.server.shown import shown_item, shown_response, unscored

SEAL = "reasoning.encrypted_content"
URL = "message.input_image.image_url"
LOGPROBS = "message.output_text.logprobs"
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


def said(*logprobs: bytes) -> Message:
    """A message of the model with a refusal behind it."""
    content = (OutputText(text="a", logprobs=[*map(Raw, logprobs)]), Refusal(refusal="no"))
    return Message(
        id="m", role="assistant", content=content, status="completed", phase="commentary"
    )


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
        pytest.param(said(b"{}"), set(), said(), id="log probabilities only if asked"),
        pytest.param(said(b"{}"), {SEAL, URL}, said(), id="not for other reasons"),
        pytest.param(said(b"{}"), {LOGPROBS}, said(b"{}"), id="log probabilities if asked"),
        pytest.param(
            FunctionCallOutput(
                id="o", call_id="c", output=(TEXT, InputImage(image_url="data:,", detail="low"))
            ),
            {LOGPROBS},
            FunctionCallOutput(
                id="o", call_id="c", output=(TEXT, InputImage(detail="low")), status="completed"
            ),
            id="an output's image without its bytes",
        ),
        pytest.param(
            CustomToolCallOutput(id="o", call_id="c", output=(InputImage(image_url="data:,"),)),
            {URL},
            CustomToolCallOutput(
                id="o",
                call_id="c",
                output=(InputImage(image_url="data:,", detail="auto"),),
                status="completed",
            ),
            id="an output's image in full",
        ),
        pytest.param(CALL, set(), CALL, id="a status that is there stays"),
        pytest.param(
            CustomToolCallOutput(id="o", call_id="c", output="x"),
            set(),
            CustomToolCallOutput(id="o", call_id="c", output="x", status="completed"),
            id="an output",
        ),
        pytest.param(
            message(InputImage(image_url="data:,")),
            {URL},
            message(InputImage(image_url="data:,", detail="auto")),
            id="the detail that was left out",
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


def words(logprobs: str) -> str:
    """A message with such log probabilities, and one with a refusal."""
    return (
        '{"type":"message","id":"m","role":"assistant","content":[{"type":"output_text",'
        f'"annotations":[],"logprobs":[{logprobs}],"text":"a"}},'
        '{"type":"refusal","refusal":"no"}],"phase":"commentary"}'
    )


@pytest.mark.parametrize("read", ["unscored", "shown"])
@pytest.mark.parametrize(
    ("given", "include", "expected"),
    [
        pytest.param([words('{"token":"a"}')], set(), [words("")], id="not asked for"),
        pytest.param([words('{"token":"a"}')], {SEAL}, [words("")], id="something else asked for"),
        pytest.param([words("{}")], {LOGPROBS}, [words("{}")], id="asked for"),
        pytest.param([words("")], set(), [words("")], id="none there"),
        pytest.param([words("{}"), BARE_JSON], set(), [words(""), BARE_JSON], id="other items"),
    ],
)
def test_log_probabilities_of_a_response(
    read: str, given: list[str], include: set[str], expected: list[str]
) -> None:
    """They show if `include` names them; everything else stays, byte for byte."""
    whole = response(*given)
    seen = unscored(whole, include)
    if read == "shown":
        seen = shown_response(whole, b"[]", include)
    assert response(*expected) == seen


def test_added_tools_are_shown_as_a_response_shows_tools() -> None:
    """Functions have every key that readers want; what is kept is what came."""
    raw = b'{"type":"additional_tools","id":"at_1","role":"developer","tools":[%s]}'
    (item,) = decode_items(Raw(b"[" + raw % b'{"type":"function","name":"f"}' + b"]"))
    shown = b'{"type":"function","name":"f","description":null,"parameters":null,"strict":true}'
    assert raw % shown == encode_item(shown_item(item, ()))
    assert raw % b'{"type":"function","name":"f"}' == encode_item(item)
