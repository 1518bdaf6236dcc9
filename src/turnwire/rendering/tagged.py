"""Outputs that tags divide into thoughts, text and calls, read while they arrive.

    TEXT      message text                              THINK -> THINKING
                                                        CALL -> CALLS, or SPELLED
    THINKING  reasoning text                            END_THINK -> TEXT
                                                        a section of calls -> SPELLED
    CALLS     between calls: `[`, `,`, `;`, blanks      `]` -> TEXT    `{` -> CALL   a name -> NAME
    NAME      a name, where a format has it outside     ARGUMENTS or `{` -> CALL
                                                        CALL_ID -> CALL_ID
    CALL_ID   an id, which is not read                  ARGUMENTS -> CALL
    CALL      one call's JSON (see json_call.py)        its end -> CALLS, or CALLED with END_CALL
    CALLED    nothing more belongs to the call          END_CALL -> TEXT
    SPELLED   calls in words of a family's own (see spelled_calls.py)   their end -> TEXT
    STOPPED   after a stop token; what follows is ignored

Which tags there are differs by format (`Tags`), and by vocabulary whether one is a special token
or a piece of text. As text it is looked for across tokens, and what may become one is held back
until it is known. Blanks beside a tag belong to the format and to no item.

The ids of an item are everything sampled since the item before it, tags included, so that all
items together give back the output as it was sampled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from msgspec import Struct

from turnwire.parts import CallStarted, ItemFinished, Part, ReasoningDelta, TextDelta
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.detokenizer import Detokenizer
from turnwire.rendering.elements import without_marks
from turnwire.rendering.finding import first_of
from turnwire.rendering.json_call import JsonCall
from turnwire.rendering.pieces import Piece
from turnwire.rendering.spelled_calls import CallTags, SpelledCalls
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

__all__ = ["TaggedParser", "Tags"]


class Tags(Struct, frozen=True, kw_only=True):
    """The tags of one format in one vocabulary: special tokens by id, others as text.

    Attributes:
        think: Opens a thought.
        end_think: Closes it.
        thought: A line in front of a thought that is no part of it.
        call: Any of them opens calls.
        end_call: Closes a call, where a format has a tag for that.
        arguments: Stands between a call's name and its arguments, where the name is no JSON.
        call_id: Stands between a call's name and an id, which is not read.
        bare: A message that is a JSON object is a call, tag or not.
        spelled: What stands behind `call`, where a family has words of its own for that.
    """

    think: Piece | None = None
    end_think: Piece | None = None
    thought: str = ""
    call: tuple[Piece, ...] = ()
    end_call: Piece | None = None
    arguments: Piece | None = None
    call_id: Piece | None = None
    bare: bool = False
    spelled: CallTags | None = None


class _State(Enum):
    TEXT = "text"
    THINKING = "thinking"
    CALLS = "calls"
    NAME = "name"
    CALL_ID = "call id"
    CALL = "call"
    CALLED = "called"
    SPELLED = "spelled"
    STOPPED = "stopped"


_BETWEEN_CALLS: Final = " \t\r\n,;["
_NAME: Final = re.compile(r"[\w.-]{0,129}")


class TaggedParser:
    """One output, parsed in feeds of any size; the size changes how deltas are cut, no more.

    Attributes:
        num_reasoning_tokens: Tokens of thoughts so far.
        open_sampled: After `finish(cut=True)`: the sampled ids of the item that was cut, or
            None if none was open.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tags: Tags,
        stop: frozenset[int],
        offered: Mapping[str, OfferedTool],
        *,
        thinking: bool,
    ) -> None:
        """
        Args:
            tokenizer: The vocabulary.
            tags: Of the format.
            stop: Ids that end an output.
            offered: Tools that may be called, by name. A call to any other stays text.
            thinking: Whether the prompt ended inside a thought.
        """
        self._tags = tags
        self._stop = stop
        self._special = frozenset(tokenizer.special.values()) | stop
        self._texts = tokenizer.table.texts
        self._detokenizer = Detokenizer(tokenizer.table)
        self._offered = offered
        self._state = _State.THINKING if thinking else _State.TEXT
        self._openings = _of_text((tags.think, *tags.call))
        self._endings = _of_text((tags.end_think,))
        self._held = ""  # text that cannot be judged yet
        self._strip = thinking  # whether blanks at the start of the next item are the format's
        self._space = tokenizer.prefix_space  # a vocabulary's own blank in front of the output
        self._call = JsonCall(offered)
        self._calls: SpelledCalls | None = None
        self._marks = {} if tags.spelled is None else tags.spelled.marks
        # A special token may stand in the middle of a tag.
        self._parts_of_tags = frozenset(
            token_id for token_id, sign in self._marks.items() if sign in "".join(self._openings)
        )
        self._sections = (
            frozenset(tag for tag in tags.call if isinstance(tag, int))
            if tags.spelled is not None and tags.spelled.is_section
            else frozenset()
        )
        self._num_before = 0  # ids in front of spelled calls
        self._name = ""  # of the call whose id is said
        self._sampled = token_array()
        self._last: TokenArray | None = None  # the ids of the last item that ended
        self._has_item = False
        self.num_reasoning_tokens = 0
        self.open_sampled: TokenArray | None = None

    def feed(self, ids: Sequence[int]) -> list[Part]:
        """The parts that `ids` complete, in order."""
        parts: list[Part] = []
        start = 0
        for place, token_id in enumerate(ids):
            if token_id in self._special:
                self._plain(ids[start:place], parts)
                self._mark(token_id, parts)
                start = place + 1
        self._plain(ids[start:] if start else ids, parts)
        return parts

    def finish(self, *, cut: bool) -> list[Part]:
        """The output's end; see `Parser.finish`. A call without a whole name is dropped if cut."""
        parts: list[Part] = []
        if self._state is not _State.STOPPED:
            self._read(self._detokenizer.flush(), parts)
            self._flush(parts, cut=cut)
        if cut:
            self.open_sampled = self._sampled if self._has_item else None
        else:
            self._end_item(parts)
        if self._last is not None and self._sampled and not self._has_item:
            self._last.extend(self._sampled)  # a `]` behind the last call
        self._state = _State.STOPPED
        return parts

    def _plain(self, ids: Sequence[int], parts: list[Part]) -> None:
        """Text in the present state, token by token: any may end an item. None is special."""
        if self._state is _State.STOPPED:
            return
        for token_id in ids:
            self._sampled.append(token_id)
            if self._state is _State.THINKING:
                self.num_reasoning_tokens += 1
            self._read(self._detokenizer.feed((token_id,)), parts)

    def _mark(self, token_id: int, parts: list[Part]) -> None:
        """One special token: a stop, a tag, or nothing."""
        if self._state is _State.STOPPED:
            return
        self._read(self._detokenizer.flush(), parts)
        if token_id in self._stop:
            self._flush(parts, cut=False)
            self._state = _State.STOPPED  # `finish` ends the item
        elif self._state is _State.SPELLED or (
            self._state is _State.TEXT and token_id in self._parts_of_tags
        ):
            self._sampled.append(token_id)
            self._read(self._marks.get(token_id, ""), parts)
        elif not self._tag(token_id, parts):
            self._sampled.append(token_id)

    # -- the table

    def _tag(self, tag: Piece, parts: list[Part]) -> bool:
        """Make a tag's move; returns whether the item before it took the tag's id as its own."""
        tags = self._tags
        match self._state:
            case _State.TEXT if tag == tags.think:
                self._open(_State.THINKING, parts)
            case _State.TEXT if tag in tags.call and tags.spelled is not None:
                self._open_spelled(tags.spelled, tag)
            case _State.TEXT if tag in tags.call:
                self._open(_State.CALLS, parts)
            case _State.THINKING if tag == tags.end_think:
                return self._close(tag, parts)
            case _State.THINKING if tag in self._sections and tags.spelled is not None:
                # Models go over to calls without an end of their thought at times.
                self._flush(parts, cut=False)
                self._end_item(parts)
                self._open_spelled(tags.spelled, tag)
            case _State.NAME if tag == tags.arguments:
                self._begin_arguments("", parts)
            case _State.NAME if tag == tags.call_id:
                self._state, self._name, self._held = _State.CALL_ID, self._held, ""
            case _State.CALL_ID if tag == tags.arguments:
                self._held = self._name
                self._begin_arguments("", parts)
            case _State.CALL | _State.CALLED if tag == tags.end_call:
                if self._state is _State.CALL:
                    self._take(self._call.close(), parts)
                return self._close(tag, parts)
            case _State.CALLS if tag == tags.end_call:
                self._state = _State.TEXT
        return False

    def _open(self, state: _State, parts: list[Part]) -> None:
        self._held = ""  # blanks in front of a tag
        self._end_item(parts)
        self._state = state
        self._strip = True

    def _open_spelled(self, spelled: CallTags, tag: Piece) -> None:
        """Calls may follow: what came before ends when the first of them begins."""
        before = self._held + (tag if isinstance(tag, str) else "")
        self._held = ""
        self._num_before = len(self._sampled)
        self._state = _State.SPELLED
        self._calls = SpelledCalls(spelled, self._offered, tag, before)

    def _close(self, tag: Piece, parts: list[Part]) -> bool:
        self._held = ""
        own = isinstance(tag, int)  # the ids of a tag of text are there already
        if isinstance(tag, int):
            self._sampled.append(tag)
        self._end_item(parts)
        self._state = _State.TEXT
        self._strip = True
        return own

    # -- text

    def _read(self, text: str, parts: list[Part]) -> None:
        if self._space and text:
            self._space = False
            text = text.removeprefix(" ")
        if not text:
            return
        rest = self._held + text
        self._held = ""
        while rest:
            match self._state:
                case _State.TEXT:
                    rest = self._read_text(rest, parts)
                case _State.THINKING:
                    rest = self._read_thought(rest, parts)
                case _State.CALLS:
                    rest = self._read_between(rest)
                case _State.NAME:
                    rest = self._read_name(rest, parts)
                case _State.CALL:
                    rest = self._read_call(rest, parts)
                case _State.CALLED:
                    rest = self._read_end_of_call(rest, parts)
                case _State.SPELLED:
                    rest = self._read_spelled(rest, parts)
                case _State.CALL_ID | _State.STOPPED:
                    return

    def _read_text(self, text: str, parts: list[Part]) -> str:
        if self._tags.bare and not self._has_item and self._offered:
            begun = text.lstrip()
            if not begun:
                self._held = text
                return ""
            if begun[0] == "{":
                self._open(_State.CALLS, parts)
                return begun
        return self._read_until(self._openings, text, parts)

    def _read_thought(self, text: str, parts: list[Part]) -> str:
        lead = self._tags.thought
        if lead and self._strip:
            if len(text) < len(lead) and lead.startswith(text):
                self._held = text
                return ""
            text = text.removeprefix(lead)
        return self._read_until(self._endings, text, parts) if text else ""

    def _read_until(self, tags: Sequence[str], text: str, parts: list[Part]) -> str:
        """Say text up to the first of `tags`; hold back what may become one, and blanks."""
        if self._strip:
            text = text.lstrip()
        at, tag = first_of(tags, text)
        said = text[:at].rstrip()
        shown = without_marks(said) if self._parts_of_tags else said
        if shown:
            self._strip = False
            thinking = self._state is _State.THINKING
            self._take([ReasoningDelta(shown) if thinking else TextDelta(shown)], parts)
        if not tag:
            self._held = text[len(said) :]
            return ""
        self._held = text[len(said) : at]
        self._tag(tag, parts)
        return text[at + len(tag) :]

    def _read_between(self, text: str) -> str:
        text = text.lstrip(_BETWEEN_CALLS)
        if not text:
            return ""
        if text[0] == "]":
            self._state = _State.TEXT
            return text[1:]
        self._state = _State.NAME
        if text[0] == "{":
            self._state = _State.CALL
            self._call = JsonCall(self._offered)
        return text

    def _read_name(self, text: str, parts: list[Part]) -> str:
        found = _NAME.match(text)
        end = found.end() if found is not None else 0
        expected = self._tags.arguments is not None or any(
            name.startswith(text) for name in self._offered
        )
        if end == len(text) and expected:
            self._held = text
            return ""
        if end < len(text) and text[end] == "{" and text[:end] in self._offered:
            self._held = text[:end]
            return self._begin_arguments(text[end:], parts)
        self._state = _State.TEXT  # no call at all
        self._take([TextDelta(text)], parts)
        return ""

    def _begin_arguments(self, text: str, parts: list[Part]) -> str:
        name, self._held = self._held, ""
        tool = self._offered.get(name)
        self._state = _State.TEXT if tool is None else _State.CALL
        if tool is None:
            self._take([TextDelta(name)], parts)
        else:
            self._call = JsonCall(self._offered, tool)
        return text

    def _read_call(self, text: str, parts: list[Part]) -> str:
        call = self._call
        self._take(call.feed(text), parts)
        if call.is_text:
            self._state = _State.TEXT
            self._strip = False
        if not call.done:
            return ""
        if self._tags.end_call is None:
            self._end_item(parts)
            self._state = _State.CALLS
        else:
            self._state = _State.CALLED
        return call.rest

    def _read_end_of_call(self, text: str, parts: list[Part]) -> str:
        tag = self._tags.end_call
        if not isinstance(tag, str):
            return ""  # only the special token ends it
        at, found = first_of((tag,), text)
        if not found:
            self._held = text[at:]
            return ""
        self._tag(tag, parts)
        return text[at + len(tag) :]

    def _read_spelled(self, text: str, parts: list[Part]) -> str:
        calls = self._spelled_calls()
        self._take_spelled(calls.feed(text), parts)
        if calls.ended:
            self._end_item(parts)
        if calls.is_text:
            self._state = _State.TEXT
            self._strip = False
        elif calls.over:
            self._state = _State.TEXT
            self._strip = True
        return calls.rest

    def _take_spelled(self, new: Sequence[Part], parts: list[Part]) -> None:
        if self._has_item and any(isinstance(part, CallStarted) for part in new):
            own = self._sampled[self._num_before :]
            del self._sampled[self._num_before :]
            self._end_item(parts)
            self._sampled = own
        self._take(new, parts)

    def _spelled_calls(self) -> SpelledCalls:
        if self._calls is None:
            raise AssertionError("the state says that there are calls")
        return self._calls

    def _flush(self, parts: list[Part], *, cut: bool) -> None:
        """The end of the output: what was held is what it looks like."""
        held, self._held = without_marks(self._held), ""
        match self._state:
            case _State.TEXT if held and (self._has_item or not held.isspace()):
                self._take([TextDelta(held)], parts)
            case _State.THINKING if held.strip():
                self._take([ReasoningDelta(held.rstrip())], parts)
            case _State.NAME if not cut:
                self._take([TextDelta(held)], parts)
            case _State.CALL if not cut or self._call.opened:
                self._take(self._call.close(), parts)
            case _State.SPELLED:
                self._take_spelled(self._spelled_calls().close(cut=cut), parts)

    def _take(self, new: Sequence[Part], parts: list[Part]) -> None:
        parts += new
        self._has_item = self._has_item or bool(new)

    def _end_item(self, parts: list[Part]) -> None:
        if self._has_item:
            parts.append(ItemFinished(self._sampled))
            self._last = self._sampled
            self._has_item = False
            self._sampled = token_array()


def _of_text(tags: Sequence[Piece | None]) -> tuple[str, ...]:
    return tuple(tag for tag in tags if isinstance(tag, str))
