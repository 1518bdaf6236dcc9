"""Calls between tags of a family's own (`spelling.py`), read while they arrive.

    OPENED   behind a tag that opens a call      a name, and what stands around it -> ARGUMENTS
    BETWEEN  calls, or in front of the first     the same; the end of all calls -> OVER
    ARGUMENTS  JSON (json_call.py), or elements (elements.py)           their end -> BEHIND
    BEHIND   the arguments                       the call's last word -> BETWEEN, or OVER
    OVER     what follows is no call
    TEXT     it was no call

A tag is a special token in one vocabulary and text in another. Here both are characters of one
string: a special token that the spelling knows stands in it as a *mark*, half of a surrogate
pair, which no text of a tokenizer can hold. So a tag that is a token is never confused with its
name in a text. What opened no call of an offered tool is text, tags of text included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from turnwire.parts import Part, TextDelta
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.bare_json import BareJson
from turnwire.rendering.elements import MARKS, ElementForm, ElementReader, without_marks
from turnwire.rendering.json_call import JsonCall, started
from turnwire.rendering.pieces import Piece
from turnwire.rendering.spelling import Fitted, Hole, Spelling, words
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["CallTags", "SpelledCalls"]

_MARK: Final = re.compile(f"[{MARKS}]")
_BETWEEN_LISTED: Final = " \t\r\n,;[]"
_HOLES: Final = {
    Hole.NAME: r"([\w.-]{1,129})",
    Hole.ID: rf'[^\s<>"{MARKS}]{{0,128}}',
    Hole.NUMBER: r"[\w.:-]{0,64}",
}


class _Head:
    """A call up to its arguments, and what may still become one."""

    def __init__(self, spelling: Spelling, opener: str = "") -> None:
        atoms = list(_atoms(spelling, opener))
        self.whole: Final = re.compile(r"\s*" + "".join(atoms))
        growing = ""
        for atom in reversed(atoms):
            growing = f"(?:{atom}{growing})?"
        self.growing: Final = re.compile(rf"\s*{growing}")


def _atoms(spelling: Spelling, opener: str) -> Iterator[str]:
    """A call's head, sign by sign, as regular expressions.

    Args:
        spelling: In marks.
        opener: What of it was read: a word of its first literal, or "".
    """
    first, *others = spelling.head
    for segment in (str(first).partition(opener)[2] if opener else first, *others):
        if not isinstance(segment, str):
            yield _HOLES[segment]
            if segment is Hole.NAME:
                yield r"(?=[^\w.-])"  # it is whole
            continue
        literal = segment.partition("{")[0] if spelling.listed else segment
        for blank, sign in re.findall(r"(\s+)|(.)", literal, re.DOTALL):
            yield r"\s*" if blank else re.escape(sign)
        if literal != segment:
            break  # the object says the rest
    if spelling.body is Hole.ARGUMENTS:
        yield r"(?=\{)"


class CallTags:
    """A spelling in one vocabulary, for who reads it. Its words may be marks.

    Attributes:
        openers: The tags that open calls.
        marks: By special token: the character that stands for it.
        listed: Whether a call is a JSON object.
        is_section: Whether calls stand between tags of their own.
        head: A call up to its arguments.
        heads: By its opener: the same behind that.
        tail: Words behind the arguments.
        end: The word behind all calls, or "".
        elements: How arguments are written that come one by one.
        quote: The tag around strings in Gemma's notation, or "".
    """

    def __init__(self, tokenizer: Tokenizer, found: Fitted) -> None:
        """
        Args:
            tokenizer: The vocabulary.
            found: How the template spells calls.
        """
        known = "\n".join(found.spelling.literals())
        names = sorted((name for name in tokenizer.special if name in known), key=len, reverse=True)
        signs = {name: chr(0xDC00 + n) for n, name in enumerate(names)}
        self.marks: Final = {tokenizer.special[name]: sign for name, sign in signs.items()}
        tokens = {sign: token_id for token_id, sign in self.marks.items()}

        def marked(text: str) -> str:
            for name, sign in signs.items():
                text = text.replace(name, sign)
            return text

        spelling, exact = found.spelling.mapped(marked), found.exact.mapped(marked)
        self.listed: Final = spelling.listed
        self.quote: Final = spelling.quote
        self.head: Final = _Head(spelling)
        self.heads: Final = {word: _Head(spelling, word) for word in _call_openers(spelling)}
        begin = words(spelling.begin)[:1]
        self.is_section: Final = bool(begin)
        self.openers: Final[tuple[Piece, ...]] = tuple(
            tokens.get(word, word) for word in (*begin, *self.heads)
        )
        self.end: Final = "".join(words(spelling.end)[-1:]).removeprefix("]")
        last = spelling.tail[-1]
        # What stands in a list's object belongs to that, and so does its brace.
        self.tail: Final = words(str(last).rpartition("}")[2] if self.listed else str(last))
        following = [*self.tail, *filter(None, (self.end,))]
        self.elements: Final = (
            ElementForm(spelling.element, exact.element, following) if spelling.element else None
        )


def _call_openers(spelling: Spelling) -> tuple[str, ...]:
    first = words(str(spelling.call[0]))[0]
    return spelling.also if first.startswith("{") else (first, *spelling.also)


class _State(Enum):
    OPENED = "opened"
    BETWEEN = "between"
    ARGUMENTS = "arguments"
    BEHIND = "behind"
    OVER = "over"
    TEXT = "text"


class SpelledCalls:
    """Calls from the tag that opened them on.

    Attributes:
        ended: Whether the last feed ended a call.
        rest: What the last feed did not read: behind the end of a call, or of all calls.
    """

    def __init__(
        self, tags: CallTags, offered: Mapping[str, OfferedTool], opener: Piece, before: str
    ) -> None:
        """
        Args:
            tags: What to look for.
            offered: Tools that may be called, by name.
            opener: The tag that was read.
            before: Text that goes out again if no call follows: the tag, if it is text.
        """
        self._tags = tags
        self._offered = offered
        head = tags.heads.get(opener if isinstance(opener, str) else tags.marks[opener])
        self._head = head or tags.head
        self._state = _State.OPENED if head is not None else _State.BETWEEN
        self._held = ""  # text that cannot be judged yet
        self._before: str | None = before  # None behind the first call
        self._body: JsonCall | ElementReader = JsonCall(offered)
        self._bare: BareJson | None = None
        self.ended = False
        self.rest = ""

    @property
    def over(self) -> bool:
        """Whether no call can follow."""
        return self._state is _State.OVER

    @property
    def is_text(self) -> bool:
        """Whether it was no call; its text went out."""
        return self._state is _State.TEXT

    def feed(self, text: str) -> list[Part]:
        """What `text` adds. Look at `ended`, `over` and `is_text` behind it, then at `rest`."""
        text, self._held = self._held + text, ""
        self.ended, self.rest = False, ""
        match self._state:
            case _State.OPENED | _State.BETWEEN:
                return self._read_head(text)
            case _State.ARGUMENTS:
                return self._read_arguments(text)
            case _State.BEHIND:
                self._read_tail(text)
                return []
            case _:
                raise AssertionError("nothing is read here once no call can follow")

    def close(self, *, cut: bool) -> list[Part]:
        """The end of the output; a call without a whole name is dropped if it was cut."""
        held, self._held = self._held, ""
        match self._state:
            case _State.OPENED | _State.BETWEEN if not cut:
                if self._before is None:  # behind calls, blanks and a list's end say nothing
                    return _text(held.lstrip(_BETWEEN_LISTED if self._tags.listed else None))
                return _text(self._before + held)
            case _State.ARGUMENTS if isinstance(self._body, JsonCall):
                return self._led(self._body.close()) if self._body.opened or not cut else []
            case _State.ARGUMENTS if isinstance(self._body, ElementReader) and not cut:
                return self._body.close()
            case _:
                return []

    # -- in front of a call

    def _read_head(self, text: str) -> list[Part]:
        tags = self._tags
        shown = text.lstrip(_BETWEEN_LISTED if tags.listed else None)
        if found := self._head.whole.match(shown):
            return self._begin(found, text)
        if self._state is _State.BETWEEN and tags.end and shown.startswith(tags.end):
            self._leave(shown[len(tags.end) :])
            return []
        if self._head.growing.fullmatch(shown) or tags.end.startswith(shown):
            if self._before is not None:
                self._before += text[: len(text) - len(shown)]
            self._held = shown
            return []
        return self._give_up(text)

    def _begin(self, found: re.Match[str], text: str) -> list[Part]:
        tool = None if self._tags.listed else self._offered.get(found[1])
        if tool is None and not self._tags.listed:
            return self._give_up(text)
        rest = found.string[found.end() :]
        self._state = _State.ARGUMENTS
        if tool is not None and self._tags.elements is not None:
            self._before = None
            self._body = ElementReader(self._tags.elements, tool)
            return [started(tool), *self._read_arguments(rest)]
        if self._before is not None:
            self._before += text.removesuffix(rest)
        self._body = JsonCall(self._offered, tool)
        self._bare = BareJson(self._tags.quote) if self._tags.quote else None
        return self._read_arguments(rest)

    def _give_up(self, text: str) -> list[Part]:
        if self._before is None:
            self._leave(text)
            return []
        self._state = _State.TEXT
        return _text(self._before + text)

    def _leave(self, rest: str) -> None:
        self._state = _State.OVER
        self.rest = without_marks(rest)

    # -- a call

    def _read_arguments(self, text: str) -> list[Part]:
        body = self._body
        if isinstance(body, ElementReader):
            parts = body.feed(text)
            return self._read_behind(body.rest, parts) if body.done else parts
        if self._bare is not None:
            return self._read_bare(body, self._bare, text)
        mark = _MARK.search(text)
        parts = body.feed(text if mark is None else text[: mark.start()])
        if mark is not None and not body.done:
            parts += body.close()
        parts = self._led(parts)
        if body.is_text:
            self._state = _State.TEXT
            return parts
        if mark is not None:
            return self._read_behind(body.rest + text[mark.start() :], parts)
        return self._read_behind(body.rest, parts) if body.done else parts

    def _read_bare(self, body: JsonCall, bare: BareJson, text: str) -> list[Part]:
        at = text.find(self._tags.tail[-1])
        written = bare.feed(text if at < 0 else text[:at])
        parts = self._led(body.feed(written) if written else [])
        if at < 0 and not bare.done:
            return parts
        return self._read_behind(bare.rest + (text[at:] if at >= 0 else ""), parts)

    def _led(self, parts: list[Part]) -> list[Part]:
        """The parts; if they are text, behind what was held in front of them."""
        if not parts or self._before is None:
            return parts
        before, self._before = self._before, None
        return [*_text(before), *parts] if isinstance(parts[0], TextDelta) else parts

    def _read_behind(self, text: str, parts: list[Part]) -> list[Part]:
        self._state = _State.BEHIND
        self._read_tail(text)
        return parts

    def _read_tail(self, text: str) -> None:
        """The words behind the arguments; what else there is belongs to no item."""
        tail = self._tags.tail
        if not tail:
            self._end(text)
            return
        at = text.find(tail[-1])
        if at >= 0:
            self._end(text[at + len(tail[-1]) :])
            return
        following = (self._tags.end, *(head for head in self._tags.heads))
        places = [at for word in following if word and (at := text.find(word)) >= 0]
        if places:  # the last word is missing
            self._end(text[min(places) :])
        else:
            longest = max(len(word) for word in (tail[-1], *following))
            self._held = text[-longest:]

    def _end(self, rest: str) -> None:
        self.ended = True
        self._head = self._tags.head
        if self._tags.is_section:
            self._state, self.rest = _State.BETWEEN, rest
        else:
            self._leave(rest)


def _text(text: str) -> list[Part]:
    text = without_marks(text)
    return [TextDelta(text)] if text else []
