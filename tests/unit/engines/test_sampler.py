"""Tests of sampling that is short under a grammar."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.constraint import Constraint
from turnwire.engines.babble import Babble
from turnwire.engines.constrain import Guides
from turnwire.engines.dice import Dice
from turnwire.engines.sampler import Sampler
from turnwire.engines.vocabulary import (
    CALL,
    CALL_END,
    END_OF_TURN,
    THINK,
    THINK_END,
    Vocabulary,
)


@pytest.fixture(scope="session")
def sampler(vocabulary: Vocabulary) -> Sampler:
    """A sampler over the shipped vocabulary."""
    return Sampler(vocabulary, Babble(vocabulary))


@pytest.fixture(scope="session")
def guides(vocabulary: Vocabulary) -> Guides:
    """Guides over the shipped vocabulary."""
    return Guides(vocabulary, [vocabulary.special[END_OF_TURN]])


def grammar_of(schema: dict[str, Any], *, spaces: bool = False) -> str:
    """The grammar of one JSON value."""
    return f"start: %json {json.dumps({**schema, 'x-guidance': {'whitespace_flexible': spaces}})}\n"


ANY: dict[str, Any] = {}
SCHEMAS: dict[str, tuple[dict[str, Any], int]] = {
    "anything": (ANY, 60),
    "any object": ({"type": "object"}, 60),
    "any array of at least three": ({"type": "array", "minItems": 3}, 60),
    "twenty numbers": (
        {"type": "array", "items": {"type": "number"}, "minItems": 20, "maxItems": 20},
        150,
    ),
    "an integer in a range": ({"type": "integer", "minimum": 1000, "maximum": 90000}, 10),
    "a long text": ({"type": "string", "minLength": 300}, 150),
    "a short text": ({"type": "string", "maxLength": 3}, 8),
    "a date": ({"type": "string", "format": "date"}, 16),
    "a pattern": ({"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}, 16),
    "a tree": (
        {
            "$ref": "#/$defs/node",
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    },
                    "required": ["name", "children"],
                    "additionalProperties": False,
                }
            },
        },
        200,
    ),
}


@pytest.mark.parametrize("spaces", [False, True], ids=["compact", "spaces allowed"])
@pytest.mark.parametrize(("schema", "most"), SCHEMAS.values(), ids=SCHEMAS)
def test_json_ends_soon(
    guides: Guides, sampler: Sampler, schema: dict[str, Any], most: int, spaces: bool
) -> None:
    """Whatever the schema and the dice, the sample ends, is JSON, and is not longer than need."""
    for seed in range(30):
        guide = guides.start(Constraint(grammar=grammar_of(schema, spaces=spaces)))
        ids, ended = sampler.sample(
            guide, Dice(bytes([seed])), num_calls=0, max_calls=0, max_tokens=1000
        )
        assert ended
        assert guide.may_stop
        json.loads(guides.vocabulary.decode(ids))
        assert len(ids) <= most


def test_every_choice_of_an_enum_comes_up(guides: Guides, sampler: Sampler) -> None:
    """No value of a fixed set is beyond reach, nor are true and false."""
    values = ["read", "write", "append", "delete", True, False]
    grammar = grammar_of({"enum": values})
    seen = set()
    for seed in range(100):
        ids, _ = sampler.sample(
            guides.start(Constraint(grammar=grammar)),
            Dice(bytes([seed])),
            num_calls=0,
            max_calls=0,
            max_tokens=100,
        )
        seen.add(json.loads(guides.vocabulary.decode(ids)))
    assert set(values) == seen


@pytest.mark.parametrize(
    "rules",
    [
        r"start: /[a-z ]+/ \";\"",
        r"start: expr"
        "\n"
        r"expr: term ((\"+\" | \"-\") term)*"
        "\n"
        r"term: /[0-9]+/ | \"(\" expr \")\"",
        r"start: /(.|\n)*/",
        r"start: <tool_call> /[^\n]*/ </tool_call>",
    ],
    ids=["text and a sign", "sums", "any text", "text to a special token"],
)
def test_other_languages_end_too(guides: Guides, sampler: Sampler, rules: str) -> None:
    """Grammars that are not JSON are followed to an end as well."""
    grammar = rules.replace('\\"', '"') + "\n"
    for seed in range(30):
        guide = guides.start(Constraint(grammar=grammar))
        ids, ended = sampler.sample(
            guide, Dice(bytes([seed])), num_calls=0, max_calls=1, max_tokens=300
        )
        assert ended
        assert len(ids) <= 300


@given(seed=st.binary(max_size=8), wanted=st.integers(1, 4))
def test_as_many_calls_as_wanted(
    guides: Guides, sampler: Sampler, seed: bytes, wanted: int
) -> None:
    """Where the grammar allows more calls, the number asked for is made."""
    grammar = 'start: (<tool_call> "{}" </tool_call>)+\n'
    ids, _ = sampler.sample(
        guides.start(Constraint(grammar=grammar)),
        Dice(seed),
        num_calls=0,
        max_calls=wanted,
        max_tokens=100,
    )
    assert wanted == ids.count(guides.vocabulary.special[CALL])


@pytest.mark.parametrize(("max_calls", "text"), [(1, "<tool_call>{}</tool_call>"), (0, "[]")])
def test_calls_or_an_answer(guides: Guides, sampler: Sampler, max_calls: int, text: str) -> None:
    """Where calls and text are both allowed, calls are made while they are wanted."""
    grammar = 'start: <tool_call> "{}" </tool_call> | "[]"\n'
    guide = guides.start(Constraint(grammar=grammar))
    assert not sampler.must_call(guide)
    ids, _ = sampler.sample(guide, Dice(b""), num_calls=0, max_calls=max_calls, max_tokens=9)
    assert text == guides.vocabulary.decode(ids).decode()


def test_a_demanded_call_is_seen(guides: Guides, sampler: Sampler) -> None:
    """A grammar that starts with a call demands it, though thinking may come first."""
    special = guides.vocabulary.special
    grammar = 'start: (<tool_call> "{}" </tool_call>)+\n'
    for span in (None, (special[THINK], special[THINK_END])):
        assert sampler.must_call(guides.start(Constraint(grammar=grammar, free_span=span)))


def test_it_gives_up_where_it_is_told(guides: Guides, sampler: Sampler) -> None:
    """A sample that is longer than it may be says that it did not end."""
    guide = guides.start(Constraint(grammar=grammar_of(SCHEMAS["a long text"][0])))
    ids, ended = sampler.sample(guide, Dice(b""), num_calls=0, max_calls=0, max_tokens=5)
    assert not ended
    assert 5 <= len(ids) < 10


def test_a_free_guide_is_a_mistake(guides: Guides, sampler: Sampler) -> None:
    """There is nothing to obey before the trigger."""
    guide = guides.start(Constraint(grammar='start: "a"\n', trigger=300))
    with pytest.raises(ValueError, match="not held"):
        sampler.sample(guide, Dice(b""), num_calls=0, max_calls=0, max_tokens=5)


LINES = (
    'start: <tool_call> "note\\n" body </tool_call>\n'
    'body: %lark {\nstart: "begin" LF file+ "end"\nfile: "file " /[^\\n]+/ LF line+\n'
    'line: ("+" | "-") /[^\\n]*/ LF\n%import common.LF\n}\n'
)


def test_text_in_lines_ends(guides: Guides, sampler: Sampler) -> None:
    """A grammar of lines, each with free text in it, is followed to its end, in some lines."""
    shape = re.compile(r"note\nbegin\n(file [^\n]+\n([+-][^\n]*\n)+)+end")
    texts = set()
    for seed in range(60):
        guide = guides.start(Constraint(grammar=LINES))
        ids, ended = sampler.sample(
            guide, Dice(bytes([seed])), num_calls=0, max_calls=1, max_tokens=1000
        )
        assert ended
        text = guides.vocabulary.decode(ids[1:-1]).decode()
        assert shape.fullmatch(text)
        texts.add(text)
    assert len(texts) > 50


GOING_ON = (
    'start: calls\ncalls: "{}" </tool_call> said? (<tool_call> calls)?\nsaid: %s\n'  # as `grammar`
)


def test_text_that_may_follow_a_call_is_left_to_the_caller(
    guides: Guides, sampler: Sampler
) -> None:
    """Behind the last call the sample ends where free text could go on, and says that it could."""
    special = guides.vocabulary.special
    for wanted in (1, 2):
        guide = guides.start(
            Constraint(grammar=GOING_ON % "/(?s:.+)/", trigger=special[CALL]), None
        )
        guide.commit(special[CALL])
        ids, ended = sampler.sample(guide, Dice(b"1"), num_calls=1, max_calls=wanted, max_tokens=99)
        assert ended
        assert wanted == ids.count(special[CALL_END])
        assert special[CALL_END] == ids[-1]
        assert sampler.may_speak(guide)


def test_an_answer_of_another_form_is_written(guides: Guides, sampler: Sampler) -> None:
    """JSON that may follow a call follows it."""
    special = guides.vocabulary.special
    guide = guides.start(Constraint(grammar=GOING_ON % '"[" /[0-9]/ "]"', trigger=special[CALL]))
    guide.commit(special[CALL])
    ids, ended = sampler.sample(guide, Dice(b""), num_calls=1, max_calls=1, max_tokens=99)
    assert ended
    assert re.fullmatch(r"\{\}</tool_call>\[\d\]", guides.vocabulary.decode(ids).decode())
    assert not sampler.may_speak(guide)
