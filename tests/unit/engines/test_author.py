"""Tests of what the simulated engine says."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.constraint import Constraint
from turnwire.engines.author import Author, Controls, InvalidHint, Output, read_controls
from turnwire.engines.reading import Reader, Reading
from turnwire.engines.vocabulary import (
    CALL,
    CALL_END,
    END_OF_TEXT,
    END_OF_TURN,
    THINK,
    THINK_END,
    TURN,
    Vocabulary,
)
from turnwire.errors import EngineError
from turnwire.tokens import EMPTY

ARGUMENTS = json.dumps(
    {
        "type": "object",
        "properties": {"path": {"type": "string"}, "depth": {"type": "integer"}},
        "required": ["path", "depth"],
        "additionalProperties": False,
        "x-guidance": {"whitespace_flexible": False},
    }
)
RULES = (
    r'call: "{\"name\": \"open\", \"arguments\": " arguments "}" </tool_call>'
    f"\narguments: %json {ARGUMENTS}\n"
)
REQUIRED = f"start: (<tool_call> call)+\n{RULES}"
AUTO = f"start: call (<tool_call> call)*\n{RULES}"
ANSWER = f"start: %json {ARGUMENTS}\n"
EITHER = f"start: (<tool_call> call)+ | %json {ARGUMENTS}\n{RULES}"


class Pen:
    """An author with a prompt in front of it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.special = vocabulary.special
        self.author = Author(vocabulary)
        self.reader = Reader(vocabulary, block_size=16)
        self.stop = frozenset({self.special[END_OF_TURN], self.special[END_OF_TEXT]})

    def prompt(self, text: str, *, rounds: int = 0, think: bool = False) -> Reading:
        """A user turn, so many rounds of calls and their outputs, and an open assistant turn."""
        encode, special = self.vocabulary.encode, self.special
        start, end = special[TURN], special[END_OF_TURN]
        ids = [start, *encode("user\n" + text), end]
        for _ in range(rounds):
            ids += [start, *encode("assistant\n"), special[CALL], 300, special[CALL_END], end]
            ids += [start, *encode("tool open\nyes"), end]
        ids += [start, *encode("assistant\n")]
        ids += [special[THINK]] * think
        return self.reader.read(EMPTY.extend(ids))

    def write(
        self,
        reading: Reading,
        controls: Controls | None = None,
        constraint: Constraint | None = None,
        *,
        limit: int = 1000,
    ) -> Output:
        """Write with the usual stop tokens."""
        return self.author.write(
            reading, controls or Controls(), constraint, stop=self.stop, limit=limit
        )

    def auto(self) -> Constraint:
        """Calls after the trigger, if the model wants to call."""
        return Constraint(
            grammar=AUTO,
            trigger=self.special[CALL],
            free_span=(self.special[THINK], self.special[THINK_END]),
        )

    def required(self) -> Constraint:
        """At least one call."""
        return Constraint(
            grammar=REQUIRED, free_span=(self.special[THINK], self.special[THINK_END])
        )

    def respell(self, ids: Sequence[int]) -> list[int]:
        """What a client's copy of the text becomes when it is tokenised again."""
        spelt: list[int] = []
        piece: list[int] = []
        for id_ in ids:
            if id_ in self.special.values():
                spelt += [*self.vocabulary.encode(self.vocabulary.decode(piece).decode()), id_]
                piece = []
            else:
                piece.append(id_)
        return spelt + list(self.vocabulary.encode(self.vocabulary.decode(piece).decode()))


@pytest.fixture(scope="session")
def pen(vocabulary: Vocabulary) -> Pen:
    """Writes over the shipped vocabulary."""
    return Pen(vocabulary)


def constraint_named(pen: Pen, name: str) -> Constraint | None:
    """The constraints that requests come with."""
    match name:
        case "auto":
            return pen.auto()
        case "required":
            return pen.required()
        case "answer":
            return Constraint(grammar=ANSWER)
        case _:
            return None


@given(
    text=st.text(max_size=10),
    name=st.sampled_from(["none", "auto", "required", "answer"]),
    think=st.booleans(),
    length=st.integers(1, 90),
    limit=st.integers(1, 120),
)
def test_an_output_is_canonical_fits_and_repeats(
    pen: Pen, text: str, name: str, think: bool, length: int, limit: int
) -> None:
    """Cut or whole, an output is within its limit, survives re-tokenising and can be repeated."""
    constraint = constraint_named(pen, name)
    controls = Controls(output_tokens=length)
    # The free span is only for prompts that the template opened with it.
    reading = pen.prompt(text, think=think and name != "answer")
    output = pen.write(reading, controls, constraint, limit=limit)
    assert 1 <= len(output.ids) <= limit
    assert output.ids == pen.respell(output.ids)
    assert output == pen.write(reading, controls, constraint, limit=limit)
    assert (output.finish == "stop") == (output.ids[-1] in pen.stop)
    assert pen.stop.isdisjoint(output.ids[:-1])
    if output.finish == "length" and name == "none":
        assert limit == len(output.ids)


def test_a_cut_never_goes_through_a_character(pen: Pen) -> None:
    """Where the limit falls inside a character, the output ends before it."""
    text = "a 😀 東京"
    constraint = Constraint(grammar=f'start: "{text}"\n')
    whole = list(pen.vocabulary.encode(text))
    reading = pen.prompt("hi")
    for limit in range(1, len(whole) + 1):
        ids = pen.write(reading, None, constraint, limit=limit).ids
        assert whole[: len(ids)] == ids
        assert text.startswith(pen.vocabulary.decode(ids).decode())


def test_a_message_is_as_long_as_asked(pen: Pen) -> None:
    """`output_tokens` counts the text, not the stop token; the default is 64."""
    assert 65 == len(pen.write(pen.prompt("hi")).ids)
    assert 8 == len(pen.write(pen.prompt("hi"), Controls(output_tokens=7)).ids)


def test_a_message_that_just_does_not_fit_is_cut(pen: Pen) -> None:
    """The stop token needs room too."""
    controls = Controls(output_tokens=10)
    assert "length" == pen.write(pen.prompt("hi"), controls, limit=10).finish
    assert "stop" == pen.write(pen.prompt("hi"), controls, limit=11).finish


def test_thoughts_come_first(pen: Pen) -> None:
    """After a prompt that ends with `<think>` there are 12 to 24 tokens of reasoning."""
    for place in range(20):
        ids = pen.write(pen.prompt(f"q{place}", think=True), Controls(output_tokens=5)).ids
        end = ids.index(pen.special[THINK_END])
        assert 12 <= end <= 24
        assert end + 1 + 5 + 1 == len(ids)


@pytest.mark.parametrize(
    ("rounds", "asked", "calls"),
    [(0, 1, True), (1, 1, False), (1, 2, True), (2, 2, False), (0, 0, False), (3, 9, True)],
)
@pytest.mark.parametrize("think", [False, True], ids=["at once", "after thoughts"])
def test_rounds_of_calls_then_a_message(
    pen: Pen, rounds: int, asked: int, calls: bool, think: bool
) -> None:
    """With tools on offer there are as many rounds of calls as asked for, then a message."""
    output = pen.write(
        pen.prompt("hi", rounds=rounds, think=think), Controls(tool_calls=asked), pen.auto()
    )
    assert calls == (pen.special[CALL] in output.ids)
    assert "stop" == output.finish


@pytest.mark.parametrize("name", ["auto", "required"])
@pytest.mark.parametrize("wanted", [1, 3])
def test_calls_are_valid_and_as_many_as_asked(pen: Pen, name: str, wanted: int) -> None:
    """Every call is JSON with the arguments of its schema."""
    controls = Controls(parallel_calls=wanted)
    for place in range(10):
        output = pen.write(pen.prompt(f"q{place}"), controls, constraint_named(pen, name))
        text = pen.vocabulary.decode(output.ids[:-1]).decode()
        bodies = text.removesuffix("</tool_call>").split("</tool_call>")
        assert wanted == len(bodies)
        for body in bodies:
            call = json.loads(body.removeprefix("<tool_call>"))
            assert {"path", "depth"} == set(call["arguments"])


def test_demanded_calls_do_not_depend_on_rounds(pen: Pen) -> None:
    """Required calls are made however many rounds there were, and as many in parallel."""
    controls = Controls(tool_calls=0, parallel_calls=2)
    ids = pen.write(pen.prompt("hi", rounds=2), controls, pen.required()).ids
    assert 2 == ids.count(pen.special[CALL])


@pytest.mark.parametrize(("rounds", "calls"), [(0, True), (1, False)])
def test_calls_or_json(pen: Pen, rounds: int, calls: bool) -> None:
    """Where the grammar leaves the choice from the first token on, rounds decide it."""
    ids = pen.write(pen.prompt("hi", rounds=rounds), None, Constraint(grammar=EITHER)).ids
    assert calls == (pen.special[CALL] in ids)
    if not calls:
        assert {"path", "depth"} == set(json.loads(pen.vocabulary.decode(ids[:-1])))


def test_prompts_differ_and_so_do_outputs(pen: Pen) -> None:
    """One other token anywhere in the prompt is another output."""
    outputs = {tuple(pen.write(pen.prompt(f"q{n}")).ids) for n in range(20)}
    assert 20 == len(outputs)


def test_other_stop_tokens(pen: Pen) -> None:
    """The end of turn is written if it may stop or nothing does; else another stop token is."""
    reading, controls = pen.prompt("hi"), Controls(output_tokens=5)

    def last(stop: set[int]) -> int:
        return pen.author.write(reading, controls, None, stop=frozenset(stop), limit=100).ids[-1]

    assert pen.special[END_OF_TURN] == last(set())
    assert pen.special[END_OF_TEXT] == last({pen.special[END_OF_TEXT]})


def test_a_word_may_be_a_stop_token(pen: Pen) -> None:
    """The first stop token in the text ends it."""
    reading = pen.prompt("hi")
    word = pen.write(reading).ids[3]
    output = pen.author.write(
        reading, Controls(), None, stop=frozenset({word, *pen.stop}), limit=100
    )
    assert word == output.ids[-1]
    assert len(output.ids) <= 4
    assert "stop" == output.finish


def test_an_own_spelling_is_kept(pen: Pen) -> None:
    """A grammar over ids is obeyed even if the tokenizer would spell its text otherwise."""
    letters = [pen.vocabulary.encode(letter)[0] for letter in "file"]
    grammar = "start: " + " ".join(f"<[{id_}]>" for id_ in letters) + "\n"
    output = pen.write(pen.prompt("hi"), None, Constraint(grammar=grammar))
    assert letters == output.ids[:-1]


def test_a_grammar_without_end_is_an_error(pen: Pen) -> None:
    """What would run on for ever is told, not cut in silence."""
    grammar = "start: /[a-z]/ start\n"
    with pytest.raises(EngineError):
        pen.write(pen.prompt("hi"), None, Constraint(grammar=grammar), limit=100_000)


@pytest.mark.parametrize(
    ("hints", "controls"),
    [
        ({}, Controls()),
        ({"user": "x", "simulate": "y"}, Controls()),
        ({"sim.output_tokens": "1"}, Controls(output_tokens=1)),
        ({"sim.tool_calls": "0"}, Controls(tool_calls=0)),
        ({"sim.parallel_calls": "128"}, Controls(parallel_calls=128)),
        ({"sim.fault": "error:0"}, Controls(fail_after=0)),
        ({"sim.fault": "stall:1.5"}, Controls(stall_sec=1.5)),
        ({"sim.fault": "stall:2"}, Controls(stall_sec=2.0)),
        ({"sim.fault": "reject"}, Controls(reject=True)),
        (
            {"sim.tool_calls": "3", "sim.output_tokens": "9", "a": "b"},
            Controls(tool_calls=3, output_tokens=9),
        ),
    ],
    ids=str,
)
def test_hints(hints: dict[str, str], controls: Controls) -> None:
    """Hints that begin with `sim.` steer; others are somebody else's."""
    assert controls == read_controls(hints)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sim.output_tokens", "0"),
        ("sim.output_tokens", ""),
        ("sim.output_tokens", "many"),
        ("sim.output_tokens", "-1"),
        ("sim.output_tokens", "1.5"),
        ("sim.output_tokens", "9" * 30),
        ("sim.output_tokens", "²"),
        ("sim.tool_calls", "-1"),
        ("sim.parallel_calls", "0"),
        ("sim.parallel_calls", "129"),
        ("sim.fault", ""),
        ("sim.fault", "error"),
        ("sim.fault", "error:-1"),
        ("sim.fault", "stall:"),
        ("sim.fault", "stall:."),
        ("sim.fault", "stall:inf"),
        ("sim.fault", "stall:1e3"),
        ("sim.fault", "stall:99999"),
        ("sim.fault", "reject:1"),
        ("sim.speed", "1"),
    ],
)
def test_malformed_hints(name: str, value: str) -> None:
    """A value that is not understood is an error that names the hint."""
    with pytest.raises(InvalidHint) as caught:
        read_controls({name: value})
    assert name == caught.value.hint
    assert name in caught.value.message


@given(
    text=st.text(max_size=10),
    think=st.booleans(),
    rounds=st.integers(0, 2),
    limit=st.integers(1, 120),
)
def test_phases_put_words_before_free_calls(
    pen: Pen, text: str, think: bool, rounds: int, limit: int
) -> None:
    """With `phases` a call that is made freely has words before it; cut or whole, canonical."""
    reading = pen.prompt(text, rounds=rounds, think=think)
    controls = Controls(phases=True)
    plain = pen.author.write(reading, Controls(), pen.auto(), stop=pen.stop, limit=4096).ids
    whole = pen.author.write(reading, controls, pen.auto(), stop=pen.stop, limit=4096)
    call = pen.special[CALL]
    if rounds:
        assert plain == whole.ids
    else:
        at = whole.ids.index(call)
        start = whole.ids.index(pen.special[THINK_END]) + 1 if think else 0
        assert 12 == at - start
        assert plain[start:] == whole.ids[at:]
    assert "stop" == whole.finish
    cut = pen.author.write(reading, controls, pen.auto(), stop=pen.stop, limit=limit)
    assert 1 <= len(cut.ids) <= limit
    assert cut.ids == pen.respell(cut.ids)


def test_phases_put_no_words_where_only_a_call_may_stand(pen: Pen) -> None:
    """A call that is demanded comes at once."""
    found = pen.author.write(
        pen.prompt("x"), Controls(phases=True), pen.required(), stop=pen.stop, limit=4096
    )
    assert pen.special[CALL] == found.ids[0]


@pytest.mark.parametrize("name", ["refusal", "phases"])
def test_switches(name: str) -> None:
    """They are true or false, and off by default."""
    assert getattr(read_controls({f"sim.{name}": "true"}), name) is True
    assert getattr(read_controls({f"sim.{name}": "false"}), name) is False
    assert getattr(Controls(), name) is False
    for value in ("1", "", "True"):
        with pytest.raises(InvalidHint, match="true or false"):
            read_controls({f"sim.{name}": value})


def test_a_message_follows_a_call_that_is_not_waited_for(pen: Pen) -> None:
    """Where text may follow the calls there is a message of the length asked for, or a cut one."""
    grammar = f"start: call said? (<tool_call> call)?\nsaid: /(?s:.+)/\n{RULES}"
    constraint = Constraint(grammar=grammar, trigger=pen.special[CALL])
    controls = Controls(output_tokens=7)
    output = pen.write(pen.prompt("hi"), controls, constraint)
    end = output.ids.index(pen.special[CALL_END])
    assert ("stop", 7 + 1) == (output.finish, len(output.ids) - end - 1)
    assert pen.respell(output.ids) == output.ids
    cut = pen.write(pen.prompt("hi"), controls, constraint, limit=end + 4)
    assert (output.ids[: end + 4], "length") == (cut.ids, cut.finish)
    spoken = pen.write(pen.prompt("hi", rounds=1), controls, constraint)
    assert pen.special[CALL] not in spoken.ids


def test_only_what_is_known_to_be_quick_is(vocabulary: Vocabulary) -> None:
    """A constraint is not quick before it was written under, nor if it never ended."""
    pen = Pen(vocabulary)
    reading, controls = pen.prompt("hi"), Controls()
    assert pen.author.is_quick(reading, controls, None)
    assert not pen.author.is_quick(reading, controls, pen.required())
    # A grammar that is not met costs nothing.
    assert not pen.author.is_quick(reading, controls, pen.auto())
    assert pen.author.is_quick(reading, Controls(tool_calls=0), pen.auto())
    endless = Constraint(grammar='start: "a" start\n')
    with pytest.raises(EngineError):
        pen.write(pen.prompt("hi"), None, endless, limit=10_000)
    assert not pen.author.is_quick(reading, controls, endless)
