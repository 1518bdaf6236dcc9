"""Tests of `turnwire.rendering.bare_json`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.rendering.bare_json import BareJson

QUOTE = '<|"|>'


def read(text: str, size: int = 1) -> tuple[str, bool, str]:
    """The JSON of a text in pieces, whether it is whole, and what stands behind it."""
    bare = BareJson(QUOTE)
    written = "".join(bare.feed(text[at : at + size]) for at in range(0, len(text), size))
    return written, bare.done, bare.rest


@pytest.mark.parametrize(
    ("text", "written", "done", "rest"),
    [
        ("{}", "{}", True, ""),
        ("{}<x>", "{}", True, "<x>"),
        ("{a:1,b-2:true}", '{"a": 1, "b-2": true}', True, ""),
        ('{a:<|"|>x, {"y"}\n<|"|>}', '{"a": "x, {\\"y\\"}\\n"}', True, ""),
        ('{a:[1,{b:[]},<|"|><|"|>],c:{}}', '{"a": [1, {"b": []}, ""], "c": {}}', True, ""),
        ('{<|"|>a b<|"|>:None}', '{"a b": null}', True, ""),
        ("{a:word}", '{"a": "word"}', True, ""),
        ('{a:<|"|>x', '{"a": "x', False, ""),
        ('{a:<|"|>x<|', '{"a": "x', False, ""),
        ("{a:1", '{"a": ', False, ""),
        ("{ a : -1.5e3 }", '{"a": -1.5e3}', True, ""),
    ],
)
def test_objects(text: str, written: str, done: bool, rest: str) -> None:
    """Keys get quotes, strings their escapes, and all else is JSON already."""
    for size in (1, 2, 3, len(text)):
        assert (written, done, rest) == read(text, size)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_any_object(value: object) -> None:
    """What is written in this notation comes back."""

    def bare(one: object) -> str:
        match one:
            case str():
                return f"{QUOTE}{one}{QUOTE}"
            case dict():
                return "{" + ",".join(f"{key}:{bare(inner)}" for key, inner in one.items()) + "}"
            case list():
                return "[" + ",".join(map(bare, one)) + "]"
            case _:
                return json.dumps(one)

    written, done, rest = read(bare({"k": value}), 3)
    assert ({"k": value}, True, "") == (json.loads(written), done, rest)


@given(st.text(st.sampled_from('{}[],: a1<|">')))
def test_any_text(text: str) -> None:
    """Whatever comes is read, in pieces of any size alike."""
    assert read(text, 1) == read(text, 2) == read(text, max(len(text), 1))
