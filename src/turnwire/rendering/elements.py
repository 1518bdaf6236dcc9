"""Arguments that a model writes one by one, read while they arrive.

    <parameter=path>⏎src/a.py⏎</parameter>⏎<parameter=line>⏎7⏎</parameter>⏎</function>

What goes out is a JSON object. A value that can only be a string goes out as it comes; whether any
other is a number, say, is known at its end, by the tool's schema (`argument_types.py`).

Nothing is escaped in a value. So a tag of text ends one only where what must follow it follows:
`</parameter>` in a file that is written is a part of it, unless another argument or the end of
the call comes right behind. A tag that is a token of its own always ends it.

Special tokens stand in the text as marks (see `spelled_calls.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

from turnwire.parts import CallArguments, Part
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.argument_types import Types, argument_types, as_json
from turnwire.rendering.finding import overlap
from turnwire.rendering.messages import sound
from turnwire.rendering.spelling import Hole, Segment, flexible, words

__all__ = ["MARKS", "ElementForm", "ElementReader", "without_marks"]

MARKS: Final = "\udc00-\udfff"
"""Characters that stand for special tokens, as a regular expression's class has them. Text that a
tokenizer gives out holds no half of a surrogate pair."""

_MARK: Final = re.compile(f"[{MARKS}]")
_KEY: Final = rf'([^<>"\n{MARKS}]{{1,256}}?)'
_MAX_HEAD_CHARS: Final = 512
_STRING: Final = frozenset(("string",))


def without_marks(text: str) -> str:
    """What is text in it."""
    return _MARK.sub("", text)


class ElementForm:
    """How elements are written, for who reads them. A word may be a mark.

    Attributes:
        head: An element up to its value; groups for the key, and for whether it is a string.
        begin: Its first word.
        before: What of the blanks between head and value is the format's.
        after: The same between value and end.
        end: The word that ends a value.
        following: Words of which one follows an element, the next one's first among them.
        leftover: Tags at the end of a value that its own end tag did not come for.
    """

    def __init__(
        self, element: Sequence[Segment], exact: Sequence[Segment], following: Sequence[str]
    ) -> None:
        """
        Args:
            element: As the family spells it.
            exact: As the template does.
            following: Words of which one stands behind the last element.
        """
        value = element.index(Hole.VALUE)
        lead, end = str(exact[value - 1]), str(exact[value + 1])
        self.before: Final = lead[len(lead.rstrip()) :]
        self.after: Final = end[: len(end) - len(end.lstrip())]
        self.end: Final = words(end)[0]
        self.begin: Final = words(str(element[0]))[0]
        pattern = "".join(map(_head_part, element[:value])).removesuffix(r"\s*")
        self.head: Final = re.compile(rf"\s*{pattern}")
        self.following: Final = (self.begin, *following)
        closers = "|".join(map(re.escape, (self.end, *following)))
        self.leftover: Final = re.compile(rf"(?:\s*(?:{closers}))+\s*\Z")


def _head_part(segment: Segment) -> str:
    if isinstance(segment, str):
        return flexible(segment)
    return _KEY if segment is Hole.KEY else "(true|false)"


class _State(Enum):
    BETWEEN = "between"  # elements
    VALUE = "value"
    DONE = "done"


class ElementReader:
    """The arguments of one call.

    Attributes:
        rest: What stands behind the last element; once `done`.
    """

    def __init__(self, form: ElementForm, tool: OfferedTool) -> None:
        """
        Args:
            form: How elements are written.
            tool: What is called.
        """
        self._form = form
        self._types = argument_types(tool.parameters)
        self._custom = tool.kind == "custom"  # it has the one argument `input`
        self._state = _State.BETWEEN
        self._held = ""  # text that cannot be judged yet
        self._keys: set[str] = set()
        self._value = _Value(None, custom=False, ignored=True)
        self._opened = False  # whether the value's first character was read
        self.rest = ""

    @property
    def done(self) -> bool:
        """Whether the arguments are whole; what follows is in `rest`."""
        return self._state is _State.DONE

    def feed(self, text: str) -> list[Part]:
        """What `text` adds to the arguments."""
        out: list[str] = []
        rest = self._held + text
        self._held = ""
        while rest:
            match self._state:
                case _State.BETWEEN:
                    rest = self._read_between(rest, out)
                case _State.VALUE:
                    rest = self._read_value(rest, out)
                case _State.DONE:
                    self.rest += rest
                    break
        return _arguments(out)

    def close(self) -> list[Part]:
        """The end of the output: what is open ends here."""
        out: list[str] = []
        if self._state is _State.VALUE:
            self._end_value(self._form.leftover.sub("", self._held), out)
        if self._state is not _State.DONE:
            self._end(out)
        self._held = ""
        return _arguments(out)

    def _read_between(self, text: str, out: list[str]) -> str:
        text = text.lstrip()
        form = self._form
        if found := form.head.match(text):
            self._begin_value(*found.groups(), out=out)
            return text[found.end() :]
        if text.startswith(form.begin) and len(text) < _MAX_HEAD_CHARS:
            self._held = text
            return ""
        if text.startswith(form.following[1:]):
            self._end(out)
            return text
        if any(word.startswith(text) for word in form.following):
            self._held = text
            return ""
        # Nobody's words: on to where somebody's may begin.
        places = [at for word in form.following if (at := text.find(word[0], 1)) > 0]
        return text[min(places) :] if places else ""

    def _begin_value(self, key: str, said: str | None = None, *, out: list[str]) -> None:
        self._state = _State.VALUE
        self._opened = False
        types = _STRING if said == "true" else self._types.get(key)
        ignored = key in self._keys or (self._custom and key != "input")
        self._value = _Value(types, custom=self._custom, ignored=ignored)
        if not ignored and not self._custom:
            lead = ", " if self._keys else "{"
            out.append(f"{lead}{sound(json.dumps(key, ensure_ascii=False))}: ")
        if not ignored:
            self._keys.add(key)

    def _read_value(self, text: str, out: list[str]) -> str:
        before = self._form.before
        if not self._opened and before:
            if len(text) < len(before) and before.startswith(text):
                self._held = text
                return ""
            text = text.removeprefix(before)
        self._opened = True
        at, behind = self._value_end(text)
        if behind is None:
            self._value.add(text[:at], out)
            self._held = text[at:]
            return ""
        self._end_value(text[:at], out)
        return text[behind:]

    def _value_end(self, text: str) -> tuple[int, int | None]:
        """Where the value ends, and where its end tag does: None while that is not known."""
        form = self._form
        mark = _MARK.search(text)
        until = len(text) if mark is None else mark.start()
        growing = len(text) - overlap(text, form.end)
        at = text.find(form.end)
        while 0 <= at < until:
            end = at + len(form.end)
            behind = text[end:].lstrip()
            if behind.startswith(form.following):
                return at, end
            if any(word.startswith(behind) for word in form.following):
                return self._before_end(text[:at]), None
            at = text.find(form.end, end)
        if mark is not None and until < growing:
            if mark.group() == form.end:
                return until, until + 1
            left = form.leftover.search(text, 0, until)  # its own end tag is missing
            return (until if left is None else left.start()), until
        return self._before_end(text[:growing]), None

    def _before_end(self, value: str) -> int:
        """How much of a value goes out for sure, if its end tag may follow."""
        after = self._form.after
        if value.endswith(after):
            return len(value) - len(after)
        return len(value) - overlap(value, after)

    def _end_value(self, text: str, out: list[str]) -> None:
        self._value.end(text.removesuffix(self._form.after), out)
        self._state = _State.BETWEEN

    def _end(self, out: list[str]) -> None:
        if not self._custom:
            out.append("}" if self._keys else "{}")
        self._state = _State.DONE


class _Value:
    """One value on its way to JSON."""

    def __init__(self, types: Types, *, custom: bool, ignored: bool) -> None:
        """
        Args:
            types: What it may be.
            custom: Whether it is a custom tool's input, which is no JSON.
            ignored: Whether it goes nowhere: a second of one name, say.
        """
        self._types = types
        self._custom = custom
        self._ignored = ignored
        self._quoted = False
        self._held: list[str] = []

    def add(self, text: str, out: list[str]) -> None:
        """More of it."""
        text = without_marks(text)
        if self._ignored or not text:
            return
        if self._custom:
            out.append(text)
        elif self._types == _STRING:
            out.append(("" if self._quoted else '"') + _inside(text))
            self._quoted = True
        else:
            self._held.append(text)

    def end(self, text: str, out: list[str]) -> None:
        """The rest of it."""
        self.add(text, out)
        if self._ignored or self._custom:
            return
        if self._quoted:
            out.append('"')
        else:
            out.append(as_json("".join(self._held), self._types))


def _inside(text: str) -> str:
    """What stands for a text between the quotes of a JSON string."""
    return sound(json.dumps(text, ensure_ascii=False))[1:-1]


def _arguments(out: Sequence[str]) -> list[Part]:
    text = "".join(out)
    return [CallArguments(text)] if text else []
