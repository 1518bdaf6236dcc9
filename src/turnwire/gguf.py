"""What a GGUF file says about its model, read without loading it.

The head of such a file is a list of keys and values: architecture, context length, vocabulary,
chat template. It is read through a memory map, tensors are never touched. Layout, all
little-endian (the format's specification, versions 2 and 3):

    file    magic "GGUF", version u32, number of tensors u64, number of pairs u64, then the pairs
    pair    key: string, type u32, value
    string  length in bytes u64, UTF-8
    array   type of its elements u32, number of elements u64, the elements

A file is somebody else's: every length in it is held against the bytes that are left before
anything is made of that size.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from msgspec import Struct

from turnwire.errors import ConfigError

__all__ = ["GgufHeader", "Value", "parse_gguf", "read_gguf"]

Value = int | float | bool | str | tuple["Value", ...]
"""A value as Python spells it; arrays are tuples. Bytes that are no UTF-8 are in a string as
lone surrogates (`surrogateescape`), so that nothing is lost."""

T = TypeVar("T", bound=Value)

_MAGIC: Final = b"GGUF"
_LFS_POINTER: Final = b"version https://git-lfs"
_STRING: Final = 8
_ARRAY: Final = 9
_BOOL: Final = 7
# By the format's number of the type: struct code, which is also the array module's.
_NUMBERS: Final = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    _BOOL: "B",
    10: "Q",
    11: "q",
    12: "d",
}
_UNPACK: Final = {kind: struct.Struct(f"<{code}") for kind, code in _NUMBERS.items()}
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_LEAST_PAIR: Final = 8 + 4 + 1  # an empty key, a type, one byte
_MAX_DEPTH: Final = 4  # arrays in arrays; no file is known that has any
_MAX_KEY_BYTES: Final = 65_535  # the specification's


class GgufHeader(Struct, frozen=True, eq=False):
    """The head of one file.

    Attributes:
        name: The file's, for messages.
        version: Of the format, 2 or 3.
        num_tensors: How many tensors follow.
        metadata: Every value by its key, in the file's order.
    """

    name: str
    version: int
    num_tensors: int
    metadata: Mapping[str, Value]

    @property
    def architecture(self) -> str:
        """`llama`, `qwen2`, `gpt-oss`, ...; "" if the file does not say."""
        return self.get("general.architecture", str, "")

    @property
    def context_length(self) -> int | None:
        """The longest context that the model was trained for, in tokens."""
        found = self.get(f"{self.architecture}.context_length", int, 0)
        return found if found > 0 else None

    @property
    def chat_template(self) -> str | None:
        """The template, in the language of Jinja."""
        return self.get("tokenizer.chat_template", str, "") or None

    def get(self, key: str, kind: type[T], default: T) -> T:
        """The value of `key`, or `default` if there is none.

        Raises:
            ConfigError: it is of another type than `kind`; a bool is no int.
        """
        value = self.metadata.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(
                f"{self.name}: {key} is of type {type(value).__name__}, not {kind.__name__}"
            )
        return value


def read_gguf(path: str | Path) -> GgufHeader:
    """Read the head of a file; costs a few tenths of a second for a large vocabulary.

    Raises:
        ConfigError: the file cannot be read, is of another kind, or breaks off.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ConfigError(f"{name}: not a GGUF file: it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return parse_gguf(data, name)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{name}: cannot be read: {reason}") from error


def parse_gguf(data: bytes | mmap.mmap, name: str = "gguf") -> GgufHeader:
    """Read the head of a file from its bytes; `name` is for messages.

    Raises:
        ConfigError: the bytes are of another kind, or break off.
    """
    return _Reader(data, name).header()


class _Reader:
    """A place in the bytes, which only moves forward."""

    def __init__(self, data: bytes | mmap.mmap, name: str) -> None:
        self._data = data
        self._name = name
        self._size = len(data)
        self._at = 0
        self._what = "the head"  # what is read now, for messages

    def header(self) -> GgufHeader:
        if self._take(min(4, self._size)) != _MAGIC:
            raise self._error(f"not a GGUF file: {self._what_else()}")
        version = self._number(_U32)
        if version in (0x0200_0000, 0x0300_0000):
            raise self._error("a big-endian GGUF file; convert it for this machine")
        if version not in (2, 3):
            raise self._error(f"GGUF version {version} is not known here, only 2 and 3")
        num_tensors = self._number(_U64)
        num_pairs = self._number(_U64)
        self._room(num_pairs, _LEAST_PAIR)
        metadata: dict[str, Value] = {}
        for n in range(num_pairs):
            self._what = f"pair {n + 1} of {num_pairs}"
            key = self._string()
            if len(key) > _MAX_KEY_BYTES:
                raise self._error(f"{self._what}: the key is {len(key)} bytes long")
            if key in metadata:
                raise self._error(f"{self._what}: the key {key[:80]!r} is there twice")
            self._what = f"the value of {key[:80]!r}"
            metadata[key] = self._value(self._number(_U32), 0)
        return GgufHeader(self._name, version, num_tensors, MappingProxyType(metadata))

    def _what_else(self) -> str:
        """What a file is that people take for a model's, as far as its first bytes say."""
        begin = self._data[: len(_LFS_POINTER)]
        if begin == _LFS_POINTER:
            return "it is a pointer of Git LFS; fetch the file itself with `git lfs pull`"
        if begin.lstrip().startswith(b"<"):
            return "it is a web page; download the file itself"
        return "it does not begin with the letters GGUF"

    def _value(self, kind: int, depth: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(depth)
        number = _UNPACK.get(kind)
        if number is None:
            raise self._error(f"{self._what} is of a type that is not known here ({kind})")
        value: int | float = number.unpack(self._take(number.size))[0]
        return bool(value) if kind == _BOOL else value

    def _array(self, depth: int) -> Value:
        kind = self._number(_U32)
        count = self._number(_U64)
        if kind == _STRING:
            return self._strings(count)
        if kind == _ARRAY:
            if depth == _MAX_DEPTH:
                raise self._error(f"{self._what} has arrays in arrays, too deep")
            self._room(count, 12)
            return tuple([self._array(depth + 1) for _ in range(count)])
        code = _NUMBERS.get(kind)
        if code is None:
            raise self._error(f"{self._what} is an array of a type not known here ({kind})")
        size = _UNPACK[kind].size
        self._room(count, size)
        numbers = array(code, self._take(count * size))
        if sys.byteorder == "big":
            numbers.byteswap()
        return tuple(map(bool, numbers)) if kind == _BOOL else tuple(numbers)

    def _strings(self, count: int) -> tuple[str, ...]:
        """Many short strings: a vocabulary. The loop is spelt out, it runs half a million times."""
        self._room(count, 8)
        data, at, size = self._data, self._at, self._size
        unpack = _U64.unpack_from
        found: list[str] = []
        for _ in range(count):
            if at + 8 > size:
                raise self._short()
            end = at + 8 + unpack(data, at)[0]
            if end > size:
                raise self._short()
            found.append(data[at + 8 : end].decode("utf-8", "surrogateescape"))
            at = end
        self._at = at
        return tuple(found)

    def _string(self) -> str:
        return self._take(self._number(_U64)).decode("utf-8", "surrogateescape")

    def _number(self, layout: struct.Struct) -> int:
        value: int = layout.unpack(self._take(layout.size))[0]
        return value

    def _take(self, count: int) -> bytes:
        self._room(count, 1)
        at, self._at = self._at, self._at + count
        return self._data[at : self._at]

    def _room(self, count: int, size: int) -> None:
        """Check that `count` things of at least `size` bytes can still follow."""
        if count * size > self._size - self._at:
            raise self._short()

    def _short(self) -> ConfigError:
        return self._error(f"the file breaks off in {self._what}; was it copied whole?")

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"{self._name}: {message}")
