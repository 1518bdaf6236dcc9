"""Identifiers on the wire: a prefix that names the kind, then hex digits.

Fresh ids have 48 digits. An item that a response made has those of its response, then four for
its place in the output: a reference to the item says where it is stored.
"""

from __future__ import annotations

import os
import re
from typing import Final

__all__ = ["item_id", "new_id", "response_of"]

_ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{48})[0-9a-f]{4}")

_ID_BYTES: Final = 24
_IDS_AT_A_TIME: Final = 128
# Asking the system lets go of the interpreter, and with other threads at work it takes a while to
# come back: for one id at a time that was 6 % of a stored turn. A child process must not have them.
_fresh: Final[list[str]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh.clear)


def new_id(prefix: str) -> str:
    """Return a fresh, unguessable id.

    Args:
        prefix: The kind, as protocol.md section 3.6 spells it: `resp`, `msg`, `rs`, `fc`,
            `ctc`, `call`, `cmp`, `conv`, `steer`.
    """
    try:
        digits = _fresh.pop()
    except IndexError:  # also where another thread was faster
        digits, *others = _draw()
        _fresh.extend(others)
    return f"{prefix}_{digits}"


def _draw() -> list[str]:
    drawn = os.urandom(_ID_BYTES * _IDS_AT_A_TIME).hex()
    size = 2 * _ID_BYTES
    return [drawn[begin : begin + size] for begin in range(0, len(drawn), size)]


def item_id(prefix: str, response_id: str, output_index: int) -> str:
    """Return the id of an item that a response makes; as unguessable as the response's own.

    Args:
        prefix: The kind, as in `new_id`.
        response_id: From `new_id`.
        output_index: The item's place in the output.
    """
    return f"{prefix}_{response_id.partition('_')[2]}{output_index:04x}"


def response_of(id_: str) -> str | None:
    """Return the id of the response that made the item, or None if this is no such item's id."""
    found = _ITEM_ID.fullmatch(id_)
    return f"resp_{found[1]}" if found else None
