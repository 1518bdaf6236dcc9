"""What every engine must do, as one suite: derive from `EngineContract` and say what to test.

    class TestMyEngine(EngineContract):
        @pytest.fixture
        async def subject(self) -> AsyncIterator[Subject]:
            ...

Nothing here knows how an engine works inside; sampling is greedy, so that an engine with a real
model repeats itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec
import pytest
from msgspec import Struct

from turnwire.constraint import Constraint
from turnwire.engines.base import Delta, Engine, Generation
from turnwire.errors import ContextTooLong, EngineError, EngineUnavailable
from turnwire.tokens import EMPTY, Tokens

__all__ = ["EngineContract", "Subject", "collect", "ids_of", "settle"]

# Enough for several blocks of any prefix cache (vLLM on CPU has blocks of 128 tokens).
_NUM_PROMPT_TOKENS = 600


class Subject(Struct, frozen=True):
    """An engine under test.

    Attributes:
        engine: Fresh, with nothing cached.
        num_slots: How many generations it runs at the same time; there is room for at least
            one more to wait.
        words: Some ids of ordinary words, to build prompts of.
        stop: Its stop tokens.
        token_bytes: The bytes of each token.
        has_scores: Whether it scores tokens when it is asked to.
    """

    engine: Engine
    num_slots: int
    words: Sequence[int]
    stop: frozenset[int]
    token_bytes: Sequence[bytes]
    has_scores: bool = False

    def prompt(self, name: str, num_tokens: int = _NUM_PROMPT_TOKENS) -> Tokens:
        """A prompt of so many tokens in one link, another for each name."""
        start = sum(name.encode())
        ids = itertools.islice(itertools.cycle(self.words), start, start + num_tokens)
        return EMPTY.extend(ids)

    def request(self, name: str, *, max_new_tokens: int | None = 32) -> Generation:
        """A greedy generation after that prompt."""
        return Generation(
            prompt=self.prompt(name),
            max_new_tokens=max_new_tokens,
            stop=self.stop,
            temperature=0.0,
            seed=1,
        )


async def collect(engine: Engine, request: Generation) -> list[Delta]:
    """All deltas of one generation."""
    return [delta async for delta in engine.generate(request)]


def ids_of(deltas: Sequence[Delta]) -> list[int]:
    """The output, in one piece."""
    return [id_ for delta in deltas for id_ in delta.ids]


async def settle() -> None:
    """Let every task go as far as it can without waiting for anything."""
    for _ in range(10):
        await asyncio.sleep(0)


class EngineContract:
    """The suite; a derived class provides the fixture `subject`."""

    @pytest.mark.parametrize("max_new_tokens", [1, 2, 7, 40])
    async def test_the_limit_is_honoured(self, subject: Subject, max_new_tokens: int) -> None:
        """No more ids than asked for, at least one, and exactly so many if that ended it."""
        request = subject.request("limit", max_new_tokens=max_new_tokens)
        deltas = await collect(subject.engine, request)
        assert 1 <= len(ids_of(deltas)) <= max_new_tokens
        if deltas[-1].finish == "length":
            assert max_new_tokens == len(ids_of(deltas))

    async def test_finish_comes_once_and_last(self, subject: Subject) -> None:
        """The last delta says how it ended, and no other does."""
        deltas = await collect(subject.engine, subject.request("finish"))
        finishes = [delta.finish for delta in deltas]
        assert finishes[-1] in {"stop", "length"}
        assert {None} >= set(finishes[:-1])

    async def test_cached_comes_once_and_first(self, subject: Subject) -> None:
        """The first delta says what was cached, and no other does."""
        deltas = await collect(subject.engine, subject.request("cached"))
        cached = [delta.num_cached for delta in deltas]
        assert 0 == cached[0]
        assert {None} >= set(cached[1:])

    async def test_every_delta_brings_something(self, subject: Subject) -> None:
        """Only the first and the last delta may be empty."""
        deltas = await collect(subject.engine, subject.request("empty"))
        assert all(delta.ids for delta in deltas[1:-1])

    async def test_a_stop_token_is_the_last_id(self, subject: Subject) -> None:
        """A stop token ends the output, is part of it, and is nowhere else in it."""
        constraint = Constraint(grammar='start: "yes"\n')
        request = msgspec.structs.replace(subject.request("stop"), constraint=constraint)
        deltas = await collect(subject.engine, request)
        assert "stop" == deltas[-1].finish
        assert ids_of(deltas)[-1] in subject.stop
        assert subject.stop.isdisjoint(ids_of(deltas)[:-1])

    async def test_nobody_gets_scores_unasked(self, subject: Subject) -> None:
        """Without `top_logprobs` no delta has any."""
        deltas = await collect(subject.engine, subject.request("unscored"))
        assert all(delta.logprobs is None for delta in deltas)

    @pytest.mark.parametrize("num_top", [0, 1, 5, 20])
    async def test_every_token_is_scored(self, subject: Subject, num_top: int) -> None:
        """Scores go with the ids, are logarithms of probabilities, and change no id."""
        request = msgspec.structs.replace(subject.request("scored"), top_logprobs=num_top)
        deltas = await collect(subject.engine, request)
        assert ids_of(await collect(subject.engine, subject.request("scored"))) == ids_of(deltas)
        for delta in deltas:
            assert subject.has_scores or delta.logprobs is None
            scores = delta.logprobs or ()
            assert len(scores) == (len(delta.ids) if subject.has_scores else 0)
            for id_, score in zip(delta.ids, scores, strict=True):
                likely = dict(score.top)
                assert len(likely) == len(score.top) <= num_top
                assert sorted(likely.values(), reverse=True) == list(likely.values())
                assert 1e-3 > abs(likely.get(id_, score.logprob) - score.logprob)
                likely[id_] = score.logprob
                assert all(logprob <= 1e-6 for logprob in likely.values())
                assert sum(map(math.exp, likely.values())) <= 1 + 1e-3

    async def test_scores_under_a_constraint(self, subject: Subject) -> None:
        """What a grammar forces is scored too, each token of it."""
        request = msgspec.structs.replace(
            subject.request("forced"),
            constraint=Constraint(grammar='start: "yes"\n'),
            top_logprobs=2,
        )
        for delta in await collect(subject.engine, request):
            assert len(delta.logprobs or ()) == (len(delta.ids) if subject.has_scores else 0)

    async def test_a_constraint_is_obeyed(self, subject: Subject) -> None:
        """A whole output under a schema is JSON that obeys it."""
        schema = {
            "type": "object",
            "properties": {
                "mode": {"enum": ["read", "write"]},
                "count": {"type": "integer", "minimum": 0, "maximum": 99},
            },
            "required": ["mode", "count"],
            "additionalProperties": False,
            "x-guidance": {"whitespace_flexible": False},
        }
        constraint = Constraint(grammar=f"start: %json {json.dumps(schema)}\n")
        for name in "abcde":
            request = msgspec.structs.replace(subject.request(name), constraint=constraint)
            deltas = await collect(subject.engine, request)
            assert "stop" == deltas[-1].finish
            text = b"".join(subject.token_bytes[id_] for id_ in ids_of(deltas)[:-1])
            value = json.loads(text)
            assert ["mode", "count"] == list(value)
            assert value["mode"] in {"read", "write"}
            assert 0 <= value["count"] <= 99

    async def test_links_do_not_matter(self, subject: Subject) -> None:
        """The same ids give the same output, however they are cut into links."""
        request = subject.request("links")
        whole = ids_of(await collect(subject.engine, request))
        ids = list(request.prompt)
        for cuts in ([1], [599], [100, 101, 350], list(range(7, 600, 7))):
            prompt = EMPTY
            for begin, end in itertools.pairwise([0, *cuts, len(ids)]):
                prompt = prompt.extend(ids[begin:end])
            again = msgspec.structs.replace(request, prompt=prompt)
            assert whole == ids_of(await collect(subject.engine, again))

    async def test_a_second_run_finds_the_prefix_cached(self, subject: Subject) -> None:
        """The same prompt is mostly cached the second time, but never its last token."""
        request = subject.request("twice")
        await collect(subject.engine, request)
        again = (await collect(subject.engine, request))[0].num_cached
        assert again is not None
        assert len(request.prompt) // 2 <= again < len(request.prompt)

    async def test_a_continuation_finds_prompt_and_output_cached(self, subject: Subject) -> None:
        """The next turn computes only what is new, up to the cache's grain."""
        request = subject.request("first")
        output = ids_of(await collect(subject.engine, request))
        prompt = request.prompt.extend(output).extend(subject.prompt("second"))
        following = msgspec.structs.replace(request, prompt=prompt)
        cached = (await collect(subject.engine, following))[0].num_cached
        assert cached is not None
        assert len(request.prompt) // 2 <= cached <= len(request.prompt) + len(output)

    async def test_salts_do_not_share_a_cache(self, subject: Subject) -> None:
        """Another owner's identical prompt is computed anew, with the same output."""
        one = msgspec.structs.replace(subject.request("salt"), cache_salt="one")
        other = msgspec.structs.replace(one, cache_salt="other")
        first = await collect(subject.engine, one)
        second = await collect(subject.engine, other)
        assert 0 == second[0].num_cached
        assert ids_of(first) == ids_of(second)

    async def test_prefill_fills_the_cache(self, subject: Subject) -> None:
        """What was prefilled is found by the generation after it."""
        request = subject.request("prefill")
        assert 0 == await subject.engine.prefill(request)
        assert len(request.prompt) // 2 <= await subject.engine.prefill(request)
        cached = (await collect(subject.engine, request))[0].num_cached
        assert cached is not None
        assert len(request.prompt) // 2 <= cached < len(request.prompt)

    async def test_a_prompt_that_fills_the_window_is_refused(self, subject: Subject) -> None:
        """There must be room for one token; the refusal comes before any delta."""
        prompt = subject.prompt("window", subject.engine.window)
        request = msgspec.structs.replace(subject.request("window"), prompt=prompt)
        with pytest.raises(ContextTooLong):
            subject.engine.check(request)
        with pytest.raises(ContextTooLong):
            await collect(subject.engine, request)

    async def test_the_window_ends_an_output(self, subject: Subject) -> None:
        """Prompt and output together never exceed the window."""
        prompt = subject.prompt("room", subject.engine.window - 3)
        request = msgspec.structs.replace(
            subject.request("room"), prompt=prompt, max_new_tokens=None
        )
        deltas = await collect(subject.engine, request)
        assert 1 <= len(ids_of(deltas)) <= 3
        if len(ids_of(deltas)) == 3 and ids_of(deltas)[-1] not in subject.stop:
            assert "length" == deltas[-1].finish

    async def test_running_and_waiting_are_counted(self, subject: Subject) -> None:
        """Slots that are held and places that are waited in show in the counts, and go again."""
        engine = subject.engine
        request = subject.request("count", max_new_tokens=None)
        engine.check(request)
        running = [engine.generate(request) for _ in range(subject.num_slots)]
        for generation in running:
            await anext(generation)
        waiting = asyncio.create_task(collect(engine, subject.request("waits")))
        await settle()
        assert (subject.num_slots, 1) == (engine.num_running, engine.num_waiting)
        for generation in running:
            await generation.aclose()
        await waiting
        assert (0, 0) == (engine.num_running, engine.num_waiting)

    async def test_closing_a_generation_frees_its_slot(self, subject: Subject) -> None:
        """As many generations as there are slots can be left, and as many can follow."""
        for turn in "ab":
            async with asyncio.TaskGroup() as tasks:
                for place in range(subject.num_slots):
                    tasks.create_task(self._leave(subject, f"{turn}{place}"))
        deltas = await collect(subject.engine, subject.request("after"))
        assert deltas[-1].finish is not None

    async def test_cancelling_one_that_waits_leaves_the_queue(self, subject: Subject) -> None:
        """Who gives up waiting takes nobody's slot; who waits behind gets it."""
        request = subject.request("busy", max_new_tokens=None)
        running = [subject.engine.generate(request) for _ in range(subject.num_slots)]
        for generation in running:
            await anext(generation)
        waiting = asyncio.create_task(collect(subject.engine, subject.request("gone")))
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        behind = asyncio.create_task(collect(subject.engine, subject.request("behind")))
        await settle()
        for generation in running:
            await generation.aclose()
        assert (await behind)[-1].finish is not None

    async def test_the_same_prompt_at_the_same_time(self, subject: Subject) -> None:
        """Generations that run together do not disturb each other."""
        names = ["x", "y", "x", "y"]
        outputs = await asyncio.gather(
            *(collect(subject.engine, subject.request(name)) for name in names)
        )
        first, second, third, fourth = map(ids_of, outputs)
        assert first == third
        assert second == fourth

    async def test_closing_the_engine_ends_what_runs(self, subject: Subject) -> None:
        """A generation that runs when the engine closes fails, and a new one is refused."""
        running = subject.engine.generate(subject.request("closing", max_new_tokens=None))
        async with aclosing(running):
            await anext(running)
            await subject.engine.aclose()
            with pytest.raises(EngineError):
                await self._drain(running)
        with pytest.raises(EngineUnavailable):
            await collect(subject.engine, subject.request("closed"))

    @staticmethod
    async def _leave(subject: Subject, name: str) -> None:
        async with aclosing(
            subject.engine.generate(subject.request(name, max_new_tokens=None))
        ) as deltas:
            await anext(deltas)

    @staticmethod
    async def _drain(deltas: AsyncGenerator[Delta, None]) -> None:
        async for _ in deltas:
            pass
