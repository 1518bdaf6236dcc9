"""Tests of `turnwire.rendering.call`."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.parts import CallArguments, CallStarted, Part, TextDelta
from turnwire.protocol.items import CustomToolCall, FunctionCall
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.call import MAX_HEADER_CHARS, CallReader, State, write

OFFERED = {
    "read": OfferedTool(name="read"),
    "db.sql": OfferedTool(name="db.sql", kind="custom", namespace="db"),
}
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
CUTS = st.lists(st.integers(0, 60), max_size=8)


def pieces(text: str, cuts: list[int]) -> list[str]:
    """`text` cut at these places."""
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def read(texts: list[str]) -> tuple[CallReader, list[Part]]:
    """Read a whole call in these pieces."""
    reader = CallReader(OFFERED)
    parts = [part for text in texts for part in reader.feed(text)]
    return reader, [*parts, *reader.close()]


def summary(parts: list[Part]) -> tuple[str | None, str, str]:
    """(tool name, its arguments or input, plain text) of a call's parts."""
    started = [part for part in parts if isinstance(part, CallStarted)]
    assert len(started) <= 1
    arguments = "".join(part.text for part in parts if isinstance(part, CallArguments))
    text = "".join(part.text for part in parts if isinstance(part, TextDelta))
    return (started[0].name if started else None), arguments, text


@pytest.mark.parametrize(
    ("item", "text"),
    [
        pytest.param(
            FunctionCall(call_id="c", name="read", arguments='{ "p":1}'),
            '{"name": "read", "arguments": { "p":1}}',
            id="arguments stay as they are",
        ),
        pytest.param(
            CustomToolCall(call_id="c", name="sql", namespace="db", input='say "é"\n'),
            'db.sql\nsay "é"\n',
            id="input stays as it is too",
        ),
        pytest.param(
            FunctionCall(call_id="c", name='o"dd', arguments=""),
            r'{"name": "o\"dd", "arguments": }',
            id="what a client made up is written all the same",
        ),
    ],
)
def test_write(item: FunctionCall | CustomToolCall, text: str) -> None:
    """A function's call is one JSON object with its name first; an input stands below a name."""
    assert text == write(item)


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), st.booleans(), CUTS)
def test_arguments_are_read_as_they_were_written(
    value: dict[str, object], ascii_only: bool, cuts: list[int]
) -> None:
    """Arguments come back character for character, however the text is cut."""
    arguments = json.dumps(value, ensure_ascii=ascii_only)
    text = write(FunctionCall(call_id="c", name="read", arguments=arguments))
    reader, parts = read(pieces(text, cuts))
    assert ("read", arguments, "") == summary(parts)
    assert State.AFTER is reader.state


@given(st.text(max_size=20), CUTS)
def test_inputs_are_read_as_they_were_written(value: str, cuts: list[int]) -> None:
    """A custom tool's input comes back character for character, however the text is cut."""
    item = CustomToolCall(call_id="c", name="sql", namespace="db", input=value)
    reader, parts = read(pieces(write(item), cuts))
    assert ("sql", value, "") == summary(parts)
    assert State.INPUT is reader.state


@given(st.text(alphabet='{}"\\:, \nnameargutsip[]u0', max_size=40), CUTS)
def test_any_text_is_read_the_same_however_it_is_cut(tail: str, cuts: list[int]) -> None:
    """Cuts change how deltas are joined and nothing else."""
    for text in (tail, '{"name":"read","arguments":{' + tail, "db.sql" + tail, "read" + tail):
        assert summary(read([text])[1]) == summary(read(pieces(text, cuts))[1])


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "[1]",
        '{"arguments": {}, "name": "read"}',
        '{"name": "read"}',
        '{"name": "other", "arguments": {}}',
        '{"name": "db.sql", "arguments": {}}',
        "read\n{}",
        "sql\nselect 1",
        "db.sql",
        "db.sql select 1",
        '{"name": "read", "arguments": "text"}',
        '{"name": "read", "arguments": ',
        '{"name": 1}',
        "   ",
        "{" + " " * MAX_HEADER_CHARS + "and much more",
    ],
)
def test_what_is_no_call_of_an_offered_tool_stays_text(text: str) -> None:
    """Nothing is lost of a body that cannot be a call, whole or letter by letter."""
    assert (None, "", text) == summary(read([text])[1])
    assert (None, "", text) == summary(read(list(text))[1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            '\n{ "name" :"read" ,\t"arguments":\n{"a":1} } \n',
            ("read", '{"a":1}', ""),
            id="whitespace",
        ),
        pytest.param(
            '{"name":"read","arguments":{},"x":{"y":"}"}}', ("read", "{}", ""), id="more fields"
        ),
        pytest.param(
            '{"name":"read","arguments":{"a":"}\\"{\\\\"}}',
            ("read", '{"a":"}\\"{\\\\"}', ""),
            id="braces and quotes in strings",
        ),
        pytest.param('{"name":"read","arguments":{"a":', ("read", '{"a":', ""), id="broken off"),
        pytest.param("db.sql\nselect 1\n", ("sql", "select 1\n", ""), id="input"),
        pytest.param("\n db.sql \t\r\n x", ("sql", " x", ""), id="whitespace around a name"),
        pytest.param("db.sql\n\n\n", ("sql", "\n\n", ""), id="input of line ends"),
        pytest.param('db.sql\n{"a\\u00', ("sql", '{"a\\u00', ""), id="nothing is an escape"),
        pytest.param("db.sql\n", ("sql", "", ""), id="empty input"),
    ],
)
def test_reading(text: str, expected: tuple[str, str, str]) -> None:
    """The reader is tolerant of form, whole or letter by letter."""
    assert expected == summary(read([text])[1])
    assert expected == summary(read(list(text))[1])


def test_a_call_starts_when_its_name_is_whole_and_its_value_begins() -> None:
    """`CallStarted` comes with the first sign of the arguments, not before."""
    reader = CallReader(OFFERED)
    assert [] == reader.feed("db.sq")
    assert [] == reader.feed("l")
    assert not reader.opened
    (started,) = reader.feed("\n")
    assert isinstance(started, CallStarted)
    assert ("sql", "custom", "db") == (started.name, started.kind, started.namespace)
    assert [CallArguments("select")] == reader.feed("select")


def test_a_call_is_as_async_as_its_tool() -> None:
    """Whether the model waits for the output is the tool's to say."""
    for is_async in (False, True):
        reader = CallReader({"f": OfferedTool(name="f", is_async=is_async)})
        started = reader.feed('{"name":"f","arguments":{')[0]
        assert isinstance(started, CallStarted)
        assert is_async == started.is_async


def test_every_call_has_an_id_of_its_own() -> None:
    """Two equal calls differ in their call_id, which carries the wire's prefix."""
    text = '{"name": "read", "arguments": {}}'
    first, second = (read([text])[1][0] for _ in range(2))
    assert isinstance(first, CallStarted)
    assert isinstance(second, CallStarted)
    assert first.call_id.startswith("call_")
    assert first.call_id != second.call_id
