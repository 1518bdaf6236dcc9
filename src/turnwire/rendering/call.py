"""A tool call as the model writes it, between `<tool_call>` and `</tool_call>`.

    {"name": "read_file", "arguments": {"path":"a.txt"}}     a function: its arguments, verbatim
    apply_patch⏎*** Begin Patch⏎...                          a custom tool: its input, verbatim

A function's call is one JSON object. A custom tool's is its name on a line of its own, and all
that follows is the input: as no character of it is escaped, a grammar of the input is a grammar of
the tokens, and the input may hold any text, because the special token that ends it is no text.

`write` makes a call, `CallReader` reads it while it arrives. The reader takes any whitespace around
the signs of the JSON object, and whatever follows the arguments; it insists on `name` first and on
the name of an offered tool, because a client is never asked to run what it did not offer.
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
    """A call's text up to its arguments or input. A function's call ends with `}` after them."""
    return f'{{"name": {_quote(name)}, "arguments": ' if kind == "function" else f"{name}\n"


def write(item: FunctionCall | CustomToolCall) -> str:
    """A call's whole text; the arguments stay as they are, valid JSON or not."""
    name = qualified(item.name, item.namespace)
    if isinstance(item, FunctionCall):
        return f"{opening(name, 'function')}{item.arguments}}}"
    return opening(name, "custom") + item.input


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()


_BEFORE_ARGUMENTS = (
    *(r"\s*", r"\{", r"\s*", '"name"', r"\s*", ":", r"\s*", '"', r'([^"\\\x00-\x1f]*)', '"'),
    *(r"\s*", ",", r"\s*", '"arguments"', r"\s*", ":", r"\s*", r"\{"),
)
_BEFORE_INPUT = (r"\s*", r"([^\s{}\"\\]+)", r"[ \t]*", r"\r?", r"\n")


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


class State(Enum):
    """How far a call is read."""

    HEADER = "header"  # the name is not whole, or its value has not begun
    ARGUMENTS = "arguments"  # inside a function's arguments
    INPUT = "input"  # inside a custom tool's input
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
                return [CallArguments(text)] if text else []
            case State.TEXT:
                return [TextDelta(text)] if text else []
            case State.AFTER:
                return []
            case State.HEADER:
                return self._feed_header(text)

    def close(self) -> list[Part]:
        """The call's end: a body that never became a call is text."""
        held, self._held = self._held, ""
        if self.state is not State.HEADER or not held:
            return []
        self.state = State.TEXT
        return [TextDelta(held)]

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
        started = CallStarted(
            tool.call_name, new_id("call"), tool.kind, tool.namespace, tool.is_async
        )
        if arguments:
            self.state = State.ARGUMENTS
            # The brace that opens the arguments is theirs.
            return [started, *self._feed_arguments(held[found.end() - 1 :])]
        self.state = State.INPUT
        return [started, *self.feed(held[found.end() :])]

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
