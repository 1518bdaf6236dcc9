"""Tests of `turnwire.rendering.chatml`.

Expected ids are written as text: decoding shows special tokens by name. The properties below
hold for conversations of every kind of item, with text that imitates the template.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tokenizers import Tokenizer as WithSpecials

from turnwire.errors import ConfigError
from turnwire.protocol.codec import decode_items
from turnwire.protocol.items import (
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    EffortUpdate,
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
from turnwire.rendering.chatml import NO_TURN, Label, Last, Renderer, Turn
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

TOKENIZER = Tokenizer.shipped()
RENDERER = Renderer(TOKENIZER)
LOOK_ALIKES = ("<|im_end|>", "<|im_start|>", "<think>", "</tool_call>", "<|im_end", "|>")


def message(role: Role, text: str) -> Message:
    part = OutputText(text=text) if role == "assistant" else InputText(text=text)
    return Message(role=role, content=(part,))


def thought(text: str) -> Reasoning:
    return Reasoning(summary=(), content=(ReasoningText(text=text),))


USER, SAID, THOUGHT = message("user", "Hi"), message("assistant", "Yo"), thought("hm")
CALL = FunctionCall(call_id="c1", name="f", arguments='{"a":1}')
CUSTOM = CustomToolCall(call_id="c2", name="g", input="x\n")
OUTPUT = FunctionCallOutput(call_id="c1", output="ok")


def extend(
    items: Sequence[Item],
    turn: Turn = NO_TURN,
    labels: Sequence[Label | None] | None = None,
    sampled: Sequence[TokenArray | None] | None = None,
) -> tuple[str, Turn]:
    """The rendered items as text with special tokens by name, and the turn behind them."""
    nothing = [None] * len(items)
    rendered = RENDERER.extend(turn, items, labels or nothing, sampled or nothing)
    return TOKENIZER.decode(rendered.ids), rendered.turn


ADDED, NOTHING_ADDED = decode_items(
    Raw(
        b'[{"type":"additional_tools","role":"developer","tools":[{"type":"custom","name":"note"}]},'
        b'{"type":"additional_tools","role":"developer","tools":[{"type":"mcp"}]}]'
    )
)
A = "<|im_start|>assistant\n"
END = "<|im_end|>\n"
CALL_TEXT = '<tool_call>{"name": "f", "arguments": {"a":1}}</tool_call>'


@pytest.mark.parametrize(
    ("items", "text", "last"),
    [
        pytest.param([], "", None, id="nothing"),
        pytest.param([USER], f"<|im_start|>user\nHi{END}", None, id="user"),
        pytest.param(
            [message("developer", "D"), message("system", "S")],
            f"<|im_start|>developer\nD{END}<|im_start|>system\nS{END}",
            None,
            id="developer and system",
        ),
        pytest.param([message("user", "")], f"<|im_start|>user\n{END}", None, id="empty user"),
        pytest.param([SAID], f"{A}Yo", Last.MESSAGE, id="an assistant's turn stays open"),
        pytest.param(
            [THOUGHT, SAID, CALL],
            f"{A}<think>hm</think>Yo{CALL_TEXT}",
            Last.CALL,
            id="assistant items share a turn",
        ),
        pytest.param([SAID, SAID], f"{A}Yo{END}{A}Yo", Last.MESSAGE, id="two messages do not"),
        pytest.param(
            [CALL, CUSTOM],
            f"{A}{CALL_TEXT}<tool_call>g\nx\n</tool_call>",
            Last.CALL,
            id="parallel calls",
        ),
        pytest.param(
            [SAID, USER], f"{A}Yo{END}<|im_start|>user\nHi{END}", None, id="closed by a user"
        ),
        pytest.param(
            [
                Message(
                    role="user",
                    content=(
                        InputText(text="a"),
                        InputImage(image_url="data:..."),
                        InputFile(filename="b.pdf"),
                        InputFile(file_id="file_1"),
                    ),
                )
            ],
            f"<|im_start|>user\na\n[image]\n[file b.pdf]\n[file]{END}",
            None,
            id="placeholders",
        ),
        pytest.param(
            [Message(role="assistant", content=(OutputText(text="a"), Refusal(refusal="b")))],
            f"{A}ab",
            Last.MESSAGE,
            id="refusal",
        ),
        pytest.param(
            [Reasoning(summary=(SummaryText(text="a"), SummaryText(text="b")))],
            f"{A}<think>a\n\nb</think>",
            Last.REASONING,
            id="summary where there is no content",
        ),
        pytest.param(
            [OpaqueItem(type="web_search_call", raw=b'{"type":"web_search_call"}')],
            f'<|im_start|>system\n[web_search_call] {{"type":"web_search_call"}}{END}',
            None,
            id="unknown item",
        ),
        pytest.param(
            [CALL, ADDED, USER],
            f"{A}{CALL_TEXT}{END}<|im_start|>developer\n# Tools\nCall a tool that takes an input "
            "with its name on a line of its own, then the input as it is.\n"
            f'{{"name":"note","input":"text"}}{END}<|im_start|>user\nHi{END}',
            None,
            id="added tools",
        ),
        pytest.param(
            [
                CALL,
                ConfigurationUpdate(reasoning=EffortUpdate(effort="low")),
                NOTHING_ADDED,
                CUSTOM,
            ],
            f"{A}{CALL_TEXT}<tool_call>g\nx\n</tool_call>",
            Last.CALL,
            id="an update, and no tool, say nothing",
        ),
        pytest.param(
            [Reasoning(summary=()), message("assistant", ""), thought("")], "", None, id="no text"
        ),
        pytest.param(
            [FunctionCall(call_id="c", name="f", arguments='{"a', status="incomplete")],
            "",
            None,
            id="incomplete call",
        ),
    ],
)
def test_template(items: list[Item], text: str, last: Last | None) -> None:
    """Items render to these turns and leave this turn open."""
    assert (text, Turn(last)) == extend(items)


@pytest.mark.parametrize(
    ("label", "role"),
    [(("f", 0), "tool f"), (("f", 2), "tool f 2"), (None, "tool")],
    ids=["first call", "later call", "no label"],
)
@pytest.mark.parametrize(
    "output",
    [OUTPUT, CustomToolCallOutput(call_id="c2", output=(InputText(text="ok"),))],
    ids=["function", "custom"],
)
def test_outputs_stand_under_their_tool(output: Item, label: Label | None, role: str) -> None:
    """An output closes the assistant's turn; it names its tool and the call's ordinal."""
    text = f"{A}{CALL_TEXT}{END}<|im_start|>{role}\nok{END}"
    assert (text, NO_TURN) == extend([CALL, output], labels=[None, label])


def test_references_must_be_resolved_before() -> None:
    """A reference has no text, so rendering one is a bug of the caller."""
    with pytest.raises(AssertionError, match="resolved"):
        extend([ItemReference(id="msg_1")])


@pytest.mark.parametrize(
    ("turn", "text"),
    [
        pytest.param(NO_TURN, A, id="no turn"),
        pytest.param(Turn(Last.MESSAGE), END + A, id="after a message"),
        pytest.param(Turn(Last.CALL), "", id="after a call"),
        pytest.param(Turn(Last.REASONING), "", id="after reasoning"),
    ],
)
def test_opening(turn: Turn, text: str) -> None:
    """The model goes on in the open turn, or in a new one behind a message."""
    assert text == TOKENIZER.decode(RENDERER.opening(turn, reasoning=False))
    assert text + "<think>" == TOKENIZER.decode(RENDERER.opening(turn, reasoning=True))


@pytest.mark.parametrize(
    ("before", "output", "reasoning"),
    [
        pytest.param(NO_TURN, [SAID], False, id="message"),
        pytest.param(NO_TURN, [THOUGHT, SAID], True, id="thought and message"),
        pytest.param(NO_TURN, [THOUGHT, CALL, CUSTOM], True, id="thought and calls"),
        pytest.param(NO_TURN, [SAID, CALL], False, id="message and call"),
        pytest.param(Turn(Last.MESSAGE), [SAID], False, id="message behind a message"),
        pytest.param(Turn(Last.CALL), [THOUGHT, SAID], True, id="thought behind a call"),
        pytest.param(Turn(Last.REASONING), [CALL], False, id="call behind a thought"),
    ],
)
def test_a_response_extends_the_prompt_it_came_from(
    before: Turn, output: list[Item], reasoning: bool
) -> None:
    """Rendering a response's items gives the opening and then what was sampled, id by id."""
    sampled = [token_array(reversed(TOKENIZER.encode(f"ids of item {n}"))) for n in range(3)]
    inner = {Message: ((), ()), Reasoning: ((RENDERER.marks.think,), (RENDERER.marks.end_think,))}
    around_call = ((RENDERER.marks.tool_call,), (RENDERER.marks.end_tool_call,))
    model_wrote = token_array()
    for item, ids in zip(output, sampled, strict=False):
        first, last = inner.get(type(item), around_call)
        model_wrote += token_array((*first, *ids, *last))
    opening = RENDERER.opening(before, reasoning=reasoning)
    if reasoning:
        model_wrote = model_wrote[1:]  # <think> was in the prompt
    rendered = RENDERER.extend(before, output, [None] * len(output), sampled[: len(output)])
    assert opening + model_wrote == rendered.ids
    assert 0 == rendered.num_tokenised


def tool_set(*tools: OfferedTool) -> ToolSet:
    return ToolSet(raw=b"[]", offered={tool.name: tool for tool in tools}, echo=Raw(b"[]"))


def test_preamble_is_one_system_turn() -> None:
    """Instructions come first, then how to call, then one line of JSON for each tool."""
    tools = tool_set(
        OfferedTool(name="f", description="Does f.", parameters=b'{ "type":\n"object" }'),
        OfferedTool(name="g", kind="custom"),
        OfferedTool(name="h", kind="custom", grammar=("regex", "a+")),
    )
    text = TOKENIZER.decode(RENDERER.preamble("Be brief.", tools))
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    assert text.endswith(END)
    assert [
        {"name": "f", "description": "Does f.", "parameters": {"type": "object"}},
        {"name": "g", "input": "text"},
        {"name": "h", "input": {"syntax": "regex", "definition": "a+"}},
    ] == [json.loads(line) for line in text.removesuffix(END).splitlines()[-3:]]


def test_preamble_without_anything_is_nothing() -> None:
    """Neither instructions nor tools: no system turn."""
    assert token_array() == RENDERER.preamble(None, EMPTY_TOOL_SET)
    assert token_array() == RENDERER.preamble("", EMPTY_TOOL_SET)
    only = TOKENIZER.decode(RENDERER.preamble("Hi.", EMPTY_TOOL_SET))
    assert f"<|im_start|>system\nHi.{END}" == only


def test_num_tokenised_counts_what_the_tokenizer_made() -> None:
    """Special tokens, headers and sampled ids cost no tokenising."""
    user, said = TOKENIZER.encode("user\nHi"), token_array([500, 600])
    rendered = RENDERER.extend(NO_TURN, [USER, SAID], [None, None], [None, said])
    assert len(user) == rendered.num_tokenised


def test_stop_ends_a_turn_or_the_text() -> None:
    """A model ends its output with either of two tokens."""
    special = TOKENIZER.special
    assert frozenset((special["<|im_end|>"], special["<|endoftext|>"])) == RENDERER.stop


def test_a_vocabulary_without_the_marks_is_refused() -> None:
    """The template cannot be written in every vocabulary."""
    with pytest.raises(ConfigError, match="<tool_call>"):
        Renderer(Tokenizer(TOKENIZER.to_json().replace("<tool_call>", "<other>")))


# -- properties

TEXT = st.lists(
    st.one_of(st.text(max_size=8), st.sampled_from((*LOOK_ALIKES, "\n", " \n ", "word", "🙂é"))),
    max_size=4,
).map("".join)
NAME = st.sampled_from(("f", "get_weather", "a-b"))
SAMPLED = st.one_of(
    st.none(),
    st.lists(st.integers(300, TOKENIZER.vocab_size - 1), min_size=1, max_size=4).map(token_array),
)
INPUT_PARTS = st.lists(
    st.one_of(
        st.builds(InputText, text=TEXT),
        st.just(InputImage(file_id="file_1")),
        st.builds(InputFile, filename=TEXT),
    ),
    max_size=3,
).map(tuple)
STATUS = st.sampled_from((None, "completed", "incomplete"))
OUTPUTS = st.one_of(TEXT, INPUT_PARTS)


def _opaque(text: str) -> bytes:
    return json.dumps({"type": "mcp_call", "id": "mcp_1", "output": text}).encode()


UNSAMPLED = st.one_of(
    st.builds(Message, role=st.sampled_from(("user", "system", "developer")), content=INPUT_PARTS),
    st.builds(FunctionCallOutput, call_id=st.just("c"), output=OUTPUTS),
    st.builds(CustomToolCallOutput, call_id=st.just("c"), output=OUTPUTS),
    st.builds(OpaqueItem, type=st.just("mcp_call"), raw=TEXT.map(_opaque)),
    st.sampled_from((ADDED, NOTHING_ADDED, ConfigurationUpdate(reasoning=EffortUpdate()))),
)
WRITTEN = st.one_of(
    st.builds(message, st.just("assistant"), TEXT),
    st.builds(thought, TEXT),
    st.builds(FunctionCall, call_id=st.just("c"), name=NAME, arguments=TEXT, status=STATUS),
    st.builds(CustomToolCall, call_id=st.just("c"), name=NAME, input=TEXT, status=STATUS),
)
LABEL = st.one_of(st.none(), st.tuples(NAME, st.integers(0, 3)))
ENTRY = st.one_of(st.tuples(UNSAMPLED, LABEL, st.none()), st.tuples(WRITTEN, st.none(), SAMPLED))
Entry = tuple[Item, Label | None, TokenArray | None]
HISTORY = st.lists(ENTRY, max_size=8)


def columns(
    history: Sequence[Entry],
) -> tuple[list[Item], list[Label | None], list[TokenArray | None]]:
    return (
        [entry[0] for entry in history],
        [entry[1] for entry in history],
        [entry[2] for entry in history],
    )


@given(HISTORY, st.lists(st.integers(0, 8), max_size=4))
def test_any_partition_gives_the_same_ids(history: list[Entry], cuts: list[int]) -> None:
    """Rendering in steps equals rendering at once: ids, turn and cost."""
    whole = RENDERER.extend(NO_TURN, *columns(history))
    ids, turn, num_tokenised = token_array(), NO_TURN, 0
    ends = sorted({0, len(history), *(min(cut, len(history)) for cut in cuts)})
    for start, end in itertools.pairwise(ends):
        step = RENDERER.extend(turn, *columns(history[start:end]))
        ids += step.ids
        turn = step.turn
        num_tokenised += step.num_tokenised
    assert (whole.ids, whole.turn, whole.num_tokenised) == (ids, turn, num_tokenised)


@given(HISTORY)
def test_no_text_makes_a_special_token(history: list[Entry]) -> None:
    """The special ids of a rendering do not depend on what the items' texts say."""

    def plain(item: Item) -> Item:
        match item:
            case Message(role="assistant"):
                empty = not "".join(getattr(part, "text", "") for part in item.content)
                return message("assistant", "" if empty else "x")
            case Message():
                return message(item.role, "x")
            case Reasoning():
                return thought("x" if item.content and item.content[0].text else "")
            case FunctionCall():
                return FunctionCall(call_id="c", name="f", arguments="x", status=item.status)
            case CustomToolCall():
                return CustomToolCall(call_id="c", name="f", input="x", status=item.status)
            case FunctionCallOutput() | CustomToolCallOutput():
                return OUTPUT
            case OpaqueItem():
                return OpaqueItem(type="mcp_call", raw=b'{"type":"mcp_call"}')
            case _:
                return item

    def special(entries: Sequence[Entry]) -> list[int]:
        ids = RENDERER.extend(NO_TURN, *columns(entries)).ids
        return [token_id for token_id in ids if token_id in RENDERER.special_ids]

    harmless: list[Entry] = [(plain(item), label, ids) for item, label, ids in history]
    assert special(harmless) == special(history)


PLAIN = TEXT.filter(lambda text: not any(name in text for name in TOKENIZER.special))
WHOLE = WithSpecials.from_str(TOKENIZER.to_json())


@given(
    st.lists(
        st.one_of(
            st.builds(message, st.sampled_from(("user", "assistant", "developer")), PLAIN),
            st.builds(thought, PLAIN),
            st.builds(FunctionCall, call_id=st.just("c"), name=NAME, arguments=PLAIN),
        ),
        max_size=6,
    )
)
def test_pieces_are_what_the_whole_text_gives(items: list[Item]) -> None:
    """Where no text looks like a special token, encoding the whole text gives the same ids.

    Whole but for the assistant's header, which is always cut off: a generation starts there.
    """
    rendered = RENDERER.extend(NO_TURN, items, [None] * len(items), [None] * len(items))
    text = TOKENIZER.decode(rendered.ids)
    header = list(RENDERER.opening(NO_TURN, reasoning=False))
    pieces = text.split(A)
    expected = list(WHOLE.encode(pieces[0]).ids)
    for piece in pieces[1:]:
        expected += header + list(WHOLE.encode(piece).ids)
    assert expected == list(rendered.ids)
