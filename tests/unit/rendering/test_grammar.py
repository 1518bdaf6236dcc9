"""Tests of `turnwire.rendering.grammar`: what its grammars let through, token by token."""

from __future__ import annotations

import json
import re
import resource
from contextlib import suppress
from typing import Literal

import pytest
from llguidance import LLMatcher
from msgspec import Raw

from turnwire.constraint import Constraint
from turnwire.errors import InvalidRequest
from turnwire.protocol.codec import decode_tools
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


def custom(name: str, definition: str | None = None, syntax: str = "regex") -> dict[str, object]:
    """A custom tool as a request spells it."""
    tool: dict[str, object] = {"type": "custom", "name": name}
    if definition is not None:
        tool["format"] = {"type": "grammar", "syntax": syntax, "definition": definition}
    return tool


def tool_set(*tools: dict[str, object]) -> ToolSet:
    """The tools as the codec decodes them."""
    return decode_tools(Raw(json.dumps(tools).encode()))


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


def call(name: str, arguments: str) -> str:
    """A function's call and its end."""
    return f'{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


def given(name: str, text: str) -> str:
    """A custom tool's call and its end."""
    return f"{name}\n{text}</tool_call>"


READ = call("read", '{"path":"a.txt"}')
FREE = call("free", '{"x":[1,{"y":null}]}')
NOTE = given("note", 'line\n"two"')
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


REGEX = tool_set(custom("note", 'say "[a-z]+"|a/b|\\d{2}\\nx'))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('say "hi"', True),
        ("a/b", True),
        ("42\nx", True),
        ("", False),
        ("say hi", False),
        ('say "hi" ', False),
        ("a/b\n", False),
        ("42x", False),
    ],
)
def test_a_regex_holds_for_the_input(text: str, fits: bool) -> None:
    """A custom tool's pattern matches all of its input, no less."""
    assert fits == accepts(build(REGEX), given("note", text))


PATCH = r"""
start: begin hunk+ end
begin: "*** Begin" LF
end: "*** End" LF?
hunk: "*** File: " /[^\n]+/ LF line+
line: ("+" | "-" | " ") /[^\n]*/ LF -> change
%import common.LF
"""
WHOLE = "*** Begin\n*** File: a b.py\n-x\n+  </b>\n*** File: é\n \n*** End"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        pytest.param(WHOLE, True, id="whole"),
        pytest.param(WHOLE + "\n", True, id="with a line end"),
        pytest.param(WHOLE.removesuffix("*** End"), False, id="without its end"),
        pytest.param(WHOLE + "!", False, id="with more"),
        pytest.param(WHOLE.replace("-x", "*x"), False, id="with another line"),
        pytest.param("*** Begin\n*** End", False, id="without a hunk"),
        pytest.param("", False, id="empty"),
    ],
)
def test_a_lark_grammar_holds_for_the_input(text: str, fits: bool) -> None:
    """A custom tool's grammar lets through what it derives and nothing else."""
    tools = tool_set(function("read", PATH), custom("patch", PATCH, "lark"), custom("note"))
    assert fits == accepts(build(tools), given("patch", text))
    assert accepts(build(tools), READ + f"<tool_call>{given('patch', WHOLE)}")


def test_grammars_do_not_see_each_other() -> None:
    """Rules of one tool's grammar are not those of another's, nor ours."""
    one = custom("one", 'start: call\ncall: "a"', "lark")
    two = custom("two", 'start: call value0\ncall: "b"\nvalue0: "c"\n%ignore / /', "lark")
    made = build(tool_set(one, two))
    assert accepts(made, given("one", "a"))
    assert accepts(made, given("two", "b  c"))
    assert not accepts(made, given("one", "b"))
    assert not accepts(made, given("one", " a"))


@pytest.mark.parametrize(
    ("definition", "empty", "fits"),
    [('start: "a"*', True, "aa"), ('start: "\\n" "b"', False, "\nb"), ("start: /a*/", True, "a")],
)
def test_an_input_may_be_empty_or_begin_with_a_line_end(
    definition: str, empty: bool, fits: str
) -> None:
    """The line end below the name is not the input's, whatever the input begins with."""
    made = build(tool_set(custom("note", definition, "lark")))
    assert empty == accepts(made, given("note", ""))
    assert accepts(made, given("note", fits))


LATER = {**function("later", PATH), "async": True}
SEARCH: dict[str, object] = {"type": "custom", "name": "search", "async": True}


@pytest.mark.parametrize(
    ("parallel", "text_format", "fits", "refused"),
    [
        pytest.param(
            True,
            TEXT,
            (
                "{later}",
                "{later}Done.",
                "{later}<tool_call>{read}<tool_call>{later}",
                "{later}Then <tool_call>{later}and<tool_call>{read}",
                "{read}<tool_call>{later}",
                "{search}on",
            ),
            ("{read}Done.", "{later}<tool_call>{read}Done.", "Done."),
            id="text",
        ),
        pytest.param(
            False,
            TEXT,
            ("{later}", "{later}Done.", "{read}"),
            ("{read}Done.", "{later}<tool_call>{read}", "{later}on<tool_call>{read}"),
            id="one call",
        ),
        pytest.param(
            True,
            JsonObjectFormat(),
            ("<tool_call>{later}{{}}", '{{"a":1}}', "<tool_call>{later}{{}}<tool_call>{read}"),
            ("<tool_call>{later}Done.", "<tool_call>{read}{{}}"),
            id="JSON",
        ),
    ],
)
def test_the_model_goes_on_behind_a_call_it_does_not_wait_for(
    parallel: bool, text_format: TextFormat, fits: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    """Text may follow a call of an async tool; behind any other there are only calls."""
    tools = tool_set(function("read", PATH), LATER, SEARCH)
    made = build(tools, parallel=parallel, text_format=text_format)
    calls = {
        "read": READ,
        "later": call("later", '{"path":"b"}'),
        "search": given("search", "what?"),
    }
    assert dict.fromkeys(fits, True) == {text: accepts(made, text.format(**calls)) for text in fits}
    assert dict.fromkeys(refused, False) == {
        text: accepts(made, text.format(**calls)) for text in refused
    }


def test_only_async_tools() -> None:
    """Where no tool is waited for, a required call is still the first thing."""
    made = build(tool_set(SEARCH), "required")
    assert accepts(made, f"<tool_call>{given('search', 'x')}Done.")
    assert not accepts(made, "Done.")


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
        pytest.param([custom("c", ")|(")], "tools[0].format.definition", id="regex inside out"),
        pytest.param([custom("c", "a\\")], "tools[0].format.definition", id="regex that escapes"),
        pytest.param([custom("c", "(?=a)")], "tools[0].format.definition", id="lookaround"),
        pytest.param([custom("c", "[a&&b]")], "tools[0].format.definition", id="empty language"),
        pytest.param(
            [HOSTED, custom("c", "start: a", "lark")], "tools[1].format.definition", id="lark"
        ),
        pytest.param(
            [custom("c", "start: <[6]>", "lark")], "tools[0].format.definition", id="lark too rich"
        ),
        pytest.param(
            [custom("c", 'start: "a" start', "lark")], "tools[0].format.definition", id="no end"
        ),
        pytest.param(
            [custom("c", "rule: /a/", "lark")], "tools[0].format.definition", id="no start"
        ),
    ],
)
def test_an_invalid_schema_names_its_parameter(tools: list[dict[str, object]], param: str) -> None:
    """A schema that means nothing is the client's error, at its place in the request."""
    with pytest.raises(InvalidRequest) as caught:
        build(tool_set(*tools))
    assert (param, "invalid_value") == (caught.value.param, caught.value.code)
    assert param in caught.value.message
    assert "%json" not in caught.value.message
    assert "%lark" not in caught.value.message


def test_a_reason_names_the_line_of_the_definition() -> None:
    """What the library finds is told by the client's own line numbers."""
    with pytest.raises(InvalidRequest) as caught:
        build(tool_set(custom("c", "start: a\n\na: b", "lark")))
    assert (
        "Invalid grammar for 'tools[0].format.definition': line 3: unknown name: \"b\""
        == caught.value.message
    )


HOSTILE = {
    "deep repeats": "start: /((((a{100}){100}){100}){100})/",
    "doubling": 'start: A29\nA0: "x"\n'
    + "\n".join(f"A{n}: A{n - 1} A{n - 1}" for n in range(1, 30)),
    "many lookbacks": "start: /"
    + "|".join(f"(.|\\n)*{n}(.|\\n){{{n + 20}}}" for n in range(9))
    + "/",
    "many rules": "\n".join(
        ["start: r0", *(f'r{n}: "a" r{n + 1}' for n in range(3000)), "r3000: "]
    ),
    "nesting": "start: " + "(" * 9000 + '"a"' + ")" * 9000,
    "length": "start: " + '"a" ' * 20_000,
}


@pytest.mark.parametrize("definition", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_grammar_is_refused_or_cheap(definition: str) -> None:
    """Nothing a definition says makes the process grow by much, or fail."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(InvalidRequest):
        build(tool_set(custom("c", definition, "lark")))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 160 * 1024


def test_grammars_may_be_too_large_together() -> None:
    """What each tool may ask for, a hundred tools may not."""
    many = "start: " + " | ".join(f'"{n}" /a/ "b"' for n in range(1500))
    tools = tool_set(*(custom(f"c{n}", many, "lark") for n in range(120)))
    with pytest.raises(InvalidRequest) as caught:
        build(tools)
    assert "tools" == caught.value.param


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
