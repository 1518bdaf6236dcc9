"""Tests of `turnwire.engines.http_answer`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.http_answer import AnswerReader, BadAnswer

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = HEAD + b"content-LENGTH:  5 \r\nX: a:b\r\n\r\nhello"
CHUNKS = CHUNKED + b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n"
TRAILED = CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n"


def read(pieces: Sequence[bytes], *, end: bool = False) -> tuple[AnswerReader, bytes]:
    """Read an answer that comes in these pieces."""
    reader = AnswerReader()
    body = b"".join(b"".join(reader.feed(piece)) for piece in pieces)
    if end:
        reader.feed_end()
    return reader, body


@pytest.mark.parametrize(
    ("data", "keeps"),
    [
        pytest.param(LENGTH, True, id="length"),
        pytest.param(CHUNKS, True, id="chunks"),
        pytest.param(TRAILED, True, id="trailers"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH, True, id="announced"),
        pytest.param(LENGTH.replace(b"X: a:b", b"Connection: close"), False, id="the last"),
        pytest.param(LENGTH.replace(b"/1.1", b"/1.0"), False, id="old"),
        pytest.param(LENGTH + b"!", False, id="more than its length"),
    ],
)
@given(cuts=st.lists(st.integers(0, 120), max_size=6))
def test_bodies(data: bytes, keeps: bool, cuts: list[int]) -> None:
    """A body is the same in whatever pieces its answer comes, and its end is seen."""
    places = sorted({0, *cuts, len(data)})
    pieces = [data[a:b] for a, b in pairwise(places)]
    reader, body = read(pieces)
    assert (200, b"hello", True, keeps) == (reader.status, body, reader.ended, reader.keeps)


def test_a_chunk_is_read_as_it_comes() -> None:
    """Nobody waits for the end of a long chunk."""
    reader = AnswerReader()
    assert [] == reader.feed(CHUNKED + b"ffff\r\n")
    assert [b"first"] == reader.feed(b"first")
    assert [b"second"] == reader.feed(b"second")
    assert not reader.ended


def test_a_body_that_ends_with_its_connection() -> None:
    """Without a length the end of the connection is that of the body."""
    reader, body = read([HEAD + b"\r\nhel", b"lo"])
    assert (b"hello", False) == (body, reader.ended)
    reader.feed_end()
    assert (True, False) == (reader.ended, reader.keeps)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"Content-Type: Text/Event-Stream; charset=utf-8", "text/event-stream"),
        (b"Content-Type: application/json", "application/json"),
        (b"Server: x", ""),
    ],
)
def test_the_content_type(line: bytes, kind: str) -> None:
    """It is compared without case and parameters."""
    reader, _ = read([HEAD + line + b"\r\n\r\n"])
    assert kind == reader.content_type


@pytest.mark.parametrize(
    ("head", "ended"),
    [(b"HTTP/1.1 204 No Content\r\n\r\n", True), (HEAD + b"Content-Length: 0\r\n\r\n", True)],
    ids=["no content", "length 0"],
)
def test_empty_bodies(head: bytes, ended: bool) -> None:
    """An answer without a body ends with its head."""
    reader, body = read([head])
    assert (b"", ended) == (body, reader.ended)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", id="another protocol next"),
        pytest.param(HEAD + b"nonsense\r\n\r\n", id="no header"),
        pytest.param(HEAD + b"Content-Length: -5\r\n\r\n", id="no length"),
        pytest.param(HEAD + b"Transfer-Encoding: gzip\r\n\r\n", id="another coding"),
        pytest.param(CHUNKED + b"zz\r\n", id="no size"),
        pytest.param(CHUNKED + b"-1\r\n", id="a negative size"),
        pytest.param(CHUNKED + b"1" * 300, id="a size without an end"),
        pytest.param(CHUNKED + b"2\r\nabc\r\n", id="more than its size"),
        pytest.param(b"HTTP/1.1 200" + b" " * 70_000, id="a head without an end"),
        pytest.param(CHUNKED + b"0\r\n" + b"x" * 70_000, id="trailers without an end"),
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    """It is refused as soon as it is seen."""
    with pytest.raises(BadAnswer):
        read([data])


@pytest.mark.parametrize("size", range(len(CHUNKS)))
def test_one_that_breaks_off(size: int) -> None:
    """The end of the connection anywhere before the end of the answer is a failure."""
    with pytest.raises(BadAnswer, match="broke off"):
        read([CHUNKS[:size]], end=True)


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever comes is read or refused."""
    reader = AnswerReader()
    try:
        for piece in (HEAD, *pieces):
            reader.feed(piece)
        reader.feed_end()
    except BadAnswer:
        return
    assert reader.ended
