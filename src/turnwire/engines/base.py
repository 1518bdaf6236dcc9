"""The seam every engine implements, ours or a user's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from turnwire.constraint import Constraint
from turnwire.logprobs import Scores
from turnwire.tokens import Tokens

__all__ = ["Delta", "Engine", "FinishReason", "Generation"]

FinishReason = Literal["stop", "length"]
"""stop: the engine sampled a stop token. length: `max_new_tokens` were produced."""


class Generation(Struct, frozen=True, kw_only=True):
    """One request to an engine.

    Attributes:
        prompt: Token ids, shape (num_prompt_tokens,), at least one. It shares its prefix with
            earlier prompts of the conversation; `prompt.to_array()` flattens it at O(n) cost.
        max_new_tokens: Most tokens to produce, stop token included, at least 1; None for no
            limit but the window's.
        stop: Token ids that end the output; the one sampled is yielded as the last id.
        temperature: 0 is greedy.
        top_p: Nucleus, 0 to 1.
        presence_penalty: -2 to 2, taken off the logit of each token that the output holds already.
        frequency_penalty: -2 to 2, taken off as many times as the output holds the token.
        top_logprobs: Score the tokens, with so many alternatives each, 0 to 20; None for no scores.
        seed: For engines that can repeat themselves; None for any.
        constraint: A grammar the output obeys, or None.
        session: Opaque key of the conversation: an affinity hint, never a promise.
        cache_salt: Prefix caches are shared only between equal salts (one per owner).
        hints: Controls for engines that simulate (`sim.output_tokens`, ...); others ignore it.
    """

    prompt: Tokens
    max_new_tokens: int | None = None
    stop: frozenset[int] = frozenset()
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int | None = None
    seed: int | None = None
    constraint: Constraint | None = None
    session: str = ""
    cache_salt: str = ""
    hints: Mapping[str, str] = {}


class Delta(Struct, frozen=True):
    """Tokens produced since the previous delta.

    Attributes:
        ids: Token ids, shape (k,); k >= 1, or 0 in the first or last delta.
        finish: Set in the last delta, and only there.
        num_cached: Leading prompt tokens the engine did not compute again: its own true
            count. Set in the first delta, and only there.
        logprobs: Parallel to `ids`, if they were asked for and the engine has them: of the model's
            own distribution, whatever temperature, penalties and constraint made of it.
    """

    ids: Sequence[int]
    finish: FinishReason | None = None
    num_cached: int | None = None
    logprobs: Sequence[Scores] | None = None


class Engine(Protocol):
    """Token ids in, token ids out. Contract suite: `tests/contracts/engine.py`."""

    @property
    def window(self) -> int:
        """Most tokens of prompt and output together."""
        ...

    @property
    def num_slots(self) -> int:
        """Generations that can run at the same time."""
        ...

    @property
    def num_running(self) -> int:
        """Generations that hold a slot now."""
        ...

    @property
    def num_waiting(self) -> int:
        """Generations that wait for a slot now."""
        ...

    def check(self, request: Generation) -> None:
        """Raise now what `generate` would raise before its first delta, as far as is known.

        So a request that cannot be served is refused before its answer begins. Cheap: no I/O.

        Raises:
            ContextTooLong: as `generate`.
            EngineUnavailable: every slot and every waiting place is taken.
            EngineError: a hint is malformed.
        """
        ...

    def generate(self, request: Generation) -> AsyncGenerator[Delta, None]:
        """Yield the new tokens of one generation, in order; the last delta has `finish`.

        Raises:
            ContextTooLong: the prompt plus one token exceeds the window; before any delta.
            EngineUnavailable: before the first delta: refused, may be retried.
            EngineError: after it: the tokens already yielded stand and the turn fails.

        Cancellation: `aclose()` frees the slot within one decode step; tokens computed but not
        yielded are lost, the engine stays usable.
        """
        ...

    async def prefill(self, request: Generation) -> int:
        """Bring the prompt into the prefix cache without producing output.

        Returns:
            How many leading tokens were cached already.
        """
        ...

    async def aclose(self) -> None:
        """Release what the engine holds; generations still running end with EngineError."""
        ...
