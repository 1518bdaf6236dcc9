"""llama.cpp, through the HTTP of its llama-server: token ids to `/completion`, ids back.

The server may be anybody's, reached by URL, or one of our own (`llamacpp_process`). Each of its
slots holds one conversation; `Places` chooses among them, so that a turn computes only what is
new, and no more generations are sent than there are slots. A prompt is sent whole each time, but
written once: `Tokens.to_json`.

Constraints are lowered into a grammar that the server has (`llamacpp_grammar`), and every id
that comes back is held against the original: a server that did not understand its grammar
ignores it without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from turnwire.engines.base import Delta, FinishReason, Generation
from turnwire.engines.llamacpp_constraints import Constraints
from turnwire.engines.llamacpp_server import (
    Answer,
    Facts,
    Fixed,
    Host,
    LlamaCppOptions,
    LlamaServer,
)
from turnwire.engines.llamacpp_wire import Frame, body
from turnwire.engines.places import Places
from turnwire.engines.slots import Slots
from turnwire.engines.vocabulary import Vocabulary
from turnwire.engines.withheld import Withheld
from turnwire.errors import ConfigError, ContextTooLong, EngineUnavailable
from turnwire.logprobs import LEAST, Scores

__all__ = ["LlamaCppEngine", "LlamaCppOptions"]

# llama.cpp counts what came last, whoever said it: so many tokens are mostly the output.
_PENALTY_TOKENS: Final = 1024


class LlamaCppEngine:
    """An engine behind a llama-server; see `turnwire.engines.base.Engine`.

    Made by `connect`, or by `start_llamacpp` of `llamacpp_process`.

    Attributes:
        host: Where the server is.
    """

    def __init__(
        self,
        host: Host,
        server: LlamaServer,
        facts: Facts,
        vocabulary: Vocabulary,
        constraints: Constraints,
        options: LlamaCppOptions,
    ) -> None:
        """Join the parts; use `connect` or `connect_to`."""
        self.host: Final = host
        self._server = server
        self._facts = facts
        self._vocabulary = vocabulary
        self._slots = Slots(facts.num_slots, options.max_waiting)
        self._places = Places(facts.num_slots)
        self._withheld = Withheld(vocabulary)
        self._constraints = constraints
        self._learning = asyncio.Lock()

    @classmethod
    async def connect(
        cls,
        url: str,
        vocabulary: Vocabulary,
        *,
        api_key: str | None = None,
        options: LlamaCppOptions | None = None,
    ) -> LlamaCppEngine:
        """Connect to a llama-server, and learn its window, its slots and its grammars.

        Args:
            url: `http://host:port`, with the server's prefix if it has one.
            vocabulary: Of the model that it serves.
            api_key: What it was started with as `--api-key`.
            options: How to use it.

        Raises:
            EngineUnavailable: it cannot be reached, or does not get ready.
            ConfigError: it wants another key, its model has another vocabulary, or it is no
                llama-server.
        """
        return await cls.connect_to(Fixed(url), vocabulary, api_key=api_key, options=options)

    @classmethod
    async def connect_to(
        cls,
        host: Host,
        vocabulary: Vocabulary,
        *,
        api_key: str | None = None,
        options: LlamaCppOptions | None = None,
    ) -> LlamaCppEngine:
        """Connect to a server that may move; as `connect`. Closing the engine closes `host`."""
        options = options or LlamaCppOptions()
        server = LlamaServer(host, api_key=api_key, options=options)
        try:
            facts = await server.learn(vocabulary)
            constraints = await Constraints.over(vocabulary)
        except BaseException:
            await server.aclose()
            raise
        return cls(host, server, facts, vocabulary, constraints, options)

    @property
    def facts(self) -> Facts:
        """What the server said it is."""
        return self._facts

    @property
    def window(self) -> int:
        """Most tokens of prompt and output together: what one slot holds."""
        return self._facts.window

    @property
    def num_slots(self) -> int:
        """Generations that can run at the same time."""
        return self._facts.num_slots

    @property
    def num_running(self) -> int:
        """Generations that have a slot."""
        return self._slots.num_running

    @property
    def num_waiting(self) -> int:
        """Generations that wait for a slot."""
        return self._slots.num_waiting

    def check(self, request: Generation) -> None:
        """Raise at once what is known to be in the way; see `Engine.check`.

        Raises:
            ContextTooLong: the prompt plus one token exceeds the window.
            EngineUnavailable: closed or full.
        """
        if request.prompt.length >= self.window:
            raise ContextTooLong(
                f"{request.prompt.length} prompt tokens leave no room in {self.window}"
            )
        self._slots.check()

    async def generate(self, request: Generation) -> AsyncGenerator[Delta, None]:
        """Yield the new tokens of one generation; see `Engine.generate`.

        A delta is what arrived together. A token that ends the output for the model, but is
        none of `request.stop`, is told as one of those. When `max_new_tokens` end the output in
        the middle of a character, its tokens may be missing. Tokens that the server did not tell
        have the score `LEAST`; penalties count the end of the prompt too.
        """
        settings: dict[str, object] = {
            "n_predict": -1 if request.max_new_tokens is None else request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
        }
        if request.seed is not None:
            settings["seed"] = request.seed
        if request.top_logprobs is not None:
            settings["n_probs"] = max(1, request.top_logprobs)
        if request.presence_penalty or request.frequency_penalty:
            settings["samplers"] = ("penalties", "temperature", "top_p")
            settings["presence_penalty"] = request.presence_penalty
            settings["frequency_penalty"] = request.frequency_penalty
            settings["repeat_last_n"] = _PENALTY_TOKENS
        async with self._run(request, settings) as (answer, output):
            follower = self._constraints.follower(request, self._server.name)
            while frames := await answer.next():
                delta = output.take(frames)
                if follower is not None:
                    follower.follow(delta.ids)
                if delta.ids or delta.finish or delta.num_cached is not None:
                    yield delta
                if delta.finish is not None:
                    return

    async def prefill(self, request: Generation) -> int:
        """Bring the prompt into the prefix cache; see `Engine.prefill`."""
        async with self._run(request, {"n_predict": 0}) as (answer, output):
            while frames := await answer.next():
                output.take(frames)
        return output.num_cached or 0

    async def aclose(self) -> None:
        """Refuse new generations; those that run or wait end with EngineError."""
        self._slots.close()
        await self._server.aclose()

    @asynccontextmanager
    async def _run(
        self, request: Generation, settings: Mapping[str, object]
    ) -> AsyncGenerator[tuple[Answer, _Output], None]:
        """Hold a slot and an answer that streams; leaving it early has the server stop."""
        self.check(request)
        told_constraint = await self._constraints.told(request, self._facts.dialect)
        await self._slots.acquire()
        try:
            if self._server.lost:
                await self._learn_again()
                told_constraint = await self._constraints.told(request, self._facts.dialect)
            output = _Output(request, self._withheld)
            choice = self._places.take(
                request.prompt, salt=request.cache_salt, session=request.session
            )
            try:
                told = {**settings, "id_slot": choice.slot, "cache_prompt": choice.cached}
                answer = await self._begin(body(request.prompt.to_json(), told, told_constraint))
                try:
                    yield answer, output
                finally:
                    answer.close()
            finally:
                self._places.give_back(choice.slot, output.ids)
        finally:
            self._slots.release()

    async def _begin(self, pieces: Sequence[bytes]) -> Answer:
        try:
            return await self._server.complete(pieces)
        except EngineUnavailable as error:
            # It may have been started anew since it was last used.
            if not self._server.lost or isinstance(error.__cause__, TimeoutError):
                raise
        await self._learn_again()
        return await self._server.complete(pieces)

    async def _learn_again(self) -> None:
        async with self._learning:
            if not self._server.lost:
                return
            try:
                self._facts = await self._server.learn(self._vocabulary)
            except ConfigError as error:
                raise EngineUnavailable(f"{error}") from error
            self._places.forget(self._facts.num_slots)
            self._slots.resize(self._facts.num_slots)


_UNKNOWN: Final = Scores(LEAST)


class _Output:
    """One output, as it arrives.

    Attributes:
        ids: All so far.
        num_cached: Prompt tokens that were not computed again; None before the first event.
    """

    def __init__(self, request: Generation, withheld: Withheld) -> None:
        self.ids: list[int] = []
        self.num_cached: int | None = None
        self._stop = request.stop
        self._num_top = request.top_logprobs
        self._withheld = withheld
        self._stopped = False  # by a stop token, which the server may know, or not
        self._num_counted = 0  # by the server

    def take(self, frames: Sequence[Frame]) -> Delta:
        """Join what arrived together into one delta."""
        ids: list[int] = []
        scores: list[Scores] | None = None if self._num_top is None else []
        finish: FinishReason | None = None
        num_cached: int | None = None
        for frame in frames:
            progress = frame.prompt_progress
            if self.num_cached is None:
                num_cached = self.num_cached = 0 if progress is None else progress.cache
            if progress is not None:
                continue
            if frame.stop:
                finish = "stop" if self._stopped or frame.stop_type == "eos" else "length"
                if finish == "stop" and not self._stopped and self._stop:
                    ids.append(min(self._stop))
                break
            if self._stopped:  # the server goes on: to it, that was a token like any other
                finish = "stop"
                break
            for id_ in self._ids_of(frame):
                ids.append(id_)
                if id_ in self._stop:
                    self._stopped = True
                    break
            if scores is not None:
                self._score(scores, len(ids), frame)
        if scores is not None:
            scores += [_UNKNOWN] * (len(ids) - len(scores))
        self.ids += ids
        return Delta(ids, finish, num_cached, scores)

    def _score(self, scores: list[Scores], num_ids: int, frame: Frame) -> None:
        """Score an event's ids; only its last one's probability is told."""
        scores += [_UNKNOWN] * (num_ids - len(scores) - 1)
        for told in frame.completion_probabilities[: num_ids - len(scores)]:
            top = told.top_logprobs[: self._num_top]
            scores.append(Scores(told.logprob, tuple((one.id, one.logprob) for one in top)))

    def _ids_of(self, frame: Frame) -> Sequence[int]:
        num_new = frame.tokens_predicted - self._num_counted
        self._num_counted = frame.tokens_predicted
        if num_new <= 1 or not frame.tokens:
            return frame.tokens
        return [*self._withheld.before(frame.tokens[0], frame.content, num_new - 1), *frame.tokens]
