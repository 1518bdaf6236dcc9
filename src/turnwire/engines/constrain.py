"""Constrained decoding: which tokens may come next, for any engine that samples in process.

An engine starts one `Guide` per generation, asks it for a mask before it samples and tells it
what was sampled:

    guide = guides.start(constraint, prompt_last_id)
    while not ended:
        mask = guide.mask()          # None: anything goes
        id_ = sample(logits, mask)
        guide.commit(id_)

A guide is in one of these states; `commit` moves it.

    FREE    before the trigger            every token is allowed, no mask
    SPAN    inside the free span          every token is allowed, but see `Guide.mask`
    HELD    the grammar decides           a mask per token
    ENDED   a stop token was committed    final

    start: SPAN if the prompt ends with the span's `open`, else FREE with a trigger, else HELD
    FREE -open-> SPAN -close-> FREE;  FREE -trigger-> HELD           (with a trigger)
    HELD -open, as the very first token-> SPAN -close-> HELD         (without)

The grammars are llguidance's (engines.md section 5: its masks are exact, and the numpy way
costs microseconds where the torch way compiles kernels).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np
from numpy.typing import NDArray

from turnwire.constraint import LIMITS, Constraint
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import EngineError

__all__ = ["GrammarError", "Guide", "Guides", "Mask", "following"]

Mask = NDArray[np.bool_]
"""Shape (vocabulary_size,): True where the token may come next."""


class GrammarError(EngineError):
    """A grammar does not compile, or grew beyond llguidance's limits while it was matched."""


class _State(Enum):
    FREE = "free"
    SPAN = "span"
    HELD = "held"
    ENDED = "ended"


class Guides:
    """Makes guides over one vocabulary, in any thread; keeps the grammars it compiled."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        stop: Iterable[int],
        *,
        capacity: int = 256,
        tokenizer: Any = None,
    ) -> None:
        """Prepare; nothing is compiled before the first `start`.

        Args:
            vocabulary: The model's tokens.
            stop: Token ids that end an output, at least one.
            capacity: Most grammars to keep compiled; the least recently used goes first.
            tokenizer: From `following`, for guides that nobody asks for a mask; by default one
                is made with the first guide.
        """
        self.stop = sorted(set(stop))
        if not self.stop:
            raise ValueError("a guide needs at least one stop token")
        self.vocabulary = vocabulary
        self._capacity = capacity
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._tokenizer: Any = tokenizer
        self._lock = threading.Lock()
        self.only_stop = self._fixed_mask(allowed=False)
        self.all_but_stop = self._fixed_mask(allowed=True)

    def start(self, constraint: Constraint, prompt_last_id: int | None = None) -> Guide:
        """Return a fresh guide for one generation.

        Args:
            constraint: What the output must look like.
            prompt_last_id: The prompt's final token, or None for an empty prompt.

        Raises:
            GrammarError: the grammar does not compile.
        """
        return Guide(self, constraint, self._matcher(constraint.grammar), prompt_last_id)

    def _matcher(self, grammar: str) -> Any:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = _build_tokenizer(self.vocabulary, self.stop)
            compiled = self._compiled.get(grammar)
            if compiled is not None:
                self._compiled.move_to_end(grammar)
        if compiled is None:
            compiled = llguidance.LLMatcher(
                self._tokenizer,
                grammar,
                log_level=0,
                limits=llguidance.LLParserLimits(**LIMITS),
            )
            if compiled.is_error():
                raise GrammarError(f"The grammar does not compile: {compiled.get_error()}")
            with self._lock:
                self._compiled[grammar] = compiled
                if len(self._compiled) > self._capacity:
                    self._compiled.popitem(last=False)
        # Compiling costs a millisecond, a copy half a microsecond. What is copied is never used
        # otherwise, so that two threads may copy it at once.
        return compiled.deep_copy()

    def _fixed_mask(self, *, allowed: bool) -> Mask:
        mask = np.full(len(self.vocabulary), allowed, dtype=np.bool_)
        mask[self.stop] = not allowed
        mask.setflags(write=False)
        return mask


class Guide:
    """Follows one output; made by `Guides.start`."""

    __slots__ = ("_bits", "_close", "_guides", "_matcher", "_open", "_state", "_trigger", "_untold")

    def __init__(
        self, guides: Guides, constraint: Constraint, matcher: Any, prompt_last_id: int | None
    ) -> None:
        self._guides = guides
        self._matcher = matcher
        self._trigger = constraint.trigger
        # -1 is no token: a guide without a span never meets its ends.
        self._open, self._close = constraint.free_span or (-1, -1)
        self._bits: NDArray[np.int32] | None = None
        # True while the held output is still empty, so that it may start with `open`.
        self._untold = constraint.trigger is None and constraint.free_span is not None
        self._state = _State.HELD if constraint.trigger is None else _State.FREE
        if constraint.free_span is not None and prompt_last_id == self._open:
            self._state = _State.SPAN
            self._untold = False

    @property
    def active(self) -> bool:
        """False while the output is free: before the trigger, or inside the free span."""
        return self._state is _State.HELD

    @property
    def may_stop(self) -> bool:
        """Whether the output may end here, that is, whether a stop token may come next."""
        match self._state:
            case _State.HELD:
                return bool(self._matcher.is_accepting())
            case _State.ENDED:
                return False
            case _:
                return self._trigger is not None

    @property
    def complete(self) -> bool:
        """Whether nothing but a stop token may come next."""
        return self._state is _State.HELD and bool(self._matcher.is_stopped())

    def mask(self) -> Mask | None:
        """Return which tokens may come next, or None if any may. Do not change the array.

        Stop tokens are in it exactly when the output may end. That is why a free span is not
        quite free under a constraint without a trigger: there the mask is everything but the
        stop tokens (one shared array, no cost), or the output could end without having obeyed.

        Raises:
            GrammarError: the grammar grew beyond llguidance's limits.
            ValueError: the output has ended.
        """
        match self._state:
            case _State.HELD:
                return self._held_mask()
            case _State.ENDED:
                raise ValueError("the output has ended")
            case _:
                return None if self._trigger is not None else self._guides.all_but_stop

    def forced(self) -> list[int]:
        """Return the tokens that are certain to come now, as the tokenizer would spell them.

        Empty where there is a choice, and where only a stop token is left. They are not
        committed.
        """
        if self._state is not _State.HELD or self._untold or self._matcher.is_stopped():
            return []
        return list(self._matcher.compute_ff_tokens())

    def commit(self, id_: int) -> None:
        """Take the token that was sampled.

        Raises:
            ValueError: the constraint does not allow the token; the guide is of no more use.
            GrammarError: the grammar grew beyond llguidance's limits.
        """
        match self._state:
            case _State.HELD:
                self._commit_held(id_)
            case _State.SPAN:
                self._commit_span(id_)
            case _State.FREE:
                self._commit_free(id_)
            case _State.ENDED:
                raise ValueError("the output has ended")

    def _commit_free(self, id_: int) -> None:
        if id_ == self._trigger:
            self._state = _State.HELD
        elif id_ == self._open:
            self._state = _State.SPAN
        elif id_ in self._guides.stop:
            self._state = _State.ENDED

    def _commit_span(self, id_: int) -> None:
        if id_ == self._close:
            self._state = _State.HELD if self._trigger is None else _State.FREE
        elif id_ in self._guides.stop:
            if self._trigger is None:
                raise ValueError(f"token {id_} would end the output before it obeyed")
            self._state = _State.ENDED

    def _commit_held(self, id_: int) -> None:
        if self._untold:
            self._untold = False
            if id_ == self._open:
                self._state = _State.SPAN
                return
        if id_ in self._guides.stop:
            if not self._matcher.is_accepting():
                raise ValueError(f"token {id_} would end the output too early")
            self._state = _State.ENDED
        elif self._matcher.is_stopped() or not self._matcher.consume_token(id_):
            # A grammar that forces text without end says so now, and refuses every token.
            reason = self._matcher.get_error()
            if "limit" in reason:
                raise GrammarError(f"The grammar cannot be followed: {reason}")
            raise ValueError(f"token {id_} is not allowed here")

    def _held_mask(self) -> Mask:
        matcher, guides = self._matcher, self._guides
        if matcher.is_stopped():
            if matcher.is_error():
                raise GrammarError(f"The grammar cannot be followed: {matcher.get_error()}")
            return guides.only_stop
        if self._bits is None:
            self._bits = llguidance.numpy.allocate_token_bitmask(1, len(guides.vocabulary))
        llguidance.numpy.fill_next_token_bitmask(matcher, self._bits)
        # A limit that is hit while the mask is made shows as a mask of stop tokens only.
        if matcher.is_error():
            raise GrammarError(f"The grammar cannot be followed: {matcher.get_error()}")
        mask: Mask = np.unpackbits(
            self._bits.view(np.uint8)[0], count=len(guides.vocabulary), bitorder="little"
        ).view(np.bool_)
        if self._untold:
            mask[self._open] = True
        return mask


class _TokenTable:
    """The vocabulary, in the shape that llguidance asks for."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, stop: list[int]) -> None:
        self.eos_token_id = stop[0]
        self.tokens = list(vocabulary.token_bytes)
        self.special_token_ids = sorted(vocabulary.special.values())
        self._encode = vocabulary.encode

    def __call__(self, text: bytes | str) -> list[int]:
        return list(self._encode(text if isinstance(text, str) else text.decode()))


def following(vocabulary: Vocabulary) -> Any:
    """What `Guides` need of a vocabulary, if nobody asks their guides for a mask.

    It serves any stop tokens. Making it holds the interpreter, for 20 ms with 8,000 tokens and
    200 ms with 150,000, in whatever thread: do it before there are clients.
    """
    # Guides see to stop tokens themselves; llguidance wants one all the same, so it gets one that
    # is never sampled.
    end, name = len(vocabulary), "<|never|>"
    table = (*vocabulary.token_bytes, name.encode())
    special = {**vocabulary.special, name: end}
    return _build_tokenizer(Vocabulary(table, special, vocabulary.encode), [end], slices=[])


def _build_tokenizer(
    vocabulary: Vocabulary, stop: list[int], *, slices: list[str] | None = None
) -> Any:
    """
    Args:
        vocabulary: The model's tokens.
        stop: Token ids that end an output.
        slices: What makes masks quick; None for llguidance's own choice.
    """
    table = llguidance.TokenizerWrapper(_TokenTable(vocabulary, stop))
    return llguidance.LLTokenizer(table, eos_token=stop, slices=slices)
