"""Reasoning as an output item, and how much of it a client gets to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Raw
from msgspec.json import encode

from turnwire.protocol.events import (
    Event,
    ReasoningSummaryPartAdded,
    ReasoningSummaryPartDone,
    ReasoningSummaryTextDelta,
    ReasoningSummaryTextDone,
    ReasoningTextDelta,
    ReasoningTextDone,
)
from turnwire.protocol.items import ItemStatus, Reasoning, ReasoningText, SummaryText
from turnwire.session.numbering import Numbering
from turnwire.session.opened import Closed, Opened

__all__ = ["OpenedReasoning", "ReasoningView"]

EMPTY_REASONING_PART: Final = Raw(encode(ReasoningText(text="")))
EMPTY_SUMMARY_PART: Final = Raw(encode(SummaryText(text="")))


class ReasoningView:
    """How much of the model's reasoning a client gets to see.

    Attributes:
        summary: Stream the reasoning as a summary part (`reasoning.summary` was asked for).
        raw: Stream it as raw reasoning text (a server option, never by default).
        seal: Makes `encrypted_content` of the whole text, or None to leave it out.
    """

    __slots__ = ("raw", "seal", "summary")

    def __init__(
        self,
        *,
        summary: bool = False,
        raw: bool = False,
        seal: Callable[[str], str] | None = None,
    ) -> None:
        self.summary: Final = summary
        self.raw: Final = raw
        self.seal: Final = seal


class OpenedReasoning(Opened):
    """Reasoning, of which a client sees as much as its view has."""

    __slots__ = ("_texts", "_view")

    def __init__(self, numbers: Numbering, item_id: str, index: int, view: ReasoningView) -> None:
        super().__init__(numbers, item_id, index)
        self._view: Final = view
        self._texts: Final[list[str]] = []

    def open(self) -> list[Event]:
        """`output_item.added`, and the parts that the view has."""
        events = [self._added(Reasoning(id=self.item_id, summary=()))]
        if self._view.raw:
            events.append(self._part_added(0, EMPTY_REASONING_PART))
        if self._view.summary:
            events.append(
                ReasoningSummaryPartAdded(
                    sequence_number=self._numbers.take(),
                    stream_id=self._numbers.lane,
                    item_id=self.item_id,
                    output_index=self.index,
                    summary_index=0,
                    part=EMPTY_SUMMARY_PART,
                )
            )
        return events

    def text(self, text: str) -> list[Event]:
        """More reasoning; no events where nothing of it is shown."""
        self._texts.append(text)
        events: list[Event] = []
        if self._view.raw:
            events.append(
                ReasoningTextDelta(
                    sequence_number=self._numbers.take(),
                    stream_id=self._numbers.lane,
                    item_id=self.item_id,
                    output_index=self.index,
                    content_index=0,
                    delta=text,
                )
            )
        if self._view.summary:
            events.append(
                ReasoningSummaryTextDelta(
                    sequence_number=self._numbers.take(),
                    stream_id=self._numbers.lane,
                    item_id=self.item_id,
                    output_index=self.index,
                    summary_index=0,
                    delta=text,
                )
            )
        return events

    def close(self, status: ItemStatus) -> Closed:
        """The ends of the parts, then `output_item.done`; it has a status only if it was cut."""
        text, view = "".join(self._texts), self._view
        content = (ReasoningText(text=text),)
        summary = (SummaryText(text=text),) if view.summary else ()
        events: list[Event] = []
        if view.raw:
            events += [self._text_done(text), self._part_done(0, content[0])]
        if summary:
            events += self._summary_done(text, summary[0])
        cut: ItemStatus | None = status if status == "incomplete" else None
        shown = Reasoning(
            id=self.item_id,
            summary=summary,
            content=content if view.raw else None,
            encrypted_content=view.seal(text) if view.seal else None,
            status=cut,
        )
        kept = Reasoning(id=self.item_id, summary=summary, content=content, status=cut)
        return self._done(events, shown, kept)

    def _text_done(self, text: str) -> Event:
        return ReasoningTextDone(
            sequence_number=self._numbers.take(),
            stream_id=self._numbers.lane,
            item_id=self.item_id,
            output_index=self.index,
            content_index=0,
            text=text,
        )

    def _summary_done(self, text: str, part: SummaryText) -> list[Event]:
        return [
            ReasoningSummaryTextDone(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                summary_index=0,
                text=text,
            ),
            ReasoningSummaryPartDone(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                summary_index=0,
                part=Raw(encode(part)),
            ),
        ]
