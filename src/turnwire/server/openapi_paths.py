"""What the OpenAPI document says of paths: operations, what they take and what they answer."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from turnwire.protocol.conversations import CONVERSATION_ID
from turnwire.protocol.requests import Include
from turnwire.server.openapi_schemas import PREFIX, Json, ecma
from turnwire.server.query import MAX_LIMIT

__all__ = ["answer_of", "paths"]


def answer_of(name: str, description: str) -> Json:
    """An answer whose body obeys the schema of this name."""
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": PREFIX + name}}},
    }


def _parameter(name: str, place: Literal["path", "query"], schema: Json, text: str = "") -> Json:
    made = {"name": name, "in": place, "required": place == "path", "schema": schema}
    return {**made, "description": text} if text else made


ID: Final = _parameter("id", "path", {"type": "string", "minLength": 1})
CONVERSATION: Final = _parameter(
    "id", "path", {"type": "string", "pattern": ecma(CONVERSATION_ID.pattern)}
)
INCLUDE: Final = _parameter(
    "include[]",
    "query",
    {"type": "array", "items": {"enum": list(get_args(Include))}},
    "Optional parts to show; `include` is the same.",
)
LISTING: Final = [
    _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    _parameter("order", "query", {"enum": ["asc", "desc"], "default": "desc"}),
    _parameter(
        "after",
        "query",
        {"type": "string", "minLength": 1},
        "Id of the last item of the page before.",
    ),
    INCLUDE,
]
READING: Final = [
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


def paths() -> Json:
    """Every path with its operations."""
    return {**_response_paths(), **_conversation_paths(), **_model_paths(), **_server_paths()}


def _response_paths() -> Json:
    created = answer_of("Response", "The response; an event stream with `stream: true`")
    created["content"] |= STREAM
    read = answer_of("Response", "The response; an event stream with `stream=true`")
    read["content"] |= STREAM
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
    return {
        "/v1/responses": {
            "post": _operation("create", "Create a response", created, requestBody=BODY),
            "get": websocket,
        },
        "/v1/responses/input_tokens": {
            "post": _operation(
                "count",
                "Count the tokens of a request",
                answer_of("InputTokens", "How many"),
                requestBody=BODY,
            )
        },
        "/v1/responses/compact": {
            "post": _operation(
                "compact",
                "Sum a conversation up; nothing is stored",
                answer_of("CompactedResponse", "The input to go on with"),
                requestBody=_body("CompactRequest"),
            )
        },
        "/v1/responses/{id}": {
            "get": _operation(
                "retrieve",
                "Read a stored or background response",
                read,
                parameters=READING,
            ),
            "delete": _operation(
                "delete",
                "Remove a stored response",
                answer_of("DeletedResponse", "It is gone"),
                parameters=[ID],
            ),
        },
        "/v1/responses/{id}/cancel": {
            "post": _operation(
                "cancel",
                "Stop a background response",
                answer_of("Response", "The response, cancelled"),
                parameters=[ID],
            )
        },
        "/v1/responses/{id}/input_items": {
            "get": _operation(
                "list_input_items",
                "List what went into a stored response",
                answer_of("ItemList", "One page"),
                parameters=[ID, *LISTING],
            )
        },
    }


def _conversation_paths() -> Json:
    one, page = answer_of("Conversation", "The conversation"), answer_of("ItemList", "One page")
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
            "get": _operation(
                "retrieve_conversation", "Read a conversation", one, parameters=[CONVERSATION]
            ),
            "post": _operation(
                "update_conversation",
                "Replace the metadata of a conversation",
                one,
                parameters=[CONVERSATION],
                requestBody=_body("NewMetadata"),
            ),
            "delete": _operation(
                "delete_conversation",
                "Remove a conversation and its items",
                answer_of("DeletedConversation", "It is gone"),
                parameters=[CONVERSATION],
            ),
        },
        "/v1/conversations/{id}/items": {
            "get": _operation(
                "list_items",
                "List the items of a conversation",
                page,
                parameters=[CONVERSATION, *LISTING],
            ),
            "post": _operation(
                "create_items",
                "Append items to a conversation",
                answer_of("ItemList", "The items as they were kept"),
                parameters=[CONVERSATION, INCLUDE],
                requestBody=_body("NewItems"),
            ),
        },
        "/v1/conversations/{id}/items/{item}": {
            "get": _operation(
                "retrieve_item",
                "Read an item of a conversation",
                answer_of("ListedItem", "The item"),
                parameters=[CONVERSATION, item_id, INCLUDE],
            ),
            "delete": _operation(
                "delete_item",
                "Remove an item of a conversation",
                one,
                parameters=[CONVERSATION, item_id],
            ),
        },
    }


def _model_paths() -> Json:
    one, many = answer_of("Model", "The model"), answer_of("ModelList", "The models")
    return {
        "/v1/models": {"get": _operation("list_models", "List the models", many)},
        "/v1/models/{id}": {
            "get": _operation("retrieve_model", "Read a model", one, parameters=[ID])
        },
    }


def _server_paths() -> Json:
    text = {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
    whole = {
        "description": "OpenAPI 3.1",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
    ready = _operation("ready", "Takes new work", answer_of("Status", "Yes"))
    ready["responses"]["503"] = answer_of("Status", "No: it is about to end")
    operations = {
        "/health": _operation("health", "Is alive", answer_of("Status", "Yes")),
        "/ready": ready,
        "/metrics": _operation("metrics", "Metrics", text),
        "/openapi.json": _operation("openapi", "This document", whole),
    }
    return {path: {"get": {**one, "security": []}} for path, one in operations.items()}
