"""The output item that is open: it opens, grows and closes, and each of that is events.

One class for each kind of item (that of reasoning is in `reasoning`), with the events that
protocol.md section 6 has for it. Which item follows which, and when one may open, is the emitter's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from msgspec import Raw, Struct
from msgspec.json import encode

from turnwire.errors import InvalidTransition
from turnwire.logprobs import LogProb
from turnwire.parts import CallStarted, Phase
from turnwire.protocol.events import (
    CompactionCompacting,
    ContentPartAdded,
    ContentPartDone,
    CustomToolCallInputDelta,
    CustomToolCallInputDone,
    Event,
    FunctionCallArgumentsDelta,
    FunctionCallArgumentsDone,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    OutputTextDone,
    RefusalDelta,
    RefusalDone,
)
from turnwire.protocol.items import (
    Compaction,
    CustomToolCall,
    FunctionCall,
    Item,
    ItemStatus,
    Message,
    OutputText,
)
from turnwire.session.content import Content, PartKind
from turnwire.session.numbering import Numbering

__all__ = [
    "Closed",
    "Opened",
    "OpenedCall",
    "OpenedCompaction",
    "OpenedMessage",
]


class Closed(Struct, frozen=True, eq=False):
    """An item that was closed.

    Attributes:
        events: Of its closing, `response.output_item.done` last.
        shown: The item as a client sees it, encoded.
        kept: The item as a context keeps it: reasoning with its text.
    """

    events: list[Event]
    shown: Raw
    kept: Item


class Opened(ABC):
    """An item of the output that is not whole yet.

    Attributes:
        item_id: Its id.
        index: Its place in the output.
    """

    __slots__ = ("_numbers", "index", "item_id")

    def __init__(self, numbers: Numbering, item_id: str, index: int) -> None:
        """Nothing is said yet; `open` gives the first events.

        Args:
            numbers: Of the response's events.
            item_id: Its id.
            index: Its place in the output.
        """
        self._numbers: Final = numbers
        self.item_id: Final = item_id
        self.index: Final = index

    @abstractmethod
    def open(self) -> list[Event]:
        """The events with which it opens."""

    @abstractmethod
    def close(self, status: ItemStatus) -> Closed:
        """Close it.

        Args:
            status: completed, or incomplete if it was cut.

        Raises:
            InvalidTransition: it does not close by itself.
        """

    def _added(self, item: Item) -> Event:
        return OutputItemAdded(
            sequence_number=self._numbers.take(),
            stream_id=self._numbers.lane,
            output_index=self.index,
            item=Raw(encode(item)),
        )

    def _done(self, events: list[Event], shown: Item, kept: Item) -> Closed:
        encoded = Raw(encode(shown))
        events.append(
            OutputItemDone(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                output_index=self.index,
                item=encoded,
            )
        )
        return Closed(events, encoded, kept)

    def _part_added(self, index: int, part: Raw) -> Event:
        return ContentPartAdded(
            sequence_number=self._numbers.take(),
            stream_id=self._numbers.lane,
            item_id=self.item_id,
            output_index=self.index,
            content_index=index,
            part=part,
        )

    def _part_done(self, index: int, part: Struct) -> Event:
        return ContentPartDone(
            sequence_number=self._numbers.take(),
            stream_id=self._numbers.lane,
            item_id=self.item_id,
            output_index=self.index,
            content_index=index,
            part=Raw(encode(part)),
        )


class OpenedMessage(Opened):
    """A message: parts of text and refusals, one after the other.

    Attributes:
        phase: If it is known.
    """

    __slots__ = ("_content", "phase")

    def __init__(
        self, numbers: Numbering, item_id: str, index: int, phase: Phase | None = None
    ) -> None:
        super().__init__(numbers, item_id, index)
        self._content: Final = Content()
        self.phase = phase

    def open(self) -> list[Event]:
        """`output_item.added`; a part opens with its first delta."""
        return [self._added(self._item("in_progress"))]

    def _item(self, status: ItemStatus) -> Message:
        return Message(
            id=self.item_id,
            status=status,
            role="assistant",
            content=tuple(self._content.closed),
            phase=self.phase,
        )

    def text(self, text: str, logprobs: Sequence[LogProb]) -> list[Event]:
        """More text; every token comes this way."""
        content, numbers = self._content, self._numbers
        events = [] if content.kind == "output_text" else self._open_part("output_text")
        content.texts.append(text)
        number = numbers.next
        numbers.next = number + 1
        events.append(
            OutputTextDelta(
                sequence_number=number,
                stream_id=numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                content_index=content.index,
                delta=text,
                logprobs=content.score(logprobs) if logprobs else [],
            )
        )
        return events

    def refusal(self, text: str) -> list[Event]:
        """More of a refusal."""
        content = self._content
        events = [] if content.kind == "refusal" else self._open_part("refusal")
        content.texts.append(text)
        events.append(
            RefusalDelta(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                content_index=content.index,
                delta=text,
            )
        )
        return events

    def close(self, status: ItemStatus) -> Closed:
        """The end of the open part, then `output_item.done`."""
        events = self._close_part()
        item = self._item(status)
        return self._done(events, item, item)

    def _open_part(self, kind: PartKind) -> list[Event]:
        events = self._close_part()
        events.append(self._part_added(self._content.index, self._content.open(kind)))
        return events

    def _close_part(self) -> list[Event]:
        """Close the open part, if there is one."""
        if self._content.kind is None:
            return []
        index = self._content.index
        part = self._content.close()
        done: Event
        if isinstance(part, OutputText):
            done = OutputTextDone(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                content_index=index,
                text=part.text,
                logprobs=part.logprobs,
            )
        else:
            done = RefusalDone(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                content_index=index,
                refusal=part.refusal,
            )
        return [done, self._part_done(index, part)]


class OpenedCall(Opened):
    """A call of a function, or of a custom tool."""

    __slots__ = ("_call", "_texts")

    def __init__(self, numbers: Numbering, item_id: str, index: int, call: CallStarted) -> None:
        super().__init__(numbers, item_id, index)
        self._call: Final = call
        self._texts: Final[list[str]] = []

    def open(self) -> list[Event]:
        """`output_item.added`, without arguments."""
        return [self._added(self._item("", "in_progress"))]

    def text(self, text: str) -> list[Event]:
        """More arguments, or more of a custom tool's input."""
        self._texts.append(text)
        function = self._call.kind == "function"
        kind = FunctionCallArgumentsDelta if function else CustomToolCallInputDelta
        return [
            kind(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                delta=text,
            )
        ]

    def close(self, status: ItemStatus) -> Closed:
        """The end of the arguments, then `output_item.done`."""
        text = "".join(self._texts)
        done: Event
        if self._call.kind == "function":
            done = FunctionCallArgumentsDone(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                name=self._call.name,
                arguments=text,
            )
        else:
            done = CustomToolCallInputDone(
                sequence_number=self._numbers.take(),
                stream_id=self._numbers.lane,
                item_id=self.item_id,
                output_index=self.index,
                input=text,
            )
        item = self._item(text, status)
        return self._done([done], item, item)

    def _item(self, text: str, status: ItemStatus) -> Item:
        call = self._call
        if call.kind == "function":
            return FunctionCall(
                id=self.item_id,
                call_id=call.call_id,
                name=call.name,
                arguments=text,
                status=status,
                namespace=call.namespace,
                async_=call.is_async or None,
            )
        return CustomToolCall(
            id=self.item_id,
            call_id=call.call_id,
            name=call.name,
            input=text,
            status=status,
            namespace=call.namespace,
            async_=call.is_async or None,
        )


class OpenedCompaction(Opened):
    """A summary that is being written. It is sealed when it is whole: nothing of it is shown."""

    __slots__ = ("_asked",)

    def __init__(self, numbers: Numbering, item_id: str, index: int, *, asked: bool) -> None:
        """
        Args:
            asked: By a `compaction_trigger`.
        """
        super().__init__(numbers, item_id, index)
        self._asked: Final = asked

    def open(self) -> list[Event]:
        """`output_item.added`, and where it was asked for `response.compaction.compacting`."""
        events = [self._added(Compaction(id=self.item_id, encrypted_content=""))]
        if self._asked:
            events.append(
                CompactionCompacting(
                    sequence_number=self._numbers.take(),
                    stream_id=self._numbers.lane,
                    item_id=self.item_id,
                    output_index=self.index,
                )
            )
        return events

    def close(self, status: ItemStatus) -> Closed:
        """Never: it ends when it is `sealed`, and a cut one fails its response."""
        raise InvalidTransition("a compaction does not close by itself")

    def sealed(self, encrypted_content: str) -> Closed:
        """`output_item.done`, with what stands for the conversation."""
        item = Compaction(id=self.item_id, encrypted_content=encrypted_content)
        return self._done([], item, item)
