"""What the types of the official library say a value must look like.

They are what strict readers validate with. Our reading is stricter than theirs: no value is
converted, and a key that no type has is an error too, since nothing else would ever find one that
is misspelt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, get_args

from openai._models import construct_type
from openai.types import Model
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItem,
    ConversationItemList,
)
from openai.types.responses import (
    CompactedResponse,
    InputTokenCountResponse,
    Response,
    ResponseItem,
    ResponseItemList,
    ResponsesServerEvent,
    ResponseStreamEvent,
)
from openai.types.shared import ErrorObject
from pydantic import BaseModel, ValidationError
from tests.judges.exceptions import EXTRAS, NULLS, VALUES

__all__ = ["Misread", "event_types", "read", "read_event", "roots"]

Json = dict[str, Any]

TYPES: Final[Mapping[str, type[BaseModel]]] = {
    "Response": Response,
    "ItemList": ResponseItemList,
    "ConversationItemList": ConversationItemList,
    "Conversation": Conversation,
    "DeletedConversation": ConversationDeletedResource,
    "InputTokens": InputTokenCountResponse,
    "Compacted": CompactedResponse,
    "Error": ErrorObject,
    "Model": Model,
}
UNIONS: Final[Mapping[str, Any]] = {
    "StreamEvent": ResponseStreamEvent,
    "WebSocketEvent": ResponsesServerEvent,
    "Item": ResponseItem,
    "ConversationItem": ConversationItem,
}

ECHOED: Final = frozenset({"tools", "tool_choice", "instructions"})
"""Fields whose keys are the client's; what it made up comes back as it was."""


class Misread(ValueError):
    """A value is not what the library's types say.

    Attributes:
        complaints: What is wrong, each with its place.
    """

    def __init__(self, complaints: list[str]) -> None:
        super().__init__("; ".join(complaints))
        self.complaints: Final = complaints


def roots() -> frozenset[str]:
    """The names that can be asked for."""
    return frozenset(TYPES)


def event_types(union: str) -> frozenset[str]:
    """The `type`s of the members of a union."""
    return frozenset(_members(union))


def read(root: str, value: Json) -> BaseModel:
    """The value as the library has it.

    Raises:
        Misread: it is not as the type of that name.
    """
    return _validated(TYPES[root], value)


def read_event(union: str, value: Json) -> BaseModel:
    """The event or item as the library has it, by its `type`.

    Raises:
        Misread: the union has no such type, or the value is as none of those of its type.
    """
    kind = value.get("type")
    models = _members(union).get(kind, ()) if isinstance(kind, str) else ()
    best = Misread([f"type: {union} has no {kind!r}"])
    for index, model in enumerate(models):
        try:
            return _validated(model, value)
        except Misread as error:
            best = min(best, error, key=lambda one: len(one.complaints)) if index else error
    raise best


def _validated(model: type[BaseModel], value: Json) -> BaseModel:
    try:
        found = model.model_validate(value, strict=True)
    except ValidationError as error:
        complaints = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors()
            if not _is_known(model, one["loc"], one["input"])
        ]
        if complaints:
            raise Misread(complaints) from error
        # As the library itself reads what it does not validate.
        built = construct_type(type_=model, value=value)
        assert isinstance(built, BaseModel)
        found = built
    if unknown := list(_extras(found, "")):
        raise Misread([f"{place} has this key" for place in unknown])
    return found


def _is_known(model: type[BaseModel], place: Sequence[str | int], value: Any) -> bool:
    if value is None:
        return (model.__name__, place[-1]) in NULLS
    return isinstance(value, str) and (tuple(place[-2:]), value) in VALUES


@cache
def _members(union: str) -> Mapping[str, Sequence[type[BaseModel]]]:
    members, *_ = get_args(UNIONS[union])
    by_type: dict[str, list[type[BaseModel]]] = {}
    for model in get_args(members):
        for kind in get_args(model.model_fields["type"].annotation):
            by_type.setdefault(kind, []).append(model)
    return by_type


def _extras(value: Any, place: str) -> Iterator[str]:
    """Where the value has keys that are not its type's, and are not known exceptions."""
    if isinstance(value, BaseModel):
        for key in value.model_extra or ():
            if all((kind.__name__, key) not in EXTRAS for kind in type(value).__mro__):
                yield f"{place}{key}: no {type(value).__name__} of the library"
        for key, inner in value.__dict__.items():
            if key not in ECHOED and isinstance(inner, (BaseModel, list)):
                yield from _extras(inner, f"{place}{key}.")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _extras(inner, f"{place}{index}.")
