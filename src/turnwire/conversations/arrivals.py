"""Items that come into a conversation: each gets an id and a status (protocol.md section 13).

An id that the client gave is kept if no item of the conversation has it, and refused otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec import structs

from turnwire.errors import InvalidRequest
from turnwire.history import fresh_id, with_id
from turnwire.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
)

__all__ = ["MAX_ITEM_ID_CHARS", "admitted", "given_ids"]

MAX_ITEM_ID_CHARS: Final = 256


def given_ids(items: Iterable[Item]) -> list[str]:
    """The ids that the items brought."""
    return [item.id for item in items if item.id is not None]


def admitted(
    items: Sequence[Item],
    taken: Collection[str],
    param: str,
    *,
    renamed: Collection[int] = (),
) -> list[Item]:
    """Return the items as the conversation will hold them.

    Args:
        items: With or without ids.
        taken: Ids that items of the conversation have.
        param: Path of the list in the request.
        renamed: Places of copies, which get another id where theirs is taken.

    Raises:
        InvalidRequest: an id is taken, given twice, or cannot be used; `param` is its path.
    """
    used = set(taken)
    found: list[Item] = []
    for place, item in enumerate(items):
        item_id = item.id
        if item_id is None or (item_id in used and place in renamed):
            item_id = fresh_id(item)
        elif item_id in used:
            raise _unusable(param, place, f"An item with id '{item_id}' is there already.")
        elif not _is_usable(item_id):
            raise _unusable(
                param,
                place,
                f"An item's id must be printable and have 1 to {MAX_ITEM_ID_CHARS} characters.",
            )
        used.add(item_id)
        found.append(_whole(item if item.id == item_id else with_id(item, item_id)))
    return found


def _whole(item: Item) -> Item:
    match item:
        case (
            Message()
            | FunctionCall()
            | CustomToolCall()
            | FunctionCallOutput()
            | CustomToolCallOutput()
        ) if item.status is None:
            return structs.replace(item, status="completed")
        case _:
            return item


def _is_usable(item_id: str) -> bool:
    return 0 < len(item_id) <= MAX_ITEM_ID_CHARS and item_id.isprintable()


def _unusable(param: str, place: int, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=f"{param}[{place}].id")
