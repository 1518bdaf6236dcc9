"""Bytes to items and back (protocol.md section 3).

A list is first decoded in one pass, as if every element named its type and knew it. When that
fails, it is taken element by element: messages without a type, references without one, and
types we do not know are told apart there, and errors get their path there. Both ways give the
same items.

Decoded items hold no view of the bytes they came from: a small item does not keep a large frame
alive.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Raw, Struct, structs
from msgspec.json import Decoder, Encoder, format

from turnwire.errors import InvalidRequest
from turnwire.protocol.items import (
    AdditionalTools,
    Compaction,
    CompactionTrigger,
    ConfigurationUpdate,
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FormatUpdate,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    ItemReference,
    ItemStatus,
    LongText,
    Message,
    OpaqueItem,
    OutputText,
    Phase,
    Reasoning,
    ReasoningText,
    Refusal,
    Role,
    Sealed,
    SummaryText,
)
from turnwire.protocol.requests import ABSENT, JsonSchemaFormat
from turnwire.protocol.tool_codec import decode_tools, single_line
from turnwire.protocol.validation import FAULTS, CheckedDecoder

__all__ = ["MAX_ITEMS", "decode_items", "encode_item", "encode_part", "opaque_text"]


class _WireText(Struct, tag="output_text", tag_field="type", kw_only=True):
    # Clients that dump their own types send null where we send [].
    annotations: list[Raw] | None = None
    logprobs: list[Raw] | None = None
    text: LongText


_WirePart: TypeAlias = InputText | InputImage | InputFile | _WireText | Refusal


class _BareMessage(Struct, kw_only=True):
    """A message whose type is absent, null or known."""

    id: str | None = None
    status: ItemStatus | None = None
    role: Role
    content: LongText | tuple[_WirePart, ...]
    phase: Phase | None = None


class _WireMessage(_BareMessage, tag="message", tag_field="type", kw_only=True):
    pass


class _WireCompaction(Struct, tag="compaction", tag_field="type", kw_only=True):
    # What the content says is for us to find out, and for nobody to claim.
    id: str | None = None
    encrypted_content: Sealed
    created_by: str | None = None


_WireItem: TypeAlias = (
    _WireMessage
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | Reasoning
    | _WireCompaction
    | CompactionTrigger
    | ItemReference
    | ConfigurationUpdate
)


class _WireTools(Struct, kw_only=True):
    """`additional_tools`; its tools are decoded by themselves."""

    id: str | None = None
    role: Literal["developer"]
    tools: list[Raw]


class _Head(Struct):
    """What tells items apart."""

    type: str | None = None
    role: Raw = ABSENT
    id: str | None = None


MAX_ITEMS: Final = 20_000
"""[D] Ten times the longest agent history seen; a frame of 32 MiB could hold a million."""

_Count = Meta(max_length=MAX_ITEMS)
_LIST: Final = CheckedDecoder[str | list[_WireItem] | None](
    LongText | Annotated[list[_WireItem], _Count] | None
)
_ELEMENTS: Final = CheckedDecoder[str | list[Raw] | None](
    LongText | Annotated[list[Raw], _Count] | None
)
_HEAD: Final = CheckedDecoder[_Head](_Head)
_KEYS: Final = CheckedDecoder[dict[str, Raw]](dict[str, Raw])
_MESSAGE: Final = CheckedDecoder[_BareMessage](_BareMessage)
_TYPED: Final[dict[str, CheckedDecoder[Any]]] = {
    "message": _MESSAGE,
    "function_call": CheckedDecoder[FunctionCall](FunctionCall),
    "function_call_output": CheckedDecoder[FunctionCallOutput](FunctionCallOutput),
    "custom_tool_call": CheckedDecoder[CustomToolCall](CustomToolCall),
    "custom_tool_call_output": CheckedDecoder[CustomToolCallOutput](CustomToolCallOutput),
    "reasoning": CheckedDecoder[Reasoning](Reasoning),
    "compaction": CheckedDecoder[_WireCompaction](_WireCompaction),
    "compaction_trigger": CheckedDecoder[CompactionTrigger](CompactionTrigger),
    "item_reference": CheckedDecoder[ItemReference](ItemReference),
    "configuration_update": CheckedDecoder[ConfigurationUpdate](ConfigurationUpdate),
}
_TOOLS: Final = CheckedDecoder[_WireTools](_WireTools)
_FIELDS: Final = Decoder(dict[str, Raw])
_ENCODER: Final = Encoder()


def decode_items(raw: Raw, param: str = "input") -> tuple[Item, ...]:
    """Decode `input`: a string is one user message, a list is items; absent or null is none.

    Args:
        raw: The JSON value, or `ABSENT`.
        param: Its path in the request, for errors.

    Raises:
        InvalidRequest: with the path of the field at fault.
    """
    if raw is ABSENT:
        return ()
    try:
        decoded = _LIST.attempt(raw)
    except FAULTS:
        return _decode_elements(raw, param)
    if isinstance(decoded, str):
        return (Message(role="user", content=(InputText(text=decoded),)),)
    return tuple(
        [_finish(item, param, index) for index, item in enumerate(decoded)] if decoded else ()
    )


def encode_item(item: Item) -> bytes:
    """Encode one item as the wire has it; one that was not taken apart as it came."""
    if isinstance(item, OpaqueItem | AdditionalTools):
        return item.raw
    if type(item) is Compaction and item.opened is not None:
        item = structs.replace(item, opened=None)
    return _ENCODER.encode(item)


def opaque_text(item: OpaqueItem | AdditionalTools) -> str:
    """Return what an item that was not taken apart says: its JSON without its id, on one line.

    Its id only tells it from other items: a conversation gives every item one, and clients leave
    it out, or print the JSON again.
    """
    fields = _FIELDS.decode(item.raw)
    fields.pop("id", None)
    encoded = _ENCODER.encode(fields)
    try:
        return format(encoded, indent=-1).decode("utf-8", "replace")
    except RecursionError:  # nested deeper than the stack has room for
        return encoded.decode("utf-8", "replace")


def encode_part(part: ContentPart | SummaryText | ReasoningText) -> bytes:
    """Encode one content part."""
    return _ENCODER.encode(part)


def _decode_elements(raw: Raw, param: str) -> tuple[Item, ...]:
    if not bytes(raw):
        return ()
    elements = _ELEMENTS.decode(raw, param)
    if elements is None or isinstance(elements, str):
        raise AssertionError("the one-pass decoder takes null and strings")
    return tuple([_decode_element(element, param, index) for index, element in enumerate(elements)])


def _decode_element(raw: Raw, param: str, index: int) -> Item:
    where = f"{param}[{index}]"
    head = _HEAD.decode(raw, where)
    kind = head.type
    if kind is None:
        if bytes(head.role):
            kind = "message"
        elif head.id is not None and _KEYS.decode(raw, where).keys() <= {"id", "type"}:
            # "an object with only `id` is a reference" (section 3.4)
            return ItemReference(id=head.id)
        else:
            raise _missing(f"{where}.type")
    if kind == "additional_tools":
        return _additional_tools(raw, where)
    decoder = _TYPED.get(kind)
    if decoder is None:
        return OpaqueItem(type=kind, id=head.id, raw=bytes(raw))
    return _finish(decoder.decode(raw, where), param, index)


def _finish(item: _BareMessage | _WireCompaction | Item, param: str, index: int) -> Item:
    if isinstance(item, _BareMessage):
        return Message(
            id=item.id,
            status=item.status,
            role=item.role,
            content=_content(item.content, item.role),
            phase=item.phase,
        )
    if isinstance(item, _WireCompaction):
        return Compaction(
            id=item.id, encrypted_content=item.encrypted_content, created_by=item.created_by
        )
    if type(item) is ItemReference and item.id is None:
        raise _missing(f"{param}[{index}].id")
    if type(item) is ConfigurationUpdate:
        return _configuration_update(item, f"{param}[{index}]")
    return item


def _additional_tools(raw: Raw, where: str) -> AdditionalTools:
    wire = _TOOLS.decode(raw, where)
    given = _KEYS.decode(raw, where)["tools"]
    tools = decode_tools(given, param=f"{where}.tools")
    return AdditionalTools(id=wire.id, raw=bytes(single_line(bytes(raw))), tools=tools)


def _configuration_update(item: ConfigurationUpdate, where: str) -> ConfigurationUpdate:
    if item.reasoning is None and item.text is None:
        raise InvalidRequest(
            f"'{where}' must set 'reasoning', 'text' or both; it sets neither.",
            code="missing_required_parameter",
            param=where,
        )
    chosen = item.text.format if item.text is not None else None
    if not isinstance(chosen, JsonSchemaFormat):
        return item
    if bytes(chosen.schema)[:1] != b"{":
        param = f"{where}.text.format.schema"
        raise InvalidRequest(f"'{param}' must be an object.", code="invalid_type", param=param)
    # A view of the request's bytes otherwise.
    schema = single_line(bytes(chosen.schema))
    return structs.replace(item, text=FormatUpdate(format=structs.replace(chosen, schema=schema)))


def _content(content: str | tuple[_WirePart, ...], role: Role) -> tuple[ContentPart, ...]:
    if isinstance(content, str):
        text = OutputText(text=content) if role == "assistant" else InputText(text=content)
        return (text,)
    return tuple([_output_text(part) if isinstance(part, _WireText) else part for part in content])


def _output_text(part: _WireText) -> OutputText:
    return OutputText(
        annotations=[raw.copy() for raw in part.annotations or ()],
        logprobs=[raw.copy() for raw in part.logprobs or ()],
        text=part.text,
    )


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{param}' is required, but it is missing.",
        code="missing_required_parameter",
        param=param,
    )
