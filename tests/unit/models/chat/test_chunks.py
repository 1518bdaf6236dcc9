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
    stream = ChunkStream()
    found: list[Chunk] = []
    for at, to in zip(places, places[1:], strict=False):  # noqa: RUF007
        found += stream.feed(BODY[at:to])
    found += stream.finish()
    assert ["Größe ", "日本", None] == said(found)
    assert stream.done


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'data: {"a":1}\n\n', [b'{"a":1}', b""]),
        (b"data:1\ndata:2\n", [b"1", b"2"]),
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"1", b"", b"2", b""]),
        (b": ping\n\nevent: x\nid: 1\nretry: 5\n\n\n", [b"", b"", b""]),
        (b'error: {"message":"m"}\n\n', [b'{"error": {"message":"m"}}', b""]),
    ],
    ids=["usual", "no-empty-lines", "crlf", "other-fields", "llama-server"],
)
def test_event_lines(data: bytes, expected: list[bytes]) -> None:
    """The values of `data` lines and of errors, and the ends of events, whatever else there is."""
    assert expected == EventLines().feed(data)


def test_a_last_line_without_an_end_counts() -> None:
    """Servers that stop without a line end are understood."""
    stream = ChunkStream()
    assert [] == stream.feed(b"".join(sse(text("hi"), done=False)).rstrip())
    assert ["hi"] == said(stream.finish())
    assert not stream.done


def test_what_follows_done_is_not_read() -> None:
    """Nothing behind `[DONE]` can break an answer that is whole."""
    stream = ChunkStream()
    assert 1 == len(stream.feed(b"".join(sse(end())) + b"data: nonsense\n\n"))
    assert stream.done


def test_an_answer_that_is_not_streamed_is_one_chunk() -> None:
    """A server that ignores `stream` gives a message in place of deltas."""
    stream = ChunkStream()
    whole = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    data = json.dumps(whole, indent=1).encode()
    assert [] == stream.feed(data[:9]) + stream.feed(data[9:])
    [chunk] = stream.finish()
    assert chunk.choices
    assert chunk.choices[0].message
    assert "hi" == chunk.choices[0].message.content


WHOLE = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
HI = b"".join(sse(text("hi")))


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    ("data", "num_chunks"),
    [
        (WHOLE, 1),
        (b"\r\n " + WHOLE, 1),
        (HI, 1),
        (b"\xef\xbb\xbf" + HI, 1),
        (b"\n\n: ping\n\n" + HI, 1),
        (HI.replace(b',"', b',\ndata: "'), 1),
        (HI.replace(b',"', b',\r\ndata:"').replace(b"\n\n", b"\r\n\r\n"), 1),
        (b"data:\n\n" + HI, 1),
        (HI.replace(b"\n\n", b"\n"), 1),
    ],
    ids=["json", "space", "events", "mark", "ping", "lines", "crlf", "empty", "no-empty-lines"],
)
def test_what_comes_is_what_its_bytes_say(data: bytes, num_chunks: int, cut: bool) -> None:
    """JSON or events, whatever was announced; data of an event may have several lines."""
    stream = ChunkStream()
    pieces = [data[at : at + 1] for at in range(len(data))] if cut else [data]
    found = [chunk for piece in pieces for chunk in stream.feed(piece)] + stream.finish()
    assert num_chunks == len(found)
    assert all(chunk.choices for chunk in found)


@pytest.mark.parametrize(
    "data",
    [
        b"data: {\n\n",
        b"data: {\ndata: nonsense\n\n",
        b"data: []\n\n",
        b'data: {"choices":7}\n',
        b'data: "\xff"\n',
        b"data: " + b"[" * 100_000 + b"\n",
        b"nonsense",
        b"{nonsense",
        b"[]",
        b"<html>it works</html>",
        b" \n",
        b"",
    ],
    ids=str,
)
def test_nonsense_is_an_error(data: bytes) -> None:
    """Whatever is no chunk fails as the engine's fault, with one sentence."""
    stream = ChunkStream()
    with pytest.raises(EngineError, match="no chat completion"):
        _ = stream.feed(data) + stream.finish()


def test_an_event_that_is_none_fails_at_its_end() -> None:
    """What follows it is not waited for."""
    with pytest.raises(EngineError, match="no chat completion"):
        ChunkStream().feed(b"data: {nonsense\n\n" + HI)


@pytest.mark.parametrize(
    ("spelled", "read"),
    [
        (b"caf\xc3", "caf\ufffd"),
        (rb"\ud83d", "\ufffd"),
        (rb"a\ude00b", "a\ufffdb"),
        (rb"\ud83d\ude00", "\U0001f600"),
    ],
    ids=["utf-8", "first-half", "second-half", "both"],
)
def test_half_a_character_costs_no_answer(spelled: bytes, read: str) -> None:
    """It is shown as what it is, a character that is none."""
    data = b'{"choices":[{"delta":{"content":"' + spelled + b'"}}]}'
    assert [read] == said([decode_chunk(data)])


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        ({"choices": []}, None),
        ({"choices": [], "error": None}, None),
        ({"choices": [], "error": {}}, None),
        ({"choices": [], "error": False}, None),
        ({"error": "went wrong"}, "went wrong"),
        ({"choices": [{"error": {"code": 502}}]}, {"code": 502}),
        ({"object": "error", "message": "m"}, {"object": "error", "message": "m"}),
        ({"detail": "Not Found"}, {"detail": "Not Found"}),
    ],
    ids=["none", "null", "empty", "false", "usual", "openrouter", "vllm", "fastapi"],
)
def test_where_errors_stand(event: dict[str, Any], failure: Any) -> None:
    """An error is found where some server puts it, and none where they say so."""
    found = decode_chunk(json.dumps(event).encode()).failure
    assert failure == (None if found is None else json.loads(found))


@pytest.mark.parametrize(
    ("begin", "problem"),
    [(b"data:", "without an end"), (b"{", "too long"), (b"data: {\n", "too long")],
)
def test_lines_and_answers_have_a_bound(
    monkeypatch: pytest.MonkeyPatch, begin: bytes, problem: str
) -> None:
    """A line, an event and an answer without an end are given up."""
    monkeypatch.setattr(chunks, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(chunks, "MAX_WHOLE_BYTES", 100)
    stream = ChunkStream()
    stream.feed(begin)
    more = b"data: x\n" if begin.endswith(b"\n") else b"x"
    for _ in range(90):
        stream.feed(more)
    with pytest.raises(EngineError, match=problem):
        stream.feed(20 * more)


@pytest.mark.parametrize(
    ("fields", "cached", "reasoning"),
    [
        ({}, 0, 0),
        ({"prompt_tokens_details": None, "completion_tokens_details": None}, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": None}}, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": 4}}, 4, 0),
        ({"prompt_cache_hit_tokens": 5}, 5, 0),
        ({"completion_tokens_details": {"reasoning_tokens": 6}}, 0, 6),
        ({"prompt_tokens_details": {"cached_tokens": 4.0}}, 4, 0),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, 0, 0),
    ],
    ids=str,
)
def test_usage_in_its_shapes(fields: dict[str, Any], cached: int, reasoning: int) -> None:
    """Cached and reasoning tokens are found where servers put them, and are 0 elsewhere."""
    counts = {"prompt_tokens": 9, "completion_tokens": 8, **fields}
    found = decode_chunk(json.dumps({"choices": [], "usage": counts}).encode()).usage
    assert found
    assert (9, 8) == (found.num_prompt, found.num_output)
    assert (cached, reasoning) == (found.num_cached, found.num_reasoning)


@pytest.mark.parametrize(
    ("counts", "prompt", "output"),
    [
        ({"prompt_tokens": 3.0, "completion_tokens": 1.0}, 3, 1),
        ({"prompt_tokens": None, "completion_tokens": None}, 0, None),
        ({"prompt_tokens": -3, "completion_tokens": -1}, 0, 0),
        ({"prompt_tokens": 1e300, "completion_tokens": 0}, 2**53, 0),
        ({}, 0, None),
    ],
    ids=["floats", "nulls", "negative", "huge", "absent"],
)
def test_counts_that_make_no_sense(counts: dict[str, Any], prompt: int, output: int | None) -> None:
    """They are made what they can be; no number of an endpoint's breaks a turn."""
    found = decode_chunk(json.dumps({"choices": [], "usage": counts}).encode()).usage
    assert found
    assert (prompt, output) == (found.num_prompt, found.num_output)
