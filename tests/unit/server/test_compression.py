"""Decompression with a bound, against what senders produce and what attackers do."""

from __future__ import annotations

import contextlib
import gzip
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.server.compression import CODINGS, BrokenBody, TooMuch, decompressed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    """Deflate without the zlib frame, as some senders do it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("zstd", zstd.compress),
]
IDS = ["gzip", "x-gzip", "zlib", "raw", "zstd"]
packers = pytest.mark.parametrize(("coding", "pack"), PACKERS, ids=IDS)


@packers
@given(data=st.binary(max_size=2000))
def test_there_and_back(coding: str, pack: object, data: bytes) -> None:
    """What was compressed comes back if it fits exactly, and is refused if it is one too long."""
    assert callable(pack)
    packed = pack(data)
    assert data == decompressed(packed, coding, len(data))
    if data:
        with pytest.raises(TooMuch):
            decompressed(packed, coding, len(data) - 1)


@packers
@given(data=st.binary(min_size=1, max_size=300), at=st.floats(0, 1, exclude_max=True))
def test_a_body_that_is_cut(coding: str, pack: object, data: bytes, at: float) -> None:
    """A body without its end is refused, wherever it was cut."""
    assert callable(pack)
    packed = pack(data)
    with pytest.raises((BrokenBody, TooMuch)):
        decompressed(packed[: max(1, int(at * len(packed)))], coding, len(data))


@pytest.mark.parametrize("coding", sorted(CODINGS))
@given(data=st.binary(min_size=1, max_size=100))
def test_any_bytes(coding: str, data: bytes) -> None:
    """Bytes of any kind give a body within the limit, or one of the two errors."""
    with contextlib.suppress(BrokenBody, TooMuch):
        assert len(decompressed(data, coding, 1000)) <= 1000


@packers
def test_a_bomb(coding: str, pack: object) -> None:
    """A body of some kilobytes that promises 64 MiB costs no more memory than the limit."""
    assert callable(pack)
    bomb = pack(bytes(2**26))
    assert len(bomb) < 2**17
    tracemalloc.start()
    try:
        with pytest.raises(TooMuch):
            decompressed(bomb, coding, 2**16)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(("coding", "pack"), [PACKERS[0], PACKERS[4]], ids=["gzip", "zstd"])
def test_members(coding: str, pack: object) -> None:
    """Members join, up to a number; the limit holds for all of them together."""
    assert callable(pack)
    member = pack(b"ab")
    assert b"ab" * 16 == decompressed(member * 16, coding, 32)
    with pytest.raises(BrokenBody, match="members"):
        decompressed(member * 17, coding, 1000)
    with pytest.raises(TooMuch):
        decompressed(member * 16, coding, 31)
    with pytest.raises(BrokenBody):
        decompressed(member + b"behind", coding, 1000)


def test_a_window_that_is_too_large() -> None:
    """A zstd frame cannot make the decoder hold more than 8 MiB."""
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 24}
    packer = zstd.ZstdCompressor(options=options)
    with pytest.raises(BrokenBody):
        decompressed(packer.compress(b"x") + packer.flush(), "zstd", 1000)
