"""Conversations in an SQLite file: what a write does to the tables, and what a row means.

Like `database`, which calls this inside its transactions, everything here blocks. A write runs in
a savepoint of its own, so whatever it raises undoes the whole of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from turnwire.errors import ConversationChanged, ItemIdTaken
from turnwire.store.base import StoredTurn
from turnwire.store.conversations import ConversationItem, StoredConversation
from turnwire.store.statements import named

__all__ = [
    "CONVERSATION_SQL",
    "ConversationWrite",
    "DropConversation",
    "DropItem",
    "KeepConversation",
    "KeepItems",
    "KeepMetadata",
    "apply",
    "to_conversation",
    "to_item",
]

CONVERSATION_SQL: Final = named("conversations.sql")


class KeepConversation(Struct, frozen=True):
    """Keep a new conversation with its first items."""

    conversation: StoredConversation
    items: Sequence[ConversationItem]


class KeepMetadata(Struct, frozen=True):
    """Replace the metadata."""

    owner: str
    id: str
    metadata: bytes


class KeepItems(Struct, frozen=True):
    """Append items; with a turn, only where `base` says, and with it or not at all.

    A turn that was begun is finished, any other is put.
    """

    owner: str
    id: str
    items: Sequence[ConversationItem]
    base: StoredConversation | None = None
    turn: StoredTurn | None = None
    begun: bool = False


class DropItem(Struct, frozen=True):
    """Remove an item."""

    owner: str
    id: str
    item_id: str


class DropConversation(Struct, frozen=True):
    """Remove a conversation."""

    owner: str
    id: str


ConversationWrite = KeepConversation | KeepMetadata | KeepItems | DropItem | DropConversation
Keep = Callable[[StoredTurn], object]
Execute = Callable[[str, dict[str, Any]], sqlite3.Cursor]


def to_conversation(row: Sequence[Any]) -> StoredConversation:
    """What the statement `find` gives, without the key in front."""
    id_, owner, created_at, edition, length, response, covered, metadata = row
    return StoredConversation(
        id=id_,
        owner=owner,
        created_at=created_at,
        metadata=metadata,
        edition=edition,
        length=length,
        response=response,
        covered=covered,
    )


def to_item(row: Sequence[Any]) -> ConversationItem:
    """What the statements that name items give."""
    id_, position, tokens, body = row
    return ConversationItem(id=id_, body=body, tokens=tokens, position=position)


def apply(execute: Execute, write: ConversationWrite, put: Keep, finish: Keep) -> bool:
    """Apply one write inside a savepoint.

    Args:
        execute: Runs a statement.
        write: What to do.
        put: Keeps a turn, or raises.
        finish: Gives a turn that was begun its end.

    Returns:
        What the methods of `ConversationStore` return; True where they return nothing.

    Raises:
        ConversationChanged, ItemIdTaken: the savepoint must be rolled back.
    """
    match write:
        case KeepConversation(conversation, items):
            key = execute(
                CONVERSATION_SQL["add"],
                {
                    "id": conversation.id,
                    "owner": conversation.owner,
                    "created_at": conversation.created_at,
                    "metadata": conversation.metadata,
                },
            ).lastrowid
            _add_items(execute, key, 0, items)
            execute(CONVERSATION_SQL["grow"], {"conversation": key, "length": len(items)})
            return True
        case KeepItems():
            return _keep_items(execute, write, finish if write.begun else put)
        case KeepMetadata(owner, id_, metadata):
            which = {"owner": owner, "id": id_, "metadata": metadata}
            return execute(CONVERSATION_SQL["set_metadata"], which).rowcount > 0
        case DropItem(owner, id_, item_id):
            which = {"owner": owner, "id": id_, "item": item_id}
            if not execute(CONVERSATION_SQL["delete_item"], which).rowcount:
                return False
            execute(CONVERSATION_SQL["cut"], {"owner": owner, "id": id_})
            return True
        case DropConversation(owner, id_):
            which = {"owner": owner, "id": id_}
            return execute(CONVERSATION_SQL["delete"], which).rowcount > 0


def _keep_items(execute: Execute, write: KeepItems, keep: Keep) -> bool:
    if write.turn is not None:
        keep(write.turn)
    which = {"owner": write.owner, "id": write.id}
    row = execute(CONVERSATION_SQL["find"], which).fetchone()
    if row is None:
        return False
    key, stands = row[0], to_conversation(row[1:])
    base = write.base
    if base is not None and (base.edition, base.length) != (stands.edition, stands.length):
        raise ConversationChanged(
            f"The conversation {write.id!r} was changed while a response was made for it."
        )
    _add_items(execute, key, stands.length, write.items)
    length = stands.length + len(write.items)
    if write.turn is None:
        execute(CONVERSATION_SQL["grow"], {"conversation": key, "length": length})
    else:
        execute(
            CONVERSATION_SQL["cover"],
            {"conversation": key, "length": length, "response": write.turn.id},
        )
    return True


def _add_items(
    execute: Execute, conversation: int | None, length: int, items: Sequence[ConversationItem]
) -> None:
    for position, item in enumerate(items, start=length + 1):
        values = {
            "conversation": conversation,
            "position": position,
            "id": item.id,
            "tokens": item.tokens,
            "body": item.body,
        }
        try:
            execute(CONVERSATION_SQL["add_item"], values)
        except sqlite3.IntegrityError as error:
            # The positions are ours, so it is the id.
            raise ItemIdTaken(item.id) from error
