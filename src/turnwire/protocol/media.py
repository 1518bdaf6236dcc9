"""Images and files in an input: where they are, and whether they are what they must be.

They may stand in a message's content and in what a tool returned. A data URL may be of many
megabytes and is on the path of a turn, so that it is judged by its beginning, its end and its
length; whoever decodes it sees the rest. Links are not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from turnwire.errors import InvalidRequest
from turnwire.protocol.items import (
    ContentPart,
    CustomToolCallOutput,
    FunctionCallOutput,
    InputFile,
    InputImage,
    Item,
    Message,
)

__all__ = ["MEDIA_KINDS", "MediaPart", "check_media", "media_in", "media_kinds"]

MediaPart = InputImage | InputFile

KINDS: Final[dict[type, str]] = {InputImage: "input_image", InputFile: "input_file"}
MEDIA_KINDS: Final = frozenset(KINDS.values())
"""Types of the parts that are no text."""
NO_KINDS: Final[frozenset[str]] = frozenset()

LINK: Final = re.compile(r"https?://[^\s/?#]", re.IGNORECASE)
# RFC 2397: a media type, parameters, and here always base64.
DATA: Final = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64,", re.ASCII)
MAX_HEAD_CHARS: Final = 512
BASE64: Final = re.compile(r"[A-Za-z0-9+/]*")
BASE64_END: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
LOOKED_AT: Final = 64  # characters at either end


def media_in(items: Sequence[Item], param: str = "input") -> list[tuple[str, MediaPart]]:
    """Find the images and files.

    Args:
        items: Input items.
        param: Where they are in the request.

    Returns:
        Each with its path, such as `input[3].content[0]`.
    """
    found: list[tuple[str, MediaPart]] = []
    for index, item in enumerate(items):
        parts = _parts(item)
        if not parts:
            continue
        for place, part in enumerate(parts):
            if type(part) is InputImage or type(part) is InputFile:
                field = "content" if type(item) is Message else "output"
                found.append((f"{param}[{index}].{field}[{place}]", part))
    return found


def media_kinds(items: Iterable[Item]) -> frozenset[str]:
    """Types of the parts in these items that are no text."""
    found = NO_KINDS
    for item in items:
        parts = _parts(item)
        if parts:
            for part in parts:
                if type(part) in KINDS:
                    found |= {KINDS[type(part)]}
    return found


def check_media(media: Iterable[tuple[str, MediaPart]]) -> None:
    """Check images and files as they come from a client.

    Raises:
        InvalidRequest: one has no content, or content that cannot be used; `param` is its path.
    """
    for path, part in media:
        if part.file_id is not None:
            field = "image_url" if isinstance(part, InputImage) else "file_data"
            raise InvalidRequest(
                f"This server keeps no files: send the content itself, in '{path}.{field}'.",
                code="unsupported_parameter",
                param=f"{path}.file_id",
            )
        if isinstance(part, InputImage):
            _check_image(part, f"{path}.image_url")
        else:
            _check_file(part, path)


def _parts(item: Item) -> Sequence[ContentPart] | None:
    # Every item of every input comes this way: exact types, which are the quickest to ask for.
    if type(item) is Message:
        return item.content
    if type(item) is FunctionCallOutput or type(item) is CustomToolCallOutput:
        return None if isinstance(item.output, str) else item.output
    return None


def _check_image(image: InputImage, param: str) -> None:
    url = image.image_url
    if url is None:
        raise _missing(param, "an image")
    if LINK.match(url):
        return
    kind = _data_type(url)
    if kind is None:
        raise InvalidRequest(
            f"'{param}' must be a link (https://...) or a data URL in base64 "
            "(data:image/png;base64,...).",
            code="invalid_value",
            param=param,
        )
    if not kind.lower().startswith("image/"):
        raise InvalidRequest(
            f"'{param}' must be an image, but a data URL of type '{kind[:80]}' was given.",
            code="invalid_value",
            param=param,
        )


def _check_file(file: InputFile, path: str) -> None:
    if file.file_data is None and file.file_url is None:
        raise _missing(f"{path}.file_data", "a file")
    if file.file_data is not None and _data_type(file.file_data) is None:
        raise InvalidRequest(
            f"'{path}.file_data' must be a data URL in base64 (data:application/pdf;base64,...).",
            code="invalid_value",
            param=f"{path}.file_data",
        )
    if file.file_url is not None and not LINK.match(file.file_url):
        raise InvalidRequest(
            f"'{path}.file_url' must be a link (https://...).",
            code="invalid_value",
            param=f"{path}.file_url",
        )


def _data_type(url: str) -> str | None:
    """The media type of a data URL in base64, or None if it is none. O(1)."""
    head = DATA.match(url[:MAX_HEAD_CHARS])
    if head is None:
        return None
    begin, end = head.end(), len(url)
    size = end - begin
    padded = url.endswith("=")
    sound = (
        size > 0
        and (size % 4 == 0 if padded else size % 4 != 1)
        and url.isascii()
        and BASE64_END.fullmatch(url, max(begin, end - LOOKED_AT)) is not None
        and BASE64.fullmatch(url, begin, min(begin + LOOKED_AT, max(begin, end - 2))) is not None
    )
    return head["type"] if sound else None


def _missing(param: str, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{param}' is required: there is nothing here that could be {what}.",
        code="missing_required_parameter",
        param=param,
    )
