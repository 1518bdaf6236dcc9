"""The item structs."""

from __future__ import annotations

from typing import get_args

import msgspec

from turnwire.protocol.items import AdditionalTools, FunctionCall, Item, OpaqueItem


def test_wire_names() -> None:
    """Every item that is taken apart has its type on the wire."""
    known = [kind for kind in get_args(Item) if kind not in (OpaqueItem, AdditionalTools)]
    assert [
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "reasoning",
        "compaction",
        "compaction_trigger",
        "item_reference",
        "configuration_update",
    ] == [kind.__struct_config__.tag for kind in known]


def test_async_is_spelled_as_on_the_wire() -> None:
    """A Python keyword does not leak into the protocol."""
    call = FunctionCall(call_id="c", name="f", arguments="", async_=True)
    assert msgspec.json.decode(msgspec.json.encode(call))["async"] is True
