"""Tests of `turnwire.rendering.harmony_output`; its grammars are tested in `test_formats`."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rendering.imitations import HARMONY_TOKENS, byte_level, encoded, shown
from tests.unit.rendering.reading import Words, outcome

from turnwire.errors import ConfigError
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.harmony_output import HarmonyOutput, HarmonyParser

TOKENIZER = byte_level(HARMONY_TOKENS)
OFFERED = {
    "f": OfferedTool(name="f"),
    "s.g": OfferedTool(name="s.g", kind="custom", namespace="s"),
}
MAKE = partial(HarmonyParser, TOKENIZER, OFFERED)
END = (".", "")
C, M = "<|channel|>", "<|message|>"
NEXT = "<|end|><|start|>assistant"
JSON = " <|constrain|>json"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        pytest.param(
            f"{C}final{M}Hi.<|return|>",
            [("phase", "final_answer"), ("text", "Hi."), END],
            id="text",
        ),
        pytest.param(
            f"{C}analysis{M}hm{NEXT}{C}final{M}Hi.<|return|>",
            [("thought", "hm"), END, ("phase", "final_answer"), ("text", "Hi."), END],
            id="a thought",
        ),
        pytest.param(
            f'{C}commentary to=functions.f{JSON}{M}{{"a": 1}}<|call|>',
            [("call", "f"), ("arguments", '{"a": 1}'), END],
            id="a call",
        ),
        pytest.param(
            f" to=functions.f{C}commentary{JSON}{M}{{}}<|call|>",
            [("call", "f"), ("arguments", "{}"), END],
            id="the recipient in the author's place",
        ),
        pytest.param(
            f'{C}commentary to=functions.s.g json{M}{{"input": "x\\n"}}<|call|>',
            [("call", "s.g"), ("arguments", "x\n"), END],
            id="a custom tool",
        ),
        pytest.param(
            f"{C}commentary{M}I look.{NEXT}{C}commentary to=functions.f{M}{{}}<|call|>",
            [
                *(("phase", "commentary"), ("text", "I look."), END),
                *(("call", "f"), ("arguments", "{}"), END),
            ],
            id="text before a call",
        ),
        pytest.param(
            f"{C}commentary to=functions.h{M}{{}}<|call|>",
            [("phase", "commentary"), ("text", "{}"), END],
            id="a tool that is not offered",
        ),
        pytest.param(
            f"{C}analysis to=functions.f{M}{{}}<|call|>",
            [("call", "f"), ("arguments", "{}"), END],
            id="a call out of a thought",
        ),
        pytest.param(f"{C}final{M}<|return|>", [], id="nothing said"),
        pytest.param(f"{C}final", [], id="a header alone"),
        pytest.param(
            f"{C}final{M}Hi.<|return|>{C}final{M}more",
            [("phase", "final_answer"), ("text", "Hi."), END],
            id="behind the end",
        ),
        pytest.param(
            f"{C}final{M}a<|channel|>b<|return|>",
            [("phase", "final_answer"), ("text", "ab"), END],
            id="a mark out of place",
        ),
    ],
)
def test_outputs(output: str, words: Words) -> None:
    """Channels are thoughts, text with its phase, and calls; sampled ids are all there."""
    found, _, sampled, _ = outcome(MAKE, encoded(TOKENIZER, output))
    assert words == found
    if words:
        whole, _, _ = output.partition("<|return|>")
        assert whole.removesuffix("<|call|>") == shown(TOKENIZER, sampled)


def test_thoughts_are_counted() -> None:
    """What stands in the analysis channel is reasoning, headers are not."""
    ids = encoded(TOKENIZER, f"{C}analysis{M}hm hm{NEXT}{C}final{M}Hi.<|return|>")
    assert len(TOKENIZER.encode("hm hm")) == outcome(MAKE, ids)[1]


@pytest.mark.parametrize(
    ("output", "words", "opened"),
    [
        (f"{C}analysis{M}hm", [("thought", "hm")], f"{C}analysis{M}hm"),
        (f"{C}analysis{M}hm<|end|>", [("thought", "hm"), END], None),
        (f"{C}final", [], None),
    ],
)
def test_a_cut(output: str, words: Words, opened: str | None) -> None:
    """The item that is open stays open."""
    found, _, _, last = outcome(MAKE, encoded(TOKENIZER, output), cut=True)
    assert words == found
    assert opened == (None if last is None else shown(TOKENIZER, last))


OUTPUTS = st.lists(
    st.sampled_from(
        [*HARMONY_TOKENS[1:6], "final", "analysis", "commentary to=functions.f", '{"a', "}", "x"]
    ),
    max_size=9,
).map("".join)


@given(OUTPUTS, st.booleans())
def test_any_output(output: str, cut: bool) -> None:
    """Cuts between feeds never matter, and nothing breaks the parser."""
    _, _, sampled, opened = outcome(MAKE, encoded(TOKENIZER, output), cut=cut)
    said = shown(TOKENIZER, sampled) + ("" if opened is None else shown(TOKENIZER, opened))
    assert output.startswith(said)


def test_what_ends_an_output() -> None:
    """A return, a call and the end of text; other vocabularies are refused."""
    names = ("<|return|>", "<|call|>", "<|endoftext|>")
    assert {TOKENIZER.special[name] for name in names} == HarmonyOutput(TOKENIZER).stop
    with pytest.raises(ConfigError, match="no special token"):
        HarmonyOutput(byte_level(("<|start|>",)))
