"""A model's own chat template: a Jinja program from its files, run in a sandbox.

The program is somebody else's, and so is the text it is run on. Two things are kept apart here
that a template mixes into one string:

* **Tags of the template and text of clients.** `<|im_end|>` in the template's source is a
  special token, in a tool's output it is ten characters. So every sign in a client's text that
  a tag could begin with gets a guard behind it before rendering (`Guard`), tags are found in
  what was rendered, and the guards are taken out again. No guarded text can be part of a tag:
  not as its beginning, and where the template could complete one around it, not as its end or
  its middle either.
* **Work and too much of it.** Rendering stops at `MAX_CHARS` of output and after `MAX_SEC`;
  both are looked at whenever the program says something, calls something or looks something
  up. Everything the sandbox of Jinja forbids is forbidden (attributes of Python, changes to
  arguments, ranges beyond 100,000).

`strftime_now` gives the time of loading: a date that changes under a conversation would change
every prompt of it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from turnwire.errors import ConfigError
from turnwire.rendering.pieces import Pieces, joined

__all__ = ["ChatTemplate", "Guard", "TemplateRefused"]

MAX_SOURCE_CHARS: Final = 262_144  # the longest seen have 30,000
MAX_CHARS: Final = 67_108_864  # a million tokens is about four million
MAX_SEC: Final = 5.0

_G: Final = "\ufdd0"  # a noncharacter: Unicode never gives it a meaning
_ESCAPED_G: Final = "\\ufdd0"  # what Python shows for it, where a template prints a list of texts


class TemplateRefused(Exception):
    """The template does not take this conversation; the message is its reason."""


# Values that templates compare with, and which a tag may contain: never guarded at their start.
_WORDS: Final = frozenset(
    ("array", "boolean", "function", "integer", "null", "number", "object", "string", "tool")
)


class Guard:
    """Keeps client text from being read as a template's tags."""

    def __init__(self, tags: Iterable[str], source: str) -> None:
        """
        Args:
            tags: What must not come out of client text.
            source: The template, which may put text right beside a client's.
        """
        names = sorted(tags, key=len, reverse=True)
        firsts = "".join(sorted({name[0] for name in names if name}))
        self._first = re.compile(f"[{re.escape(firsts)}]") if firsts else None
        self._tag = re.compile("|".join(map(re.escape, names))) if names else None
        ends = _missing_ends(names, source)
        parts = {end[:at] for end in ends for at in range(1, len(end))}
        self._rest = re.compile(f"(?:{_any_of(ends)})|(?:{_any_of(parts)})$") if ends else None

    def put(self, text: str) -> str:
        """Client text as the template may see it."""
        guarded = text.replace(_G, f"{_G}0") if _G in text else text
        if _ESCAPED_G in guarded:
            guarded = guarded.replace(_ESCAPED_G, f"\\{_G}1ufdd0")
        if self._first is not None:
            guarded = self._first.sub(rf"\g<0>{_G}1", guarded)
        if self._rest is not None and text not in _WORDS and self._rest.match(text):
            guarded = f"{_G}1{guarded}"
        return guarded

    def put_all(self, value: Any) -> Any:
        """The same for every string in a JSON value."""
        match value:
            case str():
                return self.put(value)
            case dict():
                return {self.put(key): self.put_all(one) for key, one in value.items()}
            case list():
                return [self.put_all(one) for one in value]
            case _:
                return value

    def taken(self, rendered: str, special: Mapping[str, int]) -> Pieces:
        """What was rendered, cut at its tags, without the guards."""
        pieces: Pieces = []
        at = 0
        for found in self._tag.finditer(rendered) if self._tag is not None else ():
            pieces += (_plain(rendered[at : found.start()]), special[found.group()])
            at = found.end()
        pieces.append(_plain(rendered[at:]))
        return joined(pieces)


def _plain(text: str) -> str:
    if _ESCAPED_G in text:
        text = re.sub(r"\\ufdd0([01])", lambda found: f"{_G}0" * (found[1] == "0"), text)
    if _G not in text:
        return text
    # A template may have cut between a guard and its digit.
    return re.sub(f"{_G}([01]?)", lambda found: _G if found[1] == "0" else "", text)


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))


def _missing_ends(names: Sequence[str], source: str) -> set[str]:
    """What would complete a tag behind a literal of the template that ends with its beginning."""
    ends: dict[str, set[str]] = {}
    for name in names:
        for at in range(1, len(name)):
            ends.setdefault(name[:at], set()).add(name[at:])
    longest = max(map(len, names), default=0)
    found: set[str] = set()
    for _, kind, value in jinja2.Environment(autoescape=True).lex(source):
        if kind in ("data", "string"):
            literal = value[1:-1] if kind == "string" else value
            for size in range(1, min(longest, len(literal) + 1)):
                found |= ends.get(literal[-size:], set())
    return found


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`, which marks a model's words for training."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Watch:
    """Counts down one rendering's time."""

    deadline = 0.0

    def look(self) -> None:
        if time.monotonic() > self.deadline:
            raise TemplateRefused(f"it takes longer than {MAX_SEC:.0f} s")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**"))

    def __init__(self, watch: _Watch) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,  # it makes text, not HTML
            extensions=[loopcontrols, _Generation],
        )
        self._watch = watch

    def getattr(self, obj: Any, attribute: str) -> Any:
        self._watch.look()
        return _sized(super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        self._watch.look()
        return _sized(super().getitem(obj, argument))

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        self._watch.look()
        return _sized(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or any(
            isinstance(one, str | list | tuple) and isinstance(other, int) and other > 10_000
            for one, other in ((left, right), (right, left))
        ):
            raise TemplateRefused(f"it uses {operator!r} for more than a template needs")
        return super().call_binop(context, operator, left, right)


def _sized(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_CHARS:
        raise TemplateRefused(f"it makes more than {MAX_CHARS} characters")
    return value


def _raise_exception(message: object) -> None:
    raise TemplateRefused(str(message))


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """JSON as Hugging Face's templates expect it: no escapes for HTML, none for letters."""
    known = {
        name: options[name]
        for name in ("ensure_ascii", "separators", "sort_keys")
        if name in options
    }
    known.setdefault("ensure_ascii", False)
    return json.dumps(value, indent=indent, **known)


class ChatTemplate:
    """One template, compiled.

    Attributes:
        source: As the model's files have it.
        guard: For texts that are given to it.
    """

    def __init__(
        self,
        source: str,
        special: Mapping[str, int],
        *,
        variables: Mapping[str, Any] | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Compile.

        Args:
            source: The template.
            special: Ids of the vocabulary's special tokens, by name.
            variables: What it may read besides its arguments: `bos_token` and such.
            now: The time that it sees, asked once.

        Raises:
            ConfigError: it is no template.
        """
        if len(source) > MAX_SOURCE_CHARS:
            raise ConfigError(f"the chat template has {len(source)} characters; none needs so many")
        self.source = source
        self._special = special
        self._watch = _Watch()
        sandbox = _Sandbox(self._watch)
        loaded = now()
        sandbox.filters["tojson"] = _tojson
        sandbox.globals.update(
            variables or {}, raise_exception=_raise_exception, strftime_now=loaded.strftime
        )
        try:
            self._template = sandbox.from_string(source)
            self.guard = Guard(special, source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ConfigError(f"the chat template cannot be read: {error}") from error

    def render(self, **arguments: Any) -> Pieces:
        """Run it.

        Args:
            arguments: `messages`, `tools`, `add_generation_prompt` and so on; texts of clients
                in them as `guard.put` gives them.

        Raises:
            TemplateRefused: it raised, failed, or ran too long.
        """
        watch = self._watch
        watch.deadline = time.monotonic() + MAX_SEC
        rendered: list[str] = []
        size = 0
        try:
            for text in self._template.generate(**arguments):
                size += len(text)
                if size > MAX_CHARS:
                    raise TemplateRefused(f"it makes more than {MAX_CHARS} characters")
                watch.look()
                rendered.append(text)
        except TemplateRefused:
            raise
        except Exception as error:  # whatever a program can do wrong
            raise TemplateRefused(f"{type(error).__name__}: {error}"[:300]) from error
        return self.guard.taken("".join(rendered), self._special)
