"""What is left out when a conversation grows out of its window."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.unit.models.test_token_model import (
    TOOL_SETS,
    items_of,
    message,
    play,
    said,
    small_model,
    wire,
)
from tests.unit.test_compaction import Known, Sent, brought, compacted, open_call, opened

from turnwire.context.chain import Context
from turnwire.errors import ContextLengthExceeded
from turnwire.models.base import Settings
from turnwire.models.token_model import PreparedTokens
from turnwire.models.truncation import output_room
from turnwire.models.views import TokenView
from turnwire.protocol.tools import EMPTY_TOOL_SET

WINDOW = 400
SMALL = small_model(window=WINDOW)
TURN = st.fixed_dictionaries(
    {
        "texts": st.lists(st.integers(1, 60), max_size=3),
        "role": st.sampled_from(["user", "user", "assistant", "developer"]),
        "tools": st.sampled_from([EMPTY_TOOL_SET, EMPTY_TOOL_SET, TOOL_SETS[0]]),
        "instructions": st.sampled_from([None, None, None, "Be terse."]),
        "effort": st.sampled_from([None, None, "low"]),
        "room": st.sampled_from([None, None, None, 40]),
        "calls": st.lists(st.sampled_from(["async", "cut", "pair", "pair"]), max_size=3),
        "answer": st.booleans(),
        "brings": st.sampled_from([None, None, None, "tool", "effort"]),
        "compact": st.sampled_from([False] * 9 + [True]),
    }
)


def cut_settings(step: dict[str, Any]) -> Settings:
    """The settings of a step that may leave items out."""
    return Settings(
        instructions=step["instructions"],
        tools=step["tools"],
        effort=step["effort"],
        max_output_tokens=step["room"],
        truncate=True,
        hints={"sim.output_tokens": "20", "sim.tool_calls": "0"},
    )


async def overflow(steps: list[dict[str, Any]]) -> None:
    """Play a conversation that grows out of its window, as a chain and resent in full."""
    known: Known = {}
    chain: Context | None = None
    whole: Sent = []
    for number, step in enumerate(steps):
        new: Sent = []
        for name in list(chain.open_calls) if chain else []:
            if step["answer"]:
                new.append(output_of(name))
        new += [message(step["role"], "word " * size) for size in step["texts"]]
        for n, kind in enumerate(step["calls"]):
            call_id = f"call_{number}_{n}"
            if kind == "pair":
                call = {**open_call("async", call_id), "async": False}
                new += [call, message("user", "between"), output_of(call_id)]
            else:
                new.append(open_call(kind, call_id))
        if not new:
            new = [message("user", "go on")]
        new += brought(step["brings"], number)
        added = Context(chain, items_of(new)).standing.tools
        how = structs.replace(cut_settings(step), added=added)
        try:
            turn = SMALL.prepare(chain, items_of(new), how)
        except ContextLengthExceeded:
            with pytest.raises(ContextLengthExceeded):
                SMALL.prepare(None, opened(whole + new, known), how)
            return
        resent = SMALL.prepare(None, opened(whole + new, known), how)
        assert resent.prompt.to_array() == turn.prompt.to_array()
        assert len(turn.prompt) < WINDOW
        parts, output, chain = await play(turn)
        assert said((await play(resent))[0]) == said(parts)
        whole += new + [wire(item) for item in output]
        if step["compact"] and all(call.optional for call in chain.open_calls.values()):
            item, _ = await compacted(chain, number, known, retain=False)
            chain = Context(chain, [item])
            whole.append(wire(item))


def output_of(call_id: str) -> dict[str, Any]:
    """The output of a call."""
    return {"type": "function_call_output", "call_id": call_id, "output": "done " * 5}


@given(st.lists(TURN, min_size=4, max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_truncated_conversation_is_seen_alike(steps: list[dict[str, Any]]) -> None:
    """A chain and the whole history are cut at the same place, over late outputs and settings."""
    asyncio.run(overflow(steps))


LONGER = small_model(window=1000)


def keep_on(parent: Context | None, sent: Sent, **fields: Any) -> PreparedTokens:
    """Prepare a turn that may leave items out."""
    hints = {"sim.output_tokens": "30"}
    return LONGER.prepare(parent, items_of(sent), Settings(truncate=True, hints=hints, **fields))


def text_of(turn: PreparedTokens) -> str:
    """The prompt as text."""
    return LONGER.renderer.tokenizer.decode(list(turn.prompt))


async def test_a_long_conversation_keeps_its_prefix() -> None:
    """The cut moves once in many turns; between its moves a turn costs what is new."""
    chain: Context | None = None
    reasons: list[str] = []
    prompts: list[list[int]] = []
    for number in range(120):
        turn = keep_on(chain, [message("user", f"turn {number}")])
        reasons.append(turn.report.reason)
        if chain is not None:
            assert turn.report.num_tokenised < 20
        prompts.append(list(turn.prompt))
        assert len(turn.prompt) + output_room(None, 1000) <= 1000
        _, _, chain = await play(turn)
    moved = [number for number, reason in enumerate(reasons) if reason == "truncated"]
    assert moved
    # A step is a quarter of the room, some 200 tokens, and a turn is some 40.
    distances = [after - before for before, after in pairwise(moved)]
    assert min(distances) >= 4
    for number in range(1, 120):
        if number not in moved:
            before = prompts[number - 1]
            assert before == prompts[number][: len(before)]


async def test_instructions_stay() -> None:
    """The request's own, tools, and messages of system and developer at the very beginning."""
    rules = [message("system", "rule one"), message("developer", "rule two")]
    turn = keep_on(
        None,
        [*rules, *(message("user", f"word {n} " * 40) for n in range(20))],
        instructions="Be terse.",
        tools=TOOL_SETS[0],
    )
    text = text_of(turn)
    for stays in ("Be terse.", "read_file", "rule one", "rule two", "word 19"):
        assert stays in text
    for goes in ("word 0 ", "word 1 "):
        assert goes not in text


def test_tools_that_the_history_added_stay() -> None:
    """They may be called as long as the conversation goes on, and so the model knows them."""
    sent = [*brought("tool", 1), *(message("user", f"word {n} " * 40) for n in range(20))]
    sent.insert(5, *brought("tool", 2))
    text = text_of(keep_on(None, sent))
    assert [1, 1] == [text.count(name) for name in ("extra_1", "extra_2")]
    assert "word 4 " not in text


async def test_a_summary_stays() -> None:
    """What a compaction left is what the conversation begins with, and is not left out."""
    known: Known = {}
    first = keep_on(None, [message("user", "x")])
    item, _ = await compacted(first.context, 0, known, retain=False)
    later = [message("user", f"word {n} " * 40) for n in range(20)]
    turn = keep_on(Context(first.context, [item]), later)
    assert known["sealed-0"].text in text_of(turn)
    assert "word 0 " not in text_of(turn)
    same = LONGER.prepare(None, opened([wire(item), *later], known), Settings(truncate=True))
    assert list(same.prompt) == list(turn.prompt)


def test_calls_and_outputs_go_together() -> None:
    """Wherever the cut falls, every output that is seen has its call, and every call its output."""
    for size in range(1, 60, 7):
        sent: Sent = [message("user", "begin")]
        for number in range(12):
            calls = [f"call_{number}_{n}" for n in range(3)]
            sent += [
                {
                    **open_call("async", call_id),
                    "async": False,
                    "arguments": f'{{"n": "{call_id}"}}',
                }
                for call_id in calls
            ]
            sent += [
                {
                    "type": "function_call_output",
                    "call_id": call_id,
                    "output": f"output of {call_id} " + "word " * size,
                }
                for call_id in calls
            ]
        text = text_of(keep_on(None, sent))
        for number in range(12):
            for n in range(3):
                call_id = f"call_{number}_{n}"
                assert (f'"{call_id}"' in text) == (f"output of {call_id} " in text)
        assert "output of call_11_2" in text


async def test_a_late_output_finds_its_call() -> None:
    """A call that may be answered at any time stays, and the prefix with it, until it was."""
    late = {**open_call("async", "call_late"), "arguments": '{"cmd": "slow"}'}
    whole: Sent = [message("user", "begin"), late]
    chain: Context | None = None
    before: list[int] = []
    for number in range(60):
        new = [*whole[-2:], message("user", "go")] if chain is None else [message("user", "on")]
        if number == 40:
            new.insert(0, output_of("call_late"))
        turn = keep_on(chain, new)
        whole += new if chain is not None else new[2:]
        resent = keep_on(None, whole)
        assert list(resent.prompt) == list(turn.prompt)
        text = text_of(turn)
        assert number > 40 or '"slow"' in text
        assert ("done done" in text) <= ('"slow"' in text)
        if turn.report.reason == "":
            assert before == list(turn.prompt)[: len(before)]
        before = list(turn.prompt)
        _, output, chain = await play(turn)
        whole += [wire(item) for item in output]
    assert '"slow"' not in text
    assert "begin" not in text


def test_many_calls_that_stay() -> None:
    """What stays is reckoned with: more of the rest goes."""
    sent: Sent = [open_call("async", f"call_{number}") for number in range(15)]
    sent += [message("user", f"word {n} " * 40) for n in range(20)]
    turn = keep_on(None, sent)
    assert 15 == text_of(turn).count('"cmd": "ls"')
    assert len(turn.prompt) + output_room(None, 1000) <= 1000


def test_what_cannot_be_left_out() -> None:
    """The last item is always seen: alone too long, it is refused as ever."""
    with pytest.raises(ContextLengthExceeded, match="takes 1000 for input and output"):
        keep_on(None, [message("user", "x"), message("user", "word " * 1200)])
    # There is no room for output as wished, but it fits: nothing else may go, and it is tried.
    turn = keep_on(None, [message("user", "x"), message("user", "word " * 950)])
    assert len(turn.prompt) < 1000


def test_nothing_is_left_out_unasked() -> None:
    """Without truncation, and where it fits, everything is seen."""
    sent = [message("user", f"word {n} " * 40) for n in range(20)]
    with pytest.raises(ContextLengthExceeded):
        LONGER.prepare(None, items_of(sent), Settings())
    few = items_of(sent[:4])
    plain, cut = LONGER.prepare(None, few, Settings()), keep_on(None, sent[:4])
    assert list(plain.prompt) == list(cut.prompt)
    assert isinstance(cut.context.view, TokenView)
    assert cut.context.view.cut is None


@pytest.mark.parametrize(
    ("asked", "window", "room"), [(None, 8000, 1000), (100, 8000, 100), (7000, 8000, 4000)]
)
def test_room_for_output(asked: int | None, window: int, room: int) -> None:
    """As much as was asked for, up to half of the window; an eighth of it otherwise."""
    assert room == output_room(asked, window)
