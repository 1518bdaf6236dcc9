"""Tests of `turnwire.rendering.messages`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from turnwire.protocol.items import (
    AdditionalTools,
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    Role,
    SummaryText,
)
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolSet
from turnwire.rendering.base import Label
from turnwire.rendering.messages import (
    ChatCall,
    ChatMessage,
    ChatResult,
    fold,
    may_grow,
    short_id,
    sound,
    tool_schema,
)


def said(text: str) -> Message:
    return Message(role="assistant", content=(OutputText(text=text),))


def asked(text: str, role: Role = "user") -> Message:
    return Message(role=role, content=(InputText(text=text),))


def thought(text: str) -> Reasoning:
    return Reasoning(summary=(), content=(ReasoningText(text=text),))


def tools(*offered: OfferedTool) -> ToolSet:
    return structs.replace(EMPTY_TOOL_SET, offered={tool.name: tool for tool in offered})


CALL = FunctionCall(call_id="c1", name="f", arguments='{"a":1}', namespace="n")
CUSTOM = CustomToolCall(call_id="c2", name="g", input='x"\n')
OUTPUT = FunctionCallOutput(call_id="c1", output="ok")
ITEMS: list[Item] = [
    asked("Hi"),
    asked("D", "developer"),
    said("Yo"),
    said(""),
    thought("hm"),
    thought(""),
    CALL,
    CUSTOM,
    FunctionCall(call_id="c3", name="f", arguments="{", status="incomplete"),
    OUTPUT,
    CustomToolCallOutput(call_id="c2", output=(InputText(text="a"), InputText(text="b"))),
    OpaqueItem(type="x", raw=b'{"type":"x"}'),
]


def folded(items: list[Item], last: ChatMessage | None = None) -> list[ChatMessage]:
    labels: list[Label | None] = [
        ("f", 0) if isinstance(item, FunctionCallOutput | CustomToolCallOutput) else None
        for item in items
    ]
    return fold(last, items, labels)


F = ChatCall("n.f", '{"a":1}', "c1")
G = ChatCall("g", '{"input": "x\\"\\n"}', "c2")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([asked("a"), asked("b")], [("user", "a"), ("user", "b")], id="two users"),
        pytest.param(
            [thought("t"), said("x"), CALL, CUSTOM],
            [ChatMessage("assistant", "x", "t", (F, G))],
            id="one message in order",
        ),
        pytest.param(
            [CALL, said("x")],
            [ChatMessage("assistant", calls=(F,)), ("assistant", "x")],
            id="text behind a call is another message",
        ),
        pytest.param(
            [said("x"), said("y"), thought("t")],
            [("assistant", "x"), ("assistant", "y"), ChatMessage("assistant", reasoning="t")],
            id="no way back",
        ),
        pytest.param(
            [thought("a"), thought("b")],
            [ChatMessage("assistant", reasoning="a\n\nb")],
            id="thoughts in a row",
        ),
        pytest.param(
            [OUTPUT, ITEMS[10]],
            [
                ChatMessage(
                    "tool", results=(ChatResult("f", "ok", "c1"), ChatResult("f", "a\nb", "c2"))
                )
            ],
            id="outputs are one message",
        ),
        pytest.param([said(""), thought(""), ITEMS[8]], [], id="what says nothing"),
        pytest.param(
            [Reasoning(summary=(SummaryText(text="a"), SummaryText(text="b")))],
            [ChatMessage("assistant", reasoning="a\n\nb")],
            id="a summary stands for thoughts",
        ),
        pytest.param(
            [
                Message(
                    role="user",
                    content=(
                        InputText(text="a"),
                        InputImage(image_url="data:..."),
                        InputFile(filename="b.pdf"),
                        InputFile(file_id="f"),
                        Refusal(refusal="no"),
                    ),
                )
            ],
            [("user", "a\n[image]\n[file b.pdf]\n[file]\nno")],
            id="parts",
        ),
        pytest.param(
            [
                AdditionalTools(raw=b"{}", tools=tools(OfferedTool(name="h"))),
                AdditionalTools(raw=b"[]", tools=tools()),
                ConfigurationUpdate(),
            ],
            [
                (
                    "developer",
                    "# Tools\n\nFrom now on you may call these functions too:\n"
                    '{"type": "function", "function": {"name": "h", "description": "", '
                    '"parameters": {"type": "object", "properties": {}}}}',
                )
            ],
            id="more tools",
        ),
        pytest.param([ITEMS[11]], [("system", '[x] {"type":"x"}')], id="opaque"),
    ],
)
def test_fold(items: list[Item], expected: list[ChatMessage | tuple[str, str]]) -> None:
    """Items become the messages that templates speak of."""
    wanted = [one if isinstance(one, ChatMessage) else (one[0], one[1]) for one in expected]
    found = [
        message if isinstance(want, ChatMessage) else (message.role, message.text)
        for message, want in zip(folded(items), wanted, strict=True)
    ]
    assert wanted == found


@given(st.lists(st.sampled_from(ITEMS), max_size=8), st.integers(0, 8))
def test_any_partition_gives_the_same_messages(items: list[Item], cut: int) -> None:
    """Folding goes on from an open message as if there had been no cut."""
    begun = folded(items[:cut])
    last = begun.pop() if begun and may_grow(begun[-1]) else None
    assert folded(items) == begun + folded(items[cut:], last)


def test_references_are_resolved_before() -> None:
    """A reference in a conversation is a bug of ours."""
    with pytest.raises(AssertionError):
        folded([ItemReference(id="x")])


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        pytest.param('{"a":1,"b":"é"}', '{"a": 1, "b": "é"}', id="an object"),
        pytest.param('{"a":"\\ud800"}', '{"a": "\N{REPLACEMENT CHARACTER}"}', id="half a pair"),
        pytest.param("[1]", "[1]", id="no object"),
        pytest.param("{", "{", id="no JSON"),
        pytest.param("[" * 100_000, "[" * 100_000, id="deep"),
    ],
)
def test_arguments_as_templates_write_them(arguments: str, written: str) -> None:
    """Objects have one spelling; whatever else stays as it is."""
    assert written == ChatCall("f", arguments, "c").written()


def test_tools_as_templates_expect_them() -> None:
    """Every tool is a function with a name, a description and parameters."""
    parameters = {"type": "object", "properties": {"größe": {"enum": ["a"]}}}
    tool = OfferedTool(name="f", description="D", parameters=json.dumps(parameters).encode())
    assert {
        "type": "function",
        "function": {"name": "f", "description": "D", "parameters": parameters},
    } == tool_schema(tool)
    assert {"type": "object", "properties": {}} == (
        tool_schema(OfferedTool(name="f"))["function"]["parameters"]
    )
    custom = tool_schema(OfferedTool(name="g", kind="custom", grammar=("regex", "[ab]")))
    assert ["input"] == custom["function"]["parameters"]["required"]
    assert "[ab]" in custom["function"]["description"]


@given(st.text(min_size=1, max_size=64))
def test_short_ids(call_id: str) -> None:
    """Nine letters and digits, the same for the same id."""
    assert 9 == len(short_id(call_id))
    assert short_id(call_id).isalnum()
    assert short_id(call_id) == short_id(call_id)
    assert short_id(call_id) != short_id(call_id + "x")


@given(st.text(st.characters()))
def test_sound_text_can_be_encoded(text: str) -> None:
    """Only surrogates that stand alone change."""
    whole = sound(text).encode().decode()
    assert whole == sound(text)
    if not any("\ud800" <= sign <= "\udfff" for sign in text):
        assert text == whole
