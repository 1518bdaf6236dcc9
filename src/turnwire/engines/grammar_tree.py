from __future__ import annotations

__all__ = ["Unwritable"]


class Unwritable(Exception):
    pass
