"""Tests of `turnwire.rendering.outputs`: what a template says about a model's answers."""

from __future__ import annotations

import json

import pytest
from tests.unit.rendering.imitations import TEMPLATES, byte_level, encoded, loaded
from tests.unit.rendering.reading import Words, words_of
from tests.unit.rendering.spelled_imitations import SPELLED

from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.load import Loaded, load_template

OFFERED = {"f": OfferedTool(name="f")}
TURNS = (
    "{% for m in messages %}<|start|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>{% endif %}"
)
CALL = [("call", "f"), ("arguments", '{"a": 1}'), (".", "")]


def found(source: str, *special: str) -> Loaded:
    """What is made of a template."""
    tokenizer = byte_level(("<|start|>", "<|end|>", *special))
    return load_template(tokenizer, source, stop=frozenset((tokenizer.special["<|end|>"],)))


def read(model: Loaded, output: str) -> Words:
    """An output's words."""
    parser = model.template.parser(OFFERED, thinking=False)
    ids = encoded(model.template.tokenizer, f"{output}<|end|>")
    return words_of([*parser.feed(ids), *parser.finish(cut=False)])


@pytest.mark.parametrize("name", SPELLED)
def test_families_are_known_by_what_they_write(name: str) -> None:
    """Each by the calls in its template, with the template itself as the renderer."""
    report = loaded(name).report
    output = {"deepseek-v31": "deepseek", "gemma4": "gemma"}.get(name, name.partition(",")[0])
    assert ("generic", output, True) == (report.family, report.output, report.reads_calls)
    assert report.append_only


@pytest.mark.parametrize(
    ("source", "special", "output", "written"),
    [
        pytest.param(
            TURNS, ("<|tool_call|>",), "granite", '<|tool_call|>[{"name": "f", "arguments": {}}]',
            id="a token for lists",
        ),
        pytest.param(
            TURNS, ("<|tool_call|>", "<|/tool_call|>"), "phi",
            '<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>', id="one at both ends",
        ),
        pytest.param(
            'Use <tool_call>{"name": n, "arguments": a}</tool_call>.' + TURNS, (), "hermes",
            '<tool_call>{"name": "f", "arguments": {}}</tool_call>', id="told in words",
        ),
    ],
)  # fmt: skip
def test_templates_that_do_not_show_calls(
    source: str, special: tuple[str, ...], output: str, written: str
) -> None:
    """The vocabulary or the template's words say how they are written, and the report that."""
    model = found(source, *special)
    assert output == model.report.output
    assert any("does not show" in reason for reason in model.report.reasons)
    assert [("call", "f"), ("arguments", "{}"), (".", "")] == read(model, written)


def test_nothing_is_known() -> None:
    """A template without calls and without their words has none that are read."""
    report = found(TURNS).report
    assert ("plain", False) == (report.output, report.reads_calls)
    assert not any("does not show" in reason for reason in report.reasons)


def test_calls_only_beside_tools() -> None:
    """A template that leaves calls out where there are no tools is known all the same."""
    source, special = TEMPLATES["tool-calls"]
    assert source is not None
    shy = source.replace("{%- if message.tool_calls %}", "{%- if message.tool_calls and tools %}")
    assert shy != source
    tokenizer = byte_level(special)
    stop = frozenset((tokenizer.special["<|end|>"],))
    assert "tool-calls" == load_template(tokenizer, shy, stop=stop).report.output


def test_one_call_at_a_time() -> None:
    """A template that takes one call a message is known by that, and more are not asked for."""
    source, special = TEMPLATES["kimi"]
    assert source is not None
    begun = "{%- if message.tool_calls %}"
    one = "{%- if message.tool_calls | length > 1 %}{{- raise_exception('One.') }}{% endif %}"
    tokenizer = byte_level(special)
    stop = frozenset((tokenizer.special["<|end|>"],))
    model = load_template(tokenizer, source.replace(begun, begun + one), stop=stop)
    assert "kimi" == model.report.output
    written = "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0"
    call = f"{written}<|tool_call_argument_begin|>{json.dumps({'a': 1})}<|tool_call_end|>"
    assert CALL == read(model, f"{call}<|tool_calls_section_end|>")


def test_what_ends_a_call() -> None:
    """The token that the template writes behind calls ends an answer too."""
    source, special = TEMPLATES["glm"]
    assert source is not None
    end = '{{- "<|end|>" }}\n    {%- else'
    told = '{{- "<|observe|>" if message.tool_calls else "<|end|>" }}\n    {%- else'
    other = source.replace(end, told)
    assert other != source
    tokenizer = byte_level((*special, "<|observe|>"))
    stop = frozenset((tokenizer.special["<|end|>"],))
    template = load_template(tokenizer, other, stop=stop).template
    assert {tokenizer.special[name] for name in ("<|end|>", "<|observe|>")} == template.stop


@pytest.mark.parametrize(
    ("tags", "thought"),
    [
        (("<think>", "</think>"), "hm"),
        (("[THINK]", "[/THINK]"), "hm"),
        (("<seed:think>", "</seed:think>"), "hm"),
        (("<|START_THINKING|>", "<|END_THINKING|>"), "hm"),
        (("<|channel>", "<channel|>"), "thought\nhm"),
    ],
)
def test_thoughts(tags: tuple[str, str], thought: str) -> None:
    """They stand between the tags of the vocabulary, without the line that names them."""
    model = found(TURNS, *tags)
    words = read(model, f"{tags[0]}{thought}\n{tags[1]}Hi")
    assert [("thought", "hm"), (".", ""), ("text", "Hi"), (".", "")] == words
