"""However a conversation comes, the model sees the same window of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.unit.models.test_token_model import (
    INSTRUCTIONS,
    TEXT,
    TOOL_SETS,
    items_of,
    message,
    play,
    said,
    small_model,
    wire,
)
from tests.unit.test_turn import DONE, Told

from turnwire.compaction import (
    Compacting,
    Wanted,
    prepare_summary,
    sum_up,
    summary_settings,
    wanted,
)
from turnwire.context.chain import Context
from turnwire.context.window import fingerprint, user_messages
from turnwire.errors import EngineError, InvalidRequest
from turnwire.models.base import Settings
from turnwire.parts import (
    CompactionFinished,
    CompactionStarted,
    Finished,
    ItemFinished,
    Part,
    ReasoningDelta,
    TextDelta,
)
from turnwire.protocol.compaction import decode_summary, encode_summary
from turnwire.protocol.items import Compaction, Item, Message, OutputText, Summary
from turnwire.protocol.requests import ContextManagement, CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.telemetry.metrics import Metrics

ROOMY = small_model(window=100_000)
Sent = list[dict[str, Any]]
Known = dict[str, Summary]
"""Compaction contents by what seals them: stands for the sealer, which has tests of its own."""

PLAIN = st.fixed_dictionaries(
    {
        "kind": st.just("turn"),
        "texts": st.lists(TEXT, min_size=1, max_size=2),
        "role": st.sampled_from(["user", "user", "assistant", "developer"]),
        "tools": st.sampled_from([EMPTY_TOOL_SET, TOOL_SETS[1]]),
        "instructions": st.sampled_from(INSTRUCTIONS),
        "effort": st.sampled_from([None, None, "low"]),
        # Calls that need no answer: async ones, and one that was cut.
        "calls": st.lists(st.sampled_from(["async", "async", "cut"]), max_size=2),
        "late": st.booleans(),
        "brings": st.sampled_from([None, None, "tool", "effort", "format"]),
    }
)
STEP = st.one_of(
    PLAIN,
    PLAIN,
    st.sampled_from([{"kind": "compact"}, {"kind": "retain"}, {"kind": "drop"}]),
)


def opened(sent: Sent, known: Known) -> list[Item]:
    """What a client sends, with its compaction items opened."""
    items: list[Item] = []
    for item in items_of(sent):
        if isinstance(item, Compaction):
            summary = known[item.encrypted_content]
            item = Compaction(id=item.id, encrypted_content=item.encrypted_content, opened=summary)
        items.append(item)
    return items


async def compacted(
    context: Context, number: int, known: Known, *, retain: bool
) -> tuple[Compaction, list[Message]]:
    """A compaction item behind a conversation, and the messages that stay in front of it."""
    stays = user_messages(context) if retain else []
    prepared = prepare_summary(ROOMY, context, Settings(hints={"sim.output_tokens": "9"}))
    summary, _ = await sum_up(prepared, context, tuple(map(fingerprint, stays)))
    summary = decode_summary(encode_summary(summary, "sim"))
    known[f"sealed-{number}"] = summary
    item = Compaction(id=f"cmp_{number}", encrypted_content=f"sealed-{number}", opened=summary)
    return item, stays


def open_call(kind: str, call_id: str) -> dict[str, Any]:
    """A call after which the model may go on without an output."""
    how: dict[str, Any] = {"async": True} if kind == "async" else {"status": "incomplete"}
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": "run",
        "arguments": '{"cmd": "ls"}',
        **how,
    }


def brought(kind: str | None, number: int) -> Sent:
    """An item that says something about later turns, or none."""
    match kind:
        case "tool":
            tool = {"type": "function", "name": f"extra_{number}", "parameters": {"type": "object"}}
            return [{"type": "additional_tools", "role": "developer", "tools": [tool]}]
        case "effort":
            effort = ("low", "high")[number % 2]
            return [{"type": "configuration_update", "reasoning": {"effort": effort}}]
        case "format":
            return [{"type": "configuration_update", "text": {"format": {"type": "text"}}}]
        case _:
            return []


def settings_of(step: dict[str, Any]) -> Settings:
    """The settings that a drawn step stands for."""
    return Settings(
        instructions=step["instructions"],
        tools=step["tools"],
        effort=step["effort"],
        hints={"sim.output_tokens": "11", "sim.parallel_calls": "2"},
    )


async def converse(steps: list[dict[str, Any]]) -> None:
    """Play a conversation three ways: as a chain, resent in full, and resent from its window."""
    known: Known = {}
    chain: Context | None = None
    whole: Sent = []
    window: Sent = []
    num_compactions = 0
    for number, step in enumerate(steps):
        if step["kind"] != "turn":
            owed = chain and any(not call.optional for call in chain.open_calls.values())
            if chain is None or owed:
                continue
            item, stays = await compacted(chain, number, known, retain=step["kind"] == "retain")
            num_compactions += 1
            if step["kind"] == "drop":
                # In the response itself: the chain gets the item as one more link.
                chain = Context(chain, [item])
            else:
                # From the endpoint: the client goes on from what that handed out.
                chain = ROOMY.prepare(None, [*stays, item], Settings(warm_up=True)).context
            whole.append(wire(item))
            window = [*map(wire, stays), wire(item)]
            continue
        calls = list(chain.open_calls.values()) if chain else []
        answers = [
            {
                "type": f"{'function' if call.kind == 'function' else 'custom_tool'}_call_output",
                "call_id": call.call_id,
                "output": step["texts"][0],
            }
            for call in calls
            if not call.optional or step["late"]
        ]
        new = [
            *answers,
            *(message(step["role"], text) for text in step["texts"]),
            *(open_call(kind, f"call_{number}_{n}") for n, kind in enumerate(step["calls"])),
        ]
        new += brought(step["brings"], number)
        standing = Context(chain, items_of(new)).standing
        how = structs.replace(settings_of(step), added=standing.tools)
        turn = ROOMY.prepare(chain, items_of(new), how)
        resent = ROOMY.prepare(None, opened(whole + new, known), how)
        pruned = ROOMY.prepare(None, opened(window + new, known), how)
        for other in (resent.context.standing, pruned.context.standing):
            assert standing.tools.raw == other.tools.raw
            assert (standing.effort, standing.text_format) == (other.effort, other.text_format)
        assert resent.prompt.to_array() == turn.prompt.to_array()
        assert pruned.prompt.to_array() == turn.prompt.to_array()
        parts, output, chain = await play(turn)
        assert said((await play(pruned))[0]) == said(parts)
        back = [wire(item) for item in output]
        whole += new + back
        window += new + back
    assume(num_compactions)


@given(st.lists(STEP, min_size=3, max_size=8))
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_a_compacted_conversation_is_seen_alike(steps: list[dict[str, Any]]) -> None:
    """A chain, the whole history and its window give the same tokens, compacted or not."""
    asyncio.run(converse(steps))


async def test_a_window_goes_on_like_a_conversation() -> None:
    """It is rendered once, from what is seen; later turns append to it, whatever was before."""
    known: Known = {}
    chain: Context | None = None
    for number in range(5):
        long = items_of([message("user", f"{number} " + "word " * 500)])
        _, _, chain = await play(ROOMY.prepare(chain, long, Settings()))
    assert chain is not None
    item, _ = await compacted(chain, 0, known, retain=False)
    reports = []
    turns = [opened([wire(item)], known), *([list(items_of([message("user", "on")]))] * 3)]
    for sent in turns:
        turn = ROOMY.prepare(chain, sent, Settings(hints={"sim.output_tokens": "5"}))
        reports.append(turn.report)
        _, _, chain = await play(turn)
    assert [("full", "compacted"), *[("append", "")] * 3] == [(r.mode, r.reason) for r in reports]
    assert all(report.num_tokenised < 60 for report in reports)
    # Another preamble joins the window anew, and nothing from before it.
    again = ROOMY.prepare(chain, items_of([message("user", "on")]), Settings(instructions="Now."))
    assert ("prefix", "preamble") == (again.report.mode, again.report.reason)
    assert again.num_prompt_tokens < 150


# -- what a response asks for


def create(*, warm_up: bool = False, **managed: Any) -> CreateResponse:
    """A request."""
    elements = [ContextManagement(type="compaction", **managed)] if managed else None
    return CreateResponse(context_management=elements, generate=not warm_up)


@pytest.mark.parametrize(
    ("request_", "asked", "expected"),
    [
        (create(), False, None),
        (create(), True, Wanted(asked=True)),
        (create(compact_threshold=5000), False, Wanted(threshold=5000)),
        (create(compact_threshold=None), False, Wanted(threshold=80_000)),
        (create(compact_threshold=5000), True, Wanted(asked=True)),
        (create(compact_threshold=5000, warm_up=True), False, None),
    ],
    ids=["nothing", "trigger", "threshold", "by default", "both", "warm-up"],
)
def test_what_is_wanted(request_: CreateResponse, expected: Wanted | None, *, asked: bool) -> None:
    """A trigger outdoes a threshold, which is 80 % of the window by default."""
    assert expected == wanted(request_, asked, ROOMY)


def test_a_window_that_nobody_knows() -> None:
    """Then the client has to say when."""
    told = Told([])
    with pytest.raises(InvalidRequest) as caught:
        wanted(create(compact_threshold=None), False, told)
    assert "context_management[0].compact_threshold" == caught.value.param
    assert Wanted(threshold=1000) == wanted(create(compact_threshold=1000), False, told)


def test_a_warm_up_has_no_trigger() -> None:
    """There is no output that the item could be."""
    with pytest.raises(InvalidRequest, match="leave the 'compaction_trigger' out"):
        wanted(create(warm_up=True), True, ROOMY)


@pytest.mark.parametrize(("window", "most"), [(None, 4096), (100_000, 4096), (800, 100), (4, 1)])
def test_how_a_summary_is_asked_for(window: int | None, most: int) -> None:
    """As plain text, without calls and thinking, not too long; with the same prefix."""
    turn = Settings(
        instructions="Be terse.",
        tools=TOOL_SETS[0],
        tool_choice=ToolChoice(mode="required"),
        effort="low",
        warm_up=True,
        session="s",
    )
    made = summary_settings(turn, window)
    assert (turn.instructions, turn.tools, "s") == (made.instructions, made.tools, made.session)
    assert ("none", None, False, most) == (
        made.tool_choice.mode,
        made.effort,
        made.warm_up,
        made.max_output_tokens,
    )


async def test_the_models_words_are_the_summary() -> None:
    """Thoughts are not part of it; space around it is not either."""
    told = Told([ReasoningDelta("hm"), ItemFinished(), TextDelta(" a"), TextDelta("b\n"), DONE])
    summary, spent = await sum_up(told, Context(None, []), (b"mark",))
    assert (Summary(text="ab", retained=(b"mark",)), DONE) == (summary, spent)


@pytest.mark.parametrize("parts", [[], [DONE], [TextDelta(" \n"), ItemFinished(), DONE]])
async def test_no_summary(parts: list[Part]) -> None:
    """A model that says nothing must not make a conversation be forgotten."""
    with pytest.raises(EngineError, match="it wrote no summary"):
        await sum_up(Told(parts), Context(None, []))


def seal(summary: Summary) -> str:
    """Stands for the sealer."""
    return f"sealed {summary.text}"


def compacting(
    told: Told, said: list[Item], wanted_: Wanted, num_prompt_tokens: int = 1
) -> Compacting:
    """A turn of a model that says the same each time."""
    told.num_prompt_tokens = num_prompt_tokens
    return Compacting(
        told,
        told,
        Settings(),
        wanted_,
        item_id="cmp_0",
        seal=seal,
        said=said,
        metrics=Metrics(),
    )


WORDS: list[Part] = [TextDelta("words"), ItemFinished(), DONE]


@pytest.mark.parametrize(
    ("wanted_", "num_prompt_tokens", "expected"),
    [
        (
            Wanted(asked=True),
            1,
            [CompactionStarted(asked=True), CompactionFinished("sealed words")],
        ),
        (Wanted(threshold=9), 9, WORDS[:2]),
        (
            Wanted(threshold=9),
            10,
            [CompactionStarted(asked=False), CompactionFinished("sealed words"), *WORDS[:2]],
        ),
        (
            Wanted(threshold=1),
            1,
            [*WORDS[:2], CompactionStarted(asked=False), CompactionFinished("sealed words")],
        ),
    ],
    ids=["asked", "below", "at the start", "at the end"],
)
async def test_when_it_compacts(
    wanted_: Wanted, num_prompt_tokens: int, expected: list[Part]
) -> None:
    """At once, before the model answers, or behind its answer; `Finished` comes last."""
    turn = compacting(Told(WORDS), [], wanted_, num_prompt_tokens)
    *parts, last = [part async for part in turn.respond()]
    assert expected == parts
    num_passes = 1 + (len(expected) == 4)
    assert isinstance(last, Finished)
    assert num_passes == last.num_output_tokens


async def test_an_open_item_is_closed_first() -> None:
    """A model may leave its last item to be closed by the end."""
    turn = compacting(Told([TextDelta("words"), DONE]), [], Wanted(threshold=1))
    parts = [part async for part in turn.respond()]
    assert [TextDelta, ItemFinished, CompactionStarted] == [type(part) for part in parts[:3]]


@pytest.mark.parametrize(
    "parts",
    [
        [*WORDS[:2], structs.replace(DONE, reason="max_output_tokens")],
        [TextDelta(" "), ItemFinished(), DONE],
    ],
    ids=["cut", "no summary"],
)
async def test_no_compaction_at_the_end(parts: list[Part]) -> None:
    """Not behind what was cut; and a summary that fails takes nothing from the answer."""
    turn = compacting(Told(parts), [], Wanted(threshold=1))
    assert parts == [part async for part in turn.respond()]


async def test_the_context_after_it() -> None:
    """It holds the response's items in their order, with the summaries opened."""
    given = message("user", "x")
    first = Compaction(id="cmp_0", encrypted_content="sealed words")
    answer = Message(id="msg_1", role="assistant", content=(OutputText(text="words"),))
    opened_ = structs.replace(first, opened=Summary(text="words"))
    for wanted_, size, items in (
        (Wanted(asked=True), 1, [first]),
        (Wanted(threshold=9), 10, [first, answer]),
        (Wanted(threshold=1), 1, [answer, first]),
    ):
        told, said_ = Told(WORDS), list[Item]()
        told.context = Context(None, items_of([given]))
        turn = compacting(told, said_, wanted_, size)
        async for part in turn.respond():
            if isinstance(part, ItemFinished):
                said_.append(answer)
            elif isinstance(part, CompactionFinished):
                said_.append(first)
        after = turn.settle(said_)
        assert items == said_
        held = [item for link in after.since(turn.context) for item in link.items]
        assert [opened_ if item is first else item for item in items] == held
