"""Lark grammars of clients, brought into the form that llguidance embeds.

A custom tool may say what its input looks like as a Lark grammar (protocol.md section 2.1). What
is understood of it is what OpenAI documents: rules, terminals, strings, regular expressions in
Rust's syntax, `%ignore` and `%import common`. Not: lookarounds, priorities, templates,
`%declare`, other imports.

llguidance knows a dialect with more in it: special tokens, other grammars by name, attributes of
rules, JSON schemas, negation. None of that is for clients, and a brace too many would end the
block that their grammar is embedded in. So a definition is never passed on as it came: it is cut
into tokens here, each kind is allowed or refused, and the tokens are written anew, one space
between them, so that they cannot be read in another way. Lines keep their numbers.
"""

from __future__ import annotations

import json
import re
from typing import Final

from turnwire.rendering.depth import MAX_RULE_DEPTH, longest_path

__all__ = ["MAX_DEFINITION_CHARS", "LarkError", "embeddable"]

MAX_DEFINITION_CHARS: Final = 65_536
"""[D] Sixty times the grammar of Codex's `apply_patch`."""

_TOKENS: Final = re.compile(
    r"""
      (?P<space>[ \t\f\r]+|//[^\n]*|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<string>"(?:[^"\\\n]|\\.)*"i?)
    | (?P<regex>/(?:[^/\\\n]|\\.)+/[imsux]*)
    | (?P<name>_?(?:[a-z][_a-z0-9]*|[A-Z][_A-Z0-9]*)(?![a-zA-Z]))
    | (?P<mixed>_?[a-zA-Z][_a-zA-Z0-9]*)
    | (?P<number>[0-9]+)
    | (?P<directive>%[a-z]+)
    | (?P<sign>->|\.\.|[:|()\[\]*+?~,.!])
    """,
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_SHORT_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b", "v": "\v"}
_DIRECTIVES: Final = ("%ignore", "%import")
_ENDS_AN_ATOM: Final = frozenset(("string", "regex", "name", ")", "]"))


class LarkError(ValueError):
    """A definition is no grammar of the kind described above; the message says where and why."""


def embeddable(definition: str) -> str:
    """A definition as lines for a `%lark { }` block.

    It may still mean nothing: names without a rule and the like are llguidance's to find.

    Raises:
        LarkError: it is too long, or holds what is not understood here.
    """
    if len(definition) > MAX_DEFINITION_CHARS:
        raise LarkError(
            f"it has {len(definition)} characters; at most {MAX_DEFINITION_CHARS} are taken"
        )
    return _Writer().write(definition)


class _Writer:
    """One definition on its way from one spelling to the other."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._line = 1
        self._before = "newline"  # the token before: its kind, or a sign itself
        self._head = False  # between a definition's name and its colon
        self._name = ""  # of the definition that is read; "" in a directive
        self._groups = 0  # open in it
        self._depth: dict[str, int] = {}  # by definition: 1 and its nested groups
        self._uses: dict[str, list[str]] = {}  # by definition: names in it

    def write(self, definition: str) -> str:
        at = 0
        while at < len(definition):
            found = _TOKENS.match(definition, at)
            if found is None:
                raise self._error(_unknown(definition[at]))
            at = found.end()
            kind = found.lastgroup or ""
            if kind != "space":
                self._take(kind, found.group())
        if self._head:
            raise self._error("a definition lacks its ':'")
        depth = longest_path(self._depth, self._uses)
        if depth > MAX_RULE_DEPTH:
            raise LarkError(
                f"its rules lead {depth} levels deep into each other; at most {MAX_RULE_DEPTH} "
                "are taken"
            )
        return "".join(self._out)

    def _take(self, kind: str, text: str) -> None:
        starts_line = self._before == "newline"
        if kind == "newline":
            if self._head:
                raise self._error("a definition lacks its ':'")
            self._line += 1
            self._out.append("\n")
            self._before = kind
            return
        if kind == "mixed":
            raise self._error(
                f"{text!r} is neither a rule (lower case) nor a terminal (upper case)"
            )
        if self._head:
            self._take_colon(text)
        elif starts_line and (kind == "name" or text in ("!", "?")):
            # These two shape Lark's syntax tree; for what a grammar matches they say nothing.
            if kind == "sign":
                self._before = "newline"
                return
            self._head = True
            self._name, self._groups = text, 0
            self._depth.setdefault(text, 1)
            self._uses.setdefault(text, [])
        elif kind == "name" and self._before == "->" and self._name:
            self._out.pop()
            self._before = "alias"  # what the syntax tree calls it: nothing to match
            return
        elif self._before == "alias" and text not in ("|", ")", "]"):
            raise self._error(f"'|' or the end of the line must follow an alias, not {text!r}")
        elif kind == "name":
            self._uses.setdefault(self._name, []).append(text)
        elif kind == "string":
            text = _string(text)
        elif kind == "directive":
            if not starts_line or text not in _DIRECTIVES:
                raise self._error(f"'{text}' is not supported here")
            self._name = ""
        elif kind == "sign":
            self._check_sign(text)
        self._out.append(text + " ")
        self._before = text if kind == "sign" else kind

    def _take_colon(self, text: str) -> None:
        if text == ".":
            raise self._error("priorities of terminals and rules are not supported")
        if text != ":":
            raise self._error(f"':' must follow the name of a definition, not {text!r}")
        self._head = False

    def _check_sign(self, text: str) -> None:
        after_atom = self._before in _ENDS_AN_ATOM
        if text in ("(", "["):
            self._groups += 1
            self._depth[self._name] = max(self._depth.get(self._name, 1), 1 + self._groups)
        elif text in (")", "]"):
            self._groups -= 1
        elif text == "~" and not after_atom:
            raise self._error("'~' must follow what is repeated")
        elif text in ("!", "?", "*", "+") and (text == "!" or not after_atom):
            if text == "?" and self._before in ("*", "+", "?"):
                raise self._error("lazy repetition is not supported")
            raise self._error(f"{text!r} must follow what it applies to")

    def _error(self, why: str) -> LarkError:
        return LarkError(f"line {self._line}: {why}")


def _unknown(sign: str) -> str:
    match sign:
        case '"' | "/":
            return f"what {sign} opens is not closed on its line, or is empty"
        case "{" | "}":
            return "templates are not supported"
        case "<" | ">" | "@" | "&" | "=":
            return f"{sign!r} is not part of Lark"
        case _:
            return f"{sign!r} has no meaning here"


def _string(text: str) -> str:
    """A Lark string, escapes as in Python, as a JSON string."""
    flag = "i" if text.endswith("i") else ""
    plain = _ESCAPE.sub(_unescape, text[1 : len(text) - 1 - len(flag)])
    # JSON leaves DEL as it is, llguidance does not take it.
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f") + flag


def _unescape(found: re.Match[str]) -> str:
    sign = found.group(1)
    if len(sign) > 1:
        code = int(sign[1:], 16)
        # Halves of surrogate pairs and what is beyond Unicode are no text.
        is_text = code < 0xD800 or 0xDFFF < code < 0x110000
        return chr(code) if is_text else "\N{REPLACEMENT CHARACTER}"
    return _SHORT_ESCAPES.get(sign, sign if sign in "\\\"'" else found.group())
