"""Query strings, by table, and pages by property."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from turnwire.errors import InvalidRequest
from turnwire.server.query import Page, Retrieval, page, retrieval, shown


@pytest.mark.parametrize(
    ("read", "pairs", "expected"),
    [
        (page, [], Page(limit=20, order="desc", after=None)),
        (page, [("limit", "1")], Page(limit=1)),
        (page, [("limit", "100"), ("order", "asc")], Page(limit=100, order="asc")),
        (page, [("order", "desc"), ("after", "x"), ("before", "y")], Page(after="x")),
        (shown, [], frozenset()),
        (
            shown,
            [("include[]", "reasoning.encrypted_content"), ("include", "web_search_call.results")],
            frozenset({"reasoning.encrypted_content", "web_search_call.results"}),
        ),
        (retrieval, [], Retrieval()),
        (retrieval, [("stream", "false"), ("include_obfuscation", "false")], Retrieval()),
        (retrieval, [("include_obfuscation", "true")], Retrieval(obfuscate=True)),
        (
            retrieval,
            [("stream", "true"), ("starting_after", "0")],
            Retrieval(stream=True, starting_after=0),
        ),
    ],
)
def test_what_is_read(
    read: Callable[[Any], object], pairs: list[tuple[str, str]], expected: object
) -> None:
    """Defaults are the protocol's, both spellings of arrays count, unknown names are ignored."""
    assert expected == read(MultiDict(pairs))


@pytest.mark.parametrize(
    ("read", "name", "value", "code"),
    [
        (page, "limit", "0", "integer_below_min_value"),
        (page, "limit", "-3", "integer_below_min_value"),
        (page, "limit", "101", "integer_above_max_value"),
        (page, "limit", "", "invalid_type"),
        (page, "limit", "ten", "invalid_type"),
        (page, "limit", "1.0", "invalid_type"),
        (page, "limit", "\u0661", "invalid_type"),
        (page, "limit", "9" * 5000, "invalid_type"),
        (page, "limit", "-", "invalid_type"),
        (page, "order", "newest", "invalid_value"),
        (page, "order", "", "invalid_value"),
        (shown, "include[]", "everything", "invalid_value"),
        (shown, "include", "", "invalid_value"),
        (retrieval, "stream", "1", "invalid_value"),
        (retrieval, "stream", "", "invalid_value"),
        (retrieval, "include_obfuscation", "no", "invalid_value"),
        (retrieval, "starting_after", "-1", "integer_below_min_value"),
        (retrieval, "starting_after", "x", "invalid_type"),
        (retrieval, "include", "x", "invalid_value"),
    ],
)
def test_what_is_refused(read: Callable[[Any], object], name: str, value: str, code: str) -> None:
    """A value out of place is a 400 that names its parameter and stays short."""
    with pytest.raises(InvalidRequest) as refused:
        read(MultiDict([(name, value)]))
    assert (name.removesuffix("[]"), code) == (refused.value.param, refused.value.code)
    assert len(refused.value.message) < 400


@given(
    st.lists(st.text(max_size=3), max_size=30, unique=True),
    st.integers(1, 100),
    st.sampled_from(["asc", "desc"]),
)
def test_pages_join_to_the_list(ids: list[str], limit: int, order: Any) -> None:
    """Following `after` visits every element once, in order, and ends."""
    seen: list[str] = []
    wanted = Page(limit=limit, order=order)
    more = True
    while more:
        positions, more = wanted.cut(ids)
        assert len(positions) <= limit
        seen += [ids[position] for position in positions]
        wanted = Page(limit=limit, order=order, after=seen[-1] if seen else None)
    assert (ids if order == "asc" else ids[::-1]) == seen


def test_an_unknown_place() -> None:
    """`after` must be in the list."""
    with pytest.raises(InvalidRequest) as refused:
        Page(after="z").cut(["a", "b"])
    assert "after" == refused.value.param
