"""What the OpenAPI document says of bodies: JSON schemas, made from the structs that serve them.

Only what those keep raw is described here by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import GenericAlias
from typing import Annotated, Any, Final, Literal, get_type_hints

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, Raw, Struct
from msgspec.structs import FieldInfo, fields

from turnwire.protocol.compaction import CompactedResponse, CompactRequest
from turnwire.protocol.conversations import (
    MAX_ITEMS_PER_CALL,
    Conversation,
    DeletedConversation,
    NewConversation,
    NewItems,
    NewMetadata,
)
from turnwire.protocol.events import ErrorDetail
from turnwire.protocol.items import (
    CompactionTrigger,
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    ItemReference,
    ItemStatus,
    LongText,
    Message,
    Phase,
    Reasoning,
    Refusal,
    Role,
    Sealed,
)
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.responses import Response
from turnwire.server.counting import InputTokens
from turnwire.server.stored import DeletedResponse, ItemList

__all__ = [
    "PREFIX",
    "Compaction",
    "Error",
    "InputMessage",
    "Json",
    "Model",
    "ModelList",
    "SaidText",
    "Status",
    "ecma",
    "schemas",
]

Json = dict[str, Any]

PREFIX: Final = "#/components/schemas/"
"""Of references to schemas."""


class SaidText(Struct, tag="output_text", tag_field="type", kw_only=True):
    """Text of the model as clients may send it back: empty lists may be null."""

    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    text: LongText


class InputMessage(Struct, kw_only=True):
    """A message as clients may send it: `type` may be absent, `content` may be a string."""

    type: Literal["message"] | None = None
    role: Role
    content: LongText | list[InputText | InputImage | InputFile | SaidText | Refusal]
    id: str | None = None
    status: ItemStatus | None = None
    phase: Phase | None = None


class Compaction(Struct, tag="compaction", tag_field="type", kw_only=True):
    """Stands for the conversation before it; its content is the server's."""

    encrypted_content: Sealed
    id: str | None = None
    created_by: str | None = None


class Error(Struct):
    """The body of every error."""

    error: ErrorDetail


class Model(Struct, kw_only=True):
    """A model that a key may use."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Struct, kw_only=True):
    """The models that a key may use."""

    object: Literal["list"]
    data: list[Model]


class Status(Struct, kw_only=True):
    """Whether the process is alive, or takes new work."""

    status: str


def _ref(name: str) -> Any:
    """A type that stands for a schema described by hand."""
    return Annotated[Any, Meta(extra_json_schema={"$ref": PREFIX + name})]


def _list_of(name: str) -> Any:
    return GenericAlias(list, (_ref(name),))


INPUTS: Final = (
    FunctionCall,
    FunctionCallOutput,
    CustomToolCall,
    CustomToolCallOutput,
    Reasoning,
    Compaction,
    CompactionTrigger,
    ItemReference,
    ConfigurationUpdate,
)
OUTPUTS: Final = (Message, FunctionCall, CustomToolCall, Reasoning, Compaction)
# Of these a message as we send it differs from one that we take.
LISTED: Final = (Message, *INPUTS[:6])

BY_HAND: Final[Json] = {
    "InputItem": {
        "description": "One link of a conversation. Types that are not known are kept as they are.",
        "anyOf": [
            {"$ref": f"{PREFIX}InputMessage"},
            *({"$ref": PREFIX + kind.__name__} for kind in INPUTS),
            {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
        ],
    },
    "OutputItem": {"anyOf": [{"$ref": PREFIX + kind.__name__} for kind in OUTPUTS]},
    "ListedItem": {
        "anyOf": [
            *({"$ref": PREFIX + kind.__name__} for kind in LISTED),
            {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
        ],
    },
    "Tool": {
        "description": "`function`, `custom` and `namespace` are offered to the model; other types "
        "are accepted and echoed.",
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string"}},
    },
    "ToolChoice": {
        "anyOf": [
            {"enum": ["none", "auto", "required"]},
            {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
        ]
    },
}
NAME: Final = Annotated[str, Meta(min_length=1)]
CREATE: Final[dict[str, Any]] = {
    "model": NAME,
    "input": LongText | _list_of("InputItem") | None,
    "tools": _list_of("Tool") | None,
    "tool_choice": _ref("ToolChoice") | None,
}
COMPACT: Final[dict[str, Any]] = {
    "model": NAME,
    "input": LongText | _list_of("InputItem") | None,
}
UNSUPPORTED: Final = (
    "generate",  # WebSocket mode only
    "moderation",
    "prompt",
)
FEW_ITEMS: Final = Annotated[_list_of("InputItem"), Meta(max_length=MAX_ITEMS_PER_CALL)]
SOME_ITEMS: Final = Annotated[
    _list_of("InputItem"), Meta(min_length=1, max_length=MAX_ITEMS_PER_CALL)
]
RESPONSE: Final[dict[str, Any]] = {
    "output": _list_of("OutputItem"),
    "tools": _list_of("Tool"),
    "tool_choice": _ref("ToolChoice"),
}


def schemas() -> Json:
    """Every schema, by name."""
    types = [
        _documented(CreateResponse, CREATE, leave_out=UNSUPPORTED, needed=("model",)),
        _documented(Response, RESPONSE, sent=True),
        _documented(CompactRequest, COMPACT),
        _documented(
            CompactedResponse,
            {"object": Literal["response.compaction"], "output": _list_of("OutputItem")},
            sent=True,
        ),
        _documented(ItemList, {"data": _list_of("ListedItem")}, sent=True),
        _documented(InputTokens, {"object": Literal["response.input_tokens"]}, sent=True),
        _documented(DeletedResponse, {"object": Literal["response"]}, sent=True),
        _documented(Error, {}, sent=True),
        _documented(NewConversation, {"items": FEW_ITEMS | None}),
        _documented(NewItems, {"items": SOME_ITEMS}),
        _documented(Conversation, {"object": Literal["conversation"]}, sent=True),
        _documented(DeletedConversation, {"object": Literal["conversation.deleted"]}, sent=True),
        NewMetadata,
        *(InputMessage, ModelList, Status, Message, *INPUTS),
    ]
    _, made = msgspec.json.schema_components(types, ref_template=PREFIX + "{name}")
    made["JsonSchemaFormat"]["properties"]["schema"] = {"type": "object"}  # raw, and nested
    patterned: Json = _ecma(made)
    return {**patterned, **BY_HAND}


def _documented(
    struct: type[Struct],
    described: Mapping[str, Any],
    *,
    leave_out: Collection[str] = (),
    needed: Collection[str] = (),
    sent: bool = False,
) -> type[Struct]:
    """The struct with what it keeps raw described.

    Args:
        struct: What decodes or encodes the object.
        described: Types to document, by field, in place of its own.
        leave_out: Fields not to document.
        needed: Fields that no request does without, whatever the struct says.
        sent: It is what we send: every field is there unless its default is to be absent.
    """
    hints = get_type_hints(struct, include_extras=True)
    made: list[Any] = []
    for one in fields(struct):
        if one.name in leave_out:
            continue
        kind = described.get(one.name, hints[one.name])
        always = sent and one.default is not UNSET
        if always or one.required or one.name in needed:
            made.append((one.name, kind))
        else:
            made.append((one.name, kind, _default(one)))
    return msgspec.defstruct(
        struct.__name__, made, kw_only=True, namespace={"__doc__": struct.__doc__}
    )


def _default(field: FieldInfo) -> Any:
    # A raw default is "absent", which JSON cannot say.
    return None if field.default is NODEFAULT or isinstance(field.default, Raw) else field.default


def _ecma(schema: Any) -> Any:
    """A schema with its patterns as JSON Schema has them."""
    if isinstance(schema, dict):
        return {
            name: ecma(value) if name == "pattern" and isinstance(value, str) else _ecma(value)
            for name, value in schema.items()
        }
    return [_ecma(one) for one in schema] if isinstance(schema, list) else schema


def ecma(pattern: str) -> str:
    """A pattern as JSON Schema has it: Python's ends of text are not known there."""
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")
