"""Tests of `turnwire.rendering.texts`: what items read as where only text can stand."""

from __future__ import annotations

from turnwire.protocol.items import (
    InputFile,
    InputImage,
    InputText,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)
from turnwire.rendering.texts import BETWEEN_PARTS, reasoning_of, text_of


def test_parts() -> None:
    """Text is itself, and what is no text is named; one part has nothing beside it."""
    parts = (
        InputText(text="a"),
        OutputText(text="b"),
        Refusal(refusal="c"),
        InputImage(image_url="https://x/y"),
        InputFile(file_url="https://x/y"),
        InputFile(file_url="https://x/y", filename="z.pdf"),
    )
    assert "a\nb\nc\n[image]\n[file]\n[file z.pdf]" == text_of(parts, BETWEEN_PARTS)
    assert ("a", "") == (text_of(parts[:1], BETWEEN_PARTS), text_of((), BETWEEN_PARTS))


def test_reasoning() -> None:
    """Its own text if it is known, else its summary."""
    summary = (SummaryText(text="first"), SummaryText(text="then"))
    assert "first\n\nthen" == reasoning_of(Reasoning(summary=summary))
    content = (ReasoningText(text="a"), ReasoningText(text="b"))
    assert "ab" == reasoning_of(Reasoning(summary=summary, content=content))
