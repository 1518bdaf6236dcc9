"""Tests of constrained decoding: what random sampling under the mask can and cannot write."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.constraint import Constraint
from turnwire.engines.constrain import GrammarError, Guide, Guides, following
from turnwire.engines.vocabulary import (
    CALL,
    CALL_END,
    END_OF_TEXT,
    END_OF_TURN,
    THINK,
    THINK_END,
    Vocabulary,
)

COMPACT = {"x-guidance": {"whitespace_flexible": False}}
ARGUMENTS = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "maxLength": 12},
        "mode": {"enum": ["read", "write", "append"]},
        "lines": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
    },
    "required": ["path", "mode", "lines"],
    "additionalProperties": False,
}
BODY = r'"{\"name\": \"open\", \"arguments\": " arguments "}" </tool_call>'
RULES = f"call: {BODY}\narguments: %json {json.dumps({**ARGUMENTS, **COMPACT})}\n"
CALLS = f"start: <tool_call> call (<tool_call> call)*\n{RULES}"
AFTER_TRIGGER = f"start: call (<tool_call> call)*\n{RULES}"
ANSWER = f"start: %json {json.dumps({**ARGUMENTS, **COMPACT})}\n"


@pytest.fixture(scope="session")
def guides(vocabulary: Vocabulary) -> Guides:
    """Guides that know both stop tokens."""
    return Guides(vocabulary, {vocabulary.special[END_OF_TURN], vocabulary.special[END_OF_TEXT]})


def obeys(value: Any) -> bool:
    """Whether a value is what the schema above describes."""
    return (
        set(value) == {"path", "mode", "lines"}
        and isinstance(value["path"], str)
        and len(value["path"]) <= 12
        and value["mode"] in {"read", "write", "append"}
        and len(value["lines"]) <= 3
        and all(isinstance(line, int) for line in value["lines"])
    )


def calls_in(text: str) -> list[Any]:
    """The arguments of the calls that a text consists of."""
    pieces = text.split("</tool_call>")
    assert "" == pieces.pop()
    bodies = [json.loads(piece.removeprefix("<tool_call>")) for piece in pieces]
    assert all(set(body) == {"name", "arguments"} for body in bodies)
    return [body["arguments"] for body in bodies]


def babble(guides: Guides, guide: Guide, rng: random.Random) -> list[int]:
    """Sample at random under the mask until the output ends; without its stop token.

    After a while stop tokens, digits and closing signs are chosen where they are allowed, or
    the array of random integers would seldom end.
    """
    vocabulary = guides.vocabulary
    ending = [vocabulary.token_bytes.index(sign) for sign in (b"}", b"]", b'"', b",")]
    ids: list[int] = []
    while len(ids) < 2000:
        mask = guide.mask()
        assert mask is not None
        assert guide.may_stop == mask[guides.stop].any()
        assert guide.may_stop == mask[guides.stop].all()
        assert all(mask[id_] for id_ in guide.forced()[:1])
        if guide.may_stop and (guide.complete or rng.random() < 0.5):
            guide.commit(rng.choice(guides.stop))
            return ids
        closing = [id_ for id_ in ending if mask[id_]]
        if closing and rng.random() < len(ids) / 40:
            chosen = closing[0]
        else:
            allowed = np.flatnonzero(mask)
            chosen = int(rng.choice([id_ for id_ in allowed if id_ not in guides.stop]))
        guide.commit(chosen)
        ids.append(chosen)
    raise AssertionError("the output did not end")


@given(seed=st.integers(0, 2**32))
def test_every_random_output_is_valid_json(guides: Guides, seed: int) -> None:
    """Whatever is sampled under the mask of a schema is JSON that obeys the schema."""
    ids = babble(guides, guides.start(Constraint(grammar=ANSWER)), random.Random(seed))
    assert obeys(json.loads(guides.vocabulary.decode(ids)))


@given(seed=st.integers(0, 2**32))
def test_every_random_output_is_calls(guides: Guides, seed: int) -> None:
    """A grammar with special tokens is obeyed from the first token on."""
    ids = babble(guides, guides.start(Constraint(grammar=CALLS)), random.Random(seed))
    calls = calls_in(guides.vocabulary.decode(ids).decode())
    assert calls
    assert all(obeys(call) for call in calls)
    assert ids.count(guides.vocabulary.special[CALL]) == len(calls)
    assert ids.count(guides.vocabulary.special[CALL_END]) == len(calls)


@given(seed=st.integers(0, 2**32), num_free=st.integers(0, 20))
def test_with_a_trigger_the_output_is_free_before_it(
    guides: Guides, seed: int, num_free: int
) -> None:
    """Before the trigger there is no mask and the output may end; after it there are calls."""
    call = guides.vocabulary.special[CALL]
    guide = guides.start(Constraint(grammar=AFTER_TRIGGER, trigger=call))
    rng = random.Random(seed)
    for _ in range(num_free):
        assert guide.mask() is None
        assert guide.may_stop
        assert not guide.active
        assert [] == guide.forced()
        guide.commit(rng.randrange(300, 3000))
    guide.commit(call)
    assert guide.active
    assert not guide.may_stop
    assert all(
        obeys(a) for a in calls_in(guides.vocabulary.decode(babble(guides, guide, rng)).decode())
    )


def test_with_a_trigger_the_output_may_end_without_it(guides: Guides) -> None:
    """Free text that ends was allowed, and nothing follows it."""
    stop = guides.stop[0]
    guide = guides.start(Constraint(grammar=ANSWER, trigger=guides.vocabulary.special[CALL]))
    guide.commit(300)
    guide.commit(stop)
    assert not guide.may_stop
    with pytest.raises(ValueError, match="ended"):
        guide.mask()
    with pytest.raises(ValueError, match="ended"):
        guide.commit(300)


@pytest.mark.parametrize("in_prompt", [True, False], ids=["opened by the prompt", "by the output"])
def test_a_free_span_comes_before_obedience(guides: Guides, in_prompt: bool) -> None:
    """Inside the span anything goes but the end of the output; after it the grammar holds."""
    special = guides.vocabulary.special
    span = (special[THINK], special[THINK_END])
    guide = guides.start(Constraint(grammar=ANSWER, free_span=span), span[0] if in_prompt else 300)
    if not in_prompt:
        first = guide.mask()
        assert first is not None
        assert first[span[0]]
        assert [] == guide.forced()
        guide.commit(span[0])
    for id_ in (300, special[CALL], span[0], 301):
        mask = guide.mask()
        assert mask is not None
        assert guides.stop == np.flatnonzero(~mask).tolist()
        assert not guide.active
        assert not guide.may_stop
        guide.commit(id_)
    guide.commit(span[1])
    assert guide.active
    mask = guide.mask()
    assert mask is not None
    assert not mask[span[0]]
    assert obeys(json.loads(guides.vocabulary.decode(babble(guides, guide, random.Random(1)))))


def test_a_stop_token_does_not_leave_a_span_that_must_be_followed(guides: Guides) -> None:
    """An output cannot end in its thoughts when the grammar demands something after them."""
    special = guides.vocabulary.special
    span = (special[THINK], special[THINK_END])
    guide = guides.start(Constraint(grammar=ANSWER, free_span=span), span[0])
    with pytest.raises(ValueError, match="before it obeyed"):
        guide.commit(guides.stop[0])


def test_the_trigger_does_nothing_inside_a_span(guides: Guides) -> None:
    """A model may think about a call without making one; thinking opens at any free place."""
    special = guides.vocabulary.special
    span = (special[THINK], special[THINK_END])
    guide = guides.start(Constraint(grammar=AFTER_TRIGGER, trigger=special[CALL], free_span=span))
    for id_ in (300, span[0], special[CALL], 301):
        guide.commit(id_)
        assert guide.mask() is None
    guide.commit(span[1])
    assert not guide.active
    guide.commit(special[CALL])
    assert guide.active


def test_forced_tokens_need_no_choice(guides: Guides) -> None:
    """What is certain is told at once, is accepted, and ends where a choice begins."""
    guide = guides.start(Constraint(grammar=CALLS))
    forced = guide.forced()
    assert guides.vocabulary.special[CALL] == forced[0]
    assert guides.vocabulary.decode(forced[1:]).startswith(b'{"name": "open", "arguments": {')
    for id_ in forced:
        guide.commit(id_)
    assert [] == guide.forced()


@pytest.mark.parametrize("text", ["x", "{}", ""], ids=["wrong", "incomplete", "too early"])
def test_a_token_that_is_not_allowed_is_refused(guides: Guides, text: str) -> None:
    """Committing what the mask forbids raises, stop tokens included."""
    guide = guides.start(Constraint(grammar=ANSWER))

    def commit_all() -> None:
        for id_ in [*guides.vocabulary.encode(text), guides.stop[0]]:
            guide.commit(id_)

    with pytest.raises(ValueError, match=r"not allowed|too early"):
        commit_all()


def test_after_the_grammar_only_a_stop_token(guides: Guides) -> None:
    """A finished output is complete: the mask is the stop tokens, and anything else raises."""
    guide = guides.start(Constraint(grammar='start: "yes"\n'))
    for id_ in guides.vocabulary.encode("yes"):
        assert not guide.complete
        guide.commit(id_)
    mask = guide.mask()
    assert mask is not None
    assert guides.stop == np.flatnonzero(mask).tolist()
    assert guide.complete
    assert guide.may_stop
    assert [] == guide.forced()
    with pytest.raises(ValueError, match="not allowed"):
        guide.commit(300)


def test_a_grammar_that_does_not_compile_is_an_error(guides: Guides) -> None:
    """The message is the compiler's."""
    with pytest.raises(GrammarError, match="nowhere"):
        guides.start(Constraint(grammar="start: nowhere\n"))


def test_guides_of_one_grammar_are_independent(guides: Guides) -> None:
    """Following one output does not move another, though the grammar is compiled once."""
    one, other = (guides.start(Constraint(grammar='start: "a" | "b"\n')) for _ in range(2))
    one.commit(guides.vocabulary.encode("a")[0])
    assert one.complete
    assert not other.complete
    other.commit(guides.vocabulary.encode("b")[0])


def test_compiled_grammars_are_bounded(vocabulary: Vocabulary) -> None:
    """The least recently used grammar is forgotten first."""
    guides = Guides(vocabulary, [vocabulary.special[END_OF_TURN]], capacity=2)
    a, b, c = (f'start: "{sign}"\n' for sign in "abc")
    for grammar in (a, b, a, c):
        guides.start(Constraint(grammar=grammar))
    assert [a, c] == list(guides._compiled)


def test_a_guide_needs_a_stop_token(vocabulary: Vocabulary) -> None:
    """Without one an output could never end."""
    with pytest.raises(ValueError, match="stop token"):
        Guides(vocabulary, [])


def test_guides_that_only_follow_agree_with_those_that_mask(vocabulary: Vocabulary) -> None:
    """What `following` makes serves any stop tokens: each token allowed is one the mask allows."""
    grammar = 'start: %json {"type": "object", "properties": {"a": {"type": "integer"}}}\n'
    constraint = Constraint(grammar=grammar)
    tokenizer = following(vocabulary)
    for stop in ([vocabulary.special[END_OF_TURN]], sorted(vocabulary.special.values())[:3]):
        masking = Guides(vocabulary, stop)
        checking = Guides(vocabulary, stop, tokenizer=tokenizer)
        for done in ("", "{", '{"a', '{"a":1', '{"a":1}'):
            before = vocabulary.encode(done)
            guide = _after(masking, constraint, before)
            mask = guide.mask()
            assert mask is not None
            for id_ in [*stop, *range(10, len(vocabulary), 97)]:
                guide = _after(checking, constraint, before)
                try:
                    guide.commit(id_)
                    allowed = True
                except ValueError:
                    allowed = False
                assert bool(mask[id_]) is allowed, (done, id_)


def _after(guides: Guides, constraint: Constraint, ids: Sequence[int]) -> Guide:
    guide = guides.start(constraint)
    for id_ in ids:
        guide.commit(id_)
    return guide
