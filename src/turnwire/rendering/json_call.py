"""A call that a model writes as a JSON object, read while it arrives.

    {"name": NAME, "arguments": {...}}       Hermes, Qwen, Mistral
    {"name": NAME, "parameters": {...}}      Llama
    {"tool_call_id": "0", "tool_name": NAME, "parameters": {...}}       Command

Arguments go out as they come, in the model's own words. What is spelt in another order or with
the arguments as a string is read too, at its end. A call of a tool that is not offered is no
call: a client is never asked to run what it did not offer, and its text stays text.

A custom tool's call comes as a function's, with the one field `input`; what goes out is the
input itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

from turnwire.ids import new_id
from turnwire.parts import CallArguments, CallStarted, Part, TextDelta
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.messages import sound

__all__ = ["JsonCall", "started"]

_STREAMED: Final = re.compile(
    r'\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?(?:"tool_call_id"\s*:\s*"[^"\\]*"\s*,\s*)?'
    r'"(?:tool_)?name"\s*:\s*"([^"\\\x00-\x1f]*)"\s*,'
    r'\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_MAX_HEADER_CHARS: Final = 1024  # beyond it a call is read at its end
_KEYS: Final = (
    *("name", "type", "function", "id", "arguments", "parameters"),
    *("tool_call_id", "tool_name"),
)
_FIRST_KEY: Final = re.compile(r'\s*\{\s*"([^"\\]*)"')
_MAY_BEGIN: Final = re.compile(r'\s*(?:\{\s*(?:"[^"\\]*)?)?')
_STRUCTURE: Final = re.compile(r'["{}\[\]]')
_STRING_END: Final = re.compile(r'["\\]')
_INPUT: Final = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# As much of a JSON string as can be read for sure: whole escapes, whole surrogate pairs.
_HALF_PAIR: Final = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_WHOLE: Final = re.compile(
    r'(?:[^"\\]+|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}'
    rf"|{_HALF_PAIR}\\u[dD][c-fC-F][0-9a-fA-F]{{2}}"
    rf"|{_HALF_PAIR}(?=[^\\]|\\[^u]|\\u(?![dD][c-fC-F])[0-9a-fA-F]{{2}}))*"
)


class _Braces:
    """Finds where a JSON value ends that began with a brace or bracket."""

    __slots__ = ("_depth", "_escaped", "_in_string")

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> int:
        """The place in `text` right behind the value's end, or -1."""
        at = 0
        if self._escaped and text:
            self._escaped = False
            at = 1
        while found := (_STRING_END if self._in_string else _STRUCTURE).search(text, at):
            at = found.end()
            match found.group():
                case '"':
                    self._in_string = not self._in_string
                case "\\":
                    self._escaped = at == len(text)
                    at += 1
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return at
        return -1


class _State(Enum):
    HEADER = "header"  # the name is not whole, or its arguments have not begun
    ARGUMENTS = "arguments"  # going out as they come
    AFTER = "after"  # behind the arguments, inside the outer object
    DONE = "done"
    TEXT = "text"  # it is no call


class JsonCall:
    """One call, read in pieces of any size.

    Attributes:
        rest: Text behind the end of the object; once `done`.
    """

    __slots__ = ("_braces", "_held", "_input", "_named", "_offered", "_state", "rest")

    def __init__(
        self, offered: Mapping[str, OfferedTool], named: OfferedTool | None = None
    ) -> None:
        """
        Args:
            offered: Tools that may be called, by name.
            named: The tool, if its name was said already: the object is the arguments then.
        """
        self._offered = offered
        self._named = named
        self._held = ""
        self._braces = _Braces()
        self._input: _Input | None = None
        self._state = _State.HEADER
        self.rest = ""

    @property
    def opened(self) -> bool:
        """Whether it has given out a part, so that an item is open."""
        return self._state is not _State.HEADER

    @property
    def done(self) -> bool:
        """Whether the object is whole; what follows is in `rest`."""
        return self._state is _State.DONE

    @property
    def is_text(self) -> bool:
        """Whether it turned out to be no call."""
        return self._state is _State.TEXT

    def feed(self, text: str) -> list[Part]:
        """What `text` adds: `CallStarted` once, then `CallArguments`; `TextDelta` if no call."""
        match self._state:
            case _State.HEADER if self._named is not None:
                return self._start(self._named, text)
            case _State.HEADER:
                return self._feed_header(text)
            case _State.ARGUMENTS:
                return self._feed_arguments(text)
            case _State.AFTER:
                return self._feed_after(text)
            case _State.DONE:
                self.rest += text
                return []
            case _State.TEXT:
                return [TextDelta(text)] if text else []

    def close(self) -> list[Part]:
        """The end of the output: what never became a call is text."""
        if self._state is _State.HEADER:
            return self._give_up() if self._held else []
        if self._state is _State.ARGUMENTS and self._input is not None:
            return _arguments(self._input.close())
        return []

    def _feed_header(self, text: str) -> list[Part]:
        before = len(self._held)
        held = self._held = self._held + text
        if before <= _MAX_HEADER_CHARS:
            found = _STREAMED.match(held)
            if found is not None and found[1] in self._offered:
                return self._start(self._offered[found[1]], held[found.end() :])
            key = _FIRST_KEY.match(held)
            if key[1] not in _KEYS if key is not None else not _MAY_BEGIN.fullmatch(held):
                return self._give_up()
        end = self._braces.feed(text)
        if end < 0:
            return []
        parts = _read_whole(held[: before + end], self._offered)
        if parts is None:
            return self._give_up()
        self._held = ""
        self._state = _State.DONE
        self.rest = text[end:]
        return parts

    def _give_up(self) -> list[Part]:
        held, self._held = self._held, ""
        self._state = _State.TEXT
        return [TextDelta(held)]

    def _start(self, tool: OfferedTool, arguments: str) -> list[Part]:
        self._held = ""
        self._state = _State.ARGUMENTS
        self._braces = _Braces()
        self._input = _Input() if tool.kind == "custom" else None
        return [started(tool), *self._feed_arguments(arguments)]

    def _feed_arguments(self, text: str) -> list[Part]:
        end = self._braces.feed(text)
        own = text if end < 0 else text[:end]
        if self._input is None:
            parts: list[Part] = [CallArguments(own)] if own else []
        else:
            parts = _arguments(self._input.feed(own) + ("" if end < 0 else self._input.close()))
        if end < 0:
            return parts
        if self._named is not None:
            self._state = _State.DONE
            self.rest = text[end:]
            return parts
        self._state = _State.AFTER
        self._braces = _Braces(1)
        return [*parts, *self._feed_after(text[end:])]

    def _feed_after(self, text: str) -> list[Part]:
        end = self._braces.feed(text)
        if end >= 0:
            self._state = _State.DONE
            self.rest = text[end:]
        return []


def started(tool: OfferedTool) -> CallStarted:
    """The beginning of a call of the tool, with an id of its own."""
    return CallStarted(tool.call_name, new_id("call"), tool.kind, tool.namespace, tool.is_async)


def _arguments(text: str) -> list[Part]:
    return [CallArguments(text)] if text else []


def _read_whole(text: str, offered: Mapping[str, OfferedTool]) -> list[Part] | None:
    """The call that a whole object is, or None if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    function = value.get("function")
    if isinstance(function, dict):  # as chat completions have it
        value = function
    name = value.get("name", value.get("tool_name"))
    tool = offered.get(name) if isinstance(name, str) else None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if tool is None or not isinstance(arguments, dict):
        return None
    begun = started(tool)
    if tool.kind == "function":
        return [begun, *_arguments(sound(json.dumps(arguments, ensure_ascii=False)))]
    given = arguments.get("input", "")
    return [begun, *_arguments(sound(given if isinstance(given, str) else json.dumps(given)))]


class _Input:
    """A custom tool's input, out of the arguments of a function; decoded as it comes."""

    __slots__ = ("_done", "_held", "_in_string")

    def __init__(self) -> None:
        self._held = ""
        self._in_string = False
        self._done = False

    def feed(self, text: str) -> str:
        """What `text` adds to the input."""
        if self._done:
            return ""
        self._held += text
        if not self._in_string:
            found = _INPUT.match(self._held)
            if found is None:
                return ""  # `close` reads it, if it is something else
            self._in_string = True
            self._held = self._held[found.end() :]
        whole = _WHOLE.match(self._held)
        end = whole.end() if whole is not None else 0
        read, self._held = self._held[:end], self._held[end:]
        self._done = self._held.startswith('"')
        return _unescaped(read)

    def close(self) -> str:
        """The rest, at the end of the arguments or of the output."""
        held, self._held = self._held, ""
        if self._done:
            return ""
        self._done = True
        if self._in_string:
            return "\N{REPLACEMENT CHARACTER}" if held else ""
        try:
            value = json.loads(held)
        except (ValueError, RecursionError):
            return held
        given = value.get("input") if isinstance(value, dict) else None
        return sound(given) if isinstance(given, str) else held


def _unescaped(text: str) -> str:
    """The inside of a JSON string; escapes that are none stand for their sign."""
    if "\\" not in text:
        return text
    try:
        return sound(json.loads(f'"{text}"', strict=False))
    except ValueError:
        mended = re.sub(r'\\(?!["\\/bfnrtu])(.)', r"\1", text, flags=re.DOTALL)
        try:
            return sound(json.loads(f'"{mended}"', strict=False))
        except ValueError:
            return text
