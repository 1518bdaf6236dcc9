"""The parts that GBNF is written with: character sets, rules by name, texts, patterns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from re import _constants as sre  # type: ignore[attr-defined]  # the parser of `re` itself
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any, Final

from turnwire.engines.grammar_tree import Unwritable

__all__ = ["ANY_CHARACTER", "CharSet", "Rules", "Shunned", "in_json", "literal"]

_LAST: Final = 0x10FFFF
_MAX_REPEAT: Final = 512
"""llama.cpp writes a bounded repetition out, as often as its bound."""


class CharSet:
    """Some characters, as ranges of code points in order."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Take ranges, both ends included, in any order."""
        joined: list[tuple[int, int]] = []
        for low, high in sorted(ranges):
            if joined and low <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
            else:
                joined.append((low, high))
        self.ranges: Final = tuple(joined)

    def __contains__(self, sign: str) -> bool:
        return any(low <= ord(sign) <= high for low, high in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def inverted(self) -> CharSet:
        """Every other character."""
        ranges, start = [], 0
        for low, high in self.ranges:
            if start < low:
                ranges.append((start, low - 1))
            start = high + 1
        if start <= _LAST:
            ranges.append((start, _LAST))
        return CharSet(ranges)

    def without(self, signs: Iterable[str]) -> CharSet:
        """Less these characters."""
        gone = CharSet((ord(sign), ord(sign)) for sign in signs)
        return CharSet((*self.inverted().ranges, *gone.ranges)).inverted()

    def text(self) -> str:
        """As GBNF."""
        return "[" + "".join(map(_range, self.ranges)) + "]"


ANY_CHARACTER: Final = CharSet([(1, _LAST)])
_JSON: Final = CharSet([(0x20, 0x7E), (0x80, _LAST)]).without('"\\')
_SHORT_ESCAPES: Final = r'["\\bfnrt]'


def _range(ends: tuple[int, int]) -> str:
    low, high = map(_sign, ends)
    return low if low == high else f"{low}-{high}"


def _sign(code: int) -> str:
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def literal(text: str) -> str:
    """These characters, as GBNF."""
    return (
        '"' + "".join(_sign(ord(s)) if s in '"\\' or not s.isprintable() else s for s in text) + '"'
    )


def in_json(text: str) -> str:
    """How these characters are spelled in a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


class Shunned:
    """What no free text may spell: the names of special tokens.

    Most names begin with `<|`, and then that is shunned; of the others, the whole name. It is an
    automaton (Aho and Corasick's): a state is how much of a name the text ends with.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.words: Final = sorted({"<|" if n.startswith("<|") else n for n in names if n})
        self.states: Final = sorted({w[:n] for w in self.words for n in range(len(w))} | {""})
        self._signs = sorted({sign for word in self.words for sign in word})

    @property
    def first(self) -> str:
        """Every character that a name begins with."""
        return "".join(sorted({word[0] for word in self.words}))

    def moves(self, state: str) -> dict[str, str | None]:
        """By character: the next state, or None if it must not come. Others lead to ""."""
        moves: dict[str, str | None] = {}
        for sign in self._signs:
            text = state + sign
            if any(text.endswith(word) for word in self.words):
                moves[sign] = None
                continue
            after = next(text[n:] for n in range(len(text) + 1) if text[n:] in self.states)
            if after:
                moves[sign] = after
        return moves


class Rules:
    """Rules that are being written.

    Attributes:
        shunned: What free text may not spell.
    """

    def __init__(self, shunned: Shunned) -> None:
        self.shunned: Final = shunned
        self._rules: dict[str, str] = {}
        self._count = 0
        self._runs: dict[tuple[object, ...], str] = {}
        # The escapes that llguidance knows, and those that keep shunned names apart.
        others = [f'"u{ord(sign):04x}"' for sign in shunned.first]
        self._escapes: Final = f'"\\\\" ({" | ".join([_SHORT_ESCAPES, *others])})'

    def fresh(self, hint: str) -> str:
        """A name that no rule has."""
        self._count += 1
        return f"{re.sub('[^a-z0-9]+', '-', hint.lower()).strip('-') or 'r'}-{self._count}"

    def add(self, name: str, text: str) -> str:
        """Add a rule; return its name."""
        self._rules[name] = text
        return name

    def made(self, hint: str, text: str) -> str:
        """Add a rule under a name of its own; return the name."""
        return self.add(self.fresh(hint), text)

    def text(self) -> str:
        """All rules."""
        return "".join(f"{name} ::= {text}\n" for name, text in self._rules.items())

    # -- text

    def run(self, signs: CharSet, escapes: str = "", *, less: tuple[str, ...] = ()) -> str:
        """Any number of these characters, and of `escapes`, that spell nothing shunned.

        Args:
            signs: The characters.
            escapes: What else may stand among them.
            less: Words that are not spelled either.
        """
        key = (signs.ranges, escapes, less)
        found = self._runs.get(key)
        if found is not None:
            return found
        automaton = Shunned((*self.shunned.words, *less)) if less else self.shunned
        names = {state: self.fresh("text") for state in automaton.states}
        self._runs[key] = names[""]
        for state, name in names.items():
            moves = automaton.moves(state)
            ways = [
                f"{literal(sign)} {names[after]}"
                for sign, after in moves.items()
                if after is not None and sign in signs
            ]
            others = signs.without(moves)
            if others:
                ways.append(f"{others.text()} {names['']}")
            if escapes:
                ways.append(f"{escapes} {names['']}")
            self.add(name, f"({' | '.join(ways)})?")
        return names[""]

    def until(self, word: str) -> str:
        """Any text up to and with the first `word` in it, that spells nothing shunned.

        Raises:
            Unwritable: something shunned is a part of the word, or the word of it.
        """
        key = ((), word)
        found = self._runs.get(key)
        if found is not None:
            return found
        automaton = Shunned((*self.shunned.words, word))
        near = any(one in word or word in one for one in self.shunned.words)
        if near or word not in automaton.words:
            raise Unwritable(f"a text that ends with {word!r}, where a special token may")
        names = {state: self.fresh("until") for state in automaton.states}
        self._runs[key] = names[""]
        for state, name in names.items():
            moves = automaton.moves(state)
            ways = [
                f"{literal(sign)} {names[after]}"
                for sign, after in moves.items()
                if after is not None
            ]
            ways += [literal(sign) for sign in moves if f"{state}{sign}".endswith(word)]
            ways.append(f"{ANY_CHARACTER.without(moves).text()} {names['']}")
            self.add(name, f"({' | '.join(ways)})")
        return names[""]

    def one(self, signs: CharSet) -> str:
        """One of these characters, where it cannot begin a shunned name."""
        safe = signs.without(self.shunned.first)
        if not safe:
            raise Unwritable("a set of characters that only begin names of special tokens")
        return safe.text()

    def json_text(self) -> str:
        """What may stand between the quotes of a JSON string."""
        return self.run(_JSON, self._escapes)

    def json_character(self) -> str:
        """One character of a JSON string."""
        return f"({self.one(_JSON)} | {self._escapes})"

    # -- patterns

    def pattern(self, regex: str) -> str:
        """Text that the whole of `regex` matches."""
        return _PatternWriter(self, in_string=False).write(regex)

    def json_pattern(self, regex: str) -> str:
        """What may stand between the quotes of a JSON string that `regex` is found in."""
        return _PatternWriter(self, in_string=True).write(regex)


class _PatternWriter:
    """Writes the part of Python's regular expressions that Rust's have too."""

    def __init__(self, rules: Rules, *, in_string: bool) -> None:
        self._rules = rules
        self._in_string = in_string

    def write(self, regex: str) -> str:
        try:
            parsed = sre_parser.parse(regex)
        except (re.error, RecursionError, OverflowError) as error:
            raise Unwritable(f"a regular expression: {error}") from error
        if parsed.state.flags & (re.IGNORECASE | re.MULTILINE | re.VERBOSE | re.ASCII):
            raise Unwritable("flags of a regular expression")
        dotall = bool(parsed.state.flags & re.DOTALL)
        nodes = list(parsed)
        before = after = ""
        if self._in_string:
            free = self._rules.json_text()
            before = after = free
        if nodes and nodes[0] == (sre.AT, sre.AT_BEGINNING):
            nodes, before = nodes[1:], ""
        if nodes and nodes[-1] == (sre.AT, sre.AT_END):
            nodes, after = nodes[:-1], ""
        return " ".join(filter(None, (before, self._all(nodes, dotall), after))) or '""'

    def _all(self, nodes: Iterable[Any], dotall: bool) -> str:
        return " ".join(self._node(op, value, dotall) for op, value in nodes) or '""'

    def _node(self, op: Any, value: Any, dotall: bool) -> str:
        signs = _signs_of(op, value, dotall)
        if op is sre.LITERAL:
            return literal(in_json(chr(value)) if self._in_string else chr(value))
        if signs is not None:
            return self._one(signs)
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = value
            return self._repeat(
                int(least), None if most is sre.MAXREPEAT else int(most), list(inner), dotall
            )
        if op is sre.BRANCH:
            return "(" + " | ".join(self._all(way, dotall) for way in value[1]) + ")"
        if op is sre.SUBPATTERN:
            _, add, remove, inner = value
            if (add | remove) & ~re.DOTALL:
                raise Unwritable("flags of a regular expression")
            inside = (dotall or bool(add & re.DOTALL)) and not remove & re.DOTALL
            return f"({self._all(inner, inside)})"
        raise Unwritable(f"a regular expression with {str(op).lower()}")

    def _repeat(self, least: int, most: int | None, inner: list[Any], dotall: bool) -> str:
        if least > _MAX_REPEAT or (most is not None and most > _MAX_REPEAT):
            raise Unwritable(f"a repetition of more than {_MAX_REPEAT}")
        signs = _signs_of(inner[0][0], inner[0][1], dotall) if len(inner) == 1 else None
        text = f"({self._all(inner, dotall)})"
        if signs is None or most is not None:
            return f"{text}{{{least},{'' if most is None else most}}}"
        plain, escapes = self._parts(signs)
        run = self._rules.run(plain, escapes)
        return f"{text}{{{least}}} {run}" if least else run

    def _one(self, signs: CharSet) -> str:
        plain, escapes = self._parts(signs)
        if not plain.without(self._rules.shunned.first) and escapes:
            return escapes
        one = self._rules.one(plain)
        return f"({one} | {escapes})" if escapes else one

    def _parts(self, signs: CharSet) -> tuple[CharSet, str]:
        """The characters that stand for themselves, and the spellings of the others."""
        if not self._in_string:
            return signs, ""
        plain = CharSet(
            (max(low, start), min(high, end))
            for low, high in signs.ranges
            for start, end in _JSON.ranges
            if max(low, start) <= min(high, end)
        )
        spelled = [sign for sign in '"\\\n\r\t' if sign in signs]
        return plain, "(" + " | ".join(
            literal(in_json(s)) for s in spelled
        ) + ")" if spelled else ""


# A subset of what they mean in Rust, where they know all of Unicode.
_CATEGORIES: Final[Mapping[Any, CharSet]] = {
    sre.CATEGORY_DIGIT: CharSet([(0x30, 0x39)]),
    sre.CATEGORY_WORD: CharSet([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]),
    sre.CATEGORY_SPACE: CharSet([(0x09, 0x0D), (0x20, 0x20)]),
}


def _signs_of(op: Any, value: Any, dotall: bool) -> CharSet | None:
    """The characters that one node stands for; None if it is not one character."""
    if op is sre.ANY:
        return ANY_CHARACTER if dotall else ANY_CHARACTER.without("\n")
    if op is sre.NOT_LITERAL:
        return ANY_CHARACTER.without(chr(value))
    if op is sre.LITERAL:
        return CharSet([(value, value)])
    if op is not sre.IN:
        return None
    ranges: list[tuple[int, int]] = []
    negated = value[0][0] is sre.NEGATE
    for kind, part in value[1:] if negated else value:
        if kind is sre.LITERAL:
            ranges.append((part, part))
        elif kind is sre.RANGE:
            ranges.append(part)
        elif kind is sre.CATEGORY and part in _CATEGORIES and not negated:
            ranges += _CATEGORIES[part].ranges
        else:
            raise Unwritable("a class of characters that Unicode decides")
    signs = CharSet(ranges)
    return signs.inverted().without("\0") if negated else signs
