"""The codec's front."""

from __future__ import annotations

from turnwire.protocol import codec, event_codec, item_codec, request_codec, tool_codec
from turnwire.protocol import echo as echo_module


def test_the_front_has_what_the_rooms_behind_it_offer() -> None:
    """Every public function of the codecs is here, and is the same object."""
    behind = {
        name: getattr(module, name)
        for module in (echo_module, event_codec, item_codec, request_codec, tool_codec)
        for name in module.__all__
        if name not in ("MAX_TOOLS", "single_line")
    }
    assert {name: getattr(codec, name) for name in behind} == behind
    assert {*behind, "FrameError"} == set(codec.__all__)
