"""A tool call as the model writes it: one JSON object between `<tool_call>` and `</tool_call>`.

    {"name": "read_file", "arguments": {"path":"a.txt"}}     a function: its arguments, verbatim
    {"name": "run_sql", "input": "select 1"}                 a custom tool: its input, as a string

`write` makes it, `CallReader` reads it while it arrives. The reader takes any whitespace around
the signs of the outer object, and whatever follows the arguments; it insists on `name` first
and on the name of an offered tool, because a client is never asked to run what it did not offer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

import msgspec

from turnwire.ids import new_id
from turnwire.parts import CallArguments, CallStarted, Part, TextDelta
from turnwire.protocol.items import CustomToolCall, FunctionCall
from turnwire.protocol.tools import OfferedTool, qualified

__all__ = ["CallReader", "State", "opening", "write"]

MAX_HEADER_CHARS = 512  # names have at most 128; the rest is room for whitespace


def opening(name: str, kind: str) -> str:
    """A call's text up to its arguments or input; `}` ends the call after them."""
    key = "arguments" if kind == "function" else "input"
    return f'{{"name": {_quote(name)}, "{key}": '


def write(item: FunctionCall | CustomToolCall) -> str:
    """A call's whole text; the arguments stay as they are, valid JSON or not."""
    name = qualified(item.name, item.namespace)
    if isinstance(item, FunctionCall):
        return f"{opening(name, 'function')}{item.arguments}}}"
    return f"{opening(name, 'custom')}{_quote(item.input)}}}"


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _prefixes(atoms: list[str]) -> str:
    """A pattern that matches whatever may still grow into all `atoms` in a row."""
    pattern = ""
    for atom in reversed(atoms):
        pattern = f"(?:{atom}{pattern})?" if pattern else f"(?:{atom})?"
    return pattern


_COMMON = (r"\s*", r"\{", r"\s*", '"name"', r"\s*", ":", r"\s*", '"', r'([^"\\\x00-\x1f]*)', '"')
_VALUE = (r"\s*", ":", r"\s*")
_BEFORE_ARGUMENTS = (*_COMMON, r"\s*", ",", r"\s*", '"arguments"', *_VALUE, r"\{")
_BEFORE_INPUT = (*_COMMON, r"\s*", ",", r"\s*", '"input"', *_VALUE, '"')


def _unfinished(atoms: tuple[str, ...]) -> str:
    """A pattern that matches all that may still grow into `atoms` in a row."""
    pattern = ""
    for atom in reversed(atoms):
        signs = atom if atom.startswith('"') else (atom,)  # a word may stop at any letter
        for sign in reversed(signs):
            pattern = f"(?:{sign}{pattern})?"
    return pattern


_ARGUMENTS = re.compile("".join(_BEFORE_ARGUMENTS))
_INPUT = re.compile("".join(_BEFORE_INPUT))
_MAY_OPEN = re.compile(f"{_unfinished(_BEFORE_ARGUMENTS)}|{_unfinished(_BEFORE_INPUT)}")
_STRUCTURE = re.compile(r'["{}\[\]]')
_STRING_END = re.compile(r'["\\]')
_HEX = re.compile(r"[0-9a-fA-F]*")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_MAY_BE_LOW_SURROGATE = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]{0,2})?)?)?)?")
_SHORT_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _unescape(text: str, at: int) -> tuple[str, int] | None:
    """Read the JSON escape at `text[at]`, a backslash; None if more text is needed.

    Returns:
        What it stands for, and where the text goes on. Half of a surrogate pair and digits
        that are none become U+FFFD.
    """
    if at + 1 == len(text):
        return None
    sign = text[at + 1]
    if sign != "u":
        return _SHORT_ESCAPES.get(sign, sign), at + 2
    digits = text[at + 2 : at + 6]
    if not _HEX.fullmatch(digits):
        return _REPLACEMENT, at + 2
    if len(digits) < 4:
        return None
    code, end = int(digits, 16), at + 6
    if 0xD800 <= code < 0xDC00:
        if low := _LOW_SURROGATE.match(text, end):
            return chr(0x10000 + ((code & 0x3FF) << 10) + (int(low.group(1), 16) & 0x3FF)), end + 6
        return None if _MAY_BE_LOW_SURROGATE.fullmatch(text, end) else (_REPLACEMENT, end)
    return _REPLACEMENT if 0xDC00 <= code < 0xE000 else chr(code), end


class State(Enum):
    """How far a call is read."""

    HEADER = "header"  # the name is not whole, or its value has not begun
    ARGUMENTS = "arguments"  # inside a function's arguments
    INPUT = "input"  # inside a custom tool's input string
    AFTER = "after"  # the value is whole; the rest says nothing
    TEXT = "text"  # it is no call, and stays text


class CallReader:
    """One call, read in pieces of any size.

    Attributes:
        state: How far it is.
    """

    __slots__ = ("_depth", "_held", "_in_string", "_offered", "state")

    def __init__(self, offered: Mapping[str, OfferedTool]) -> None:
        self._offered = offered
        self._held = ""  # text that cannot be judged yet
        self._depth = 0
        self._in_string = False
        self.state = State.HEADER

    @property
    def opened(self) -> bool:
        """Whether it has given out a part, so that an item is open."""
        return self.state is not State.HEADER

    def feed(self, text: str) -> list[Part]:
        """What `text` adds: `CallStarted` once, then `CallArguments`; `TextDelta` if no call."""
        match self.state:
            case State.ARGUMENTS:
                return self._feed_arguments(text)
            case State.INPUT:
                return self._feed_input(text)
            case State.TEXT:
                return [TextDelta(text)] if text else []
            case State.AFTER:
                return []
            case State.HEADER:
                return self._feed_header(text)

    def close(self) -> list[Part]:
        """The call's end: a body that never became a call is text."""
        held, self._held = self._held, ""
        match self.state:
            case State.HEADER if held:
                self.state = State.TEXT
                return [TextDelta(held)]
            case State.INPUT if held:  # the string broke off in an escape
                return [CallArguments(_REPLACEMENT)]
            case _:
                return []

    def _feed_header(self, text: str) -> list[Part]:
        held = self._held = self._held + text
        arguments = _ARGUMENTS.match(held)
        found = arguments or _INPUT.match(held)
        if found is None:
            if len(held) <= MAX_HEADER_CHARS and _MAY_OPEN.fullmatch(held):
                return []
            return self._give_up()
        tool = self._offered.get(found.group(1))
        if tool is None or (tool.kind == "function") != (arguments is not None):
            return self._give_up()
        self._held = ""
        started = CallStarted(tool.call_name, new_id("call"), tool.kind, tool.namespace)
        if arguments:
            self.state = State.ARGUMENTS
            # The brace that opens the arguments is theirs.
            return [started, *self._feed_arguments(held[found.end() - 1 :])]
        self.state = State.INPUT
        return [started, *self._feed_input(held[found.end() :])]

    def _give_up(self) -> list[Part]:
        held, self._held = self._held, ""
        self.state = State.TEXT
        return [TextDelta(held)]

    def _feed_arguments(self, text: str) -> list[Part]:
        at = 0
        if self._held and text:  # a backslash was the last sign: this one is escaped
            self._held = ""
            at = 1
        while found := (_STRING_END if self._in_string else _STRUCTURE).search(text, at):
            at = found.end()
            match found.group():
                case '"':
                    self._in_string = not self._in_string
                case "\\":
                    if at == len(text):
                        self._held = "\\"
                    at += 1
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth == 0:
                        self.state = State.AFTER
                        text = text[:at]
                        break
        return [CallArguments(text)] if text else []

    def _feed_input(self, text: str) -> list[Part]:
        text = self._held + text
        self._held = ""
        at = 0
        plain: list[str] = []
        while found := _STRING_END.search(text, at):
            plain.append(text[at : found.start()])
            at = found.start()
            if found.group() == '"':
                self.state = State.AFTER
                at = len(text)
                break
            escape = _unescape(text, at)
            if escape is None:
                self._held = text[at:]
                at = len(text)
                break
            sign, at = escape
            plain.append(sign)
        plain.append(text[at:])
        decoded = "".join(plain)
        return [CallArguments(decoded)] if decoded else []
