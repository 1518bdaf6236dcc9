"""New inputs from old ones, by a seeded generator: bytes, lines and JSON values are moved about."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

__all__ = ["Mutator"]

MAX_BYTES: Final = 65_536


# What parsers stumble over: ends of ranges, of nesting, of encodings, of frames.
TOKENS: Final = (
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'""',
    b"0",
    b"-1",
    b"1e400",
    b"1.5",
    b"18446744073709551616",
    b"NaN",
    b"\\u0000",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\r\n\r\n",
    b'"',
    b",",
    b":",
    b"[" * 2_000,
    b'{"a":' * 2_000,
    b"<|im_end|>",
)
VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    16,
    2**63,
    -(2**70),
    1.5,
    1e308,
    "",
    "a",
    "auto",
    "\x00",
    "\U0001f600",
    "x" * 300,
    [],
    {},
    [[]],
    {"type": "message"},
    {"id": "msg_1"},
    ["x"] * 130,
)
WORDS: Final = re.compile(rb'"[A-Za-z_.]{2,40}"')


class Mutator:
    """Makes inputs.

    Attributes:
        pool: What it makes them from; whoever runs it may add to it.
    """

    def __init__(self, corpus: Sequence[bytes], seed: int) -> None:
        """Take the corpus, at least one input.

        Args:
            corpus: Inputs to begin with.
            seed: The same seed and pool give the same inputs.
        """
        self.pool: Final = list(corpus)
        self._random: Final = random.Random(seed)
        words: set[bytes] = {word for data in corpus for word in WORDS.findall(data)}
        self._tokens: Final[tuple[bytes, ...]] = (*TOKENS, *sorted(words))

    def make(self) -> bytes:
        """One new input, of at most 64 KiB."""
        rng = self._random
        data = rng.choice(self.pool)
        moves: tuple[Callable[[bytes], bytes], ...] = (
            self._json,
            self._json,
            self._json,
            self._token,
            self._token,
            self._flip,
            self._delete,
            self._copy,
            self._repeat,
            self._splice,
            self._line,
        )
        for _ in range(rng.choice((1, 1, 2, 2, 3, 5, 8))):
            data = rng.choice(moves)(data)[:MAX_BYTES]
        return data

    # -- bytes

    def _span(self, data: bytes, longest: int = 64) -> tuple[int, int]:
        start = self._random.randint(0, len(data))
        return start, min(len(data), start + self._random.randint(1, longest))

    def _token(self, data: bytes) -> bytes:
        start, end = self._span(data, 8)
        if self._random.random() < 0.5:
            end = start
        return data[:start] + self._random.choice(self._tokens) + data[end:]

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return b"\x80"
        position = self._random.randrange(len(data))
        flipped = data[position] ^ (1 << self._random.randrange(8))
        return data[:position] + bytes([flipped]) + data[position + 1 :]

    def _delete(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _copy(self, data: bytes) -> bytes:
        start, end = self._span(data)
        place = self._random.randint(0, len(data))
        return data[:place] + data[start:end] + data[place:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._span(data, 16)
        times = self._random.choice((2, 3, 40, 130, 1_500))
        return data[:start] + data[start:end] * times + data[end:]

    def _splice(self, data: bytes) -> bytes:
        other = self._random.choice(self.pool)
        return data[: self._span(data)[0]] + other[self._span(other)[0] :]

    # -- lines

    def _line(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        other = self._random.choice(self.pool).split(b"\n")
        place = self._random.randrange(len(lines))
        match self._random.randrange(4):
            case 0:
                del lines[place]
            case 1:
                lines.insert(place, self._random.choice(other))
            case 2:
                lines.append(lines[place])
            case _:
                self._random.shuffle(lines)
        return b"\n".join(lines)

    # -- JSON

    def _json(self, data: bytes) -> bytes:
        """Change one value inside a JSON object of the input, wherever one begins."""
        starts = [found.start() for found in re.finditer(rb"\{", data[:4_096])]
        if not starts:
            return self._token(data)
        start = starts[0] if self._random.random() < 0.8 else self._random.choice(starts)
        try:
            text = data[start:].decode()
            value, length = json.JSONDecoder().raw_decode(text)
            places = list(_places(value))
        except (ValueError, RecursionError):
            return self._token(data)
        if not places:
            return self._token(data)
        holder, key = self._random.choice(places)
        match self._random.randrange(6):
            case 0:
                del holder[key]
            case 1:
                holder[key] = [holder[key]]
            case 2:
                other, name = self._random.choice(places)
                holder[key] = json.loads(json.dumps(other[name]))
            case 3 if isinstance(holder, dict):
                word = self._random.choice(self._tokens)
                holder[word.decode("latin-1").strip('"')] = holder[key]
            case _:
                holder[key] = self._random.choice(VALUES)
        rest = text[length:].encode()
        # A lone surrogate becomes bytes that are no UTF-8: one more thing to try.
        return (
            data[:start]
            + json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
            + rest
        )


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) inside a JSON value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found
