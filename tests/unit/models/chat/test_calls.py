"""A call while it arrives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import EngineError
from turnwire.models.chat.calls import CallInProgress, InputReader
from turnwire.models.chat.toolbox import Toolbox
from turnwire.protocol.tools import OfferedTool

BOX = Toolbox(
    tools={
        "run": OfferedTool(name="run"),
        "note": OfferedTool(name="note", kind="custom"),
    },
    strict={"run": {"type": "object", "required": ["cmd"]}},
)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[at:to] for at, to in zip(places, places[1:], strict=False)]  # noqa: RUF007


@given(st.text(), st.booleans(), st.booleans(), st.lists(st.integers(0, 400)))
def test_an_input_is_the_string_that_was_written(
    text: str, ascii_only: bool, spaced: bool, cuts: list[int]
) -> None:
    """Escaped or not, in pieces of any size, the input comes out as it was meant."""
    written = json.dumps({"input": text}, ensure_ascii=ascii_only, indent=2 if spaced else None)
    reader = InputReader()
    got = [reader.feed(piece) for piece in pieces_of(written, cuts)]
    assert text == "".join(got) + reader.finish()


def test_an_input_is_shown_while_it_arrives() -> None:
    """No more is held back than what cannot be decoded yet."""
    reader = InputReader()
    got = [reader.feed(piece) for piece in ('{"in', 'put": "a', "b\\", "n\\ud83d", '\\ude00c"}')]
    assert ["", "a", "b", "\n", "😀c"] == got


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("ls -l", "ls -l"),
        ('{"patch": "x"}', '{"patch": "x"}'),
        ('{"input": "a\nb\\qc"}', "a\nb\\qc"),
        ('{"input": "cut', "cut"),
    ],
    ids=["plain", "another-key", "careless", "cut"],
)
def test_careless_inputs_are_taken_as_meant(written: str, expected: str) -> None:
    """Models forget the object around an input, and to escape; nothing of it is lost."""
    reader = InputReader()
    assert expected == reader.feed(written) + reader.finish()


def started(name: str, *arguments: str) -> CallInProgress:
    call = CallInProgress("id")
    call.identify(name, BOX)
    for one in arguments:
        call.add(one)
    return call


def test_the_first_name_counts() -> None:
    """A name that is repeated, or changed, says nothing new."""
    call = started("run")
    call.identify("note", BOX)
    assert ("run", BOX.tools["run"]) == (call.name, call.tool)


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        ([], False),
        (["{"], False),
        (['{"a":', '"}"'], False),
        (['{"a":', '"}'], False),
        (['{"a":', "1}"], True),
        (["{} \n"], True),
    ],
    ids=str,
)
def test_whole_arguments_are_an_object(arguments: list[str], whole: bool) -> None:
    """A brace at the end is looked at twice."""
    assert whole == started("run", *arguments).is_whole()


def test_no_arguments_are_an_empty_object() -> None:
    """A call of a tool without parameters has arguments that can be decoded."""
    assert "{}" == started("other").close(BOX, checks=True)
    assert "{}" == started("other", " ").close(BOX, checks=True)


@pytest.mark.parametrize("arguments", ["{}", '{"cmd": ', "[]", ""])
def test_a_strict_call_is_held_to_its_schema(arguments: str) -> None:
    """What breaks it fails; where checks are off, or it is no strict tool, it passes."""
    with pytest.raises(EngineError, match="breaks the tool's schema"):
        started("run", arguments).close(BOX, checks=True)
    started("run", arguments).close(BOX, checks=False)
    started("other", arguments).close(BOX, checks=True)
    assert "" == started("run", '{"cmd":1}').close(BOX, checks=True)
