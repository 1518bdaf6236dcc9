"""Tests of what only the simulated engine promises; tests/contracts has what all engines do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest

from turnwire.engines.base import Delta, Generation
from turnwire.engines.sim import SIM_PROFILES, InvalidHint, SimEngine, SimProfile
from turnwire.engines.vocabulary import END_OF_TURN, Vocabulary
from turnwire.errors import ContextTooLong, EngineError, EngineUnavailable
from turnwire.tokens import EMPTY

# Faster than any test can read: throttled, but never waiting long.
FAST = 50_000.0


@pytest.fixture
def engine(vocabulary: Vocabulary) -> SimEngine:
    """An unthrottled engine with two slots."""
    return SimEngine(vocabulary, SimProfile(slots=2, max_waiting=1, window=1000))


def request_of(vocabulary: Vocabulary, num_tokens: int = 100, **hints: str) -> Generation:
    """A generation after a prompt of so many tokens; `fault` stands for the hint `sim.fault`."""
    return Generation(
        prompt=EMPTY.extend(range(300, 300 + num_tokens)),
        stop=frozenset({vocabulary.special[END_OF_TURN]}),
        hints={f"sim.{name}": value for name, value in hints.items()},
    )


async def collect(engine: SimEngine, request: Generation) -> list[Delta]:
    """All deltas of one generation."""
    return [delta async for delta in engine.generate(request)]


async def drain(deltas: AsyncGenerator[Delta, None], into: list[int]) -> None:
    """Read what there is, keeping it even if it ends with an error."""
    async for delta in deltas:
        into += delta.ids


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_unthrottled_is_one_token_per_delta(
    vocabulary: Vocabulary, engine: SimEngine
) -> None:
    """A client sees a stream, and `sim.output_tokens` is its length."""
    deltas = await collect(engine, request_of(vocabulary, output_tokens="40"))
    assert [1] * 41 == [len(delta.ids) for delta in deltas]
    assert "stop" == deltas[-1].finish


@pytest.mark.parametrize("speed", [None, FAST], ids=["unthrottled", "throttled"])
async def test_output_does_not_depend_on_anything_but_the_prompt(
    vocabulary: Vocabulary, speed: float | None
) -> None:
    """Speed, block size, cache, salt, session and sampling change nothing in the output."""
    request = request_of(vocabulary)
    plain = [i for d in await collect(SimEngine(vocabulary), request) for i in d.ids]
    other = SimEngine(vocabulary, SimProfile(tokens_per_sec=speed, block_size=8, cache_blocks=3))
    changed = msgspec.structs.replace(
        request, cache_salt="s", session="t", temperature=0.1, top_p=0.2, seed=5
    )
    for _ in range(2):
        assert plain == [i for d in await collect(other, changed) for i in d.ids]


async def test_cached_is_whole_blocks_before_the_last_token(
    vocabulary: Vocabulary, engine: SimEngine
) -> None:
    """Of 96 tokens 80 can be cached: the last block holds the last token. Of 97, all 96."""
    for num_tokens, expected in ((96, 80), (97, 96), (100, 96), (16, 0), (1, 0)):
        request = request_of(vocabulary, num_tokens)
        await collect(engine, request)
        assert expected == (await collect(engine, request))[0].num_cached


async def test_output_enters_the_cache(vocabulary: Vocabulary, engine: SimEngine) -> None:
    """The next turn finds prompt and output, in whole blocks."""
    request = request_of(vocabulary, 100, output_tokens="50")
    output = [i for d in await collect(engine, request) for i in d.ids]
    following = msgspec.structs.replace(request, prompt=request.prompt.extend([*output, 300]))
    assert 144 == (await collect(engine, following))[0].num_cached


async def test_only_what_was_yielded_enters_the_cache(
    vocabulary: Vocabulary, engine: SimEngine
) -> None:
    """After a cancelled generation the tokens that nobody saw are not cached."""
    request = request_of(vocabulary, 96, output_tokens="60")
    whole = [i for d in await collect(SimEngine(vocabulary), request) for i in d.ids]
    running = engine.generate(request)
    for _ in range(20):
        await anext(running)
    await running.aclose()
    following = msgspec.structs.replace(request, prompt=request.prompt.extend(whole))
    assert 112 == (await collect(engine, following))[0].num_cached


async def test_full_is_refused(vocabulary: Vocabulary, engine: SimEngine) -> None:
    """Two run, one waits, the fourth is told that the engine is full, also by `check`."""
    request = request_of(vocabulary)
    running = [engine.generate(request) for _ in range(2)]
    for generation in running:
        await anext(generation)
    waiting = asyncio.create_task(collect(engine, request))
    await settle()
    assert (2, 1) == (engine.num_running, engine.num_waiting)
    with pytest.raises(EngineUnavailable, match="full"):
        engine.check(request)
    with pytest.raises(EngineUnavailable, match="full"):
        await collect(engine, request)
    for generation in running:
        await generation.aclose()
    await waiting
    assert (0, 0) == (engine.num_running, engine.num_waiting)


@pytest.mark.parametrize("num_tokens", [0, 1, 5])
@pytest.mark.parametrize("speed", [None, FAST], ids=["unthrottled", "throttled"])
async def test_fault_after_some_tokens(
    vocabulary: Vocabulary, speed: float | None, num_tokens: int
) -> None:
    """`error:N` yields N tokens, no finish, then fails; the slot is free again."""
    engine = SimEngine(vocabulary, SimProfile(tokens_per_sec=speed))
    seen: list[int] = []
    with pytest.raises(EngineError, match=f"after {num_tokens} tokens"):
        await drain(engine.generate(request_of(vocabulary, fault=f"error:{num_tokens}")), seen)
    assert num_tokens == len(seen)
    assert 0 == engine.num_running


async def test_fault_beyond_the_output_does_nothing(
    vocabulary: Vocabulary, engine: SimEngine
) -> None:
    """An output that ends before its fault is whole."""
    deltas = await collect(engine, request_of(vocabulary, output_tokens="5", fault="error:6"))
    assert "stop" == deltas[-1].finish


async def test_fault_reject(vocabulary: Vocabulary, engine: SimEngine) -> None:
    """`reject` refuses before anything is done, and `check` says so too."""
    request = request_of(vocabulary, fault="reject")
    with pytest.raises(EngineUnavailable, match="as asked"):
        engine.check(request)
    with pytest.raises(EngineUnavailable, match="as asked"):
        await collect(engine, request)
    assert 0 == engine.num_running


async def test_fault_stall_holds_a_slot_until_it_is_cancelled(
    vocabulary: Vocabulary, engine: SimEngine
) -> None:
    """A stalled generation yields nothing; cancelling it frees the slot at once."""
    stalled = asyncio.create_task(collect(engine, request_of(vocabulary, fault="stall:3600")))
    await settle()
    assert 1 == engine.num_running
    assert not stalled.done()
    stalled.cancel()
    await settle()
    assert stalled.cancelled()
    assert 0 == engine.num_running


async def test_fault_stall_ends(vocabulary: Vocabulary, engine: SimEngine) -> None:
    """After its stall a generation goes on as usual."""
    request = request_of(vocabulary)
    stalled = msgspec.structs.replace(request, hints={"sim.fault": "stall:0.01"})
    assert (await collect(engine, request))[1:] == (await collect(engine, stalled))[1:]


async def test_closing_wakes_those_that_sleep_or_wait(
    vocabulary: Vocabulary, engine: SimEngine
) -> None:
    """Stalled, prefilling or waiting for a slot: all end with an error when the engine closes."""
    stalled = [
        asyncio.create_task(collect(engine, request_of(vocabulary, fault="stall:3600")))
        for _ in range(2)
    ]
    waiting = asyncio.create_task(engine.prefill(request_of(vocabulary)))
    await settle()
    assert (2, 1) == (engine.num_running, engine.num_waiting)
    await engine.aclose()
    outcomes = await asyncio.gather(*stalled, waiting, return_exceptions=True)
    assert all(isinstance(outcome, EngineError) for outcome in outcomes)
    assert (0, 0) == (engine.num_running, engine.num_waiting)
    with pytest.raises(EngineUnavailable, match="closed"):
        engine.check(request_of(vocabulary))


async def test_malformed_hints_are_refused_before_the_first_delta(
    vocabulary: Vocabulary, engine: SimEngine
) -> None:
    """The error names the hint, from `check` as from `generate`."""
    request = request_of(vocabulary, output_tokens="lots")
    with pytest.raises(InvalidHint) as caught:
        engine.check(request)
    assert "sim.output_tokens" == caught.value.hint
    with pytest.raises(InvalidHint):
        await collect(engine, request)


async def test_the_window_is_checked(vocabulary: Vocabulary, engine: SimEngine) -> None:
    """999 tokens leave room for one, 1000 for none; `check` and `prefill` say so too."""
    deltas = await collect(engine, request_of(vocabulary, 999))
    assert (["length"], 1) == ([d.finish for d in deltas], len(deltas[0].ids))
    request = request_of(vocabulary, 1000)
    with pytest.raises(ContextTooLong):
        engine.check(request)
    with pytest.raises(ContextTooLong):
        await engine.prefill(request)


async def test_an_unthrottled_stream_lets_others_run(
    vocabulary: Vocabulary, engine: SimEngine
) -> None:
    """Whoever waits for the loop has it after at most 16 tokens of a stream."""
    first, second = engine.generate(request_of(vocabulary)), asyncio.Event()
    await anext(first)
    asyncio.get_running_loop().call_soon(second.set)
    num_read = 1
    while not second.is_set():
        await anext(first)
        num_read += 1
    assert num_read <= 17
    await first.aclose()


@pytest.mark.parametrize(
    ("elapsed_sec", "num_due"), [(0.0, 1), (0.009, 1), (0.0101, 2), (0.105, 11), (1.001, 101)]
)
def test_tokens_fall_due_by_the_clock(elapsed_sec: float, num_due: int) -> None:
    """At 100 tokens a second the first is due at once and one more every 10 ms."""
    assert num_due == SimProfile(tokens_per_sec=100.0).num_due(elapsed_sec)


def test_the_next_token_is_due_one_interval_later() -> None:
    """After the n-th token the next is due n intervals after the first."""
    assert 0.25 == SimProfile(tokens_per_sec=100.0).due_sec(25)
    assert 0.0 == SimProfile().due_sec(25)


def test_prefill_is_overhead_and_uncached_tokens() -> None:
    """Cached tokens cost nothing."""
    profile = SimProfile(prefill_overhead_sec=0.5, prefill_sec_per_token=0.25)
    assert 0.5 == profile.prefill_sec(0)
    assert 3.0 == profile.prefill_sec(10)


def test_profiles_are_those_of_the_models() -> None:
    """The name of a profile tells its speed."""
    speeds = {name: profile.tokens_per_sec for name, profile in SIM_PROFILES.items()}
    assert {"sim": None, "sim-65": 65.0, "sim-1000": 1000.0, "sim-4000": 4000.0} == speeds
    assert 0.0 == SIM_PROFILES["sim"].prefill_sec(100_000)


@pytest.mark.parametrize(
    "field",
    [
        {"tokens_per_sec": 0.0},
        {"prefill_overhead_sec": -1.0},
        {"prefill_sec_per_token": -1.0},
        {"slots": 0},
        {"max_waiting": -1},
        {"cache_blocks": -1},
        {"window": 1},
        {"block_size": 0},
    ],
    ids=str,
)
def test_profiles_that_make_no_sense(field: dict[str, float]) -> None:
    """A profile is checked when it is made."""
    with pytest.raises(ValueError, match="must be"):
        SimProfile(**field)  # type: ignore[arg-type]


async def test_scores_do_not_depend_on_speed_or_cache(vocabulary: Vocabulary) -> None:
    """The same prompt has the same scores, one delta per token or many, cached or not."""
    request = msgspec.structs.replace(request_of(vocabulary), top_logprobs=3)
    other = SimEngine(vocabulary, SimProfile(tokens_per_sec=FAST))
    found = []
    for engine in (SimEngine(vocabulary), other, other):
        deltas = await collect(engine, request)
        found.append([score for delta in deltas for score in delta.logprobs or ()])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == sum(len(delta.ids) for delta in deltas)


async def test_penalties_change_nothing(vocabulary: Vocabulary, engine: SimEngine) -> None:
    """They are an engine's to apply to its logits, and this one has none."""
    request = request_of(vocabulary)
    punished = msgspec.structs.replace(request, presence_penalty=2.0, frequency_penalty=-2.0)
    assert [d.ids for d in await collect(engine, request)] == [
        d.ids for d in await collect(engine, punished)
    ]
