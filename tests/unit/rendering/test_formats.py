"""Tests of `turnwire.rendering.formats` and `harmony_output`: what obeys a grammar is read back.

A model that knows nothing samples under the constraint of each family. Whatever it says, the
family's parser reads a call of an offered tool with arguments that the schema allows.
"""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from llguidance import LLMatcher
from msgspec import Raw
from tests.unit.rendering.imitations import TEMPLATES, byte_level, encoded, loaded
from tests.unit.rendering.reading import Words, words_of
from tests.unit.rendering.spelled_imitations import SPELLED, UNFORCED

from turnwire.constraint import Constraint
from turnwire.engines.constrain import Guides
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import InvalidRequest
from turnwire.protocol.codec import decode_tool_choice, decode_tools
from turnwire.protocol.requests import JsonSchemaFormat, PlainTextFormat, TextFormat
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.rendering.base import Template
from turnwire.rendering.formats import as_functions
from turnwire.rendering.load import load_template

SCHEMA = {
    "type": "object",
    "properties": {"path": {"enum": ["a.py", "größe.md"]}, "deep": {"enum": [True, 2]}},
    "required": ["path"],
    "additionalProperties": False,
}
TOOLS = decode_tools(
    Raw(
        json.dumps(
            [
                {"type": "function", "name": "read", "parameters": SCHEMA, "strict": True},
                {
                    "type": "custom",
                    "name": "note",
                    "format": {"type": "grammar", "syntax": "regex", "definition": "[ab]{1,3}"},
                },
            ]
        ).encode()
    )
)
LENIENT = decode_tools(Raw(b'[{"type":"function","name":"read","strict":false}]'))
ANSWER = JsonSchemaFormat(
    name="answer",
    schema=Raw(
        b'{"type":"object","properties":{"ok":{"enum":["yes","no"]}},"required":["ok"],'
        b'"additionalProperties":false}'
    ),
    strict=True,
)
FAMILIES = [
    *("qwen2", "qwen2, tags as text", "qwen3", "qwen3, tags as text", "llama3"),
    *("mistral", "mistral, named", "harmony"),
    *(name for name in SPELLED if name not in UNFORCED),
]


PLAIN = PlainTextFormat()


def choice(mode: str) -> ToolChoice:
    return decode_tool_choice(Raw(json.dumps(mode).encode()), TOOLS)


def constraint_of(
    template: Template,
    mode: str,
    *,
    text: TextFormat = PLAIN,
    parallel: bool = True,
    thinking: bool = False,
) -> Constraint | None:
    return template.constraint(
        TOOLS, choice(mode), parallel=parallel, text_format=text, thinking_possible=thinking
    )


@cache
def guides(name: str) -> Guides:
    template = loaded(name).template
    tokenizer = template.tokenizer
    vocabulary = Vocabulary(
        token_bytes=tokenizer.token_bytes(), special=tokenizer.special, encode=tokenizer.encode
    )
    return Guides(vocabulary, template.stop)


def babble(name: str, constraint: Constraint, seed: int, *, thinking: bool = False) -> list[int]:
    """An output that obeys a constraint and is otherwise random; it likes to come to an end."""
    rng = random.Random(seed)
    template = loaded(name).template
    special = sorted(template.tokenizer.special.values())
    encode = template.tokenizer.encode
    words = [encode(word)[0] for word in ("Well", ",", " ", "{", "yes", "<b>", "]", ".", "\n")]
    opening = template.opening(template.start(None, EMPTY_TOOL_SET, None).turn, reasoning=thinking)
    guide = guides(name).start(constraint, opening[-1] if opening else None)
    ids: list[int] = []
    while not ids or ids[-1] not in template.stop:
        mask = guide.mask()
        assert len(ids) < 4000, template.tokenizer.decode(ids)
        if mask is None:  # free: say something, then do what opens a call
            assert constraint.trigger is not None
            ids.append(rng.choice(words) if len(ids) < 3 else constraint.trigger)
        else:
            allowed = np.flatnonzero(mask)
            last = [one for one in special if mask[one]]
            short = [one for one in words if mask[one]]
            pool = last if last and rng.random() < 0.8 else short or list(allowed)
            ids.append(int(rng.choice(pool)))
        guide.commit(ids[-1])
    return ids


def read(name: str, ids: list[int], *, thinking: bool = False) -> Words:
    parser = loaded(name).template.parser(TOOLS.offered, thinking=thinking)
    return words_of([*parser.feed(ids), *parser.finish(cut=False)])


def check_calls(words: Words) -> int:
    """Every call is one of an offered tool and its arguments are allowed; how many there are."""
    calls = [n for n, (kind, _) in enumerate(words) if kind == "call"]
    for n in calls:
        kind, arguments = words[n + 1]
        assert "arguments" == kind
        if words[n][1] == "read":
            value: dict[str, Any] = json.loads(arguments)
            assert value["path"] in ("a.py", "größe.md")
            assert value.keys() <= {"path", "deep"}
        else:
            assert "note" == words[n][1]
            assert 1 <= len(arguments) <= 3
            assert set(arguments) <= {"a", "b"}
    return len(calls)


@pytest.mark.parametrize("thinking", [False, True], ids=["at once", "thinking"])
@pytest.mark.parametrize("name", FAMILIES)
def test_required_calls(name: str, thinking: bool) -> None:
    """A model that has to call does so, with arguments that obey."""
    constraint = constraint_of(loaded(name).template, "required", thinking=thinking)
    assert constraint is not None
    for seed in range(12):
        ids = babble(name, constraint, seed, thinking=thinking)
        words = read(name, ids, thinking=thinking)
        assert check_calls(words) >= 1
        if name != "harmony":
            assert {"call", "arguments", "."} == {kind for kind, _ in words} - {"thought"}


@pytest.mark.parametrize("name", FAMILIES)
def test_one_call_where_one_is_allowed(name: str) -> None:
    """`parallel_tool_calls: false` is obeyed."""
    constraint = constraint_of(loaded(name).template, "required", parallel=False)
    assert constraint is not None
    for seed in range(6):
        assert 1 == check_calls(read(name, babble(name, constraint, seed)))


@pytest.mark.parametrize("name", FAMILIES)
def test_free_calls(name: str) -> None:
    """A model that may call says what it likes, and once it calls it obeys."""
    constraint = constraint_of(loaded(name).template, "auto")
    assert constraint is not None
    for seed in range(12):
        check_calls(read(name, babble(name, constraint, seed)))


@pytest.mark.parametrize("mode", ["auto", "none"])
@pytest.mark.parametrize("name", FAMILIES)
def test_answers_in_json(name: str, mode: str) -> None:
    """What is no call is JSON that obeys the answer's schema."""
    constraint = constraint_of(loaded(name).template, mode, text=ANSWER)
    assert constraint is not None
    for seed in range(8):
        words = read(name, babble(name, constraint, seed))
        if check_calls(words) == 0:
            [text] = [text for kind, text in words if kind == "text"][-1:]
            assert json.loads(text)["ok"] in ("yes", "no")
        else:
            assert "auto" == mode


@pytest.mark.parametrize("name", FAMILIES)
def test_no_constraint(name: str) -> None:
    """Without tools and schemas an output is free, and so it is where nobody insists on one."""
    template = loaded(name).template
    assert constraint_of(template, "none") is None
    constraint = template.constraint(
        LENIENT,
        choice("auto"),
        parallel=True,
        text_format=PLAIN,
        thinking_possible=False,
    )
    assert constraint is None or constraint.trigger is not None


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("hm</think><tool_call>\n<function=", True),
        ("a <tool_call> b</think>\n\n<tool_call>\n<function=", True),
        ("hm</think>So <tool_call>\n<function=", False),
        ("hm</think></think>", False),
    ],
)
def test_a_thought_that_a_tag_of_text_ends(text: str, taken: bool) -> None:
    """Behind the first end tag only a call may stand where one is required."""
    source, special = TEMPLATES["qwen-coder, tags as text"]
    assert source is not None
    tokenizer = byte_level(special)
    opened = source.replace('"<|assistant|>" }}{% endif', '"<|assistant|><think>" }}{% endif')
    stop = frozenset((tokenizer.special["<|end|>"],))
    template = load_template(tokenizer, opened, stop=stop).template
    constraint = constraint_of(template, "required", thinking=True)
    assert constraint is not None
    matcher = LLMatcher(tokenizer.guidance, constraint.grammar, log_level=0)
    ids = list(encoded(tokenizer, text))
    assert taken == (len(ids) == matcher.try_consume_tokens(ids))


def test_a_format_without_calls() -> None:
    """A call cannot be required where none is known; what may be called may be left alone."""
    template = loaded("gemma").template
    assert constraint_of(template, "auto") is None
    with pytest.raises(
        InvalidRequest, match=r"no tool calls that are known.*model\.NAME\.template"
    ):
        constraint_of(template, "required")
    assert constraint_of(template, "auto", text=ANSWER) is not None


@pytest.mark.parametrize("name", UNFORCED)
def test_a_format_without_a_grammar(name: str) -> None:
    """Calls are read that cannot be forced; who requires one is told so."""
    template = loaded(name).template
    assert constraint_of(template, "auto") is None
    with pytest.raises(InvalidRequest, match="tool_choice 'auto'"):
        constraint_of(template, "required")


def test_custom_tools_are_functions_of_one_field() -> None:
    """These families know no other tools."""
    functions = as_functions(TOOLS)
    assert ["function", "function"] == [tool.kind for tool in functions.offered.values()]
    parameters = json.loads(functions.offered["note"].parameters or b"{}")
    assert ["input"] == parameters["required"]
    assert functions is as_functions(functions)
