"""Images and files are found, and are what they must be."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import InvalidRequest
from turnwire.protocol.items import (
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    Message,
    OpaqueItem,
)
from turnwire.protocol.media import MediaPart, check_media, media_in, media_kinds

TEXT = InputText(text="x")
PNG = "data:image/png;base64,iVBORw0KGgo="
IMAGE = InputImage(image_url=PNG)
FILE = InputFile(file_data="data:application/pdf;base64,JVBERg==")
ITEMS: list[Item] = [
    Message(role="user", content=(TEXT, IMAGE)),
    FunctionCall(call_id="a", name="f", arguments="{}"),
    FunctionCallOutput(call_id="a", output="text"),
    FunctionCallOutput(call_id="a", output=(FILE, TEXT, IMAGE)),
    CustomToolCallOutput(call_id="b", output=(FILE,)),
    OpaqueItem(type="computer_call_output", raw=b"{}"),
]


def test_they_are_found_wherever_they_are() -> None:
    """Messages and tool outputs are looked through; each part has its path."""
    assert [
        ("input[0].content[1]", IMAGE),
        ("input[3].output[0]", FILE),
        ("input[3].output[2]", IMAGE),
        ("input[4].output[0]", FILE),
    ] == media_in(ITEMS)
    assert {"input_image", "input_file"} == media_kinds(ITEMS)
    assert {"input_file"} == media_kinds(ITEMS[4:])
    assert frozenset() == media_kinds(ITEMS[1:3])
    assert ["items[0].content[1]"] == [path for path, _ in media_in(ITEMS[:1], "items")]


@pytest.mark.parametrize(
    "part",
    [
        IMAGE,
        FILE,
        InputImage(image_url="https://example.org/a.png"),
        InputImage(image_url="HTTP://example.org"),
        InputImage(image_url="data:image/svg+xml;charset=utf-8;base64,PHN2Zz4"),
        InputImage(image_url=PNG, detail="low"),
        InputFile(file_url="https://example.org/a.pdf", filename="a.pdf"),
        InputFile(file_data="data:text/plain;base64,eA"),
    ],
    ids=lambda part: str(getattr(part, "image_url", None) or part.__struct_fields__)[:40],
)
def test_what_is_taken(part: MediaPart) -> None:
    """Links, and data URLs in base64, with padding or without."""
    check_media([("p", part)])


@pytest.mark.parametrize(
    ("part", "field", "code"),
    [
        (InputImage(), "image_url", "missing_required_parameter"),
        (InputImage(image_url=""), "image_url", "invalid_value"),
        (InputImage(image_url="a.png"), "image_url", "invalid_value"),
        (InputImage(image_url="file:///etc/passwd"), "image_url", "invalid_value"),
        (InputImage(image_url="https://"), "image_url", "invalid_value"),
        (InputImage(image_url="data:,"), "image_url", "invalid_value"),
        (InputImage(image_url="data:image/png,abcd"), "image_url", "invalid_value"),
        (InputImage(image_url="data:image/png;base64,"), "image_url", "invalid_value"),
        (InputImage(image_url="data:image/png;base64,abcde"), "image_url", "invalid_value"),
        (InputImage(image_url="data:image/png;base64,abc=="), "image_url", "invalid_value"),
        (InputImage(image_url="data:image/png;base64,a cd"), "image_url", "invalid_value"),
        (InputImage(image_url="data:image/png;base64,ab=d"), "image_url", "invalid_value"),
        (InputImage(image_url="data:image/png;base64,\xe9bcd"), "image_url", "invalid_value"),
        (
            InputImage(image_url="data:image/png;base64,abc!" + "a" * 400),
            "image_url",
            "invalid_value",
        ),
        (
            InputImage(image_url="data:image/png;base64," + "a" * 399 + "!"),
            "image_url",
            "invalid_value",
        ),
        (
            InputImage(image_url="data:image/png;" + "a=b;" * 9999 + "base64,abcd"),
            "image_url",
            "invalid_value",
        ),
        (InputImage(image_url="data:text/plain;base64,eA=="), "image_url", "invalid_value"),
        (InputImage(image_url=PNG, file_id="file_1"), "file_id", "unsupported_parameter"),
        (InputFile(file_id="file_1"), "file_id", "unsupported_parameter"),
        (InputFile(filename="a"), "file_data", "missing_required_parameter"),
        (InputFile(file_data="eA=="), "file_data", "invalid_value"),
        (InputFile(file_url="ftp://example.org/a"), "file_url", "invalid_value"),
        (
            InputFile(file_url="https://example.org", file_data="x"),
            "file_data",
            "invalid_value",
        ),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)
def test_what_is_refused(part: MediaPart, field: str, code: str) -> None:
    """Anything else is a 400 with the path of the field, and a short message."""
    with pytest.raises(InvalidRequest) as refused:
        check_media([("input[2].content[1]", part)])
    assert (f"input[2].content[1].{field}", code) == (refused.value.param, refused.value.code)
    assert len(refused.value.message) < 200


@given(st.binary(min_size=1, max_size=300), st.booleans())
def test_base64_is_taken_whatever_is_in_it(data: bytes, padded: bool) -> None:
    """Every encoding of some bytes passes."""
    text = base64.b64encode(data).decode()
    url = "data:image/x;base64," + (text if padded else text.strip("="))
    check_media([("p", InputImage(image_url=url))])
