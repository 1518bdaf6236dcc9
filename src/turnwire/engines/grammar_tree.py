"""A grammar as a tree: what llguidance's Lark says, for those who must say it otherwise.

Read are the forms that our templates write, and the plain ones of Lark: literals, special tokens
(`<[5]>`, `<name>`), `%json`, `%lark`, regular expressions, sequences, alternatives, groups and
repetitions; of intersections, a text up to a word and a text without some words. What else there
is (case flags, lookaheads, other intersections, attributes) is refused: a grammar that was half
understood would let the wrong things through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

__all__ = [
    "Choice",
    "Grammar",
    "Literal",
    "Node",
    "Pattern",
    "Repeat",
    "Rule",
    "Schema",
    "Sequence",
    "Special",
    "Text",
    "Unwritable",
    "read_lark",
]


class Unwritable(Exception):
    """A grammar says something that cannot be said otherwise; the message says what."""


class Literal(Struct, frozen=True):
    """These characters."""

    text: str


class Special(Struct, frozen=True):
    """This special token."""

    id: int


class Schema(Struct, frozen=True):
    """JSON under a schema: an object, or true."""

    schema: dict[str, object] | bool


class Pattern(Struct, frozen=True):
    """Text that the whole of a regular expression matches."""

    regex: str


class Text(Struct, frozen=True):
    """Any text in which none of the words is; if it has an end, it ends with the first."""

    without: tuple[str, ...] = ()
    end: str = ""


class Rule(Struct, frozen=True):
    """What the rule of this name says."""

    name: str


class Sequence(Struct, frozen=True):
    """One after the other; of none, nothing."""

    nodes: tuple[Node, ...]


class Choice(Struct, frozen=True):
    """One of these."""

    nodes: tuple[Node, ...]


class Repeat(Struct, frozen=True):
    """So many times at least, and at most; None for any number."""

    node: Node
    least: int
    most: int | None


class Grammar(Struct, frozen=True):
    """Rules by name; `start` is where it starts. One may be used as a part of another."""

    rules: Mapping[str, Node]


Node = Literal | Special | Schema | Pattern | Text | Rule | Sequence | Choice | Repeat | Grammar


def read_lark(text: str, special: Mapping[str, int]) -> Grammar:
    """Read a grammar.

    Args:
        text: In llguidance's Lark.
        special: Ids of the special tokens by name.

    Raises:
        Unwritable: it has something in it that is not read here.
    """
    return _Reader(text, special).grammar(end="")


_SPACE: Final = re.compile(r"(?:\s|//[^\n]*|#[^\n]*)*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEAD: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*:")
_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_REGEX: Final = re.compile(r"/((?:[^/\\\n]|\\.)+)/([a-z]*)")
# What is written for a text that ends with a word, and for one without some words.
_ANY: Final = re.escape("(?s:.*)")
_LESS: Final = re.compile(r"&\s*~\s*/((?:[^/\\\n]|\\.)+)/")
_UP_TO: Final = re.compile(rf"{_ANY}(?P<end>.+)&{_ANY}(?P=end){re.escape('(?s:.+)')}")
_WITHOUT: Final = re.compile(rf"{_ANY}&{_ANY}\((?P<words>.+)\){_ANY}")
_WORD: Final = re.compile(r"(?:[^\\.+*?()|\[\]{}^$]|\\[^a-zA-Z0-9]|\\n)+")
_ESCAPED: Final = re.compile(r"\\(.)")
_NUMBERED: Final = re.compile(r"<\[(\d+)\]>")
_NAMED: Final = re.compile(r"<[^<>\s\[\]][^<>\s]*>")
_COUNT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}|~\s*(\d+)(?:\.\.(\d+))?")
_SIGNS: Final = {"?": (0, 1), "*": (0, None), "+": (1, None)}
_DECODER: Final = json.JSONDecoder()
_MAX_DEPTH: Final = 64


class _Reader:
    """A place in the text, which only moves forward."""

    def __init__(self, text: str, special: Mapping[str, int]) -> None:
        self._text = text
        self._special = special
        self._at = 0
        self._depth = 0

    def grammar(self, end: str) -> Grammar:
        """All rules up to `end`, or up to the end of the text."""
        rules: dict[str, Node] = {}
        while not self._skip(end) and not self._over():
            head = self._match(_HEAD)
            if head is None:
                raise self._refused()
            if head.group(1) in rules:
                raise Unwritable(f"two rules are called {head.group(1)}")
            rules[head.group(1)] = self._choice()
        if end and self._text[self._at - 1] != end:
            raise self._refused()
        if "start" not in rules:
            raise Unwritable("no rule is called start")
        return Grammar(rules)

    def _choice(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unwritable("too many groups in each other")
        found = [self._sequence()]
        while self._skip("|"):
            found.append(self._sequence())
        self._depth -= 1
        return found[0] if len(found) == 1 else Choice(tuple(found))

    def _sequence(self) -> Node:
        found: list[Node] = []
        while (node := self._item()) is not None:
            found.append(node)
        return found[0] if len(found) == 1 else Sequence(tuple(found))

    def _item(self) -> Node | None:
        node = self._atom()
        while node is not None:
            if count := self._match(_COUNT):
                node = _counted(node, count)
            elif (sign := self._peek()) in _SIGNS:
                self._at += 1
                node = Repeat(node, *_SIGNS[sign])
            else:
                break
        return node

    def _atom(self) -> Node | None:
        if self._over() or self._peek() in "|)]}" or self._at_head():
            return None
        if self._skip("("):
            return self._closed(self._choice(), ")")
        if self._skip("["):
            return Repeat(self._closed(self._choice(), "]"), 0, 1)
        if literal := self._match(_STRING):
            if self._text[self._at : self._at + 1] in ("i", "."):
                raise self._refused()
            return Literal(_unquoted(literal.group()))
        if regex := self._match(_REGEX):
            if less := self._match(_LESS):
                return _text(regex, less)
            flags = regex.group(2)
            return Pattern((f"(?{flags})" if flags else "") + regex.group(1).replace("\\/", "/"))
        if numbered := self._match(_NUMBERED):
            return Special(int(numbered.group(1)))
        if named := self._match(_NAMED):
            if named.group() not in self._special:
                raise Unwritable(f"no special token is called {named.group()}")
            return Special(self._special[named.group()])
        if self._skip("%json"):
            return Schema(self._json())
        if self._skip("%lark"):
            if not self._skip("{"):
                raise self._refused()
            return self.grammar(end="}")
        if name := self._match(_NAME):
            return Rule(name.group())
        raise self._refused()

    def _json(self) -> dict[str, object] | bool:
        self._space()
        try:
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        except (ValueError, RecursionError) as error:
            raise Unwritable(f"a schema is no JSON: {error}") from error
        if not isinstance(value, dict | bool):
            raise Unwritable("a schema must be an object or true")
        return value

    def _closed(self, node: Node, sign: str) -> Node:
        if not self._skip(sign):
            raise self._refused()
        return node

    def _at_head(self) -> bool:
        """Whether the next rule begins here."""
        self._space()
        return _HEAD.match(self._text, self._at) is not None

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._space()
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _skip(self, sign: str) -> bool:
        self._space()
        found = bool(sign) and self._text.startswith(sign, self._at)
        if found:
            self._at += len(sign)
        return found

    def _peek(self) -> str:
        self._space()
        return self._text[self._at : self._at + 1]

    def _over(self) -> bool:
        self._space()
        return self._at == len(self._text)

    def _space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _refused(self) -> Unwritable:
        return Unwritable(f"cannot read {self._text[self._at : self._at + 20]!r}")


def _text(some: re.Match[str], less: re.Match[str]) -> Text:
    """The text that an intersection with a complement is."""
    whole = f"{some.group(1)}&{less.group(1)}"
    if not some.group(2) and (found := _UP_TO.fullmatch(whole)):
        return Text(end=_spelled(found["end"]))
    if not some.group(2) and (found := _WITHOUT.fullmatch(whole)):
        return Text(without=tuple(map(_spelled, found["words"].split("|"))))
    raise Unwritable(f"cannot read the intersection {whole!r}")


def _spelled(regex: str) -> str:
    """The word that a regular expression is."""
    if not _WORD.fullmatch(regex):
        raise Unwritable(f"{regex!r} is no word")
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], regex)


def _counted(node: Node, count: re.Match[str]) -> Repeat:
    least, comma, most, exact, last = count.groups()
    if exact is not None:
        return Repeat(node, int(exact), int(last or exact))
    if not least and not most:
        raise Unwritable(f"a repetition without a number: {count.group()}")
    return Repeat(node, int(least or 0), int(most) if most else None if comma else int(least))


def _unquoted(literal: str) -> str:
    try:
        text = json.loads(literal)
    except ValueError as error:
        raise Unwritable(f"cannot read {literal}") from error
    return str(text)
