"""One tool call of a chat completion, read while it arrives."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from turnwire.errors import EngineError
from turnwire.models.chat.schema import flaw
from turnwire.models.chat.toolbox import Toolbox
from turnwire.protocol.tools import OfferedTool

__all__ = ["CallInProgress", "InputReader"]

_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# As much of a JSON string as can be decoded now; half of a surrogate pair waits for the other.
_WHOLE = re.compile(
    r'(?:[^"\\]+|\\(?:[^u]|u(?![dD][89abAB])[0-9a-fA-F]{4}'
    r"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*"
)


class InputReader:
    """The input of a custom tool, out of `{"input": "..."}` while it arrives."""

    __slots__ = ("_held", "_open", "_over")

    def __init__(self) -> None:
        self._held = ""
        self._open = False
        self._over = False

    def feed(self, text: str) -> str:
        """The input that `text` completes; empty while that cannot be said."""
        if self._over:
            return ""
        held = self._held + text
        if not self._open:
            head = _HEAD.match(held)
            if head is None:
                self._held = held
                return ""
            self._open = True
            held = held[head.end() :]
        whole = _WHOLE.match(held)
        end = whole.end() if whole is not None else 0
        self._over = held[end : end + 1] == '"'
        self._held = held[end:]
        return _decoded(held[:end])

    def finish(self) -> str:
        """The rest; all of it, where the model gave no such object: it meant its input."""
        if self._open:
            return ""
        held, self._held = self._held, ""
        return held


def _decoded(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        # Control characters are escaped in JSON; models forget that.
        decoded: str = msgspec.json.decode(
            '"' + text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'
        )
    except msgspec.DecodeError:  # an escape that is none
        return text
    return decoded


class CallInProgress:
    """A call and what came of it.

    Attributes:
        upstream_id: The endpoint's id for it, or "".
        name: As the endpoint knows the tool; empty until it said.
        tool: What was offered under that name, or None.
        opened: Whether its item is open.
    """

    __slots__ = ("_input", "_new", "_pieces", "name", "opened", "tool", "upstream_id")

    def __init__(self, upstream_id: str) -> None:
        self.upstream_id = upstream_id
        self.name = ""
        self.tool: OfferedTool | None = None
        self.opened = False
        self._pieces: list[str] = []
        self._new: list[str] = []
        self._input: InputReader | None = None

    def identify(self, name: str, box: Toolbox) -> None:
        """Learn the name; servers repeat it, and only the first time counts."""
        if not self.name:
            self.name = name
            self.tool = box.tools.get(name)
            if self.tool is not None and self.tool.kind == "custom":
                self._input = InputReader()

    def add(self, text: str) -> None:
        """More of the arguments."""
        if text:
            self._pieces.append(text)
            self._new.append(text)

    def take(self) -> str:
        """What is new to show since the last time: arguments, or a custom tool's input."""
        if not self._new:
            return ""
        text = "".join(self._new)
        self._new.clear()
        return text if self._input is None else self._input.feed(text)

    @property
    def arguments(self) -> str:
        """All arguments so far, as the endpoint sent them."""
        return "".join(self._pieces)

    def is_whole(self) -> bool:
        """Whether the arguments are a JSON object already."""
        if not self._pieces or not self._pieces[-1].rstrip().endswith("}"):
            return False  # for most deltas that is known without reading it all
        try:
            msgspec.json.decode(self.arguments, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True

    def close(self, box: Toolbox, *, checks: bool) -> str:
        """The end: what is still to be shown.

        Raises:
            EngineError: the arguments do not obey the schema of a tool that says `strict: true`.
        """
        if self._input is not None:
            return self._input.finish()
        arguments = self.arguments
        rest = "" if arguments.strip() else "{}"  # of a tool without parameters
        if checks and self.name in box.strict:
            problem = _problem(rest or arguments, box.strict[self.name])
            if problem is not None:
                raise EngineError(f"its call of {self.name!r} breaks the tool's schema ({problem})")
        return rest


def _problem(text: str, schema: Any) -> str | None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return "it is no JSON"
    return flaw(value, schema)
