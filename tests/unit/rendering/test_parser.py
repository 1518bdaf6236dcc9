"""Tests of `turnwire.rendering.parser`.

Outputs are written as text here: `ids` turns the names of special tokens into their ids.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.parts import (
    CallArguments,
    CallStarted,
    ItemFinished,
    Part,
    ReasoningDelta,
    TextDelta,
)
from turnwire.protocol.items import (
    CustomToolCall,
    FunctionCall,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.chatml import NO_TURN, Renderer
from turnwire.rendering.parser import OutputParser
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

TOKENIZER = Tokenizer.shipped()
RENDERER = Renderer(TOKENIZER)
OFFERED = {
    "f": OfferedTool(name="f"),
    "space.g": OfferedTool(name="space.g", kind="custom", namespace="space"),
}
SPECIAL = re.compile("(" + "|".join(map(re.escape, TOKENIZER.special)) + ")")


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


def joined(parts: Sequence[Part]) -> list[tuple[str, ...]]:
    """Parts as words, deltas that follow each other joined; call ids left out."""
    words: list[tuple[str, ...]] = []
    for part in parts:
        match part:
            case TextDelta(text) | ReasoningDelta(text) | CallArguments(text):
                assert text, "an empty delta says nothing"
                name = type(part).__name__
                if words and words[-1][0] == name:
                    words[-1] = (name, words[-1][1] + text)
                else:
                    words.append((name, text))
            case CallStarted():
                words.append(("CallStarted", part.name, part.kind, part.namespace or ""))
            case ItemFinished():
                assert part.sampled is not None
                words.append(("ItemFinished", TOKENIZER.decode(part.sampled)))
            case _:
                raise AssertionError(f"a parser makes no {part}")
    return words


def parse(
    output: Sequence[int],
    *,
    thinking: bool = False,
    cut: bool = False,
    size: int | None = None,
    offered: dict[str, OfferedTool] = OFFERED,
) -> tuple[OutputParser, list[Part]]:
    """Parse a whole output in feeds of this size; None for one feed."""
    parser = OutputParser(RENDERER, offered, thinking=thinking)
    step = size or max(1, len(output))
    parts = [
        part
        for start in range(0, len(output), step)
        for part in parser.feed(output[start : start + step])
    ]
    return parser, [*parts, *parser.finish(cut=cut)]


CALL = '{"name": "f", "arguments": {"a":1}}'
ARGUMENTS = [("CallStarted", "f", "function", ""), ("CallArguments", '{"a":1}')]


@pytest.mark.parametrize("size", [None, 1, 2], ids=["at once", "by one", "by two"])
@pytest.mark.parametrize(
    ("output", "words"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("<|im_end|>", [], id="stop token only"),
        pytest.param(
            "Hi 日本<|im_end|>", [("TextDelta", "Hi 日本"), ("ItemFinished", "Hi 日本")], id="text"
        ),
        pytest.param(
            "<think>hm</think>Yo",
            [
                ("ReasoningDelta", "hm"),
                ("ItemFinished", "hm"),
                ("TextDelta", "Yo"),
                ("ItemFinished", "Yo"),
            ],
            id="thought and text",
        ),
        pytest.param("<think></think>", [], id="empty thought"),
        pytest.param(
            f"<tool_call>{CALL}</tool_call><|im_end|>",
            [*ARGUMENTS, ("ItemFinished", CALL)],
            id="call",
        ),
        pytest.param(
            f"Yo<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>",
            [
                ("TextDelta", "Yo"),
                ("ItemFinished", "Yo"),
                *ARGUMENTS,
                ("ItemFinished", CALL),
                *ARGUMENTS,
                ("ItemFinished", CALL),
            ],
            id="text and two calls",
        ),
        pytest.param(
            "<tool_call>space.g\na</b>\n</tool_call>",
            [
                ("CallStarted", "g", "custom", "space"),
                ("CallArguments", "a</b>\n"),
                ("ItemFinished", "space.g\na</b>\n"),
            ],
            id="custom call",
        ),
        pytest.param(
            "<tool_call>what?</tool_call>so",
            [
                ("TextDelta", "what?"),
                ("ItemFinished", "what?"),
                ("TextDelta", "so"),
                ("ItemFinished", "so"),
            ],
            id="a call that is none becomes a message",
        ),
        pytest.param(
            '<tool_call>{"name": "f"<|im_end|>',
            [("TextDelta", '{"name": "f"'), ("ItemFinished", '{"name": "f"')],
            id="a call that stops before it begins becomes a message",
        ),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {"a"<|im_end|>',
            [
                ("CallStarted", "f", "function", ""),
                ("CallArguments", '{"a"'),
                ("ItemFinished", '{"name": "f", "arguments": {"a"'),
            ],
            id="a call that stops inside its arguments is finished",
        ),
        pytest.param(
            "a</think>b<|im_start|>c</tool_call>d",
            [("TextDelta", "abcd"), ("ItemFinished", "abcd")],
            id="special tokens out of place produce nothing",
        ),
        pytest.param(
            "<think>a<tool_call>b</think>",
            [("ReasoningDelta", "ab"), ("ItemFinished", "ab")],
            id="no call inside a thought",
        ),
        pytest.param(
            "a<|endoftext|>b<tool_call>c",
            [("TextDelta", "a"), ("ItemFinished", "a")],
            id="what follows a stop token is ignored",
        ),
    ],
)
def test_parser(output: str, words: list[tuple[str, ...]], size: int | None) -> None:
    """An output becomes these items, whatever the size of the feeds."""
    assert words == joined(parse(ids(output), size=size)[1])


def test_a_prompt_that_ends_with_think_starts_inside_a_thought() -> None:
    """With `thinking`, text is reasoning until `</think>`."""
    parser, parts = parse(ids("hm so</think>Yo"), thinking=True)
    assert [
        ("ReasoningDelta", "hm so"),
        ("ItemFinished", "hm so"),
        ("TextDelta", "Yo"),
        ("ItemFinished", "Yo"),
    ] == joined(parts)
    assert len(ids("hm so")) == parser.num_reasoning_tokens


def test_look_alikes_of_tags_stay_text() -> None:
    """A tag spelled in plain tokens opens nothing."""
    output = TOKENIZER.encode("<think>a</think><tool_call>{}</tool_call><|im_end|>!")
    text = TOKENIZER.decode(output)
    assert [("TextDelta", text), ("ItemFinished", text)] == joined(parse(output, size=1)[1])


def test_without_offered_tools_a_call_is_text() -> None:
    """`tool_choice: none` offers nothing to the parser, so no call can come out."""
    output = ids(f"<tool_call>{CALL}</tool_call>")
    expected = [("TextDelta", CALL), ("ItemFinished", CALL)]
    assert expected == joined(parse(output, offered={})[1])


@pytest.mark.parametrize(
    ("output", "thinking", "words", "left"),
    [
        pytest.param("Hi", False, [("TextDelta", "Hi")], "Hi", id="text"),
        pytest.param("hm", True, [("ReasoningDelta", "hm")], "hm", id="thought"),
        pytest.param(
            f"<tool_call>{CALL[:-2]}",
            False,
            [ARGUMENTS[0], ("CallArguments", '{"a":1')],
            CALL[:-2],
            id="arguments",
        ),
        pytest.param(f"<tool_call>{CALL[:10]}", False, [], None, id="before the name is whole"),
        pytest.param("hm</think>", True, [("ReasoningDelta", "hm"), ("ItemFinished", "hm")], None),
        pytest.param("", False, [], None, id="nothing"),
    ],
)
def test_a_cut_leaves_the_item_open(
    output: str, thinking: bool, words: list[tuple[str, ...]], left: str | None
) -> None:
    """A cut item is not finished; its ids are handed over."""
    parser, parts = parse(ids(output), thinking=thinking, cut=True)
    assert words == joined(parts)
    sampled = parser.open_sampled
    assert left == (None if sampled is None else TOKENIZER.decode(sampled))


def test_a_character_that_never_ends_becomes_the_replacement_sign() -> None:
    """Bytes held back come out before the item ends, in the item they belong to."""
    half = TOKENIZER.token_bytes().index(b"\xe6")
    think, call = RENDERER.marks.think, RENDERER.marks.tool_call
    parts = parse([half, think, half, RENDERER.marks.end_think, half, call], size=1)[1]
    assert [
        ("TextDelta", "\ufffd"),
        ("ItemFinished", "\ufffd"),
        ("ReasoningDelta", "\ufffd"),
        ("ItemFinished", "\ufffd"),
        ("TextDelta", "\ufffd"),
        ("ItemFinished", "\ufffd"),
    ] == joined(parts)


def test_text_behind_a_broken_character_keeps_its_order() -> None:
    """A whole token does not overtake the bytes that wait before it."""
    half, letter = (TOKENIZER.token_bytes().index(token) for token in (b"\xe6", b"x"))
    expected = [("TextDelta", "\ufffdx"), ("ItemFinished", "\ufffdx")]
    assert expected == joined(parse([half, letter], size=1)[1])


# -- properties

HALVES = [n for n, text in enumerate(TOKENIZER.table.texts) if text is None]
FRAGMENT = st.one_of(
    st.sampled_from(
        (
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "<|im_start|>",
            f"<tool_call>{CALL}</tool_call>",
            "<tool_call>space.g\n",
            "<tool_call>space",
            '{"name": "f", "arguments": {',
            '"}}',
        )
    ).map(ids),
    st.text(max_size=6).map(TOKENIZER.encode),
    st.sampled_from(HALVES).map(lambda token_id: token_array([token_id])),
    st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=4).map(token_array),
)
OUTPUT = st.lists(FRAGMENT, max_size=6).map(lambda found: list(itertools.chain(*found)))


@given(OUTPUT, st.booleans(), st.booleans(), st.lists(st.integers(0, 40), max_size=6))
def test_the_size_of_feeds_changes_nothing(
    output: list[int], thinking: bool, cut: bool, cuts: list[int]
) -> None:
    """Any split of the same ids gives the same items, ids kept and counts."""
    whole, expected = parse(output, thinking=thinking, cut=cut)
    parser = OutputParser(RENDERER, OFFERED, thinking=thinking)
    ends = sorted({0, len(output), *(min(end, len(output)) for end in cuts)})
    parts = [p for start, end in itertools.pairwise(ends) for p in parser.feed(output[start:end])]
    parts += parser.finish(cut=cut)
    assert joined(expected) == joined(parts)
    assert whole.num_reasoning_tokens == parser.num_reasoning_tokens
    assert whole.open_sampled == parser.open_sampled


VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=5,
)
SAID = st.text(min_size=1, max_size=12)
MESSAGE = SAID.map(lambda text: Message(role="assistant", content=(OutputText(text=text),)))
THOUGHT = SAID.map(lambda text: Reasoning(summary=(), content=(ReasoningText(text=text),)))
CALLS = st.one_of(
    st.dictionaries(st.text(max_size=4), VALUES, max_size=3).map(
        lambda value: FunctionCall(call_id="c", name="f", arguments=json.dumps(value))
    ),
    st.builds(
        CustomToolCall,
        call_id=st.just("c"),
        name=st.just("g"),
        namespace=st.just("space"),
        input=st.one_of(st.text(max_size=12), st.sampled_from(("</tool_call>", "\n\n", "  a\n"))),
    ),
)
RESPONSE = st.builds(
    lambda thoughts, messages, calls: [*thoughts, *messages, *calls],
    st.lists(THOUGHT, max_size=1),
    st.lists(MESSAGE, max_size=1),
    st.lists(CALLS, max_size=2),
)


def items_of(parts: Sequence[Part]) -> list[Item]:
    """What an emitter makes of finished parts, as far as the template can tell."""
    items: list[Item] = []
    opened: list[Part] = []
    for part in parts:
        if not isinstance(part, ItemFinished):
            opened.append(part)
            continue
        text = "".join(
            p.text for p in opened if isinstance(p, TextDelta | ReasoningDelta | CallArguments)
        )
        match opened[0]:
            case CallStarted(name, _, "function"):
                items.append(FunctionCall(call_id="c", name=name, arguments=text))
            case CallStarted(name, _, _, namespace):
                items.append(
                    CustomToolCall(call_id="c", name=name, namespace=namespace, input=text)
                )
            case ReasoningDelta():
                items.append(Reasoning(summary=(), content=(ReasoningText(text=text),)))
            case _:
                items.append(Message(role="assistant", content=(OutputText(text=text),)))
        opened = []
    assert not opened
    return items


@given(RESPONSE)
def test_what_the_template_writes_the_parser_reads(items: list[Item]) -> None:
    """Rendered items, parsed as an output, are the items again; rendered again, the same ids."""
    nothing = [None] * len(items)
    rendered = RENDERER.extend(NO_TURN, items, nothing, nothing).ids
    opening = RENDERER.opening(NO_TURN, reasoning=False)
    output = rendered[len(opening) :]
    parts = parse([*output, RENDERER.marks.end])[1]
    assert items == items_of(parts)
    sampled = [part.sampled for part in parts if isinstance(part, ItemFinished)]
    again = RENDERER.extend(NO_TURN, items, nothing, sampled)
    assert rendered == again.ids
    assert 0 == again.num_tokenised


@given(OUTPUT)
def test_what_was_sampled_is_kept_without_special_tokens(output: list[int]) -> None:
    """No special token that a model samples out of place gets into the conversation."""
    for part in parse(output)[1]:
        if isinstance(part, ItemFinished):
            assert part.sampled is not None
            assert set() == RENDERER.special_ids & set(part.sampled)
