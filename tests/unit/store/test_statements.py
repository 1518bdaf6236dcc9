from __future__ import annotations

import re
import sqlite3

import pytest

from turnwire.store.sqlite_file import MIGRATIONS
from turnwire.store.statements import named, script


@pytest.fixture
def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


def test_script_is_cut_into_statements(connection: sqlite3.Connection) -> None:
    """Every statement of a schema runs on its own, and comments belong to the next one."""
    statements = script("schema_1.sql")
    for statement in statements:
        assert sqlite3.complete_statement(statement)
        connection.execute(statement)
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    connection.close()
    assert 5 == len(statements)
    assert {("node",), ("response",), ("linger",)} == set(tables)


def test_names() -> None:
    """Each named statement is one whole statement, and no name is lost."""
    statements = named("queries.sql")
    assert {
        "find_node",
        "add_node",
        "add_response",
        "begin",
        "end_run",
        "finish_node",
        "finish_response",
        "runners",
        "run_by",
        "get",
        "chain",
        "delete_response",
        "begin_linger",
        "next_linger",
        "find_lingered",
        "end_linger",
        "drop_node",
    } == set(statements)
    for statement in statements.values():
        assert sqlite3.complete_statement(statement)
        assert 1 == len(re.findall(r";$", statement, re.MULTILINE))


@pytest.mark.parametrize(
    ("file", "name"),
    [(file, name) for file in ("queries.sql", "conversations.sql") for name in sorted(named(file))],
)
def test_no_statement_reads_a_whole_table(
    connection: sqlite3.Connection, file: str, name: str
) -> None:
    """Every access to a table goes by key or index, however large the table is."""
    for schema in MIGRATIONS:
        for statement in script(schema):
            connection.execute(statement)
    values = dict.fromkeys(
        [
            *["id", "owner", "parent", "created_at", "items", "output", "tokens"],
            *["node", "body", "until", "now", "limit", "runner"],
            *["conversation", "position", "metadata", "length", "response", "item", "after"],
        ],
        1,
    )
    plan = connection.execute(f"EXPLAIN QUERY PLAN {named(file)[name]}", values)
    steps = [step for *_, step in plan.fetchall()]
    connection.close()
    # The rows of `past` are the turns of the chain itself, those of `asked` what was asked for,
    # those of `running` are few.
    few = ("past", "asked", "running")
    scans = [step for step in steps if step.startswith("SCAN")]
    assert [] == [step for step in scans if not any(name in step for name in few)]
