"""What the simulated engine will say to a prompt: decided in one go, before the first token.

A pure function of the prompt's ids, the controls, the constraint and the room there is. Its
shape follows from token facts alone:

    the prompt ends with <think>       12 to 24 tokens of reasoning, then </think>
    then, without a constraint         a message
    with a constraint                  output that obeys it
    with a constraint and a trigger    the same, after the trigger, as long as there were fewer
                                       rounds of tool calls since the last user turn than
                                       `tool_calls` asks for; else a message. With `phases` some
                                       words come before the trigger
    where text may follow the calls    a message too: the model does not wait for their outputs
    then                               a stop token
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from turnwire.constraint import Constraint
from turnwire.engines.babble import Babble
from turnwire.engines.base import FinishReason
from turnwire.engines.constrain import Guide, Guides
from turnwire.engines.dice import Dice
from turnwire.engines.reading import Reading
from turnwire.engines.sampler import Sampler
from turnwire.engines.vocabulary import CALL, CALL_END, END_OF_TURN, THINK, THINK_END, Vocabulary
from turnwire.errors import EngineError

__all__ = ["Author", "Controls", "InvalidHint", "Output", "read_controls"]

# Longer than any answer to a sensible schema; where it ends, the output has run away.
_MAX_SAMPLED = 4096
# Tokens of what is said before calls.
_NUM_COMMENTS = 12
# An event loop that stands still for longer is felt by everybody else.
_SLOW_SEC = 0.010
_MAX_NOTED = 256


class InvalidHint(EngineError):
    """A hint to the simulated engine is malformed; raised before the first delta.

    Attributes:
        hint: Its name, such as `sim.output_tokens`.
        message: One sentence that a person can act on.
    """

    def __init__(self, hint: str, message: str) -> None:
        super().__init__(message)
        self.hint = hint
        self.message = message


class Controls(Struct, frozen=True, kw_only=True):
    """What the hints of a request ask for (design.md section 5).

    Attributes:
        output_tokens: Length of a message, without its stop token.
        tool_calls: Rounds of tool calls after a user turn, before the message.
        parallel_calls: Calls in one round, where the grammar allows more than one.
        fail_after: Fail once so many tokens were produced, or None.
        stall_sec: Wait so long before the first token.
        reject: Refuse the request.
        refusal: The message is a refusal; the model's to say, the words are the same.
        phases: Messages have a phase, which is the model's to say; calls that are made freely have
            some words before them.
    """

    output_tokens: int = 64
    tool_calls: int = 1
    parallel_calls: int = 1
    fail_after: int | None = None
    stall_sec: float = 0.0
    reject: bool = False
    refusal: bool = False
    phases: bool = False


_DEFAULT_CONTROLS = Controls()
_MAX_STALL_SEC = 3600.0


def read_controls(hints: Mapping[str, str]) -> Controls:
    """Read the `sim.*` hints; others are not looked at.

    Raises:
        InvalidHint: a value is malformed or out of range, or the hint is unknown.
    """
    asked = [name for name in hints if name.startswith("sim.")]
    if not asked:
        return _DEFAULT_CONTROLS
    values: dict[str, int | float | bool] = {}
    for name in asked:
        match name:
            case "sim.output_tokens":
                values["output_tokens"] = _read_int(name, hints[name], 1, 10_000_000)
            case "sim.tool_calls":
                values["tool_calls"] = _read_int(name, hints[name], 0, 1_000_000)
            case "sim.parallel_calls":
                values["parallel_calls"] = _read_int(name, hints[name], 1, 128)
            case "sim.refusal" | "sim.phases":
                values[name.removeprefix("sim.")] = _read_bool(name, hints[name])
            case "sim.fault":
                values.update(_read_fault(name, hints[name]))
            case _:
                raise InvalidHint(name, f"There is no hint {name!r}.")
    return Controls(**values)  # type: ignore[arg-type]


def _read_int(name: str, text: str, least: int, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most:
        return int(text)
    raise InvalidHint(name, f"{name} must be a whole number from {least} to {most}.")


def _read_bool(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidHint(name, f"{name} must be true or false.")
    return text == "true"


def _read_fault(name: str, text: str) -> dict[str, int | float | bool]:
    kind, _, value = text.partition(":")
    if text == "reject":
        return {"reject": True}
    if kind == "error" and value.isascii() and value.isdigit() and len(value) <= 9:
        return {"fail_after": int(value)}
    whole, _, decimals = value.partition(".")
    digits = whole + decimals
    if kind == "stall" and digits.isascii() and digits.isdigit() and float(value) <= _MAX_STALL_SEC:
        return {"stall_sec": float(value)}
    raise InvalidHint(
        name, f"{name} must be error:TOKENS, stall:SECONDS (at most {_MAX_STALL_SEC:g}) or reject."
    )


class Output(Struct, frozen=True):
    """A whole output.

    Attributes:
        ids: Its token ids, at least one.
        finish: stop: the last id is a stop token. length: the output was cut.
    """

    ids: list[int]
    finish: FinishReason


class Author:
    """Writes outputs over one vocabulary, spelt as its tokenizer would spell them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._special: Final = frozenset(vocabulary.special.values())
        self._call = vocabulary.special[CALL]
        self._call_end = vocabulary.special[CALL_END]
        self._think = vocabulary.special[THINK]
        self._think_end = vocabulary.special[THINK_END]
        self._end = vocabulary.special[END_OF_TURN]
        self._babble = Babble(vocabulary)
        self._sampler = Sampler(vocabulary, self._babble)
        self._guides = Guides(vocabulary, [self._end])
        self._cost_sec: OrderedDict[str, float] = OrderedDict()  # by grammar, the last time

    def is_quick(self, reading: Reading, controls: Controls, constraint: Constraint | None) -> bool:
        """Whether `write` takes no more than some milliseconds.

        Not so where the grammar is new, and has to be compiled, or took its time before. It may
        be the work of somebody who means harm; a thread is the place for it.
        """
        if constraint is None or not _obeys(reading, controls, constraint):
            return True
        return self._cost_sec.get(constraint.grammar, _SLOW_SEC) < _SLOW_SEC

    def write(
        self,
        reading: Reading,
        controls: Controls,
        constraint: Constraint | None,
        *,
        stop: frozenset[int],
        limit: int,
    ) -> Output:
        """Return the answer to the prompt that was read. May be called from any thread.

        Args:
            reading: The prompt.
            controls: The hints of the request.
            constraint: What the output must obey, or None.
            stop: Tokens that end an output. The end of turn is written if it is one of them,
                or if there are none.
            limit: Most ids to write, at least 1.

        Raises:
            EngineError: the grammar cannot be followed to an end.
        """
        seed = reading.seed()
        ids: list[int] = []
        if reading.last == self._think:
            num_thoughts = 12 + seed[0] % 13
            if num_thoughts >= limit:
                return Output(self._babble.text(b"think" + seed, limit), "length")
            ids = self._babble.text(b"think" + seed, num_thoughts)
            ids.append(self._think_end)
        room = limit - len(ids)
        if constraint is not None and _obeys(reading, controls, constraint):
            if constraint.trigger is not None and controls.phases:
                if room <= _NUM_COMMENTS:
                    ids += self._babble.text(b"comment" + seed, room)
                    return _cut_at_stop(Output(ids, "length"), stop)
                ids += self._babble.text(b"comment" + seed, _NUM_COMMENTS)
                room -= _NUM_COMMENTS
            began = time.perf_counter()
            guide = self._guides.start(constraint, reading.last)
            for id_ in ids:
                guide.commit(id_)
            obedient, whole = self._obey(guide, reading, controls, constraint, ids, room)
            ids += obedient
            self._note(constraint.grammar, time.perf_counter() - began)
        else:
            whole = controls.output_tokens < room
            ids += self._babble.text(b"text" + seed, min(controls.output_tokens, room))
        if whole:
            ids.append(self._end if self._end in stop or not stop else min(stop))
        return _cut_at_stop(Output(ids, "stop" if whole else "length"), stop)

    def _note(self, grammar: str, cost_sec: float) -> None:
        # What fails is never noted, and stays slow.
        self._cost_sec[grammar] = cost_sec
        if len(self._cost_sec) > _MAX_NOTED:
            self._cost_sec.popitem(last=False)

    def _obey(
        self,
        guide: Guide,
        reading: Reading,
        controls: Controls,
        constraint: Constraint,
        before: list[int],
        room: int,
    ) -> tuple[list[int], bool]:
        """Ids that obey the constraint, and whether they are all of them and leave room for one."""
        opening: list[int] = []
        if constraint.trigger is not None:
            opening.append(constraint.trigger)
            guide.commit(constraint.trigger)
        may_call = reading.num_call_rounds < controls.tool_calls or self._sampler.must_call(guide)
        # A token that is sampled may be a single letter; more than this many letters are never
        # needed to fill the room with tokens that are longer.
        most = min(_MAX_SAMPLED, 8 * room + 64)
        sampled, ended = self._sampler.sample(
            guide,
            Dice(b"obey" + reading.seed()),
            num_calls=opening.count(self._call),
            max_calls=controls.parallel_calls if may_call else 0,
            max_tokens=most,
        )
        if ended and sampled[-1:] == [self._call_end] and self._sampler.may_speak(guide):
            sampled += self._babble.text(b"text" + reading.seed(), controls.output_tokens)
        if not ended and most == _MAX_SAMPLED:
            raise EngineError(f"The grammar led to no end within {_MAX_SAMPLED} tokens.")
        spelt = self._respell(opening + sampled)
        if ended and not self._is_obedient(constraint, reading, [*before, *spelt]):
            # A grammar over token ids may insist on a spelling of its own.
            spelt = opening + sampled
        if ended and len(spelt) < room:
            return spelt, True
        return self._cut(spelt, room), False

    def _respell(self, ids: list[int]) -> list[int]:
        """The same text, each piece between special tokens as the tokenizer would spell it."""
        spelt: list[int] = []
        piece: list[int] = []
        for id_ in [*ids, None]:
            if id_ is not None and id_ not in self._special:
                piece.append(id_)
                continue
            try:
                spelt += self._vocabulary.encode(self._vocabulary.decode(piece).decode())
            except UnicodeDecodeError:
                spelt += piece
            piece = []
            if id_ is not None:
                spelt.append(id_)
        return spelt

    def _is_obedient(self, constraint: Constraint, reading: Reading, ids: list[int]) -> bool:
        guide = self._guides.start(constraint, reading.last)
        try:
            for id_ in ids:
                guide.commit(id_)
        except ValueError:
            return False
        return guide.may_stop

    def _cut(self, ids: list[int], room: int) -> list[int]:
        """As much of `ids` as fits and ends in a piece that the tokenizer would spell so."""
        ids = ids[:room]
        start = max((at + 1 for at, id_ in enumerate(ids) if id_ in self._special), default=0)
        while len(ids) > max(start, 1) and not self._vocabulary.is_canonical(ids[start:]):
            ids.pop()
        return ids


def _obeys(reading: Reading, controls: Controls, constraint: Constraint) -> bool:
    """Whether the grammar takes hold: it always does, or calls are wanted."""
    return constraint.trigger is None or reading.num_call_rounds < controls.tool_calls


def _cut_at_stop(output: Output, stop: frozenset[int]) -> Output:
    # Only where a stop token is an ordinary word.
    if stop.isdisjoint(output.ids[:-1]):
        return output
    first = next(at for at, id_ in enumerate(output.ids) if id_ in stop)
    return Output(output.ids[: first + 1], "stop")
