"""How much memory does an item of a conversation hold?

What is bounded in bytes has to count what a client can send, not what a model reads of it: ids,
names and annotations are held too, and ten thousand empty messages are not nothing. So an item
weighs what its JSON does, several times: as text, as token ids, in the pieces that a template
made of it.
"""

from __future__ import annotations

from typing import Final

from turnwire.protocol.codec import encode_item
from turnwire.protocol.items import Item

__all__ = ["LINK_BYTES", "weight_of"]

LINK_BYTES: Final = 2048
"""About what a link holds beside its items: objects, views, and the engine's notes."""

ITEM_BYTES: Final = 1024
"""About what an item holds that says nothing: objects, and a template's own tokens."""

HELD_PER_BYTE: Final = 4


def weight_of(item: Item) -> int:
    """Return about how many bytes an item holds, rendered."""
    return ITEM_BYTES + HELD_PER_BYTE * len(encode_item(item))
