"""Tests of `turnwire.rendering.grammar`: what its grammars let through, token by token."""

from __future__ import annotations

import json
import re
from typing import Literal

import pytest
from llguidance import LLMatcher
from msgspec import Raw

from turnwire.constraint import Constraint
from turnwire.errors import InvalidRequest
from turnwire.protocol.requests import (
    JsonObjectFormat,
    JsonSchemaFormat,
    PlainTextFormat,
    TextFormat,
)
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolChoice, ToolSet
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.grammar import constraint
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

TOKENIZER = Tokenizer.shipped()
RENDERER = Renderer(TOKENIZER)
SPECIAL = re.compile("(" + "|".join(map(re.escape, TOKENIZER.special)) + ")")
PATH = {
    "type": "object",
    "properties": {"path": {"type": "string"}},
    "required": ["path"],
    "additionalProperties": False,
}
TEXT = PlainTextFormat()


def function(name: str, parameters: object = None, strict: bool | None = None) -> dict[str, object]:
    """A function tool as a request spells it."""
    tool = {"type": "function", "name": name, "parameters": parameters, "strict": strict}
    return {key: value for key, value in tool.items() if value is not None}


def custom(name: str, regex: str | None = None) -> dict[str, object]:
    """A custom tool as a request spells it."""
    tool: dict[str, object] = {"type": "custom", "name": name}
    if regex is not None:
        tool["format"] = {"type": "grammar", "syntax": "regex", "definition": regex}
    return tool


def tool_set(*tools: dict[str, object]) -> ToolSet:
    """The tools as the codec decodes them."""
    offered: dict[str, OfferedTool] = {}

    def offer(tool: dict[str, object], namespace: str | None = None) -> None:
        name = str(tool.get("name"))
        match tool:
            case {"type": "namespace", "tools": list(inner)}:
                for one in inner:
                    offer(one, name)
            case {"type": "function"}:
                parameters = tool.get("parameters")
                offered[name] = OfferedTool(
                    name=name,
                    parameters=None if parameters is None else json.dumps(parameters).encode(),
                    strict=tool.get("strict") is not False,
                    namespace=namespace,
                )
            case {"type": "custom", "format": {"syntax": "regex", "definition": str(regex)}}:
                offered[name] = OfferedTool(name=name, kind="custom", grammar=("regex", regex))
            case {"type": "custom"}:
                offered[name] = OfferedTool(name=name, kind="custom")

    for tool in tools:
        offer(tool)
    return ToolSet(raw=json.dumps(tools).encode(), offered=offered, echo=Raw(b"[]"))


def build(
    tools: ToolSet = EMPTY_TOOL_SET,
    mode: Literal["none", "auto", "required"] = "auto",
    *,
    allowed: tuple[str, ...] | None = None,
    parallel: bool = True,
    text_format: TextFormat = TEXT,
    thinking: bool = False,
) -> Constraint | None:
    """`constraint` with the choices that most tests share."""
    return constraint(
        RENDERER,
        tools,
        ToolChoice(mode=mode, allowed=allowed),
        parallel=parallel,
        text_format=text_format,
        thinking_possible=thinking,
    )


def ids(text: str) -> TokenArray:
    """Text with special tokens by name, as a model would sample it."""
    found = token_array()
    for piece in SPECIAL.split(text):
        found += (
            token_array([TOKENIZER.special[piece]])
            if piece in TOKENIZER.special
            else TOKENIZER.encode(piece)
        )
    return found


def accepts(made: Constraint | None, text: str) -> bool:
    """Whether this is a whole output under the grammar, what precedes its trigger left out."""
    assert made is not None
    matcher = LLMatcher(TOKENIZER.guidance, made.grammar)
    assert not matcher.is_error(), matcher.get_error()
    output = list(ids(text))
    return matcher.try_consume_tokens(output) == len(output) and matcher.is_accepting()


def call(name: str, value: str, key: str = "arguments") -> str:
    """A call's body and its end."""
    return f'{{"name": "{name}", "{key}": {value}}}</tool_call>'


READ = call("read", '{"path":"a.txt"}')
FREE = call("free", '{"x":[1,{"y":null}]}')
NOTE = call("note", '"line\\n\\"two\\""', "input")
TOOLS = tool_set(function("read", PATH), function("free"), custom("note"))


@pytest.mark.parametrize(
    ("mode", "text_format", "outputs", "refused", "triggered"),
    [
        pytest.param(
            "auto", TEXT, (READ, FREE, NOTE), ("Hi", f"<tool_call>{READ}"), True, id="auto"
        ),
        pytest.param(
            "required",
            TEXT,
            (f"<tool_call>{READ}", f"<tool_call>{NOTE}<tool_call>{FREE}"),
            ("Hi", READ, "", "{}"),
            False,
            id="required",
        ),
        pytest.param(
            "none", JsonObjectFormat(), ('{"a":1}', "{}"), ("[]", f"<tool_call>{READ}"), False,
            id="none with JSON",
        ),
        pytest.param(
            "auto", JsonObjectFormat(), ('{"a":1}', f"<tool_call>{READ}"), ("Hi", READ), False,
            id="auto with JSON",
        ),
        pytest.param(
            "required", JsonObjectFormat(), (f"<tool_call>{READ}",), ('{"a":1}',), False,
            id="required with JSON",
        ),
    ],
)  # fmt: skip
def test_choice_and_format(
    mode: Literal["none", "auto", "required"],
    text_format: TextFormat,
    outputs: tuple[str, ...],
    refused: tuple[str, ...],
    triggered: bool,
) -> None:
    """Each tool choice and text format lets through these outputs and not those."""
    made = build(TOOLS, mode, text_format=text_format)
    assert made is not None
    assert (RENDERER.marks.tool_call if triggered else None) == made.trigger
    assert dict.fromkeys(outputs, True) == {text: accepts(made, text) for text in outputs}
    assert dict.fromkeys(refused, False) == {text: accepts(made, text) for text in refused}


@pytest.mark.parametrize(
    ("tools", "mode"), [(TOOLS, "none"), (EMPTY_TOOL_SET, "auto"), (EMPTY_TOOL_SET, "none")]
)
def test_free_output_has_no_constraint(tools: ToolSet, mode: Literal["none", "auto"]) -> None:
    """Plain text without callable tools is free."""
    assert build(tools, mode) is None


def test_arguments_obey_the_schema_where_the_tool_is_strict() -> None:
    """A strict tool's arguments follow its schema; `strict: false` allows any object."""
    wrong = call("read", '{"file":1}')
    assert not accepts(build(TOOLS), wrong)
    assert not accepts(build(TOOLS), call("free", "[]"))
    assert accepts(build(tool_set(function("read", PATH, strict=False))), wrong)


def test_the_json_is_compact() -> None:
    """Whitespace between the signs of the JSON is not sampled."""
    assert not accepts(build(TOOLS), call("read", '{ "path": "a.txt" }'))


def test_parallel_calls_are_allowed_or_not() -> None:
    """Without `parallel` the output ends with its first call."""
    two = f"{READ}<tool_call>{FREE}"
    assert accepts(build(TOOLS), two)
    assert not accepts(build(TOOLS, parallel=False), two)
    assert accepts(build(TOOLS, parallel=False), READ)


def test_allowed_is_a_hard_limit() -> None:
    """Only allowed tools can be called, under auto as under required."""
    for mode, before in (("auto", ""), ("required", "<tool_call>")):
        made = build(TOOLS, mode, allowed=("read",))  # type: ignore[arg-type]  # a literal
        assert accepts(made, before + READ)
        assert not accepts(made, before + FREE)


def test_a_regex_holds_for_the_decoded_input() -> None:
    """A custom tool's pattern applies to its text, not to the JSON string around it."""
    made = build(tool_set(custom("note", 'say "[a-z]+"')))
    assert accepts(made, call("note", '"say \\"hi\\""', "input"))
    assert not accepts(made, call("note", '"say hi"', "input"))


def test_text_format_with_a_schema() -> None:
    """The message obeys the schema."""
    made = build(text_format=JsonSchemaFormat(name="p", schema=Raw(json.dumps(PATH).encode())))
    assert accepts(made, '{"path":"a.txt"}')
    assert not accepts(made, '{"other":1}')


def test_thinking_is_free() -> None:
    """The span between `<think>` and `</think>` is left out of the grammar."""
    made = build(TOOLS, "required", thinking=True)
    assert made is not None
    assert (RENDERER.marks.think, RENDERER.marks.end_think) == made.free_span
    without = build(TOOLS, "required")
    assert without is not None
    assert without.free_span is None


NOT = {"type": "object", "not": {"required": ["a"]}}
CHOICE = {
    "type": "object",
    "oneOf": [
        {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
    ],
}


def test_what_cannot_be_enforced_is_left_out_unless_strict_was_asked_for() -> None:
    """An unsupported keyword is ignored where `strict` is absent, an error where it is true."""
    assert accepts(build(tool_set(function("read", NOT))), READ)
    with pytest.raises(InvalidRequest) as caught:
        build(tool_set(function("read", NOT, strict=True)))
    assert ("tools[0].parameters", "invalid_value") == (caught.value.param, caught.value.code)


def test_one_of_is_obeyed_as_any_of() -> None:
    """A oneOf, even in a strict schema, is enforced as far as it can be."""
    made = build(tool_set(function("f", CHOICE, strict=True)))
    assert accepts(made, call("f", '{"a":1}'))
    assert not accepts(made, call("f", '{"a":"x"}'))


def test_a_schema_without_a_type_is_one_of_objects() -> None:
    """Arguments are an object whether or not the schema says so."""
    made = build(tool_set(function("f", {"properties": {"a": {"type": "integer"}}})))
    assert accepts(made, call("f", '{"a":1}'))
    assert not accepts(made, call("f", "1"))


HOSTED: dict[str, object] = {"type": "web_search"}
WRONG = {"type": "object", "properties": {"a": {"type": "nothing"}}}


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        pytest.param([function("f", WRONG)], "tools[0].parameters", id="no such type"),
        pytest.param([function("f", {"type": "array"})], "tools[0].parameters", id="no object"),
        pytest.param([function("f", [1])], "tools[0].parameters", id="no schema"),
        pytest.param(
            [HOSTED, function("g", PATH), function("f", WRONG)],
            "tools[2].parameters",
            id="counted as the request counts",
        ),
        pytest.param(
            [{"type": "namespace", "name": "n", "tools": [function("f", WRONG)]}],
            "tools[0].tools[0].parameters",
            id="in a namespace",
        ),
        pytest.param([custom("c", "(")], "tools[0].format.definition", id="regex"),
    ],
)
def test_an_invalid_schema_names_its_parameter(tools: list[dict[str, object]], param: str) -> None:
    """A schema that means nothing is the client's error, at its place in the request."""
    with pytest.raises(InvalidRequest) as caught:
        build(tool_set(*tools))
    assert (param, "invalid_value") == (caught.value.param, caught.value.code)
    assert param in caught.value.message
    assert "%json" not in caught.value.message


def test_an_invalid_text_schema_names_its_parameter() -> None:
    """The same for the text format."""
    schema = Raw(json.dumps(WRONG).encode())
    with pytest.raises(InvalidRequest) as caught:
        build(text_format=JsonSchemaFormat(name="p", schema=schema))
    assert "text.format.schema" == caught.value.param


def test_required_without_tools_is_refused() -> None:
    """A call cannot be required where none is possible."""
    with pytest.raises(InvalidRequest) as caught:
        build(EMPTY_TOOL_SET, "required")
    assert "tool_choice" == caught.value.param


def test_a_set_that_no_request_spelled_is_counted_in_its_own_order() -> None:
    """Without request bytes, `param` counts the offered tools."""
    wrong = OfferedTool(name="b", parameters=json.dumps(WRONG).encode())
    tools = ToolSet(raw=b"", offered={"a": OfferedTool(name="a"), "b": wrong}, echo=Raw(b"[]"))
    with pytest.raises(InvalidRequest) as caught:
        build(tools)
    assert "tools[1].parameters" == caught.value.param
