"""A simulated engine: real tokens, real constraints, a made-up model and a made-up clock.

It stands in for an engine on a GPU: prefill takes an overhead and a time per token that is not
cached, decoding a time per token, slots are few, prefixes are cached by the block, and any of
it can be made to fail. What it says is decided by `turnwire.engines.author`, from the prompt's
token ids and the request's `sim.*` hints, never from time, cache, session or salt: two ways of
building the same prompt give the same output, which is how the rest of the server is tested.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from types import MappingProxyType

from msgspec import Struct

from turnwire.engines.author import Author, Controls, InvalidHint, Output, read_controls
from turnwire.engines.base import Delta, FinishReason, Generation
from turnwire.engines.likelihood import Likelihood
from turnwire.engines.prefix_cache import PrefixCache
from turnwire.engines.reading import Reader, Reading
from turnwire.engines.slots import Slots
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import ContextTooLong, EngineError, EngineUnavailable
from turnwire.tokens import token_array

__all__ = ["SIM_PROFILES", "InvalidHint", "SimEngine", "SimProfile"]

# uvloop's timers count milliseconds; asking for less only makes more wake-ups.
_MIN_SLEEP_SEC = 0.001
# An unthrottled stream lets the others have the loop once in so many tokens.
_TOKENS_PER_STEP = 16


class SimProfile(Struct, frozen=True, kw_only=True):
    """How fast and how large a simulated engine is.

    Attributes:
        tokens_per_sec: Decoding speed of one generation; None for as fast as it can be read.
        prefill_overhead_sec: Before the first token, whatever the prompt.
        prefill_sec_per_token: The same, for each prompt token that is not cached.
        slots: Generations that run at the same time.
        max_waiting: Generations that wait for a slot; further ones are refused.
        window: Most tokens of prompt and output together.
        block_size: Tokens per block of the prefix cache.
        cache_blocks: Most blocks the prefix cache holds; 0 for no cache.
    """

    tokens_per_sec: float | None = None
    prefill_overhead_sec: float = 0.0
    prefill_sec_per_token: float = 0.0
    slots: int = 256
    max_waiting: int = 4096
    window: int = 131_072
    block_size: int = 16
    cache_blocks: int = 65_536

    def __post_init__(self) -> None:
        if self.tokens_per_sec is not None and self.tokens_per_sec <= 0:
            raise ValueError("tokens_per_sec must be positive")
        if min(self.prefill_overhead_sec, self.prefill_sec_per_token) < 0:
            raise ValueError("prefill times must be at least 0")
        if self.slots < 1 or self.max_waiting < 0 or self.cache_blocks < 0:
            raise ValueError("slots must be at least 1, max_waiting and cache_blocks at least 0")
        if self.window < 2 or self.block_size < 1:
            raise ValueError("window must be at least 2, block_size at least 1")

    def prefill_sec(self, num_uncached: int) -> float:
        """Seconds from the start of a generation to its first token."""
        return self.prefill_overhead_sec + num_uncached * self.prefill_sec_per_token

    def num_due(self, elapsed_sec: float) -> int:
        """Tokens that a throttled stream has produced so long after its first, that included."""
        return 1 + int(elapsed_sec * (self.tokens_per_sec or 0.0))

    def due_sec(self, num_sent: int) -> float:
        """Seconds from a throttled stream's first token to the one after `num_sent` tokens."""
        return num_sent / self.tokens_per_sec if self.tokens_per_sec else 0.0


SIM_PROFILES: Mapping[str, SimProfile] = MappingProxyType(
    {
        # The server's own cost and nothing else.
        "sim": SimProfile(),
        # A large model on a shared GPU server, 10,000 prompt tokens a second.
        "sim-65": SimProfile(
            tokens_per_sec=65.0, prefill_overhead_sec=0.040, prefill_sec_per_token=1e-4, slots=64
        ),
        # A fast deployment: there the time around the model starts to count.
        "sim-1000": SimProfile(
            tokens_per_sec=1000.0, prefill_overhead_sec=0.010, prefill_sec_per_token=2e-5, slots=64
        ),
        # The same in its best moments.
        "sim-4000": SimProfile(
            tokens_per_sec=4000.0, prefill_overhead_sec=0.005, prefill_sec_per_token=1e-5, slots=64
        ),
    }
)
"""The engines behind the models of these names."""


class SimEngine:
    """The simulated engine; see `turnwire.engines.base.Engine`."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        profile: SimProfile | None = None,
        author: Author | None = None,
    ) -> None:
        """Make an idle engine with an empty cache.

        Args:
            vocabulary: With the special tokens of Turnwire's own template.
            profile: Speed and size; by default unthrottled.
            author: Over the same vocabulary, to share its tables and compiled grammars with
                other engines; by default one of its own.
        """
        self._profile = profile or SIM_PROFILES["sim"]
        self._author = author or Author(vocabulary)
        self._reader = Reader(vocabulary, block_size=self._profile.block_size)
        self._cache = PrefixCache(self._profile.cache_blocks)
        self._slots = Slots(self._profile.slots, self._profile.max_waiting)
        self._sleeping: set[asyncio.Future[None]] = set()
        self._closed = False
        special = frozenset(vocabulary.special.values())
        self._words = [id_ for id_ in range(len(vocabulary)) if id_ not in special]
        # One delta per token serves every stream: it is the same each time.
        self._deltas = [Delta((id_,)) for id_ in range(len(vocabulary))]

    @property
    def window(self) -> int:
        """Most tokens of prompt and output together."""
        return self._profile.window

    @property
    def num_slots(self) -> int:
        """Generations that can run at the same time."""
        return self._profile.slots

    @property
    def num_running(self) -> int:
        """Generations that have a slot."""
        return self._slots.num_running

    @property
    def num_waiting(self) -> int:
        """Generations that wait for a slot."""
        return self._slots.num_waiting

    def check(self, request: Generation) -> None:
        """Raise at once what `generate` would raise before its first await.

        Raises:
            ContextTooLong: the prompt plus one token exceeds the window.
            EngineUnavailable: closed or full, or the request asks to be refused.
            InvalidHint: a `sim.*` hint is malformed.
        """
        self._admit(request)

    def generate(self, request: Generation) -> AsyncGenerator[Delta, None]:
        """Yield the new tokens of one generation; see `Engine.generate`.

        Unthrottled, every delta is one token; throttled, it is all tokens that are due.

        Raises:
            InvalidHint: a `sim.*` hint is malformed; before the first delta.
        """
        return self._burst(request) if self._profile.tokens_per_sec is None else self._pace(request)

    async def prefill(self, request: Generation) -> int:
        """Bring the prompt into the prefix cache; see `Engine.prefill`. Hints do nothing here."""
        self._check_window(request)
        await self._slots.acquire()
        try:
            prompt = self._reader.read(request.prompt)
            num_cached = self._find(request, prompt)
            await self._sleep(self._profile.prefill_sec(prompt.length - num_cached))
            self._cache.insert(request.cache_salt, prompt.digests())
        finally:
            self._slots.release()
        return num_cached

    async def aclose(self) -> None:
        """Refuse new generations; those that run or wait end with EngineError."""
        self._closed = True
        self._slots.close()
        for timer in self._sleeping:
            if not timer.done():
                timer.set_result(None)

    async def _burst(self, request: Generation) -> AsyncGenerator[Delta, None]:
        run = await self._begin(request)
        try:
            deltas, scored = self._deltas, run.likelihood is not None
            for id_ in run.body:
                num_sent = run.num_sent = run.num_sent + 1
                if 1 < num_sent < run.num_ids and not scored:
                    yield deltas[id_]
                else:
                    yield run.delta(num_sent - 1, num_sent)
                    if num_sent == run.num_ids:
                        return
                if not num_sent % _TOKENS_PER_STEP:
                    await asyncio.sleep(0)
                if self._closed:
                    raise EngineError("the engine was closed")
            run.fail_if_asked()
        finally:
            self._end(run)

    async def _pace(self, request: Generation) -> AsyncGenerator[Delta, None]:
        run = await self._begin(request)
        try:
            profile, num_whole = self._profile, len(run.body)
            clock = asyncio.get_running_loop().time
            began = clock()
            while run.num_sent < num_whole:
                elapsed = clock() - began
                begin, end = run.num_sent, min(num_whole, profile.num_due(elapsed))
                if begin == end:
                    await self._sleep(max(_MIN_SLEEP_SEC, profile.due_sec(begin) - elapsed))
                    continue
                run.num_sent = end
                yield run.delta(begin, end)
                if self._closed and end < num_whole:
                    raise EngineError("the engine was closed")
            run.fail_if_asked()
        finally:
            self._end(run)

    async def _begin(self, request: Generation) -> _Run:
        """Take a slot, decide the output, wait for prefill; `_end` gives the slot back."""
        controls = self._admit(request)
        await self._slots.acquire()
        try:
            prompt = self._reader.read(request.prompt)
            num_cached = self._find(request, prompt)
            room = self._profile.window - prompt.length
            write = partial(
                self._author.write,
                prompt,
                controls,
                request.constraint,
                stop=request.stop,
                limit=min(room, request.max_new_tokens or room),
            )
            quick = self._author.is_quick(prompt, controls, request.constraint)
            output = write() if quick else await asyncio.to_thread(write)
            await self._sleep(
                self._profile.prefill_sec(prompt.length - num_cached) + controls.stall_sec
            )
            self._cache.insert(request.cache_salt, prompt.digests())
            run = _Run(prompt, num_cached, output, controls.fail_after, request.cache_salt)
            if request.top_logprobs is not None:
                run.likelihood = Likelihood(prompt.seed(), self._words, request.top_logprobs)
            return run
        except BaseException:
            self._slots.release()
            raise

    def _end(self, run: _Run) -> None:
        if run.num_sent:
            # What was computed is in the cache, for the turn that continues from it.
            whole = self._reader.extend(run.prompt, token_array(run.body[: run.num_sent]))
            if whole.num_blocks > run.prompt.num_blocks:
                self._cache.insert(run.salt, whole.digests())
        self._slots.release()

    def _admit(self, request: Generation) -> Controls:
        controls = read_controls(request.hints)
        self._check_window(request)
        self._slots.check()
        if controls.reject:
            raise EngineUnavailable("refused, as asked")
        return controls

    def _check_window(self, request: Generation) -> None:
        if len(request.prompt) >= self._profile.window:
            raise ContextTooLong(
                f"{len(request.prompt)} prompt tokens leave no room in {self._profile.window}"
            )

    def _find(self, request: Generation, prompt: Reading) -> int:
        """How many leading tokens of the prompt are cached; the last token never counts.

        An engine computes the last token in any case: what follows it is what was asked for.
        """
        size = self._profile.block_size
        num_blocks = self._cache.lookup(request.cache_salt, prompt.digests())
        return min(num_blocks, (prompt.length - 1) // size) * size

    async def _sleep(self, delay_sec: float) -> None:
        """Wait, but not longer than until `aclose`.

        Raises:
            EngineError: the engine was closed.
        """
        if delay_sec > 0:
            loop = asyncio.get_running_loop()
            timer: asyncio.Future[None] = loop.create_future()
            handle = loop.call_later(delay_sec, _ring, timer)
            self._sleeping.add(timer)
            try:
                await timer
            finally:
                handle.cancel()
                self._sleeping.discard(timer)
        if self._closed:
            raise EngineError("the engine was closed")


class _Run:
    """One generation that has a slot.

    Attributes:
        body: The ids that it will yield: all of its output, or the part before its failure.
        num_ids: Size of the whole output.
        num_sent: How many it has yielded.
        likelihood: The scores of its output, if they were asked for.
    """

    __slots__ = (
        "_finish",
        "body",
        "likelihood",
        "num_cached",
        "num_ids",
        "num_sent",
        "prompt",
        "salt",
    )

    def __init__(
        self, prompt: Reading, num_cached: int, output: Output, fail_after: int | None, salt: str
    ) -> None:
        self.prompt = prompt
        self.num_cached = num_cached
        self.salt = salt
        self.num_sent = 0
        self.num_ids = len(output.ids)
        self.body = output.ids if fail_after is None else output.ids[:fail_after]
        self._finish: FinishReason = output.finish
        self.likelihood: Likelihood | None = None

    def delta(self, begin: int, end: int) -> Delta:
        """The delta of the ids from `begin` up to `end`, with all that it must say."""
        ids = self.body[begin:end]
        scored = self.likelihood
        return Delta(
            ids,
            self._finish if end == self.num_ids else None,
            None if begin else self.num_cached,
            None
            if scored is None
            else [scored.of(begin + place, id_) for place, id_ in enumerate(ids)],
        )

    def fail_if_asked(self) -> None:
        """Raise the failure that the request asked for, if there is one."""
        if len(self.body) < self.num_ids:
            raise EngineError(f"failed after {len(self.body)} tokens, as asked")


def _ring(timer: asyncio.Future[None]) -> None:
    if not timer.done():
        timer.set_result(None)
