"""Conversations as clients write and read them (protocol.md sections 1 and 13)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from msgspec import Raw, Struct, field
from msgspec.json import Decoder, encode

from turnwire.errors import InvalidRequest
from turnwire.protocol.item_codec import decode_items
from turnwire.protocol.items import CompactionTrigger, Item
from turnwire.protocol.media import check_media, media_in
from turnwire.protocol.requests import ABSENT, Metadata
from turnwire.protocol.validation import FAULTS, CheckedDecoder, explain

__all__ = [
    "CONVERSATION_ID",
    "MAX_ITEMS_PER_CALL",
    "Conversation",
    "DeletedConversation",
    "NewConversation",
    "NewItems",
    "NewMetadata",
    "check_conversation_id",
    "decode_new_conversation",
    "decode_new_items",
    "decode_new_metadata",
    "encode_conversation",
    "items_of",
]

T = TypeVar("T")

MAX_ITEMS_PER_CALL: Final = 20
CONVERSATION_ID: Final = re.compile(r"\Aconv_[A-Za-z0-9_-]{1,128}\Z")


class NewConversation(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/conversations; every field may be absent or null."""

    items: Raw = ABSENT
    metadata: Metadata | None = None


class NewMetadata(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/conversations/{id}: metadata that replaces what is there."""

    metadata: Metadata | None


class NewItems(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/conversations/{id}/items."""

    items: Raw


class Conversation(Struct, frozen=True, kw_only=True):
    """A conversation as it is shown."""

    id: str
    object: str = "conversation"
    created_at: int
    metadata: dict[str, str] = field(default_factory=dict)


class DeletedConversation(Struct, frozen=True, kw_only=True):
    """What deleting a conversation answers."""

    id: str
    object: str = "conversation.deleted"
    deleted: bool = True


_NEW: Final = CheckedDecoder[NewConversation](NewConversation)
_METADATA: Final = CheckedDecoder[NewMetadata](NewMetadata)
_ITEMS: Final = CheckedDecoder[NewItems](NewItems)
_ELEMENTS: Final = CheckedDecoder[list[Raw]](list[Raw])
_STORED_METADATA: Final = Decoder(dict[str, str])


def check_conversation_id(conversation_id: str, param: str) -> str:
    """Return the id if a conversation could have it.

    Raises:
        InvalidRequest: it is malformed.
    """
    if CONVERSATION_ID.match(conversation_id) is None:
        raise InvalidRequest(
            f"'{param}' must be the id of a conversation, which begins with 'conv_'.", param=param
        )
    return conversation_id


def decode_new_conversation(body: bytes) -> NewConversation:
    """Decode the body of POST /v1/conversations; an empty one asks for nothing.

    Raises:
        InvalidRequest: `param` is the path of the field at fault.
    """
    return _decode(_NEW, body or b"{}")


def decode_new_metadata(body: bytes) -> NewMetadata:
    """Decode the body of POST /v1/conversations/{id}.

    Raises:
        InvalidRequest: `param` is the path of the field at fault.
    """
    return _decode(_METADATA, body)


def decode_new_items(body: bytes) -> NewItems:
    """Decode the body of POST /v1/conversations/{id}/items.

    Raises:
        InvalidRequest: `param` is the path of the field at fault.
    """
    return _decode(_ITEMS, body)


def items_of(raw: Raw, *, least: int = 0) -> Sequence[Item]:
    """Decode a list of items to add.

    Args:
        raw: The list; `ABSENT` and null are empty ones if `least` is 0.
        least: How many there must be.

    Raises:
        InvalidRequest: it is no list, too short or too long, or an item is not one, or holds an
            image or a file that is none.
    """
    if not least and bytes(raw) in (b"", b"null"):
        return ()
    elements = _ELEMENTS.decode(raw, "items")
    if not least <= len(elements) <= MAX_ITEMS_PER_CALL:
        short = len(elements) < least
        raise InvalidRequest(
            f"'items' must have {least} to {MAX_ITEMS_PER_CALL} elements, but {len(elements)} "
            "were given.",
            code="array_below_min_length" if short else "array_above_max_length",
            param="items",
        )
    items = decode_items(raw, "items")
    check_media(media_in(items, "items"))
    for index, item in enumerate(items):
        if type(item) is CompactionTrigger:
            raise InvalidRequest(
                "A 'compaction_trigger' is part of no conversation; send it as the last input item "
                "of a response.",
                param=f"items[{index}]",
            )
    return items


def encode_conversation(conversation_id: str, created_at: int, metadata: bytes) -> bytes:
    """Encode a conversation.

    Args:
        conversation_id: Its id.
        created_at: Unix seconds.
        metadata: JSON object of strings.
    """
    return encode(
        Conversation(
            id=conversation_id,
            created_at=created_at,
            metadata=_STORED_METADATA.decode(metadata),
        )
    )


def _decode(decoder: CheckedDecoder[T], body: bytes) -> T:
    try:
        # What stays raw here is not looked at by the decoder, and comes back in answers.
        body.decode()
    except FAULTS as fault:
        raise explain(fault, body, decoder.type) from None
    return decoder.decode(body)
