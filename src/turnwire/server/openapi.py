"""The OpenAPI document of the endpoints there are, made from the structs that serve them.

Bodies are described by the very structs that decode and encode them (`protocol`), so that the
document cannot say something else. Only what those keep raw is described here, and which
parameter stands where. A test compares its paths with the routes of the server, and its schemas
with answers of a server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import GenericAlias
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

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
from turnwire.protocol.requests import CreateResponse, Include
from turnwire.protocol.responses import Response
from turnwire.server.counting import InputTokens
from turnwire.server.query import MAX_LIMIT
from turnwire.server.stored import DeletedResponse, ItemList

__all__ = [
    "Compaction",
    "Error",
    "InputMessage",
    "Model",
    "ModelList",
    "SaidText",
    "Status",
    "document",
]

Json = dict[str, Any]

PREFIX: Final = "#/components/schemas/"


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
CREATE: Final[dict[str, Any]] = {
    "model": str,
    "input": LongText | _list_of("InputItem") | None,
    "tools": _list_of("Tool") | None,
    "tool_choice": _ref("ToolChoice") | None,
}
COMPACT: Final[dict[str, Any]] = {"input": LongText | _list_of("InputItem") | None}
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


def document(version: str, *, keys: bool) -> bytes:
    """Make the document.

    Args:
        version: Of this package.
        keys: Whether the server has keys; without, everything is open.

    Returns:
        OpenAPI 3.1 as JSON.
    """
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
    _, schemas = msgspec.json.schema_components(types, ref_template=PREFIX + "{name}")
    security: list[Json] = [{"key": []}] if keys else [{}, {"key": []}]
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnwire",
            "version": version,
            "description": "The OpenAI Responses API. Unknown fields and parameters are ignored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": security,
        "paths": _paths(),
        "components": {
            "schemas": {**_ecma(schemas), **BY_HAND},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": _answer("Error", "Why it was not done")},
        },
    }
    return msgspec.json.encode(whole)


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
    """Patterns as JSON Schema has them: Python's ends of text are not known there."""
    if isinstance(schema, dict):
        return {
            name: value.replace(r"\A", "^").replace(r"\Z", "$")
            if name == "pattern" and isinstance(value, str)
            else _ecma(value)
            for name, value in schema.items()
        }
    return [_ecma(one) for one in schema] if isinstance(schema, list) else schema


# -- paths


def _answer(name: str, description: str) -> Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": PREFIX + name}}},
    }


def _parameter(name: str, place: Literal["path", "query"], schema: Json, text: str = "") -> Json:
    made = {"name": name, "in": place, "required": place == "path", "schema": schema}
    return {**made, "description": text} if text else made


ID: Final = _parameter("id", "path", {"type": "string", "minLength": 1})
INCLUDE: Final = _parameter(
    "include[]",
    "query",
    {"type": "array", "items": {"enum": list(get_args(Include))}},
    "Optional parts to show; `include` is the same.",
)
LISTING: Final = [
    ID,
    _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    _parameter("order", "query", {"enum": ["asc", "desc"], "default": "desc"}),
    _parameter("after", "query", {"type": "string"}, "Id of the last item of the page before."),
    INCLUDE,
]


def _body(name: str, *, required: bool = True) -> Json:
    schema = {"$ref": PREFIX + name}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


BODY: Final = _body("CreateResponse")
STREAM: Final = {"text/event-stream": {"schema": {"type": "string"}}}
FAULT: Final = {"$ref": "#/components/responses/Error"}


def _operation(name: str, summary: str, good: Json, **more: Any) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": good, "4XX": FAULT, "5XX": FAULT},
        **more,
    }


def _paths() -> Json:
    created = _answer("Response", "The response; an event stream with `stream: true`")
    created["content"] |= STREAM
    read = _answer("Response", "The response; an event stream with `stream=true`")
    read["content"] |= STREAM
    reading = [
        ID,
        INCLUDE,
        _parameter(
            "stream",
            "query",
            {"enum": ["true", "false"]},
            "The events again, of a response created with `background` and `stream`.",
        ),
        _parameter(
            "starting_after",
            "query",
            {"type": "integer", "minimum": 0},
            "Only events after the one with this `sequence_number`.",
        ),
        _parameter("include_obfuscation", "query", {"enum": ["true", "false"]}),
    ]
    websocket = {
        "operationId": "connect",
        "summary": "WebSocket mode",
        "responses": {
            "101": {"description": "One JSON object per text frame from now on"},
            "426": FAULT,
            "4XX": FAULT,
            "5XX": FAULT,
        },
    }
    one, many = _answer("Model", "The model"), _answer("ModelList", "The models")
    text = {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
    open_: Json = {"security": []}
    draining = {**_operation("ready", "Takes new work", _answer("Status", "Yes")), **open_}
    draining["responses"]["503"] = _answer("Status", "No: it is about to end")
    return {
        "/v1/responses": {
            "post": _operation("create", "Create a response", created, requestBody=BODY),
            "get": websocket,
        },
        "/v1/responses/input_tokens": {
            "post": _operation(
                "count",
                "Count the tokens of a request",
                _answer("InputTokens", "How many"),
                requestBody=BODY,
            )
        },
        "/v1/responses/compact": {
            "post": _operation(
                "compact",
                "Sum a conversation up; nothing is stored",
                _answer("CompactedResponse", "The input to go on with"),
                requestBody=_body("CompactRequest"),
            )
        },
        "/v1/responses/{id}": {
            "get": _operation(
                "retrieve",
                "Read a stored or background response",
                read,
                parameters=reading,
            ),
            "delete": _operation(
                "delete",
                "Remove a stored response",
                _answer("DeletedResponse", "It is gone"),
                parameters=[ID],
            ),
        },
        "/v1/responses/{id}/cancel": {
            "post": _operation(
                "cancel",
                "Stop a background response",
                _answer("Response", "The response, cancelled"),
                parameters=[ID],
            )
        },
        "/v1/responses/{id}/input_items": {
            "get": _operation(
                "list_input_items",
                "List what went into a stored response",
                _answer("ItemList", "One page"),
                parameters=LISTING,
            )
        },
        **_conversation_paths(),
        "/v1/models": {"get": _operation("list_models", "List the models", many)},
        "/v1/models/{id}": {
            "get": _operation("retrieve_model", "Read a model", one, parameters=[ID])
        },
        "/health": {"get": {**_operation("health", "Is alive", _answer("Status", "Yes")), **open_}},
        "/ready": {"get": draining},
        "/metrics": {"get": {**_operation("metrics", "Metrics", text), **open_}},
        "/openapi.json": {
            "get": {
                **_operation(
                    "openapi",
                    "This document",
                    {
                        "description": "OpenAPI 3.1",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                ),
                **open_,
            }
        },
    }


def _conversation_paths() -> Json:
    one, page = _answer("Conversation", "The conversation"), _answer("ItemList", "One page")
    item_id = _parameter("item", "path", {"type": "string", "minLength": 1})
    return {
        "/v1/conversations": {
            "post": _operation(
                "create_conversation",
                "Begin a conversation",
                one,
                requestBody=_body("NewConversation", required=False),
            )
        },
        "/v1/conversations/{id}": {
            "get": _operation("retrieve_conversation", "Read a conversation", one, parameters=[ID]),
            "post": _operation(
                "update_conversation",
                "Replace the metadata of a conversation",
                one,
                parameters=[ID],
                requestBody=_body("NewMetadata"),
            ),
            "delete": _operation(
                "delete_conversation",
                "Remove a conversation and its items",
                _answer("DeletedConversation", "It is gone"),
                parameters=[ID],
            ),
        },
        "/v1/conversations/{id}/items": {
            "get": _operation(
                "list_items", "List the items of a conversation", page, parameters=LISTING
            ),
            "post": _operation(
                "create_items",
                "Append items to a conversation",
                _answer("ItemList", "The items as they were kept"),
                parameters=[ID, INCLUDE],
                requestBody=_body("NewItems"),
            ),
        },
        "/v1/conversations/{id}/items/{item}": {
            "get": _operation(
                "retrieve_item",
                "Read an item of a conversation",
                _answer("ListedItem", "The item"),
                parameters=[ID, item_id, INCLUDE],
            ),
            "delete": _operation(
                "delete_item", "Remove an item of a conversation", one, parameters=[ID, item_id]
            ),
        },
    }
