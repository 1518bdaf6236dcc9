"""The event structs."""

from __future__ import annotations

from typing import get_args

from turnwire.protocol import events
from turnwire.protocol.events import Event, ServerEvent


def test_names_on_the_wire_are_unique() -> None:
    """No two events share a type."""
    names = [kind.__struct_config__.tag for kind in get_args(ServerEvent)]
    assert sorted(set(names)) == sorted(names)


def test_the_union_holds_every_event() -> None:
    """An event that is public is one that the server may send."""
    public = {getattr(events, name) for name in events.__all__}
    kinds = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Event)}
    assert kinds - {Event} == set(get_args(ServerEvent))


def test_terminal_events() -> None:
    """Exactly three events end a response."""
    assert ["response.completed", "response.incomplete", "response.failed"] == [
        kind.__struct_config__.tag for kind in events.TERMINAL_EVENTS
    ]
