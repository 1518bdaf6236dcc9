"""SQL lives in .sql files beside the code; this reads them."""

from __future__ import annotations

import re
import sqlite3
from importlib.resources import files
from typing import Final

__all__ = ["named", "script"]

NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def script(file: str) -> list[str]:
    """Return the statements of a file of `store/sql`, in order.

    They are run one by one: `sqlite3.Connection.executescript` would commit first.
    """
    statements: list[str] = []
    statement = ""
    for line in _text(file).splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement.strip())
            statement = ""
    return statements


def named(file: str) -> dict[str, str]:
    """Return the statements of a file of `store/sql`, each by the `-- name:` above it."""
    _, *parts = NAME.split(_text(file))
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _text(file: str) -> str:
    return files("turnwire.store").joinpath("sql", file).read_text(encoding="utf-8")
