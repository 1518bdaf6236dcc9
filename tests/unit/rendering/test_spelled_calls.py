"""Tests of `turnwire.rendering.spelled_calls`, `elements` and `spelling`: outputs come apart.

Outputs are those of the imitations' families, over their vocabularies.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.rendering.imitations import encoded, loaded, shown
from tests.unit.rendering.reading import Words, outcome, words_of
from tests.unit.rendering.spelled_imitations import SPELLED, spelled_answer

from turnwire.protocol.tools import OfferedTool

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "text": {"type": "string"},
        "line": {"type": "integer"},
        "deep": {"type": "array"},
        "maybe": {"type": ["string", "null"]},
    },
}
OFFERED = {
    "write": OfferedTool(name="write", parameters=json.dumps(SCHEMA).encode()),
    "s.go-on_2": OfferedTool(name="s.go-on_2"),
    "patch": OfferedTool(name="patch", kind="custom"),
}
END = (".", "")
BAR = "\uff5c"
RAW = (
    *("qwen-coder", "qwen-coder, tags as text", "glm", "dsml", "dsml, a token in tags"),
    *("minimax", "gemma4"),
)
FAMILIES = pytest.mark.parametrize("name", SPELLED)


def parse(
    name: str, output: str, *, thinking: bool = False, cut: bool = False
) -> tuple[Words, str, str | None]:
    """An output's words, the text of its items' ids, and of the item that was cut."""
    template = loaded(name).template
    tokenizer = template.tokenizer
    make = partial(template.parser, OFFERED, thinking=thinking)
    words, _, sampled, opened = outcome(make, encoded(tokenizer, output), cut=cut)
    return words, shown(tokenizer, sampled), None if opened is None else shown(tokenizer, opened)


def calls_of(words: Words) -> list[tuple[str, Any]]:
    """Calls with their arguments decoded."""
    return [
        (name, json.loads(words[n + 1][1]))
        for n, (kind, name) in enumerate(words)
        if kind == "call"
    ]


VALUES: dict[str, Any] = {
    "path": "src/größe.py",
    "text": "def f(x):\n    return \"<b>\" + '</parameter>'\n",
    "line": -7,
    "deep": [{"a": [None, True, 1.5, "</function>"]}],
}


@FAMILIES
def test_what_a_template_writes_is_read(name: str) -> None:
    """Thoughts, text and calls with values of every kind are what they were."""
    calls = [("write", VALUES), ("s.go-on_2", {}), ("write", {"path": "7", "line": 7})]
    for thinking in (False, True):
        thought = "Hm.\n\nSo." if thinking else ""
        answer = spelled_answer(name, thought, "I write.", calls, thinking=thinking)
        words, sampled, _ = parse(name, f"{answer}<|end|>ignored", thinking=thinking)
        assert calls == calls_of(words)
        assert ["I write."] == [text for kind, text in words if kind == "text"]
        assert [thought] * thinking == [text for kind, text in words if kind == "thought"]
        assert 4 + thinking == words.count(END)
        assert answer == sampled


@FAMILIES
def test_a_custom_tools_input(name: str) -> None:
    """It comes as the argument `input`, and goes out as it is."""
    text = '*** Begin Patch\n+ "größe" \\n </b>\n'
    answer = spelled_answer(name, "", "", [("patch", {"input": text})], thinking=False)
    assert [("call", "patch"), ("arguments", text), END] == parse(name, f"{answer}<|end|>")[0]


@FAMILIES
def test_a_tool_that_is_not_offered(name: str) -> None:
    """Its call is text, as is whatever opens no call."""
    answer = spelled_answer(name, "", "So.", [("rm", {"path": "/"})], thinking=False)
    words, sampled, _ = parse(name, f"{answer}<|end|>")
    assert {"text", "."} == {kind for kind, _ in words}
    assert "rm" in words[0][1]
    assert sampled == answer


TRICKY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.lists(
        st.sampled_from(
            [
                *("</parameter>", "<parameter=x>", "</function>", "<tool_call>", "</tool_call>"),
                *("</arg_value>", "<arg_key>", f"</{BAR}DSML{BAR}parameter>", "</invoke>", "</"),
                *("\n", " ", "a", "{", '"', "\\", "é", "<|end|>", "</think>", "7", "null"),
            ]
        ),
        max_size=5,
    ).map("".join),
)


ENDED = re.compile(r"</parameter>\s*(<parameter=|</function>|</tool_call>|</invoke>)")


def sampled_as_text(name: str, answer: str, values: dict[str, str]) -> list[int]:
    """An answer in ids, with values in place of holes: these in ids of text alone."""
    tokenizer = loaded(name).template.tokenizer
    ids: list[int] = []
    for piece in re.split(f"([{''.join(values)}])", answer):
        if piece not in values:
            ids += encoded(tokenizer, piece)
            continue
        value = values[piece]
        if name not in RAW:
            value = json.dumps(value, ensure_ascii=False)[1:-1]
        ids += tokenizer.encode(value)
    return ids


@FAMILIES
@given(path=TRICKY, text=TRICKY, line=st.integers())
@settings(max_examples=40, deadline=None)
def test_any_value(name: str, path: str, text: str, line: int) -> None:
    """Arguments come back as they were, unless their text spells the end of a whole call.

    Tags in values are not the tokens of their names.
    """
    assume(not any(map(ENDED.search, (path, text))))
    first, last = "\ue000", "\ue001"
    holes: dict[str, Any] = {"path": first, "line": line, "text": last}
    answer = spelled_answer(name, "", "", [("write", holes)], thinking=False)
    ids = sampled_as_text(name, f"{answer}<|end|>", {first: path, last: text})
    make = partial(loaded(name).template.parser, OFFERED, thinking=False)
    words = outcome(make, ids)[0]
    assert [("write", {"path": path, "line": line, "text": text})] == calls_of(words)
    assert {"call", "arguments", "."} == {kind for kind, _ in words}


@FAMILIES
def test_a_cut_anywhere(name: str) -> None:
    """What was said of a call stays; a call without a whole name leaves nothing."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("write", {"path": "a.py", "line": 7}),
        ("write", {"path": "b"}),
    ]
    answer = spelled_answer(name, "", "So.", calls, thinking=False)
    tokenizer = loaded(name).template.tokenizer
    ids = encoded(tokenizer, answer)
    parser = loaded(name).template.parser(OFFERED, thinking=False)
    whole = words_of([*parser.feed(ids), *parser.finish(cut=False)])
    for end in range(len(ids)):
        if shown(tokenizer, ids[:end]).endswith("\N{REPLACEMENT CHARACTER}"):
            continue  # half a character is shown as such
        parser = loaded(name).template.parser(OFFERED, thinking=False)
        words = words_of([*parser.feed(ids[:end]), *parser.finish(cut=True)])
        for n, (kind, text) in enumerate(words):
            is_last = n == len(words) - 1
            # Where nothing followed, the beginning of a tag of text is shown as what it was.
            if is_last and kind == "text" and "<" in text:
                continue
            assert kind == whole[n][0]
            assert whole[n][1].startswith(text.rstrip()) if is_last else whole[n][1] == text
        assert (parser.open_sampled is None) == (not words or words[-1] == END)


PIECES = st.lists(
    st.sampled_from(
        [
            *("<tool_call>", "</tool_call>", "<function=write>", "</function>", "<parameter=path>"),
            *("</parameter>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "path"),
            *("write", "\n", " ", "7", "{", "}", '{"path": "a"}', '{"name": "write", ', "[", "]"),
            *('"arguments": {}}', "<minimax:tool_call>", "</minimax:tool_call>", "</invoke>"),
            *('<invoke name="write">', '<parameter name="path">', "<think>", "</think>", "é"),
            *(f"<{BAR}DSML{BAR}function_calls>", f'<{BAR}DSML{BAR}invoke name="write">'),
            *(f'<{BAR}DSML{BAR}parameter name="path" string="true">', "```json\n", "\n```"),
            *(f"{BAR}DSML{BAR}", "<", f"</{BAR}DSML{BAR}parameter>", f"</{BAR}DSML{BAR}"),
            *("<|tool_call>call:write", "<tool_call|>", '<|"|>', "{path:", "line:7", ","),
            *(
                f"</{BAR}DSML{BAR}invoke>",
                "function",
                "functions.write:0",
                "Hi",
                "<|START_ACTION|>",
            ),
            *("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_end|>"),
            *("<|tool_call_argument_begin|>", "<|tool_calls_section_end|>", "<|END_ACTION|>"),
            *(name for name in SPELLED["deepseek-v31"][1] if name.startswith(f"<{BAR}")),
        ]
    ),
    max_size=9,
).map("".join)


@FAMILIES
@given(output=PIECES, thinking=st.booleans(), cut=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_output(name: str, output: str, thinking: bool, cut: bool) -> None:
    """Whatever comes is read; feeds of any size agree, and no id is lost or said twice."""
    text = output if cut else f"{output}<|end|>"
    words, sampled, opened = parse(name, text, thinking=thinking, cut=cut)
    assert output.startswith(sampled + (opened or ""))
    for kind, said in words:
        said.encode()  # no half of a surrogate pair
        assert kind != "call" or said in OFFERED


@FAMILIES
@given(data=st.data(), thinking=st.booleans(), cut=st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_tokens(name: str, data: st.DataObject, thinking: bool, cut: bool) -> None:
    """Special tokens anywhere, halves of characters too: nothing fails, and feeds agree."""
    template = loaded(name).template
    special = sorted(template.tokenizer.special.values())
    some = st.sampled_from(special) | st.integers(0, template.tokenizer.vocab_size - 1)
    ids = data.draw(st.lists(some, max_size=12))
    words, _, sampled, opened = outcome(
        partial(template.parser, OFFERED, thinking=thinking), ids, cut=cut
    )
    assert len(sampled) + len(opened or ()) <= len(ids)
    for _, said in words:
        said.encode()


ELEMENT = "<parameter=path>\na.py\n</parameter>\n"
PATH = [("call", "write"), ("arguments", '{"path": "a.py"}'), END]


@pytest.mark.parametrize("name", ["qwen-coder", "qwen-coder, tags as text"])
@pytest.mark.parametrize(
    ("output", "words"),
    [
        pytest.param(f"<function=write>\n{ELEMENT}</function>\n</tool_call>", PATH, id="no opener"),
        pytest.param(
            "<tool_call><function=write><parameter=path>a.py</parameter></function></tool_call>",
            PATH,
            id="no blanks",
        ),
        pytest.param(f"<tool_call>\n<function=write>\n{ELEMENT}</tool_call>", PATH, id="no end"),
        pytest.param("<tool_call>\n<function=write>\n<parameter=path>\na.py", PATH, id="cut off"),
        pytest.param(
            f"<tool_call>\n<function=write>\n{ELEMENT}{ELEMENT}</function>\n</tool_call>",
            PATH,
            id="an argument twice",
        ),
        pytest.param(
            f"<tool_call>\n<function=write>\nhm {ELEMENT}</function>\n</tool_call>",
            PATH,
            id="words in front",
        ),
        pytest.param(
            "Say <function=f> or <tool_calls>.",
            [("text", "Say <function=f> or <tool_calls>."), END],
            id="tags in prose",
        ),
    ],
)
def test_odd_spellings(name: str, output: str, words: Words) -> None:
    """What is clear enough is a call, and what opens none goes on as the text that it was in."""
    found, sampled, _ = parse(name, f"{output}<|end|>")
    assert words == found
    assert output == sampled


def test_a_call_in_prose_is_one_message() -> None:
    """A tag of text that opens no call takes nothing away and divides nothing."""
    name, text = "qwen-coder, tags as text", "Write \n<tool_call> and {}, then go on."
    assert [("text", text), END] == parse(name, f"{text}<|end|>")[0]


@pytest.mark.parametrize("name", ["kimi", "deepseek-v3", "deepseek-v31", "minimax", "command"])
def test_a_thought_that_goes_over_to_calls(name: str) -> None:
    """The token that opens a section of calls ends a thought too."""
    thinking = loaded(name).template.output.begun[True]  # type: ignore[attr-defined]
    calls = spelled_answer(name, "", "", [("write", {"line": 7})], thinking=False)
    output = f"Hm. {calls}" if thinking else f"<think>Hm. {calls}"
    words, sampled, _ = parse(name, f"{output}<|end|>", thinking=True)
    assert [("thought", "Hm."), END, ("call", "write"), ("arguments", '{"line": 7}'), END] == words
    assert output == sampled


@pytest.mark.parametrize("opener", ["<|tool_call_begin|>", "<|tool_calls_section_begin|>"])
def test_a_section_whose_tags_are_missing(opener: str) -> None:
    """A call is read where only its own tag opens it; a section may open none."""
    call = "functions.write:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    expected = [("call", "write"), ("arguments", "{}"), END]
    assert (expected if "call_" in opener else [("text", call.partition("<")[0] + "{}"), END]) == (
        parse("kimi", f"{opener}{call}<|end|>")[0]
    )


@pytest.mark.parametrize("name", ["kimi", "deepseek-v31", "minimax", "glm"])
def test_an_unknown_tool_among_others(name: str) -> None:
    """Its call is text; those around it are calls."""
    calls: list[tuple[str, dict[str, Any]]] = [("write", {}), ("rm", {"path": "/"}), ("write", {})]
    answer = spelled_answer(name, "", "", calls, thinking=False)
    words, sampled, _ = parse(name, f"{answer}<|end|>")
    assert [("write", {}), ("write", {})] == calls_of(words)
    [text] = [text for kind, text in words if kind == "text"]
    assert "rm" in text
    assert answer == sampled


def test_openers() -> None:
    """Tags are tokens where the vocabulary has them, and text where not."""
    kinds = {
        name: {type(tag) for tag in loaded(name).template.output.tags.call}  # type: ignore[attr-defined]
        for name in SPELLED
    }
    assert {int, str} == kinds["qwen-coder"]
    assert {str} == kinds["dsml"] == kinds["tool-calls"] == kinds["qwen-coder, tags as text"]
    assert {int} == kinds["glm"] == kinds["kimi"] == kinds["deepseek-v3"] == kinds["command"]
