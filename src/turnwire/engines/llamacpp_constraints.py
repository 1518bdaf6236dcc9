"""What a llama-server is told of constraints, and what holds its outputs against them.

Each constraint is made ready once, in a thread: grammars take milliseconds to compile, those
that clients write up to half a second, and other turns go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import msgspec

from turnwire.constraint import Constraint
from turnwire.engines.base import Generation
from turnwire.engines.constrain import Guides, following
from turnwire.engines.follower import Follower
from turnwire.engines.llamacpp_grammar import Dialect, lower
from turnwire.engines.vocabulary import Vocabulary

__all__ = ["Constraints"]

_MAX_READY: Final = 256


class _Key(NamedTuple):
    """What makes a difference to what a server is told."""

    constraint: Constraint
    stop: frozenset[int]
    opened: bool  # whether the prompt ends inside of the free span
    dialect: Dialect


class Constraints:
    """Constraints over one vocabulary. For one event loop."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: Any) -> None:
        """
        Args:
            vocabulary: The model's.
            tokenizer: What `following` makes of it.
        """
        self._vocabulary: Final = vocabulary
        self._tokenizer: Final = tokenizer
        self._guides: dict[frozenset[int], Guides] = {}
        self._ready: OrderedDict[_Key, bytes] = OrderedDict()
        # Who compiles has one core at most, whatever is asked for.
        self._making = asyncio.Lock()

    @classmethod
    async def over(cls, vocabulary: Vocabulary) -> Constraints:
        """Make ready what all constraints need."""
        return cls(vocabulary, await asyncio.to_thread(following, vocabulary))

    async def told(self, request: Generation, dialect: Dialect) -> bytes:
        """The members of a request to the server that say its constraint, as JSON; b"" for none.

        Raises:
            GrammarError: the grammar does not compile.
        """
        if request.constraint is None:
            return b""
        key = self._key(request.constraint, request, dialect)
        told = self._find(key)
        if told is None:
            async with self._making:
                told = self._find(key)
                if told is None:
                    told = self._ready[key] = await asyncio.to_thread(self._make, key)
                    if len(self._ready) > _MAX_READY:
                        self._ready.popitem(last=False)
        return told

    def follower(self, request: Generation, name: str) -> Follower | None:
        """What holds the output against the constraint; None without one.

        Args:
            request: One that `told` was asked about.
            name: What errors call the server.
        """
        if request.constraint is None:
            return None
        guide = self._guides[request.stop].start(request.constraint, request.prompt.last())
        return Follower(guide, self._vocabulary.token_bytes, name)

    def _key(self, constraint: Constraint, request: Generation, dialect: Dialect) -> _Key:
        span = constraint.free_span
        opened = span is not None and request.prompt.last() == span[0]
        if request.stop not in self._guides:
            self._guides[request.stop] = Guides(
                self._vocabulary, request.stop, capacity=_MAX_READY, tokenizer=self._tokenizer
            )
        return _Key(constraint, request.stop, opened, dialect)

    def _find(self, key: _Key) -> bytes | None:
        found = self._ready.get(key)
        if found is not None:
            self._ready.move_to_end(key)
        return found

    def _make(self, key: _Key) -> bytes:
        self._guides[key.stop].start(key.constraint)  # so that `follower` finds it compiled
        members = lower(
            key.constraint, key.dialect, self._vocabulary, stop=key.stop, opened=key.opened
        )
        return msgspec.json.encode(members)[1:-1]
