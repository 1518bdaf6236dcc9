"""Between bytes and structs: everything the rest of the server needs, under one name.

In: requests, client events, items, tools. Out: events, responses, items, errors.
"""

from __future__ import annotations

from turnwire.protocol.client_events import FrameError
from turnwire.protocol.echo import echo
from turnwire.protocol.event_codec import (
    encode_event,
    encode_response,
    error_body,
    error_event,
    event_type,
    sse_prefix,
)
from turnwire.protocol.item_codec import (
    MAX_ITEMS,
    decode_items,
    encode_item,
    encode_part,
    opaque_text,
)
from turnwire.protocol.request_codec import decode_create, decode_frame
from turnwire.protocol.tool_codec import decode_tool_choice, decode_tools

__all__ = [
    "MAX_ITEMS",
    "FrameError",
    "decode_create",
    "decode_frame",
    "decode_items",
    "decode_tool_choice",
    "decode_tools",
    "echo",
    "encode_event",
    "encode_item",
    "encode_part",
    "encode_response",
    "error_body",
    "error_event",
    "event_type",
    "opaque_text",
    "sse_prefix",
]
