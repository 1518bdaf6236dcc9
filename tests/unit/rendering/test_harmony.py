"""Tests of `turnwire.rendering.harmony`: expected text after OpenAI's guide to the format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.rendering.imitations import HARMONY_TOKENS, byte_level

from turnwire.errors import ConfigError
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolSet
from turnwire.rendering.harmony import Harmony, type_of
from turnwire.rendering.messages import ChatCall, ChatMessage, ChatResult, Head
from turnwire.rendering.pieces import Pieces

TOKENIZER = byte_level(HARMONY_TOKENS)
HARMONY = Harmony(TOKENIZER)
NAMES = {token_id: name for name, token_id in TOKENIZER.special.items()}


def text_of(pieces: Pieces) -> str:
    return "".join(NAMES[piece] if isinstance(piece, int) else piece for piece in pieces)


def tools(*offered: OfferedTool) -> ToolSet:
    return ToolSet(raw=b"t", offered={t.name: t for t in offered}, echo=EMPTY_TOOL_SET.echo)


def function(description: str = "", **properties: Any) -> OfferedTool:
    schema = {"type": "object", "properties": properties, "required": ["a"]}
    return OfferedTool(name="f", description=description, parameters=json.dumps(schema).encode())


def test_what_stands_in_front() -> None:
    """The system message says the effort and where calls go, the developer's has the rest."""
    told = Head("Be brief.", tools(function("Does f.\nSlowly.", a={"type": "string"})), "high")
    assert text_of(HARMONY.head(told)) == (
        "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
        "Knowledge cutoff: 2024-06\n\nReasoning: high\n\n"
        "# Valid channels: analysis, commentary, final. Channel must be included for every "
        "message.\nCalls to these tools must go to the commentary channel: 'functions'.<|end|>"
        "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n# Tools\n\n## functions\n\n"
        "namespace functions {\n\n// Does f.\n// Slowly.\ntype f = (_: {\na: string,\n}) => any;"
        "\n\n} // namespace functions<|end|>"
    )
    alone = text_of(HARMONY.head(Head(None, EMPTY_TOOL_SET)))
    assert ("developer" in alone, "functions" in alone) == (False, False)
    assert "Reasoning: medium" in text_of(HARMONY.head(Head(None, EMPTY_TOOL_SET, "odd")))


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        pytest.param(OfferedTool(name="g"), "type g = () => any;", id="no parameters"),
        pytest.param(
            OfferedTool(name="g", kind="custom"),
            "type g = (_: {\ninput: string,\n}) => any;",
            id="custom",
        ),
        pytest.param(
            function(
                a={"type": "string", "description": "An a.", "enum": ["x", "y"], "default": "x"},
                b={"type": "array", "items": {"type": "integer"}},
                c={"type": "integer", "default": 5, "nullable": True},
                d={"title": "D", "examples": ["p", 1]},
            ),
            "type f = (_: {\n// An a.\n"
            'a: "x" | "y", // default: x\nb?: number[],\nc?: number | null, // default: 5\n'
            '// D\n//\n// Examples:\n// - "p"\n// - 1\nd?: any,\n}) => any;',
            id="fields",
        ),
        pytest.param(
            function(
                a={
                    "type": "object",
                    "properties": {"x": {"type": ["string", "null"], "description": "An x."}},
                },
                o={"oneOf": [{"type": "string"}, {"type": "integer", "default": 3}]},
            ),
            "type f = (_: {\na: {\n    // An x.\n    x?: string | null,\n    },\n"
            "o?:\n | string\n | number // default: 3\n,\n}) => any;",
            id="objects and choices",
        ),
        pytest.param(
            function(a=True, b={"type": 5}),
            "type f = (_: {\na: any,\nb?: any,\n}) => any;",
            id="odd",
        ),
    ],
)
def test_tools(tool: OfferedTool, expected: str) -> None:
    """Schemas are written as the types that the model was trained to read."""
    text = text_of(HARMONY.head(Head(None, tools(tool))))
    assert f"namespace functions {{\n\n{expected}\n\n}} // namespace functions" in text


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "array", "items": {"enum": [1, "a"]}}, 'Array<1 | "a">'),
        ({"type": "array"}, "any[]"),
        ({"type": "object"}, "object"),
        ({"type": "null"}, "null"),
        ({"type": ["integer", "object", "odd"]}, "number | object | any"),
        ({"$ref": "#"}, "any"),
        (None, "any"),
    ],
)
def test_types(schema: Any, expected: str) -> None:
    """Whatever is no simple type is any."""
    assert expected == type_of(schema)


CALL = ChatCall("f", '{"a":1}', "c1")


@pytest.mark.parametrize(
    ("message", "present", "past"),
    [
        (ChatMessage("user", "Hi"), "<|start|>user<|message|>Hi<|end|>", None),
        (
            ChatMessage("system", "Be kind."),
            "<|start|>developer<|message|># Instructions\n\nBe kind.<|end|>",
            None,
        ),
        (
            ChatMessage("assistant", "Yes.", "Hm."),
            "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>"
            "<|start|>assistant<|channel|>final<|message|>Yes.<|end|>",
            "<|start|>assistant<|channel|>final<|message|>Yes.<|end|>",
        ),
        (
            ChatMessage("assistant", "Wait.", calls=(CALL,)),
            "<|start|>assistant<|channel|>commentary<|message|>Wait.<|end|>"
            "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
            '{"a":1}<|call|>',
            None,
        ),
        (
            ChatMessage("assistant", "Wait.", phase="commentary"),
            "<|start|>assistant<|channel|>commentary<|message|>Wait.<|end|>",
            None,
        ),
        (
            ChatMessage("tool", results=(ChatResult("f", "ok", "c1"), ChatResult("g", "", "c2"))),
            "<|start|>functions.f to=assistant<|channel|>commentary<|message|>ok<|end|>"
            "<|start|>functions.g to=assistant<|channel|>commentary<|message|><|end|>",
            None,
        ),
    ],
    ids=["user", "system", "answer", "call", "commentary", "outputs"],
)
def test_messages(message: ChatMessage, present: str, past: str | None) -> None:
    """Each in its channel; what is past is without its reasoning."""
    head = Head(None, EMPTY_TOOL_SET)
    assert present == text_of(HARMONY.message(head, message, past=False))
    assert (past or present) == text_of(HARMONY.message(head, message, past=True))


def test_when_reasoning_is_dropped() -> None:
    """Once a final answer was given; in a chain of calls it stays."""
    user, final = ChatMessage("user", "Hi"), ChatMessage("assistant", "Yes.")
    calling = ChatMessage("assistant", "Wait.", calls=(CALL,))
    on_the_way = ChatMessage("assistant", "Wait.", phase="commentary")
    for before, dropped in (
        (None, False),
        (user, False),
        (final, True),
        (calling, False),
        (on_the_way, False),
        (ChatMessage("assistant", reasoning="Hm."), False),
    ):
        assert dropped == HARMONY.ends_past(before, user)


def test_other_vocabularies() -> None:
    """A vocabulary without the format's tokens is refused."""
    with pytest.raises(ConfigError, match="no special token"):
        Harmony(byte_level(("<|start|>", "<|end|>")))
