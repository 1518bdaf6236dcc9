"""What a model does not take is refused, wherever it is."""

from __future__ import annotations

import pytest

from turnwire.context.chain import Context
from turnwire.errors import InvalidRequest
from turnwire.models.takes import EVERYTHING, TEXT_ONLY, Takes, check_taken
from turnwire.protocol.items import InputFile, InputImage, InputText, Message
from turnwire.protocol.media import media_in

TEXT = Message(role="user", content=(InputText(text="x"),))
IMAGE = Message(role="user", content=(InputImage(image_url="https://example.org"),))
FILE = Message(role="user", content=(InputFile(file_url="https://example.org"),))
IMAGES, FILES = Takes(images=True), Takes(files=True)


@pytest.mark.parametrize(
    ("takes", "before", "items", "param"),
    [
        (TEXT_ONLY, [], [TEXT], None),
        (TEXT_ONLY, [TEXT], [TEXT], None),
        (TEXT_ONLY, [TEXT], [TEXT, IMAGE], "input[1].content[0]"),
        (TEXT_ONLY, [TEXT], [FILE, IMAGE], "input[0].content[0]"),
        (TEXT_ONLY, [IMAGE], [TEXT], "conversation"),
        (TEXT_ONLY, [FILE], [TEXT], "conversation"),
        (IMAGES, [IMAGE], [IMAGE], None),
        (IMAGES, [IMAGE], [FILE], "input[0].content[0]"),
        (IMAGES, [FILE], [], "conversation"),
        (FILES, [FILE], [FILE], None),
        (FILES, [IMAGE], [], "conversation"),
        (EVERYTHING, [IMAGE, FILE], [IMAGE, FILE], None),
    ],
)
def test_what_is_refused(
    takes: Takes, before: list[Message], items: list[Message], param: str | None
) -> None:
    """A part in the input is named by its path, one in the past by what brought the past."""
    # Far back: the link that held it is not the last.
    past = Context(Context(None, before), [TEXT]) if before else None
    media = media_in(items)
    if param is None:
        check_taken("m", takes, past, media, origin="conversation")
        return
    with pytest.raises(InvalidRequest, match="'m' takes no") as refused:
        check_taken("m", takes, past, media, origin="conversation")
    assert (param, "unsupported_value") == (refused.value.param, refused.value.code)
