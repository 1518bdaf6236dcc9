"""How much of a stored item a client gets to see, without I/O.

Everything is kept, and filtered on the way out: `include` decides about the optional parts
(protocol.md section 10). Reasoning leaves sealed or not at all, never as text.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import structs

from turnwire.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    Reasoning,
)

__all__ = ["shown_item"]


def shown_item(item: Item, include: Collection[str]) -> Item:
    """The item as it may be listed.

    Args:
        item: As it is stored: reasoning with its sealed text.
        include: What the client asked for, of the values of `include`.
    """
    match item:
        case Reasoning():
            sealed = item.encrypted_content if "reasoning.encrypted_content" in include else None
            return structs.replace(item, content=None, encrypted_content=sealed)
        case Message():
            content = item.content
            if "message.input_image.image_url" not in include:
                content = tuple(_without_url(part) for part in content)
            # Items of a list have a status (section 13), also those that came without one.
            return structs.replace(item, content=content, status=item.status or "completed")
        case FunctionCall() | CustomToolCall() | FunctionCallOutput() | CustomToolCallOutput():
            return structs.replace(item, status=item.status or "completed")
        case _:
            return item


def _without_url(part: ContentPart) -> ContentPart:
    if not isinstance(part, InputImage):
        return part
    return structs.replace(part, image_url=None, detail=part.detail or "auto")
