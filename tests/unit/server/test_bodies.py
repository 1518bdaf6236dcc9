"""What a body's headers may say, by table."""

from __future__ import annotations

import pytest

from turnwire.errors import UnsupportedMediaType
from turnwire.server.bodies import coding_of, require_json


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        (None, True),
        ("application/json", True),
        ("Application/JSON", True),
        ("application/json; charset=utf-8", True),
        ('application/json;charset="UTF-8"', True),
        ("application/json; profile=x; charset=utf8", True),
        ("", False),
        ("text/plain", False),
        ("application/jsonl", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=application/json", False),
        ("application/json; charset=utf-16", False),
        ("application/json; charset=latin-1", False),
    ],
)
def test_content_type(content_type: str | None, taken: bool) -> None:
    """JSON in UTF-8 is taken, and a body that does not say what it is."""
    if taken:
        require_json(content_type)
    else:
        with pytest.raises(UnsupportedMediaType) as refused:
            require_json(content_type)
        assert 415 == refused.value.status


@pytest.mark.parametrize(
    ("content_encoding", "coding"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        (" GZIP ", "gzip"),
        ("x-gzip", "x-gzip"),
        ("deflate", "deflate"),
        ("zstd", "zstd"),
    ],
)
def test_codings(content_encoding: str, coding: str | None) -> None:
    """Names of codings are read as HTTP reads them."""
    assert coding == coding_of(content_encoding)


@pytest.mark.parametrize(
    "content_encoding", ["br", "gzip, gzip", "gzip;q=1", "zip", "*", "é" * 500]
)
def test_codings_that_are_not_taken(content_encoding: str) -> None:
    """Unknown codings, and several at once, are a 415 that stays short."""
    with pytest.raises(UnsupportedMediaType) as refused:
        coding_of(content_encoding)
    assert len(refused.value.message) < 300
