"""What a model with random weights samples under our constraints on a real llama.cpp is valid.

Twice: in llguidance, which this llama.cpp has, and in GBNF, which every llama.cpp has. Such a
model understands nothing, so what it writes is whatever the grammar lets through. The judges are
an independent validator of JSON schemas, and the engine, which holds every id against the
original grammar and fails the generation otherwise.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.contracts.engine import collect, ids_of
from tests.random_model import random_model

from turnwire.constraint import Constraint
from turnwire.engines.base import Generation
from turnwire.engines.llamacpp import LlamaCppEngine
from turnwire.engines.llamacpp_grammar import Dialect
from turnwire.engines.llamacpp_process import LlamaCppModel, start_llamacpp
from turnwire.engines.llamacpp_server import LlamaCppOptions
from turnwire.engines.vocabulary import CALL, CALL_END, THINK, THINK_END, Vocabulary
from turnwire.rendering.grammar_text import until
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import EMPTY

SHIPPED = Tokenizer.shipped()
VOCABULARY = Vocabulary(SHIPPED.token_bytes(), SHIPPED.special, SHIPPED.encode)
STOP = frozenset({0, 2})
CALL_ID, CALL_END_ID = SHIPPED.special[CALL], SHIPPED.special[CALL_END]
SPAN = (SHIPPED.special[THINK], SHIPPED.special[THINK_END])
MODEL = LlamaCppModel(window=1024, slots=1, threads=1, cache_ram_mib=0)
DIALECTS = pytest.mark.parametrize(
    "dialect", [Dialect.LLGUIDANCE, Dialect.GBNF], ids=lambda dialect: str(dialect.value)
)

Schema = dict[str, Any]


@asynccontextmanager
async def llamacpp(
    dialect: Dialect, *, calls_are_text: bool = False
) -> AsyncIterator[LlamaCppEngine]:
    """A model that likes to think and to call."""
    path = random_model(
        leanings=dict.fromkeys((THINK, THINK_END, CALL, "<|im_end|>", "<|im_start|>"), 14.0),
        calls_are_text=calls_are_text,
    )
    options = LlamaCppOptions(dialect=dialect)
    engine = await start_llamacpp(path, VOCABULARY, model=MODEL, options=options)
    try:
        yield engine
    finally:
        await engine.aclose()


def request(grammar: str, seed: int, *, prompt: str = "user\nGo.", **more: Any) -> Generation:
    """A generation at full temperature."""
    return Generation(
        prompt=EMPTY.extend([1, *SHIPPED.encode(prompt), *more.pop("opened", [])]),
        max_new_tokens=250,
        stop=STOP,
        temperature=1.0,
        seed=seed,
        constraint=Constraint(grammar=grammar, **more),
    )


def embedded(schema: Schema) -> str:
    """As our templates embed a schema: compact."""
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_flexible": False}})


def text_of(ids: list[int]) -> str:
    """What an output says, without its stop token."""
    return SHIPPED.decode(id_ for id_ in ids if id_ not in STOP)


def outside_thoughts(ids: list[int], opened: bool) -> list[int]:
    """An output without its free spans; what looks like a call in one is none."""
    found: list[int] = []
    for id_ in ids:
        if opened:
            opened = id_ != SPAN[1]
        elif id_ == SPAN[0] and CALL_ID not in found:
            opened = True
        else:
            found.append(id_)
    return found


class Dice:
    """Draws schemas that have short values."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def schema(self, depth: int = 3) -> Schema:
        """Any schema, of at most so many levels."""
        kinds = [self.text, self.number, self.number, self.fixed]
        if depth:
            kinds += [self.object, self.object, self.array, self.either]
        return self._dice.choice(kinds)(depth)

    def object(self, depth: int) -> Schema:
        """With some properties required, and sometimes others allowed."""
        names = self._dice.sample(["a", "b", 'c"', "größe", "x/y", "🦊"], self._dice.randint(1, 4))
        return {
            "type": "object",
            "properties": {name: self.schema(depth - 1) for name in names},
            "required": [name for name in names if self._dice.random() < 0.6],
            "additionalProperties": False,
        }

    def array(self, depth: int) -> Schema:
        """With both bounds, so that it ends."""
        least = self._dice.randint(0, 2)
        most = least + self._dice.randint(0, 2)
        return {
            "type": "array", "items": self.schema(depth - 1), "minItems": least, "maxItems": most
        }  # fmt: skip

    def either(self, depth: int) -> Schema:
        """One of two."""
        return {"anyOf": [self.schema(depth - 1), self.schema(depth - 1)]}

    def text(self, depth: int) -> Schema:
        """A bounded string, or one under a pattern."""
        patterns = ["^[a-c]{1,4}$", "^(yes|no)\\.?$", "^[^a-z]{2}x$", "^\\d{3}-\\w$", '^"<a>\\\\$']
        if self._dice.random() < 0.3:
            return {"type": "string", "pattern": self._dice.choice(patterns)}
        least = self._dice.randint(0, 3)
        return {"type": "string", "minLength": least, "maxLength": least + self._dice.randint(0, 6)}

    def number(self, depth: int) -> Schema:
        """A number between bounds."""
        low = self._dice.randint(-50, 50)
        high = low + self._dice.randint(1, 300)
        kind = self._dice.choice(["integer", "integer", "number"])
        words = (
            ("minimum", "maximum")
            if self._dice.random() < 0.6
            else ("exclusiveMinimum", "exclusiveMaximum")
        )
        return {"type": kind, words[0]: low, words[1]: high + 1}

    def fixed(self, depth: int) -> Schema:
        """One of a few values."""
        values: list[Any] = [
            1,
            -2.5,
            None,
            True,
            "a",
            'quo"te',
            "<b>",
            "é🦊",
            [1, "x"],
            {"k": {}},
            "",
        ]
        return {"enum": self._dice.sample(values, self._dice.randint(1, 3))}


@DIALECTS
async def test_schemas(dialect: Dialect) -> None:
    """Whatever the schema, what was sampled to its end is valid."""
    num_ended = 0
    async with llamacpp(dialect) as engine:
        for seed in range(60):
            schema = Dice(seed).schema()
            deltas = await collect(engine, request(f"start: {embedded(schema)}\n", seed))
            if deltas[-1].finish == "stop":
                num_ended += 1
                value = json.loads(text_of(ids_of(deltas)))
                Draft202012Validator(schema).validate(value)
    assert num_ended > 50


@DIALECTS
async def test_a_text_up_to_a_word(dialect: Dialect) -> None:
    """It ends with the first of the words, whatever is sampled before."""
    num_ended = 0
    grammar = f'start: TEXT "!"\nTEXT: {until("e")}\n'
    async with llamacpp(dialect) as engine:
        for seed in range(20):
            deltas = await collect(engine, request(grammar, seed))
            if deltas[-1].finish == "stop":
                num_ended += 1
                text = text_of(ids_of(deltas))
                assert text.endswith("e!")
                assert text.index("e") == len(text) - 2
    assert num_ended > 10


CALLS = f"""start: calls
calls: call (<[{CALL_ID}]> call)*
call: "{{" arguments "}}" <[{CALL_END_ID}]>
arguments: {
    embedded(
        {
            "type": "object",
            "properties": {"p": {"type": "string", "maxLength": 4}},
            "required": ["p"],
            "additionalProperties": False,
        }
    )
}
"""


@DIALECTS
@pytest.mark.parametrize("calls_are_text", [False, True], ids=["control", "text"])
@pytest.mark.parametrize("thinking", [False, True], ids=["plain", "thinking"])
async def test_a_trigger(dialect: Dialect, calls_are_text: bool, thinking: bool) -> None:
    """Free before `<tool_call>`, held behind it, whatever kind of token that is to llama.cpp."""
    num_calls = num_without = 0
    span = SPAN if thinking else None
    async with llamacpp(dialect, calls_are_text=calls_are_text) as engine:
        for seed in range(30):
            opened = [SPAN[0]] if thinking and seed % 2 else []
            asked = request(CALLS, seed, trigger=CALL_ID, free_span=span, opened=opened)
            deltas = await collect(engine, asked)
            ids = ids_of(deltas)
            if deltas[-1].finish == "length":
                continue
            if CALL_ID not in (outside_thoughts(ids, bool(opened)) if thinking else ids):
                num_without += 1
                continue
            num_calls += 1
            assert CALL_END_ID == ids[-2]
    assert num_calls > 3
    assert num_without > 0


@DIALECTS
@pytest.mark.parametrize("opened", [False, True], ids=["may think", "thinks"])
async def test_a_span(dialect: Dialect, opened: bool) -> None:
    """A thought is free, and what follows it obeys."""
    num_thoughts = num_ended = 0
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}
    async with llamacpp(dialect) as engine:
        for seed in range(20):
            asked = request(
                f"start: {embedded(schema)}\n", seed, free_span=SPAN, opened=SPAN[:1] * opened
            )
            deltas = await collect(engine, asked)
            ids = ids_of(deltas)
            if deltas[-1].finish == "stop":
                num_ended += 1
                num_thoughts += SPAN[1] in ids
                behind = ids[ids.index(SPAN[1]) + 1 :] if SPAN[1] in ids else ids
                Draft202012Validator(schema).validate(json.loads(text_of(behind)))
    assert num_ended > 10
    assert num_thoughts > 0
