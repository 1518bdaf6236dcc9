"""Tests of `turnwire.gguf`: what is written is read; what is broken is named."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import ConfigError
from turnwire.gguf import GgufHeader, Value, parse_gguf, read_gguf

STRING, ARRAY, U32, BOOL, F64 = 8, 9, 4, 7, 12


def string(text: str) -> bytes:
    """A string as the format writes it."""
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def number(code: str, value: float) -> bytes:
    """A number of the struct module's code."""
    return struct.pack(f"<{code}", value)


def array(kind: int, elements: list[bytes]) -> bytes:
    """An array of elements that are written already."""
    return struct.pack("<IQ", kind, len(elements)) + b"".join(elements)


def head(num_pairs: int, version: int = 3, num_tensors: int = 7) -> bytes:
    """What stands before the pairs."""
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_pairs)


def pair(key: str, kind: int, value: bytes) -> bytes:
    """A key and its value."""
    return string(key) + struct.pack("<I", kind) + value


NUMBERS: list[tuple[int, str, float]] = [
    (0, "B", 255),
    (1, "b", -1),
    (2, "H", 65535),
    (3, "h", -2),
    (4, "I", 4_000_000_000),
    (5, "i", -4),
    (6, "f", 0.5),
    (10, "Q", 2**63),
    (11, "q", -(2**62)),
    (12, "d", 1e-5),
]


@pytest.mark.parametrize(("kind", "code", "value"), NUMBERS)
def test_numbers(kind: int, code: str, value: float) -> None:
    """Every type of number is read alone and in an array."""
    one = number(code, value)
    data = head(2) + pair("one", kind, one) + pair("some", ARRAY, array(kind, [one, one]))
    assert {"one": value, "some": (value, value)} == dict(parse_gguf(data).metadata)


def test_the_other_types() -> None:
    """Bools, strings, arrays of them, and arrays in arrays."""
    data = (
        head(5)
        + pair("yes", BOOL, b"\1")
        + pair("bits", ARRAY, array(BOOL, [b"\1", b"\0"]))
        + pair("text", STRING, string("größe 日本"))
        + pair("words", ARRAY, array(STRING, [string("a"), string(""), string("\udcff")]))
        + pair("deep", ARRAY, array(ARRAY, [array(U32, [number("I", 1)]), array(U32, [])]))
    )
    expected: dict[str, Value] = {
        "yes": True,
        "bits": (True, False),
        "text": "größe 日本",
        "words": ("a", "", "\udcff"),
        "deep": ((1,), ()),
    }
    assert expected == dict(parse_gguf(data).metadata)


MODEL = (
    pair("general.architecture", STRING, string("qwen2"))
    + pair("qwen2.context_length", U32, number("I", 32768))
    + pair("tokenizer.chat_template", STRING, string("{{ messages }}"))
    + pair("tokenizer.ggml.tokens", ARRAY, array(STRING, [string("a"), string("b")]))
)


def test_what_a_model_says(tmp_path: Path) -> None:
    """The head of a file has names for what every engine asks."""
    path = tmp_path / "model.gguf"
    path.write_bytes(head(4) + MODEL + b"tensors" * 100)
    header = read_gguf(path)
    assert (3, 7) == (header.version, header.num_tensors)
    assert ("qwen2", 32768) == (header.architecture, header.context_length)
    assert "{{ messages }}" == header.chat_template
    assert ("a", "b") == header.get("tokenizer.ggml.tokens", tuple, ())
    assert 5 == header.get("missing", int, 5)


def test_a_file_may_say_nothing() -> None:
    """Without pairs there is no architecture, no length and no template."""
    header = parse_gguf(head(0, version=2))
    assert ("", None, None) == (header.architecture, header.context_length, header.chat_template)


def with_pair(kind: int, value: bytes) -> bytes:
    return head(1) + pair("key", kind, value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"GG", "does not begin with the letters GGUF", id="too short"),
        pytest.param(b"PK\3\4" + bytes(40), "does not begin with the letters GGUF", id="foreign"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull", id="lfs"),
        pytest.param(b"\n<!DOCTYPE html><html>", "a web page", id="html"),
        pytest.param(b"GGUF\3\0\0\0", "breaks off in the head", id="no counts"),
        pytest.param(head(0, version=1), "version 1 is not known", id="old"),
        pytest.param(b"GGUF\0\0\0\3" + bytes(16), "big-endian", id="big-endian"),
        pytest.param(head(2**60), "breaks off in the head", id="more pairs than bytes"),
        pytest.param(
            head(1) + pair("", 10, bytes(7)), "breaks off in the value of ''", id="half a value"
        ),
        pytest.param(
            head(1) + struct.pack("<Q", 2**63) + bytes(16), "breaks off in pair 1 of 1", id="key"
        ),
        pytest.param(with_pair(13, b""), "type that is not known", id="type"),
        pytest.param(with_pair(ARRAY, array(13, [])), "array of a type not known", id="elements"),
        pytest.param(
            with_pair(ARRAY, struct.pack("<IQ", F64, 2**61)), "breaks off in the", id="huge array"
        ),
        pytest.param(
            with_pair(ARRAY, struct.pack("<IQ", STRING, 2) + string("a") + bytes(8)[:7]),
            "breaks off in the value of 'key'",
            id="half a string in an array",
        ),
        pytest.param(
            with_pair(ARRAY, struct.pack("<IQ", ARRAY, 1) * 6), "too deep", id="arrays in arrays"
        ),
        pytest.param(head(2) + pair("a", BOOL, b"\0") * 2, "'a' is there twice", id="twice"),
        pytest.param(
            head(1) + pair("k" * 65_536, BOOL, b"\0"), "the key is 65536 bytes long", id="long key"
        ),
    ],
)
def test_broken_files(data: bytes, reason: str) -> None:
    """An error names the file and what is wrong with it."""
    with pytest.raises(ConfigError, match=f"x.gguf: .*{re.escape(reason)}"):
        parse_gguf(data, "x.gguf")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a directory and an empty file have messages of their own."""
    empty = tmp_path / "empty.gguf"
    empty.touch()
    for path, reason in (
        (tmp_path / "gone", "cannot be read"),
        (tmp_path, "cannot be read"),
        (empty, "it is empty"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=reason):
            read_gguf(path)


def test_a_value_of_another_type() -> None:
    """`get` refuses what is not of the type asked for; a bool is no number."""
    header = GgufHeader("x.gguf", 3, 0, {"a": True, "b": "text", "c": (1,)})
    assert header.get("a", bool, False)
    for key, kind in (("a", int), ("b", int), ("c", str)):
        with pytest.raises(ConfigError, match=f"x.gguf: {key} is of type"):
            header.get(key, kind, kind())


@given(st.integers(0, len(MODEL) + 24))
def test_every_truncation_is_an_error(size: int) -> None:
    """A file that breaks off anywhere in its head is refused, never half read."""
    whole = head(4) + MODEL
    if size >= len(whole):
        assert 4 == len(parse_gguf(whole[:size]).metadata)
        return
    with pytest.raises(ConfigError):
        parse_gguf(whole[:size])


@given(st.integers(0, 2**32))
def test_damaged_bytes(seed: int) -> None:
    """Bytes changed at random give a header or a ConfigError, nothing else."""
    rng = random.Random(seed)
    data = bytearray(head(4) + MODEL)
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        metadata: Mapping[str, Value] = parse_gguf(bytes(data)).metadata
    except ConfigError:
        return
    assert 4 >= len(metadata)


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_magic(data: bytes) -> None:
    """So do bytes that were never a file of this kind."""
    try:
        header = parse_gguf(b"GGUF\3\0\0\0" + data)
    except ConfigError:
        return
    assert 3 == header.version
