"""What items read as, wherever only text can stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from turnwire.protocol.items import (
    ContentPart,
    InputFile,
    InputImage,
    OutputPart,
    Reasoning,
    Refusal,
)

__all__ = ["BETWEEN_PARTS", "reasoning_of", "text_of"]

BETWEEN_PARTS: Final = "\n"
"""Clients send unrelated texts as parts of one message; a model's own parts go on from each
other."""


def text_of(parts: Sequence[ContentPart | OutputPart], between: str) -> str:
    """The text of content parts; what is no text is named in brackets."""
    if len(parts) == 1:
        return _part_text(parts[0])
    return between.join([_part_text(part) for part in parts])


def reasoning_of(item: Reasoning) -> str:
    """The text of a reasoning item, or of its summary where that is all there is."""
    if item.content:
        return "".join([part.text for part in item.content])
    return "\n\n".join([part.text for part in item.summary])


def _part_text(part: ContentPart | OutputPart) -> str:
    match part:
        case InputImage():
            return "[image]"
        case InputFile():
            return f"[file {part.filename}]" if part.filename else "[file]"
        case Refusal():
            return part.refusal
        case _:
            return part.text
