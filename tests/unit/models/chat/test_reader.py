"""Chunks to parts, in the dialects that servers speak."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs
from tests.contracts.endpoint import call, end, text, usage

from turnwire.errors import EngineError
from turnwire.logprobs import LogProb, TopLogProb
from turnwire.models.chat.chunks import decode_chunk
from turnwire.models.chat.reader import PartReader
from turnwire.models.chat.toolbox import Toolbox, Toolboxes
from turnwire.parts import (
    CallArguments,
    CallStarted,
    ItemFinished,
    Part,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from turnwire.protocol.codec import decode_tools
from turnwire.protocol.tools import ToolChoice

Json = dict[str, Any]

OBJECT = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
TOOLS = [
    {"type": "function", "name": "find", "parameters": OBJECT, "strict": False},
    {"type": "function", "name": "sure", "parameters": OBJECT, "strict": True},
    {"type": "custom", "name": "sql"},
    {"type": "namespace", "name": "git", "tools": [{"type": "function", "name": "log"}]},
]
BOX = Toolboxes(sends_strict=False).of(decode_tools(Raw(json.dumps(TOOLS).encode())), ToolChoice())
DONE = ItemFinished()


def read(
    *chunks: Json, box: Toolbox = BOX, finish: bool = True, **options: Any
) -> tuple[list[Part], PartReader]:
    """The parts of chunks that came one at a time."""
    reader = PartReader(box, **options)
    parts: list[Part] = []
    for chunk in chunks:
        reader.feed(decode_chunk(json.dumps(chunk).encode()))
        parts += reader.take()
    if finish:
        parts += reader.finish()
    return parts, reader


def joined(parts: Sequence[Part]) -> list[Part]:
    """With deltas of one item as one."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, TextDelta | RefusalDelta | ReasoningDelta | CallArguments) and type(
            last
        ) is type(part):
            found[-1] = structs.replace(last, text=last.text + part.text)
        else:
            found.append(part)
    return found


def find(arguments: str, call_id: str = "one") -> list[Part]:
    return [CallStarted("find", call_id), CallArguments(arguments), DONE]


def multi(*entries: Json) -> Json:
    """A chunk with several entries of `tool_calls`."""
    merged = call(0, None, None, None)
    merged["choices"][0]["delta"]["tool_calls"] = [
        entry["choices"][0]["delta"]["tool_calls"][0] for entry in entries
    ]
    return merged


def not_in_a_list(chunk: Json) -> Json:
    """The same chunk, its entry of `tool_calls` by itself."""
    delta = chunk["choices"][0]["delta"]
    delta["tool_calls"] = delta["tool_calls"][0]
    return chunk


def choice(index: int, content: str, reason: str | None = None) -> Json:
    """One of several choices."""
    return {"index": index, "delta": {"content": content}, "finish_reason": reason}


TWO = [*find('{"q":1}'), *find('{"q":2}', "two")]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [text("", role="assistant"), text("Hel"), text("lo"), end()],
            [TextDelta("Hel"), TextDelta("lo"), DONE],
            id="text",
        ),
        pytest.param(
            [text("", reasoning_content="hm"), text("so"), end()],
            [ReasoningDelta("hm"), DONE, TextDelta("so"), DONE],
            id="reasoning_content",
        ),
        pytest.param(
            [text("", reasoning="hm", reasoning_content="hm"), text("so"), end()],
            [ReasoningDelta("hm"), DONE, TextDelta("so"), DONE],
            id="both-spellings-of-reasoning",
        ),
        pytest.param(
            [
                text([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),  # type: ignore[arg-type]
                text([{"type": "text", "text": "so"}]),  # type: ignore[arg-type]
                end(),
            ],
            [ReasoningDelta("hm"), DONE, TextDelta("so"), DONE],
            id="content-in-parts",
        ),
        pytest.param(
            [
                call(0, "find", "", "one"),
                call(0, None, '{"q"', None),
                call(0, None, ":1}", None),
                call(1, "find", "", "two"),
                call(1, None, '{"q":2}', None),
                end("tool_calls"),
            ],
            TWO,
            id="streamed-as-openai-does",
        ),
        pytest.param(
            [
                call(0, "find", "", "one"),
                call(0, "find", '{"q"', "one"),
                call(0, "find", ":1}", "one"),
                call(1, "find", '{"q":2}', "two"),
                end("tool_calls"),
            ],
            TWO,
            id="name-and-id-repeated",
        ),
        pytest.param(
            [call(0, "find", '{"q":1}', "one"), call(0, "find", '{"q":2}', "two"), end("stop")],
            TWO,
            id="whole-calls-all-with-index-0",
        ),
        pytest.param(
            [multi(call(0, "find", '{"q":1}', "one"), call(1, "find", '{"q":2}', "two")), end()],
            TWO,
            id="several-in-one-chunk",
        ),
        pytest.param(
            [call(None, "find", '{"q":1}', "one"), call(None, "find", '{"q":2}', "two"), end()],
            TWO,
            id="no-index",
        ),
        pytest.param(
            [
                call(0, "find", '{"q"', "one"),
                call(1, "find", '{"q"', "two"),
                call(0, None, ":1}", None),
                call(1, None, ":2}", None),
                end("tool_calls"),
            ],
            TWO,
            id="interleaved",
        ),
        pytest.param(
            [call(0, "find", {"q": 1}, "one"), end()],  # type: ignore[arg-type]
            find('{"q":1}'),
            id="arguments-as-an-object",
        ),
        pytest.param(
            [call(0, "find", '{"q":1}', "one"), call(0, "find", "", "one"), end("stop")],
            find('{"q":1}'),
            id="name-repeated-with-nothing",
        ),
        pytest.param(
            [not_in_a_list(call(0, "find", '{"q":1}', "one")), end()],
            find('{"q":1}'),
            id="a-call-that-is-no-list",
        ),
        pytest.param(
            [call(0, "find", '{"q":1}', 7), end()],  # type: ignore[arg-type]
            find('{"q":1}', "7"),
            id="an-id-that-is-a-number",
        ),
        pytest.param(
            [
                {"choices": [choice(0, "So"), choice(1, "No")]},
                {"choices": [choice(1, " way", "stop")]},
                {"choices": [choice(0, " it is", "stop")]},
            ],
            [TextDelta("So it is"), DONE],
            id="several-choices",
        ),
        pytest.param(
            [call(0, None, None, "one"), call(0, "find", None, None), end()],
            find("{}"),
            id="id-name-and-nothing",
        ),
        pytest.param(
            [text("\n\n"), call(0, "find", "{}", "one"), text("\n"), end("tool_calls")],
            find("{}"),
            id="line-ends-are-no-message",
        ),
        pytest.param(
            [text("\n"), text(" hi"), end()], [TextDelta("\n hi"), DONE], id="but-part-of-one"
        ),
        pytest.param(
            [text("So: "), text("", refusal="I"), text("", refusal=" won't."), end()],
            [TextDelta("So: "), RefusalDelta("I"), RefusalDelta(" won't."), DONE],
            id="refusal",
        ),
        pytest.param(
            [text("I look."), call(0, "find", "{}", "one"), text("Done."), end()],
            [TextDelta("I look."), DONE, *find("{}"), TextDelta("Done."), DONE],
            id="text-call-text",
        ),
        pytest.param(
            [call(0, "sql", '{"input": "a\\n', "one"), call(0, None, 'b"}', None), end()],
            [CallStarted("sql", "one", "custom"), CallArguments("a\nb"), DONE],
            id="custom-tool",
        ),
        pytest.param(
            [call(0, "git__log", "{}", "one"), end()],
            [CallStarted("log", "one", "function", "git"), CallArguments("{}"), DONE],
            id="namespace",
        ),
        pytest.param(
            [call(0, "rm", '{"q"', "one"), call(0, None, ":1}", None), end()],
            [TextDelta('{"name": "rm", "arguments": {"q":1}}'), DONE],
            id="a-tool-that-was-not-offered-is-text",
        ),
        pytest.param([call(0, "find", "{oh", "one"), end()], find("{oh"), id="no-json-passes"),
        pytest.param([end()], [], id="nothing"),
    ],
)
def test_dialects(chunks: list[Json], expected: list[Part]) -> None:
    """Whatever way a server writes an answer, the parts are the same."""
    parts, reader = read(*chunks)
    assert joined(expected) == joined(parts)
    assert "stop" == reader.ending
    _, reader = read(finish=False)
    with pytest.raises(EngineError, match="without a word"):
        reader.finish(said=True)


def test_what_came_together_is_one_delta() -> None:
    """Text, and arguments, that are read at once leave at once."""
    reader = PartReader(BOX)
    for chunk in (text("a"), text("b"), call(0, "find", '{"q"', "one"), call(0, None, ":1}", None)):
        reader.feed(decode_chunk(json.dumps(chunk).encode()))
    assert [
        TextDelta("ab"), DONE, CallStarted("find", "one"), CallArguments('{"q":1}')
    ] == reader.take()  # fmt: skip


def test_the_next_call_is_shown_as_soon_as_the_one_before_is_whole() -> None:
    """Nothing waits for the end of the answer without need."""
    reader = PartReader(BOX)
    for chunk in (call(0, "find", '{"q":1}', "one"), call(1, "find", "{", "two")):
        reader.feed(decode_chunk(json.dumps(chunk).encode()))
    assert [*find('{"q":1}'), CallStarted("find", "two"), CallArguments("{")] == reader.take()


@pytest.mark.parametrize(
    ("chunks", "open_parts"),
    [
        ([text("Hel")], [TextDelta("Hel")]),
        ([text("", reasoning="h")], [ReasoningDelta("h")]),
        ([call(0, "find", '{"q', "one")], [CallStarted("find", "one"), CallArguments('{"q')]),
        ([call(0, "sure", '{"q', "one")], [CallStarted("sure", "one"), CallArguments('{"q')]),
    ],
    ids=["text", "reasoning", "call", "strict-call"],
)
@pytest.mark.parametrize(
    ("reason", "ending"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter")],
)
def test_what_was_cut_stays_open(
    chunks: list[Json], open_parts: list[Part], reason: str, ending: str
) -> None:
    """The item is not finished, so that it is shown as incomplete; no promise is held to it."""
    parts, reader = read(*chunks, end(reason))
    assert open_parts == parts
    assert ending == reader.ending


@pytest.mark.parametrize("reason", ["abort", "error", "insufficient_system_resource"])
def test_a_reason_that_is_a_failure(reason: str) -> None:
    """Servers that give up say so as a reason to stop."""
    with pytest.raises(EngineError, match="broke off"):
        read(text("a"), end(reason))


def test_an_answer_without_an_end_broke_off() -> None:
    """Without a reason it is not whole, unless the server said that it was all."""
    with pytest.raises(EngineError, match="broke off"):
        read(text("a"))
    _, reader = read(text("a"), finish=False)
    assert [DONE] == reader.finish(said=True)
    assert "stop" == reader.ending


def test_parallel_calls_can_be_ruled_out() -> None:
    """Calls after the first are dropped, with all of their arguments, in every dialect."""
    for index, id_ in ((1, "two"), (None, "two"), (1, None), (0, "two")):
        first = call(0 if index is not None else None, "find", '{"q":1}', "one")
        rest = call(index, None, '{"q":3}', None if index is not None else id_)
        parts, _ = read(first, call(index, "find", "", id_), rest, end(), parallel=False)
        assert find('{"q":1}') == parts


def test_ids_of_calls_are_the_servers_own_where_they_can_be() -> None:
    """One that is missing, too long, or known to the conversation is replaced."""
    for id_ in ("old", "x" * 65, "", None):
        parts, _ = read(call(0, "find", "{}", id_), end(), was_called=lambda name: name == "old")
        assert isinstance(parts[0], CallStarted)
        assert parts[0].call_id.startswith("call_")
    parts, _ = read(call(0, "find", "{}", "a"), call(1, "find", "{}", "a"), end())
    ids = [part.call_id for part in parts if isinstance(part, CallStarted)]
    assert ["a", "a"] != ids
    assert "a" == ids[0]


def test_whole_calls_with_one_index_and_no_id() -> None:
    """Nothing tells them apart but that the one before is whole."""
    parts, _ = read(call(0, "find", '{"q":1}', ""), call(0, "find", '{"q":2}', ""), end("stop"))
    assert ['{"q":1}', '{"q":2}'] == [one.text for one in parts if isinstance(one, CallArguments)]


def test_a_strict_tool_is_held_to_its_schema() -> None:
    """A call that breaks it fails; with checks off it passes."""
    broken = [call(0, "sure", '{"q":1}', "one"), end("tool_calls")]
    with pytest.raises(EngineError, match=r"'sure' breaks the tool's schema \(q: type\)"):
        read(*broken)
    parts, _ = read(*broken, checks=False)
    assert CallArguments('{"q":1}') in parts


@pytest.mark.parametrize("said", ['{"q":1}', "no json", "[]"])
def test_a_strict_format_is_held_to_its_schema(said: str) -> None:
    """Text that breaks it fails, but for text that goes with a call."""
    with pytest.raises(EngineError, match="its answer"):
        read(text(said), end(), format_schema=OBJECT)
    read(text('{"q":"a"}'), end(), format_schema=OBJECT)
    read(text(said), call(0, "find", "{}", "one"), end(), format_schema=OBJECT)
    read(text(said), end("length"), format_schema=OBJECT)


@pytest.mark.parametrize(
    "chunks",
    [
        [call(None, None, "{}", None), end()],
        [call(0, None, "{}", "one"), end()],
        [call(0, "find", "{}", "one"), text("so"), call(0, None, "{}", None), end()],
        [call(n, "find", "{}", None) for n in range(200)],
    ],
    ids=["arguments-of-no-call", "no-name", "a-call-goes-on", "too-many-calls"],
)
def test_answers_that_make_no_sense(chunks: list[Json]) -> None:
    """They fail in one sentence."""
    with pytest.raises(EngineError, match=r"^it "):
        read(*chunks)


def test_usage_is_kept() -> None:
    """The last counts hold; llama-server tells of its cache in `timings`."""
    _, reader = read(text("a"), end(), {"choices": [], "timings": {"cache_n": 7}}, usage(9, 1))
    assert reader.usage
    assert (9, 7) == (reader.usage.prompt_tokens, reader.num_cached)


def test_chars_are_counted() -> None:
    """For an estimate where nothing is told: everything, and of it the reasoning."""
    _, reader = read(text("", reasoning="hm"), text("a"), call(0, "find", "{}", "one"), end())
    assert (5, 2) == (reader.num_chars, reader.num_reasoning_chars)


def scored(content: str, *tokens: str, top: bool = True) -> Json:
    """A chunk whose text comes with log probabilities."""
    chunk = text(content)
    likely = [{"token": "x", "logprob": -0.5, "bytes": None}] if top else None
    chunk["choices"][0]["logprobs"] = {
        "content": [
            {
                "token": token,
                "logprob": -0.25,
                "bytes": list(token.encode()),
                "top_logprobs": likely,
            }
            for token in tokens
        ],
        "refusal": None,
    }
    return chunk


def test_log_probabilities_go_with_their_text() -> None:
    """Also through text that waits; they are dropped with it, and where nobody asked."""
    chunks = [
        scored("\n", "\n"), scored("hé", "h", "é"), scored("!", "!", top=False), end(),
    ]  # fmt: skip
    parts, _ = read(*chunks, scores=True)
    top = (TopLogProb("x", -0.5, (120,)),)
    assert [
        TextDelta(
            "\nhé",
            (
                LogProb("\n", -0.25, (10,), top),
                LogProb("h", -0.25, (104,), top),
                LogProb("é", -0.25, (195, 169), top),
            ),
        ),
        TextDelta("!", (LogProb("!", -0.25, (33,)),)),
        DONE,
    ] == parts
    unasked, _ = read(*chunks)
    assert [TextDelta("\nhé"), TextDelta("!"), DONE] == unasked
    dropped, _ = read(scored("\n", "\n"), call(0, "find", "{}", "one"), scored("so", "so"), end(),
                      scores=True)  # fmt: skip
    assert [*find("{}"), TextDelta("so", (LogProb("so", -0.25, (115, 111), top),)), DONE] == dropped


DELTAS = st.one_of(
    st.builds(text, st.sampled_from(["", "\n", "a", "bc"])),
    st.builds(lambda thought: text("", reasoning=thought), st.sampled_from(["", "t"])),
    st.builds(lambda words: text("", refusal=words), st.sampled_from(["", "no"])),
    st.builds(
        call,
        st.sampled_from([None, 0, 1]),
        st.sampled_from([None, "", "find", "sql", "rm"]),
        st.sampled_from([None, "", '{"q"', ":1}", '{"input": "x"}', " "]),
        st.sampled_from([None, "", "one", "two"]),
    ),
    st.builds(end, st.sampled_from(["stop", "length", "tool_calls"])),
)


@given(st.lists(DELTAS, max_size=10), st.booleans(), st.booleans())
def test_parts_are_always_in_order(chunks: list[Json], parallel: bool, together: bool) -> None:
    """Whatever comes, an item is open where something is added, and never two; or it fails."""
    reader = PartReader(BOX, parallel=parallel)
    parts: list[Part] = []
    try:
        for chunk in chunks:
            reader.feed(decode_chunk(json.dumps(chunk).encode()))
            if not together:
                parts += reader.take()
        parts += reader.finish()
    except EngineError:
        parts += reader.take()
    opened: type[Part] | None = None
    for part in parts:
        match part:
            case CallStarted():
                assert opened is None
                opened = CallStarted
            case CallArguments():
                assert opened is CallStarted
            case TextDelta() | RefusalDelta():
                assert opened in (None, TextDelta)
                assert part.text
                opened = TextDelta
            case ReasoningDelta():
                assert opened in (None, ReasoningDelta)
                assert part.text
                opened = ReasoningDelta
            case _:
                assert opened is not None
                opened = None
    if not parallel:
        assert sum(isinstance(part, CallStarted) for part in parts) <= 1
