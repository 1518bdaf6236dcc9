"""Items and content parts (protocol.md section 3).

An item is one link of a conversation: a message, a call, a call's output, reasoning. Types we
do not know survive a round trip as `OpaqueItem`. `None` means "absent" for every optional
field here: absent keys are not sent.

In memory a message's content is always a tuple of parts; `codec` turns the string form into
one part on the way in.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from turnwire.protocol.requests import Effort, TextFormat
from turnwire.protocol.tools import ToolSet

__all__ = [
    "AdditionalTools",
    "AssistantPart",
    "CacheBreakpoint",
    "Compaction",
    "CompactionTrigger",
    "ConfigurationUpdate",
    "ContentPart",
    "CustomToolCall",
    "CustomToolCallOutput",
    "EffortUpdate",
    "FormatUpdate",
    "FunctionCall",
    "FunctionCallOutput",
    "InputFile",
    "InputImage",
    "InputText",
    "Item",
    "ItemReference",
    "ItemStatus",
    "LongText",
    "Message",
    "OpaqueItem",
    "OutputPart",
    "OutputText",
    "Phase",
    "Reasoning",
    "ReasoningText",
    "Refusal",
    "Role",
    "Sealed",
    "Summary",
    "SummaryText",
]

Role = Literal["user", "assistant", "system", "developer"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Phase = Literal["commentary", "final_answer"]
CallId = Annotated[str, Meta(min_length=1, max_length=64)]
LongText = Annotated[str, Meta(max_length=10_485_760)]
Sealed = Annotated[str, Meta(max_length=20_971_520)]


class CacheBreakpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`prompt_cache_breakpoint` of an input part: pin the prefix up to here."""

    mode: Literal["explicit"]
    ttl: str | None = None


class _Part(Struct, frozen=True, tag_field="type", omit_defaults=True, kw_only=True):
    pass


class InputText(_Part, tag="input_text", frozen=True, kw_only=True):
    """Text from the client."""

    text: LongText
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class InputImage(_Part, tag="input_image", frozen=True, kw_only=True):
    """An image by URL (http, https or data) or by file id."""

    image_url: Annotated[str, Meta(max_length=20_971_520)] | None = None
    file_id: str | None = None
    detail: Literal["low", "high", "auto", "original"] | None = None
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class InputFile(_Part, tag="input_file", frozen=True, kw_only=True):
    """A file by id, by data URL or by URL."""

    file_id: str | None = None
    file_data: Annotated[str, Meta(max_length=33_554_432)] | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class OutputText(Struct, frozen=True, tag="output_text", tag_field="type", kw_only=True):
    """Text from the model. Both arrays are always sent, empty if unused."""

    annotations: list[Raw] = field(default_factory=list)
    logprobs: list[Raw] = field(default_factory=list)
    text: LongText


class Refusal(_Part, tag="refusal", frozen=True, kw_only=True):
    """The model's words when it declines."""

    refusal: LongText


class SummaryText(_Part, tag="summary_text", frozen=True, kw_only=True):
    """One part of a reasoning summary."""

    text: LongText


class ReasoningText(_Part, tag="reasoning_text", frozen=True, kw_only=True):
    """Raw reasoning; sent only where a server option asks for it."""

    text: LongText


AssistantPart = OutputText | Refusal
ContentPart = InputText | InputImage | InputFile | OutputText | Refusal
OutputPart = InputText | InputImage | InputFile


class _Item(Struct, frozen=True, tag_field="type", omit_defaults=True, kw_only=True):
    id: str | None = None


class Message(_Item, tag="message", frozen=True, kw_only=True):
    """A message of any role; `content` is a tuple of parts once decoded."""

    status: ItemStatus | None = None
    role: Role
    content: tuple[ContentPart, ...]
    phase: Phase | None = None


class FunctionCall(_Item, tag="function_call", frozen=True, kw_only=True):
    """The model asks the client to run a function; `arguments` is a JSON string."""

    call_id: CallId
    name: str
    arguments: LongText
    status: ItemStatus | None = None
    namespace: str | None = None
    async_: bool | None = field(default=None, name="async")


class FunctionCallOutput(_Item, tag="function_call_output", frozen=True, kw_only=True):
    """What the client's function returned."""

    call_id: CallId
    output: LongText | tuple[OutputPart, ...]
    status: ItemStatus | None = None
    name: str | None = None
    namespace: str | None = None


class CustomToolCall(_Item, tag="custom_tool_call", frozen=True, kw_only=True):
    """The model calls a custom tool with one free-form `input` string."""

    call_id: CallId
    name: str
    input: LongText
    status: ItemStatus | None = None
    namespace: str | None = None
    async_: bool | None = field(default=None, name="async")


class CustomToolCallOutput(_Item, tag="custom_tool_call_output", frozen=True, kw_only=True):
    """What the client's custom tool returned."""

    call_id: CallId
    output: LongText | tuple[OutputPart, ...]
    status: ItemStatus | None = None


class Reasoning(_Item, tag="reasoning", frozen=True, kw_only=True):
    """What the model thought: a summary for people, the sealed text for the server.

    In a context `content` holds the opened text; what goes on the wire carries it only where
    a server option asks for it.
    """

    summary: tuple[SummaryText, ...]
    content: tuple[ReasoningText, ...] | None = None
    encrypted_content: str | None = None
    status: ItemStatus | None = None


class Summary(Struct, frozen=True, kw_only=True):
    """What a compaction item stands for; its sealed content, opened.

    Attributes:
        text: What the model wrote about the conversation before the item.
        retained: Fingerprints of the messages before it that are still seen, in their order
            (`context.window.fingerprint`).
        kept: Items before it that live on behind the summary (`context.window.carried`).
    """

    text: str
    retained: tuple[bytes, ...] = ()
    kept: tuple[Item, ...] = ()


class Compaction(_Item, tag="compaction", frozen=True, kw_only=True):
    """Stands for everything before it; `context.window` says what of that is still seen.

    Attributes:
        opened: The content, in a context; never on the wire and never at rest.
    """

    encrypted_content: Sealed
    created_by: str | None = None
    opened: Summary | None = None


class CompactionTrigger(_Item, tag="compaction_trigger", frozen=True, kw_only=True):
    """Asks for a compaction now, as the last item of an input; part of no conversation."""


class ItemReference(_Item, tag="item_reference", frozen=True, kw_only=True):
    """Stands for an item the server already knows; `codec` lets none pass without an id."""


class EffortUpdate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`reasoning` of a configuration update; without an effort the request's own holds again."""

    effort: Effort | None = None


class FormatUpdate(Struct, frozen=True, kw_only=True):
    """`text` of a configuration update."""

    format: TextFormat


class ConfigurationUpdate(_Item, tag="configuration_update", frozen=True, kw_only=True):
    """Sets the effort, the text format or both for later responses, until another one does."""

    reasoning: EffortUpdate | None = None
    text: FormatUpdate | None = None


class AdditionalTools(Struct, frozen=True, kw_only=True, eq=False):
    """Tools that the developer adds in the middle of a history (`additional_tools`).

    Two are equal if their JSON is; where in a request each of them stood does not count.

    Attributes:
        id: Its `id` field, if it has one.
        raw: The whole JSON object, on one line.
        tools: Its `tools`, decoded.
    """

    id: str | None = None
    raw: bytes
    tools: ToolSet

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdditionalTools) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class OpaqueItem(Struct, frozen=True, kw_only=True):
    """An item of a type we do not interpret, kept byte for byte.

    Attributes:
        type: Its `type` field.
        id: Its `id` field, if it has one.
        raw: The whole JSON object.
    """

    type: str
    id: str | None = None
    raw: bytes


Item = (
    Message
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | Reasoning
    | Compaction
    | CompactionTrigger
    | ItemReference
    | ConfigurationUpdate
    | AdditionalTools
    | OpaqueItem
)
