"""Identifiers on the wire: a prefix that names the kind, then 48 hex digits."""

from __future__ import annotations

import os

__all__ = ["new_id"]


def new_id(prefix: str) -> str:
    """Return a fresh, unguessable id.

    Args:
        prefix: The kind, as protocol.md section 3.6 spells it: `resp`, `msg`, `rs`, `fc`,
            `ctc`, `call`, `cmp`, `conv`, `steer`.
    """
    return f"{prefix}_{os.urandom(24).hex()}"
