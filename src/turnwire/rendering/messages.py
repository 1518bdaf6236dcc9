"""Items as the messages that chat templates speak of.

Templates of models are written for messages: one of the assistant holds its reasoning, its text
and its calls, in this order. Items that follow each other are folded into one message as far as
that order allows, because a client that resends a history cannot tell which of them came from
one response. Outputs that follow each other are one message too: some formats put them into one
turn. A message that may still grow is *open*; folding goes on from it.

An incomplete call, reasoning without text and an assistant's message without text are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct, structs

from turnwire.protocol.codec import opaque_text
from turnwire.protocol.items import (
    AdditionalTools,
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    Phase,
    Reasoning,
)
from turnwire.protocol.tools import OfferedTool, ToolSet, qualified
from turnwire.rendering.base import Label
from turnwire.rendering.texts import BETWEEN_PARTS, reasoning_of, text_of

__all__ = [
    "ChatCall",
    "ChatMessage",
    "ChatResult",
    "Head",
    "fold",
    "may_grow",
    "short_id",
    "sound",
    "tool_schema",
]


class ChatCall(Struct, frozen=True):
    """A call in an assistant's message.

    Attributes:
        name: The name that the model knows the tool by.
        arguments: The arguments as the client sent them; a custom tool's input is the field
            `input` of an object.
        call_id: Pairs it with its result.
    """

    name: str
    arguments: str
    call_id: str

    def decoded(self) -> dict[str, Any] | None:
        """The arguments as an object, or None if they are none."""
        try:
            value = json.loads(self.arguments)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def written(self) -> str:
        """The arguments as templates write objects; as they are, if they are none."""
        value = self.decoded()
        return self.arguments if value is None else sound(json.dumps(value, ensure_ascii=False))


class ChatResult(Struct, frozen=True):
    """What a call returned.

    Attributes:
        name: The tool's.
        text: The output.
        call_id: The call's.
    """

    name: str
    text: str
    call_id: str


class ChatMessage(Struct, frozen=True):
    """One message.

    Attributes:
        role: Whose it is; `tool` for results.
        text: What it says.
        reasoning: An assistant's thoughts before that.
        calls: An assistant's calls behind it.
        phase: What an assistant's text is, where the client or the model said so.
        results: Of calls; only with the role `tool`.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    text: str = ""
    reasoning: str = ""
    calls: tuple[ChatCall, ...] = ()
    phase: Phase | None = None
    results: tuple[ChatResult, ...] = ()


class Head(Struct, frozen=True, eq=False):
    """What a conversation is rendered behind: instructions, tools, and effort if it counts."""

    instructions: str | None
    tools: ToolSet
    effort: str | None = None


def may_grow(message: ChatMessage) -> bool:
    """Whether the next items may still belong to the message."""
    return message.role in ("assistant", "tool")


def fold(
    last: ChatMessage | None, items: Sequence[Item], labels: Sequence[Label | None]
) -> list[ChatMessage]:
    """Items as messages, the first of them grown out of `last` if that is an open message.

    Any partition of the items gives the same messages in the end.

    Args:
        last: The open message before the items, or None.
        items: New items, in order.
        labels: Parallel to `items`: for outputs, (the tool's name, the call's ordinal).
    """
    messages = [last] if last is not None else []
    for item, label in zip(items, labels, strict=True):
        new = _message_of(item, label)
        if new is None:
            continue
        joined = _joined(messages[-1], new) if messages else None
        if joined is None:
            messages.append(new)
        else:
            messages[-1] = joined
    return messages


def _message_of(item: Item, label: Label | None) -> ChatMessage | None:
    """The message that an item would be alone; None if it is nothing to a model."""
    match item:
        case Message(role="assistant"):
            text = text_of(item.content, "")
            return ChatMessage("assistant", text, phase=item.phase) if text else None
        case Message():
            return ChatMessage(item.role, text_of(item.content, BETWEEN_PARTS))
        case Reasoning():
            text = reasoning_of(item)
            return ChatMessage("assistant", reasoning=text) if text else None
        case FunctionCall() | CustomToolCall():
            if item.status == "incomplete":
                return None  # it must never run, so the model need not see it
            name = qualified(item.name, item.namespace)
            arguments = (
                item.arguments
                if isinstance(item, FunctionCall)
                else json.dumps({"input": item.input}, ensure_ascii=False)
            )
            return ChatMessage("assistant", calls=(ChatCall(name, arguments, item.call_id),))
        case FunctionCallOutput() | CustomToolCallOutput():
            output = item.output
            text = output if isinstance(output, str) else text_of(output, BETWEEN_PARTS)
            result = ChatResult(label[0] if label else "", text, item.call_id)
            return ChatMessage("tool", results=(result,))
        case ConfigurationUpdate():
            return None  # what it sets shows in how the model goes on
        case AdditionalTools():
            lines = [json.dumps(tool_schema(t), ensure_ascii=False) for t in _offered(item)]
            return ChatMessage("developer", "\n".join([_MORE_TOOLS, *lines])) if lines else None
        case OpaqueItem():
            return ChatMessage("system", f"[{item.type}] {opaque_text(item)}")
        case _:
            raise AssertionError("references are resolved before a conversation is made")


_MORE_TOOLS = "# Tools\n\nFrom now on you may call these functions too:"


def _offered(item: AdditionalTools) -> Iterable[OfferedTool]:
    return item.tools.offered.values()


def _joined(last: ChatMessage, new: ChatMessage) -> ChatMessage | None:
    """The two as one message, or None where they are two."""
    if last.role != new.role:
        return None
    if new.role == "tool":
        return structs.replace(last, results=last.results + new.results)
    if new.role != "assistant":
        return None
    if new.calls:
        return structs.replace(last, calls=last.calls + new.calls)
    if new.text and not last.text and not last.calls:
        return structs.replace(last, text=new.text, phase=new.phase)
    if new.reasoning and not last.text and not last.calls:
        return structs.replace(last, reasoning=f"{last.reasoning}\n\n{new.reasoning}")
    return None


_INPUT_SCHEMA = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}


def tool_schema(tool: OfferedTool) -> dict[str, Any]:
    """A tool as templates expect it; a custom tool is a function with the one field `input`."""
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.kind == "custom":
        if tool.grammar is not None:
            syntax, definition = tool.grammar
            note = f"The input obeys this {syntax} grammar:\n{definition}"
            function["description"] = f"{tool.description}\n\n{note}".strip()
        function["parameters"] = _INPUT_SCHEMA
    else:
        function["parameters"] = _schema(tool.parameters)
    return {"type": "function", "function": function}


def _schema(raw: bytes | None) -> Any:
    if raw is None:
        return {"type": "object", "properties": {}}
    return json.loads(sound(json.dumps(json.loads(raw), ensure_ascii=False)))


def short_id(call_id: str) -> str:
    """Nine letters and digits that stand for a call's id, as Mistral's formats want them."""
    digest = int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:8], "big")
    signs = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    letters = []
    for _ in range(9):
        digest, place = divmod(digest, len(signs))
        letters.append(signs[place])
    return "".join(letters)


def sound(text: str) -> str:
    """The text, with U+FFFD for surrogates that stand alone, as JSON's escapes may make them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
