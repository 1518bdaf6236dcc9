"""Tests of `turnwire.rendering.json_call`."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.parts import CallArguments, CallStarted, Part, TextDelta
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.json_call import JsonCall

F = OfferedTool(name="f")
G = OfferedTool(name="s.g", kind="custom", namespace="s")
OFFERED = {"f": F, "s.g": G}
Words = list[tuple[str, str]]


def words_of(parts: list[Part]) -> Words:
    """Parts as (kind, text), deltas that follow each other joined."""
    words: Words = []
    for part in parts:
        match part:
            case CallStarted():
                words.append(("call", f"{part.kind} {part.namespace or ''} {part.name}"))
            case CallArguments(text) | TextDelta(text):
                assert text, "an empty delta says nothing"
                kind = "arguments" if isinstance(part, CallArguments) else "text"
                if words and words[-1][0] == kind:
                    words[-1] = (kind, words[-1][1] + text)
                else:
                    words.append((kind, text))
            case _:
                raise AssertionError(f"a call makes no {part}")
    return words


def read(text: str, cuts: list[int], named: OfferedTool | None = None) -> tuple[Words, str]:
    """A call read in pieces: what it is, and what stands behind it."""
    call = JsonCall(OFFERED, named)
    parts: list[Part] = []
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(text)]):
        parts += call.feed(text[begin:end])
    rest = call.rest if call.done else "-"
    parts += call.close()
    return words_of(parts), rest


STARTED = ("call", "function  f")
CUSTOM = ("call", "custom s g")
CASES = [
    pytest.param(
        '\n{"name": "f", "arguments": {"a": [1, "}\\""]}}\n',
        [STARTED, ("arguments", '{"a": [1, "}\\""]}')],
        "\n",
        id="as Hermes writes it",
    ),
    pytest.param(
        '{"name": "f", "parameters": {}};', [STARTED, ("arguments", "{}")], ";", id="Llama"
    ),
    pytest.param(
        '{"type": "function", "name": "f", "parameters": { }}',
        [STARTED, ("arguments", "{ }")],
        "",
        id="with its type",
    ),
    pytest.param(
        '{"name": "f", "arguments": {"a": 1}, "id": "x}"} ]',
        [STARTED, ("arguments", '{"a": 1}')],
        " ]",
        id="something behind the arguments",
    ),
    pytest.param(
        '{"arguments": {"a":1}, "name": "f"}', [STARTED, ("arguments", '{"a": 1}')], "", id="order"
    ),
    pytest.param(
        '{"name": "f", "arguments": "{\\"a\\": 1}"}',
        [STARTED, ("arguments", '{"a": 1}')],
        "",
        id="arguments as a string",
    ),
    pytest.param(
        '{"type": "function", "function": {"name": "f", "arguments": "{}"}}',
        [STARTED, ("arguments", "{}")],
        "",
        id="as chat completions have it",
    ),
    pytest.param('{"name": "f"}', [STARTED, ("arguments", "{}")], "", id="no arguments"),
    pytest.param(
        '{"name": "s.g", "arguments": {"input": "a\\n\\ud83d\\udc69\\"}b\\u00e9\\/\\ud800x"}} y',
        [CUSTOM, ("arguments", 'a\n👩"}bé/\N{REPLACEMENT CHARACTER}x')],
        " y",
        id="a custom tool's input",
    ),
    pytest.param(
        '{"name": "s.g", "arguments": {"text": "a"}}',
        [CUSTOM, ("arguments", '{"text": "a"}')],
        "",
        id="a custom tool's other field",
    ),
    pytest.param(
        '{"name": "s.g", "arguments": {"x": 1, "input": "a"}}',
        [CUSTOM, ("arguments", "a")],
        "",
        id="a custom tool's second field",
    ),
    pytest.param(
        '{"arguments": {"input": "a"}, "name": "s.g"}', [CUSTOM, ("arguments", "a")], "", id="both"
    ),
    pytest.param('{"name": "s.g", "arguments": {"input": ""}}', [CUSTOM], "", id="an empty input"),
    pytest.param('{"name": "h", "arguments": {}} x', None, "-", id="a tool that is not offered"),
    pytest.param('{"name": "h"', None, "-", id="half a call"),
    pytest.param('{"title": "x"}', None, "-", id="another object"),
    pytest.param('{"name": 1}', None, "-", id="a name that is none"),
    pytest.param('{"name": "f", "arguments": "[1"}', None, "-", id="arguments that are none"),
    pytest.param('{"name": "f", "arguments": [1]}', None, "-", id="arguments that are a list"),
    pytest.param("Hello {", None, "-", id="text"),
    pytest.param('{"name": "f" "x"}', None, "-", id="no JSON"),
    pytest.param(
        '{"name": "f", "arguments": {"a"', [STARTED, ("arguments", '{"a"')], "-", id="cut"
    ),
    pytest.param(
        '{"name": "s.g", "arguments": {"input": "a\\u00',
        [CUSTOM, ("arguments", "a\N{REPLACEMENT CHARACTER}")],
        "-",
        id="cut in an escape",
    ),
]


@pytest.mark.parametrize(("text", "words", "rest"), CASES)
def test_reading(text: str, words: Words | None, rest: str) -> None:
    """What a call says, and that it does not matter how it is cut."""
    expected = [("text", text)] if words is None else words
    assert (expected, rest) == read(text, [])
    assert (expected, rest) == read(text, list(range(1, len(text))))
    for cut in range(1, len(text)):
        assert (expected, rest) == read(text, [cut])


def test_arguments_alone() -> None:
    """Where the name was said before, the object is the arguments."""
    assert ([STARTED, ("arguments", '{"a": 1}')], " x") == read('{"a": 1} x', [3], F)
    assert ([CUSTOM, ("arguments", "ab")], "]") == read('{"input": "ab"}]', [13], G)


@given(st.dictionaries(st.text(), st.text()), st.lists(st.integers(0, 400), max_size=5))
def test_arguments_go_out_in_the_models_words(arguments: dict[str, str], cuts: list[int]) -> None:
    """Whatever is in them, the arguments are those that were written."""
    spelled = json.dumps(arguments)
    text = f'{{"name": "f", "arguments": {spelled}}}'
    words, rest = read(text, [min(cut, len(text)) for cut in cuts])
    assert ([STARTED, ("arguments", spelled)], "") == (words, rest)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans(), st.integers(0, 200))
def test_inputs_are_decoded(given_input: str, ascii_only: bool, cut: int) -> None:
    """A custom tool's input is the text itself."""
    spelled = json.dumps({"input": given_input}, ensure_ascii=ascii_only)
    text = f'{{"name": "s.g", "arguments": {spelled}}}'
    expected = [CUSTOM, *([("arguments", given_input)] if given_input else [])]
    assert (expected, "") == read(text, [min(cut, len(text))])


@given(st.text(st.sampled_from('{}[]"\\ nametugsf:,1u'), max_size=60), st.integers(0, 60))
def test_any_text(text: str, cut: int) -> None:
    """Nothing breaks it, nothing of what is no call is lost, and cuts do not matter."""
    words, rest = read(text, [])
    assert (words, rest) == read(text, [min(cut, len(text))])
    if words and words[0][0] == "text":
        assert [("text", text)] == words


def test_what_is_known_of_a_call() -> None:
    """It says whether an item is open, and whether it turned out to be text."""
    call = JsonCall(OFFERED)
    call.feed('{"name": ')
    assert (False, False) == (call.opened, call.is_text)
    call.feed('"f", "arguments": {')
    assert (True, False) == (call.opened, call.is_text)
    text = JsonCall(OFFERED)
    assert [TextDelta("x")] == text.feed("x")
    assert [TextDelta("y")] == text.feed("y")
    assert [] == text.feed("")
    assert (True, True) == (text.opened, text.is_text)


def test_a_call_that_nobody_waits_for() -> None:
    """It is known from its first part on."""
    later = {"f": OfferedTool(name="f", is_async=True)}
    [started, *_] = JsonCall(later).feed('{"name": "f", "arguments": {')
    assert isinstance(started, CallStarted)
    assert started.is_async


def test_a_long_header() -> None:
    """A call whose name comes late is read at its end."""
    arguments = json.dumps({"a": "x" * 5000})
    text = f'{{"arguments": {arguments}, "name": "f"}} tail'
    assert ([STARTED, ("arguments", arguments)], " tail") == read(
        text, list(range(1, len(text), 7))
    )
