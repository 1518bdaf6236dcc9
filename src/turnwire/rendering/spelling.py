"""How a family of models spells tool calls: text with holes.

    <tool_call>⏎<function=NAME>⏎ ELEMENTS </function>⏎</tool_call>          Qwen3-Coder
        each element: <parameter=KEY>⏎VALUE⏎</parameter>⏎
    <|tool_call_begin|>NAME<|tool_sep|>ARGUMENTS<|tool_call_end|>       DeepSeek V3.1, more or less

A spelling says which words there are, and in which order. A blank in it stands for any blanks, or
for none: templates of one family differ there. So a spelling is *fitted* (`fitted`) to what a
template writes for calls that are known. That finds out two things at once: whether the template
is of this family, and how exactly it spells, which is what a grammar has to write, so that a call
that is rendered again is the same text.

`spellings.py` has the families, `spelled_calls.py` reads them, `formats.py` makes grammars.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Final

from msgspec import Struct, structs

from turnwire.rendering.messages import ChatCall, ChatMessage

__all__ = ["PROBE", "Fitted", "Hole", "Segment", "Spelling", "fitted", "flexible", "words"]


class Hole(Enum):
    """What stands in a spelling where calls differ."""

    NAME = "name"  # the tool's
    ID = "id"  # a call's, which is made anew when the call is rendered; not read
    NUMBER = "number"  # the same, where an id is a number
    ARGUMENTS = "arguments"  # a JSON object
    ELEMENTS = "elements"  # the arguments one by one, each as the spelling's `element`
    KEY = "key"
    VALUE = "value"  # a string as it is, anything else as JSON
    STRING = "string"  # `true` or `false`: whether the value is a string


Segment = str | Hole


class Spelling(Struct, frozen=True, kw_only=True):
    """One way to write calls.

    Attributes:
        name: Of the format.
        call: A call. Its first word is a tag that opens calls.
        element: An argument, where they come one by one.
        begin: In front of the first call. If there is something, its first word opens calls too.
        between: Between two calls.
        end: Behind the last call.
        also: Other words that models are known to open a call with: each is a later word of
            `call`, and what stands before it was left out.
        listed: Whether a call is a JSON object, whose keys may then come in any order.
        quote: The tag around strings, where arguments are in Gemma's notation and not in JSON.
    """

    name: str
    call: tuple[Segment, ...]
    element: tuple[Segment, ...] = ()
    begin: str = ""
    between: str = " "
    end: str = ""
    also: tuple[str, ...] = ()
    listed: bool = False
    quote: str = ""

    def place(self, hole: Hole) -> int:
        """Where a hole is in `call`; it has one."""
        return self.call.index(hole)

    @property
    def body(self) -> Hole:
        """How the arguments are written."""
        return Hole.ELEMENTS if self.element else Hole.ARGUMENTS

    @property
    def head(self) -> tuple[Segment, ...]:
        """A call up to its arguments."""
        return self.call[: self.place(self.body)]

    @property
    def tail(self) -> tuple[Segment, ...]:
        """What stands behind the arguments of a call; it ends with a literal."""
        return self.call[self.place(self.body) + 1 :]

    def mapped(self, change: Callable[[str], str]) -> Spelling:
        """The spelling with every literal changed."""

        def all_of(segments: Sequence[Segment]) -> tuple[Segment, ...]:
            return tuple(change(one) if isinstance(one, str) else one for one in segments)

        return structs.replace(
            self,
            call=all_of(self.call),
            element=all_of(self.element),
            begin=change(self.begin),
            between=change(self.between),
            end=change(self.end),
            also=tuple(map(change, self.also)),
            quote=change(self.quote),
        )

    def literals(self) -> Iterator[str]:
        """Everything that stands for itself."""
        yield from (self.begin, self.between, self.end, self.quote)
        yield from (one for one in (*self.call, *self.element) if isinstance(one, str))


class Fitted(Struct, frozen=True, kw_only=True):
    """A spelling that a template was found to use.

    Attributes:
        spelling: As the family has it.
        exact: With the blanks that the template writes.
        several: Whether it takes more than one call in a message.
        behind: What the template wrote behind the calls.
    """

    spelling: Spelling
    exact: Spelling
    several: bool
    behind: str


def words(literal: str) -> list[str]:
    """A literal's words: what blanks divide."""
    return literal.split()


def flexible(literal: str) -> str:
    """A literal as a regular expression in which blanks may be others."""
    return r"\s*".join(map(re.escape, re.split(r"\s+", literal)))


# -- what a template is asked to write, and what it wrote

_NAMES: Final = ("zyx_1", "wvu_2")
_ARGUMENTS: Final = ({"tsr": "qpo nml", "kji": 7}, {"hgf": "edc"})

PROBE: Final = tuple(
    ChatMessage(
        "assistant",
        calls=tuple(
            ChatCall(name, json.dumps(arguments), f"call_{n}")
            for n, (name, arguments) in enumerate(
                zip(_NAMES[:count], _ARGUMENTS[:count], strict=True)
            )
        ),
    )
    for count in (2, 1)
)
"""Messages with calls: two, and one for templates that take no more."""


def fitted(spelling: Spelling, written: Sequence[str]) -> Fitted | None:
    """The spelling as a template writes it, or None if it writes calls otherwise.

    Args:
        spelling: Of a family.
        written: What the template makes of each message of `PROBE`; "" where it takes it not.
    """
    for message, text in zip(PROBE, written, strict=True):
        found = re.search(_pattern(spelling, len(message.calls)), text, re.DOTALL)
        if found is not None:
            return _exact(spelling, len(message.calls), found, text)
    return None


def _segments(spelling: Spelling, count: int) -> Iterator[tuple[Segment, int, str]]:
    """All that stands for some calls: a segment, its call, its key in an element."""
    yield spelling.begin, 0, ""
    for n in range(count):
        if n:
            yield spelling.between, n, ""
        for segment in spelling.call:
            if segment is not Hole.ELEMENTS:
                yield segment, n, ""
                continue
            for key in _ARGUMENTS[n]:
                yield from ((part, n, key) for part in spelling.element)
    yield spelling.end, count, ""


def _pattern(spelling: Spelling, count: int) -> str:
    """A group for every literal, in order."""
    return "".join(_part(*one) for one in _segments(spelling, count))


def _part(segment: Segment, call: int, key: str) -> str:
    if isinstance(segment, str):
        return f"({flexible(segment)})"
    match segment:
        case Hole.NAME:
            return re.escape(_NAMES[call])
        case Hole.ID:
            return r"[^\s<>\"]+?"
        case Hole.NUMBER:
            return "[0-9]+"
        case Hole.KEY:
            return re.escape(key)
        case Hole.VALUE:
            return re.escape(str(_ARGUMENTS[call][key]))
        case Hole.STRING:
            return json.dumps(isinstance(_ARGUMENTS[call][key], str))
        case _:  # however it writes objects
            return r"\{.*?\}"


def _exact(spelling: Spelling, count: int, found: re.Match[str], text: str) -> Fitted:
    literals = iter(found.groups())
    begin, between = next(literals), ""
    calls: list[list[Segment]] = []
    elements: list[list[Segment]] = []
    for n in range(count):
        if n:
            between = next(literals)
        call: list[Segment] = []
        for segment in spelling.call:
            call.append(next(literals) if isinstance(segment, str) else segment)
            if segment is Hole.ELEMENTS:
                for _ in _ARGUMENTS[n]:
                    parts = spelling.element
                    elements.append([next(literals) if isinstance(p, str) else p for p in parts])
        calls.append(call)
    exact = structs.replace(
        spelling,
        call=tuple(calls[0]),
        element=tuple(elements[0]) if elements else (),
        begin=begin,
        between=between,
        end=next(literals),
    )
    return Fitted(spelling=spelling, exact=exact, several=count > 1, behind=text[found.end() :])
