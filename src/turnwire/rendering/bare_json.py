"""JSON whose keys have no quotes and whose strings stand between a tag: Gemma's notation.

    {path:<|"|>src/a.py<|"|>,line:7,deep:[{x:true}]}

It becomes JSON while it arrives. Nothing is escaped in such a string, so the tag ends it wherever
it comes; as a token of its own, which it is in Gemma's vocabularies, it comes nowhere else.
"""

from __future__ import annotations

import json
import re
from typing import Final

from turnwire.rendering.argument_types import as_json
from turnwire.rendering.elements import without_marks
from turnwire.rendering.finding import overlap
from turnwire.rendering.messages import sound

__all__ = ["BareJson"]

_SIGNS: Final = re.compile(r"[{}\[\],:]")


class BareJson:
    """One object on its way to JSON.

    Attributes:
        done: Whether it is whole.
        rest: What stands behind it, then.
    """

    def __init__(self, quote: str) -> None:
        """
        Args:
            quote: The tag around strings.
        """
        self._quote: Final = quote
        self._held = ""
        self._in_string = False
        self._depth = 0
        self.done = False
        self.rest = ""

    def feed(self, text: str) -> str:
        """The JSON that `text` adds."""
        out: list[str] = []
        rest, self._held = self._held + text, ""
        while rest and not self.done:
            rest = self._read_string(rest, out) if self._in_string else self._read(rest, out)
        self.rest += rest
        return "".join(out)

    def _read_string(self, text: str, out: list[str]) -> str:
        said, tag, rest = text.partition(self._quote)
        if not tag:
            kept = overlap(text, self._quote)
            said, self._held = text[: len(text) - kept], text[len(text) - kept :]
        out.append(sound(json.dumps(without_marks(said), ensure_ascii=False))[1:-1])
        if tag:
            out.append('"')
            self._in_string = False
        return rest

    def _read(self, text: str, out: list[str]) -> str:
        """A sign, with the word in front of it; or the beginning of a string."""
        sign = _SIGNS.search(text)
        quoted = text.find(self._quote)
        if quoted >= 0 and (sign is None or quoted < sign.start()):
            out.append('"')
            self._in_string = True
            return text[quoted + len(self._quote) :]
        if sign is None:
            self._held = text
            return ""
        word = without_marks(text[: sign.start()]).strip()
        if word:
            is_key = sign.group() == ":"
            out.append(sound(json.dumps(word)) if is_key else as_json(word, None))
        out.append({":": ": ", ",": ", "}.get(sign.group(), sign.group()))
        self._depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(sign.group(), 0)
        self.done = self._depth <= 0
        return text[sign.end() :]
