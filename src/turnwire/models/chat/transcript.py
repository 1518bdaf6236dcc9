"""A conversation as chat messages, written once and appended to.

Theory of operation. Chat knows fewer shapes than items do, and is stricter about their order:

* Instructions and the system messages that a conversation begins with are its first message,
  one in all: many templates take no second one. They are kept as text (`lead`), because
  instructions belong to a request.
* Reasoning, texts and calls in a row are one assistant message. The row may go on in the next
  link of the context, so the last one is kept open (`row`) until something else comes.
* Outputs have to follow the message of their calls at once. So what comes between (`held`) waits
  until no call of that message is `owed` an output, or until the assistant speaks again: then a
  call without an output gets a note in its place, and an output that comes later yet is told in a
  message of its own.
* A picture in an output follows it in a user message, since tool messages hold text.
* A call that was cut is left out: it must never run, so the model need not see it.
* Where user and assistant have to take turns (`alternates`), what the user says in a row is one
  message, which is kept open like the assistant's.

What is written depends on the items and the rules alone, never on how items are cut into links:
a full resend gives the same bytes as continuing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

import msgspec
from msgspec import Struct
from msgspec.json import encode

from turnwire.context.pairing import OpenCall
from turnwire.errors import InvalidRequest
from turnwire.models.chat.options import MessageRules
from turnwire.models.chat.rope import Rope
from turnwire.models.chat.toolbox import wire_name
from turnwire.protocol.codec import opaque_text
from turnwire.protocol.items import (
    AdditionalTools,
    Compaction,
    CompactionTrigger,
    ConfigurationUpdate,
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    OutputPart,
    Reasoning,
    Refusal,
)
from turnwire.protocol.tools import qualified
from turnwire.rendering.messages import short_id
from turnwire.rendering.texts import BETWEEN_PARTS, reasoning_of, text_of

__all__ = ["EMPTY_TRANSCRIPT", "Transcript"]

NO_OUTPUT_YET: Final = "No output yet."
"""Stands for the output of a call that is still open, where chat insists on one."""

_BETWEEN_TEXTS: Final = "\n\n"
_ESCAPED_BETWEEN: Final = encode(_BETWEEN_TEXTS)[1:-1]


class _Row(Struct, frozen=True):
    """An assistant message that may still grow."""

    reasoning: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    calls: tuple[bytes, ...] = ()  # each as JSON
    call_ids: tuple[str, ...] = ()


class _Said(Struct, frozen=True):
    """A message that is no output, and not the assistant's."""

    role: str
    content: bytes  # as JSON

    def encoded(self) -> bytes:
        """The message, with the comma before it."""
        return b',{"role":"%b","content":%b}' % (self.role.encode(), self.content)


class Transcript(Struct, frozen=True, eq=False):
    """Everything up to some link of a conversation.

    Attributes:
        lead: Texts of the system messages at its very beginning.
        begun: Whether anything else came; then a system message is a later one.
        written: Whole messages, each with a comma before it.
        row: The assistant message that is open, or None.
        owed: Calls of the last assistant message that wait for their outputs.
        held: Messages that wait until none is owed.
        user: Contents of the user's message that is open, as JSON.
    """

    written: Rope
    lead: tuple[str, ...] = ()
    begun: bool = False
    row: _Row | None = None
    owed: tuple[str, ...] = ()
    held: tuple[_Said, ...] = ()
    user: tuple[bytes, ...] = ()

    def extend(
        self, items: Sequence[Item], answers: Sequence[OpenCall | None], rules: MessageRules
    ) -> Transcript:
        """Write items behind the conversation. O(items).

        Args:
            items: New items, in order.
            answers: Parallel to `items`: the call that an output answers.
            rules: The same for the whole conversation.

        Raises:
            InvalidRequest: an item holds what the endpoint does not take.
        """
        if not items:
            return self
        writer = _Writer(self, rules)
        for item, answer in zip(items, answers, strict=True):
            writer.take(item, answer)
        return writer.transcript()

    def messages(self, instructions: str | None, rules: MessageRules) -> list[bytes]:
        """The JSON array of messages, in pieces, as it is sent now. O(links), little is copied."""
        pieces = self.written.pieces()
        pieces += _Writer(self, rules).rest()
        head = [instructions] if instructions else []
        head += self.lead
        if head:
            text = _BETWEEN_TEXTS.join(head)
            pieces.insert(0, encode({"role": rules.system_role, "content": text}))
        else:
            first = next((n for n, piece in enumerate(pieces) if piece), None)
            if first is not None:
                pieces[first] = pieces[first][1:]  # its comma
        return [b"[", *pieces, b"]"]

    def num_bytes(self, instructions: str | None) -> int:
        """About how long `messages` is, without writing it."""
        row = self.row or _Row()
        texts = (*self.lead, *row.reasoning, *row.texts)
        around = 0 if instructions is None else len(instructions)
        return (
            self.written.size
            + sum(map(len, texts))
            + sum(map(len, row.calls))
            + sum(len(said.content) for said in self.held)
            + sum(map(len, self.user))
            + around
        )


EMPTY_TRANSCRIPT: Final = Transcript(Rope(None, b""))
"""Nothing was said."""


class _Writer:
    """Appends to a transcript, which itself stays as it is."""

    def __init__(self, before: Transcript, rules: MessageRules) -> None:
        self._rules = rules
        self._written = before.written
        self._new: list[bytes] = []
        self._lead = before.lead
        self._begun = before.begun
        self._row = before.row
        self._owed = before.owed
        self._held = before.held
        self._user = before.user

    def transcript(self) -> Transcript:
        """What there is now."""
        return Transcript(
            self._written.extend(b"".join(self._new)),
            self._lead,
            self._begun,
            self._row,
            self._owed,
            self._held,
            self._user,
        )

    def rest(self) -> list[bytes]:
        """What is not written yet, as it is to be shown if the model goes on now."""
        self._end_row()
        self._settle()
        self._end_user()
        return self._new

    def take(self, item: Item, answer: OpenCall | None) -> None:
        """Write one item."""
        match item:
            case Message(role="assistant"):
                if text := text_of(item.content, ""):
                    row = self._open_row()
                    self._row = msgspec.structs.replace(row, texts=(*row.texts, text))
            case Reasoning():
                text = reasoning_of(item)
                if text and self._rules.reasoning_field is not None:
                    row = self._open_row()
                    self._row = msgspec.structs.replace(row, reasoning=(*row.reasoning, text))
            case FunctionCall() | CustomToolCall():
                if item.status != "incomplete":
                    row = self._open_row()
                    self._row = msgspec.structs.replace(
                        row,
                        calls=(*row.calls, encode(_call(item, self._id(item.call_id)))),
                        call_ids=(*row.call_ids, item.call_id),
                    )
            case FunctionCallOutput() | CustomToolCallOutput():
                self._end_row()
                self._output(item, answer)
            case Message(role="user"):
                self._say("user", self._content(item.content))
            case Message():
                text = text_of(item.content, BETWEEN_PARTS)
                if self._begun:
                    self._say(self._rules.later_system_role, text)
                else:
                    self._lead = (*self._lead, text)
            case OpaqueItem():
                text = f"[{item.type}] {opaque_text(item)}"
                self._say(self._rules.later_system_role, text)
            case AdditionalTools() | ConfigurationUpdate():
                pass  # tools stand in front of a chat, whenever they came; settings do not show
            case ItemReference() | Compaction() | CompactionTrigger():
                raise AssertionError("what stands for other items is followed before")
            case _:
                assert_never(item)

    def _open_row(self) -> _Row:
        self._begun = True
        if self._row is None:
            self._settle()
            self._row = _Row()
        return self._row

    def _end_row(self) -> None:
        """Write the assistant message that is open."""
        row = self._row
        if row is None:
            return
        self._row = None
        message: dict[str, Any] = {"role": "assistant"}
        if row.reasoning and self._rules.reasoning_field is not None:
            message[self._rules.reasoning_field] = _BETWEEN_TEXTS.join(row.reasoning)
        # An assistant message without calls has to have a content.
        content = _BETWEEN_TEXTS.join(row.texts)
        message["content"] = content if content or not row.calls else None
        if row.calls:
            message["tool_calls"] = [msgspec.Raw(call) for call in row.calls]
        self._append(message)
        self._owed = row.call_ids

    def _settle(self) -> None:
        """The assistant speaks again: whatever is owed an output does not get one in time."""
        for call_id in self._owed:
            self._tell(call_id, NO_OUTPUT_YET)
        self._owed = ()
        self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, ()
        for said in held:
            self._write(said)

    def _say(self, role: str, content: object) -> None:
        """Write a message that is no output, in its place or as soon as it may be there."""
        self._begun = True
        self._end_row()
        said = _Said(role, encode(content))
        if self._owed:
            self._held = (*self._held, said)
        else:
            self._write(said)

    def _write(self, said: _Said) -> None:
        if self._rules.alternates and said.role == "user":
            self._user = (*self._user, said.content)
        else:
            self._end_user()
            self._new.append(said.encoded())

    def _end_user(self) -> None:
        """Write the user's message that is open."""
        contents, self._user = self._user, ()
        if contents:
            self._new.append(_Said("user", _joined(contents)).encoded())

    def _append(self, message: Mapping[str, object]) -> None:
        self._end_user()
        self._new.append(b"," + encode(message))

    def _output(
        self, item: FunctionCallOutput | CustomToolCallOutput, answer: OpenCall | None
    ) -> None:
        output = item.output
        text = output if isinstance(output, str) else text_of(output, BETWEEN_PARTS)
        if item.call_id in self._owed:
            self._tell(item.call_id, text)
            self._owed = tuple(one for one in self._owed if one != item.call_id)
        else:
            name = answer.name if answer is not None else "a call"
            self._say("user", f"[output of {name}, {item.call_id}] {text}")
        if not isinstance(output, str):
            seen = [part for part in output if isinstance(part, InputImage | InputFile)]
            if seen:
                self._say("user", self._content(seen))
        if not self._owed:
            self._let_go()

    def _tell(self, call_id: str, text: str) -> None:
        """Write an output."""
        self._append({"role": "tool", "tool_call_id": self._id(call_id), "content": text})

    def _id(self, call_id: str) -> str:
        return short_id(call_id) if self._rules.short_ids else call_id

    def _content(self, parts: Sequence[ContentPart | OutputPart]) -> str | list[dict[str, Any]]:
        """A user's content: a string where it can be one, which is what every server takes."""
        if not any(isinstance(part, InputImage | InputFile) for part in parts):
            return text_of(parts, BETWEEN_PARTS)
        return [self._part(part) for part in parts]

    def _part(self, part: ContentPart | OutputPart) -> dict[str, Any]:
        match part:
            case InputImage():
                return self._image(part)
            case InputFile():
                return self._file(part)
            case Refusal():
                return {"type": "text", "text": part.refusal}
            case _:
                return {"type": "text", "text": part.text}

    def _image(self, part: InputImage) -> dict[str, Any]:
        if not self._rules.takes_images:
            raise _not_taken("pictures")
        if part.image_url is None:
            raise _not_taken("pictures by `file_id`; send an `image_url`")
        image: dict[str, Any] = {"url": part.image_url}
        if part.detail is not None:
            image["detail"] = "high" if part.detail == "original" else part.detail
        return {"type": "image_url", "image_url": image}

    def _file(self, part: InputFile) -> dict[str, Any]:
        if not self._rules.takes_files:
            raise _not_taken("files")
        if part.file_data is None:
            raise _not_taken("files by `file_id` or `file_url`; send `file_data`")
        file: dict[str, Any] = {"file_data": part.file_data}
        if part.filename is not None:
            file["filename"] = part.filename
        return {"type": "file", "file": file}


def _call(item: FunctionCall | CustomToolCall, call_id: str) -> dict[str, Any]:
    """A call as a function's; the arguments stay as they are, valid JSON or not."""
    if isinstance(item, FunctionCall):
        arguments = item.arguments
    else:
        arguments = encode({"input": item.input}).decode()
    name = wire_name(qualified(item.name, item.namespace))
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _joined(contents: Sequence[bytes]) -> bytes:
    """Contents of several messages as that of one: a string where all of them are strings."""
    if all(content.startswith(b'"') for content in contents):
        return b'"' + _ESCAPED_BETWEEN.join([content[1:-1] for content in contents]) + b'"'
    parts = [
        b'{"type":"text","text":%b}' % content if content.startswith(b'"') else content[1:-1]
        for content in contents
    ]
    return b"[" + b",".join(parts) + b"]"


def _not_taken(what: str) -> InvalidRequest:
    return InvalidRequest(
        f"This model does not take {what}.", code="unsupported_value", param="input"
    )
