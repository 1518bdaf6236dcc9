"""Bytes of an answer to chunks, wherever reads end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.endpoint import end, sse, text, usage

from turnwire.errors import EngineError
from turnwire.models.chat import chunks
from turnwire.models.chat.chunks import Chunk, ChunkStream, EventLines, decode_chunk


def said(found: list[Chunk]) -> list[Any]:
    """The contents of chunks."""
    return [chunk.choices[0].delta.content for chunk in found if chunk.choices and
            chunk.choices[0].delta]  # fmt: skip


BODY = b"".join(sse(text("Größe "), text("日本"), end(), usage(3, 2)))


@given(st.lists(st.integers(0, len(BODY))))
def test_reads_may_end_anywhere(cuts: list[int]) -> None:
    """The same chunks come out of the same bytes, cut in any way."""
    places = sorted({0, len(BODY), *cuts})
    stream = ChunkStream(streams=True)
    found: list[Chunk] = []
    for at, to in zip(places, places[1:], strict=False):  # noqa: RUF007
        found += stream.feed(BODY[at:to])
    found += stream.finish()
    assert ["Größe ", "日本", None] == said(found)
    assert stream.done


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'data: {"a":1}\n\n', [b' {"a":1}']),
        (b"data:1\ndata:2\n", [b"1", b"2"]),
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b" 1\r", b" 2\r"]),
        (b": ping\n\nevent: x\nid: 1\nretry: 5\n\n\n", []),
        (b'error: {"message":"m"}\n\n', [b'{"error": {"message":"m"}}']),
    ],
    ids=["usual", "no-empty-lines", "crlf", "other-fields", "llama-server"],
)
def test_event_lines(data: bytes, expected: list[bytes]) -> None:
    """The values of `data` lines, and of errors, whatever else there is."""
    assert expected == EventLines().feed(data)


def test_a_last_line_without_an_end_counts() -> None:
    """Servers that stop without a line end are understood."""
    stream = ChunkStream(streams=True)
    assert [] == stream.feed(b"".join(sse(text("hi"), done=False)).rstrip())
    assert ["hi"] == said(stream.finish())
    assert not stream.done


def test_what_follows_done_is_not_read() -> None:
    """Nothing behind `[DONE]` can break an answer that is whole."""
    stream = ChunkStream(streams=True)
    assert 1 == len(stream.feed(b"".join(sse(end())) + b"data: nonsense\n\n"))
    assert stream.done


def test_an_answer_that_is_not_streamed_is_one_chunk() -> None:
    """A server that ignores `stream` gives a message in place of deltas."""
    stream = ChunkStream(streams=False)
    whole = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    data = json.dumps(whole, indent=1).encode()
    assert [] == stream.feed(data[:9]) + stream.feed(data[9:])
    [chunk] = stream.finish()
    assert chunk.choices
    assert chunk.choices[0].message
    assert "hi" == chunk.choices[0].message.content


@pytest.mark.parametrize(
    ("streams", "data"),
    [
        (True, b"data: {\n"),
        (True, b"data: []\n"),
        (True, b'data: {"choices":7}\n'),
        (True, b'data: "\xff"\n'),
        (True, b"data: " + b"[" * 100_000 + b"\n"),
        (True, b"<html>it works</html>"),
        (True, b""),
        (False, b"<html>it works</html>"),
        (False, b""),
    ],
    ids=str,
)
def test_nonsense_is_an_error(streams: bool, data: bytes) -> None:
    """Whatever is no chunk fails as the engine's fault, with one sentence."""
    stream = ChunkStream(streams=streams)
    with pytest.raises(EngineError, match="no chat completion"):
        _ = stream.feed(data) + stream.finish()


def test_lines_and_answers_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end, and an answer without an end, are given up."""
    monkeypatch.setattr(chunks, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(chunks, "MAX_WHOLE_BYTES", 100)
    for streams, problem in ((True, "without an end"), (False, "too long")):
        stream = ChunkStream(streams=streams)
        stream.feed(b"x" * 60)
        with pytest.raises(EngineError, match=problem):
            stream.feed(b"x" * 60)


@pytest.mark.parametrize(
    ("fields", "cached", "reasoning"),
    [
        ({}, 0, 0),
        ({"prompt_tokens_details": None, "completion_tokens_details": None}, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": None}}, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": 4}}, 4, 0),
        ({"prompt_cache_hit_tokens": 5}, 5, 0),
        ({"completion_tokens_details": {"reasoning_tokens": 6}}, 0, 6),
    ],
    ids=str,
)
def test_usage_in_its_shapes(fields: dict[str, Any], cached: int, reasoning: int) -> None:
    """Cached and reasoning tokens are found where servers put them, and are 0 elsewhere."""
    counts = {"prompt_tokens": 9, "completion_tokens": 8, **fields}
    found = decode_chunk(json.dumps({"choices": [], "usage": counts}).encode()).usage
    assert found
    assert (9, 8) == (found.prompt_tokens, found.completion_tokens)
    assert (cached, reasoning) == (found.num_cached, found.num_reasoning)
