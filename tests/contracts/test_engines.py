"""The contract suite of engines, run on the engines that are here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.contracts.engine import EngineContract, Subject

from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.engines.vocabulary import END_OF_TEXT, END_OF_TURN, Vocabulary
from turnwire.rendering.tokenizer import Tokenizer


class TestSimEngine(EngineContract):
    """The simulated engine, as fast as it can be and throttled."""

    @pytest.fixture(params=[None, 20_000.0], ids=["unthrottled", "throttled"])
    async def subject(self, request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
        """A small engine, so that its bounds are met."""
        shipped = Tokenizer.shipped()
        special = shipped.special
        engine = SimEngine(
            Vocabulary(shipped.token_bytes(), special, shipped.encode),
            SimProfile(tokens_per_sec=request.param, slots=2, max_waiting=4, window=2048),
        )
        yield Subject(
            engine=engine,
            num_slots=2,
            words=[id_ for word in ("one", " two", " three") for id_ in shipped.encode(word)],
            stop=frozenset({special[END_OF_TURN], special[END_OF_TEXT]}),
            token_bytes=shipped.token_bytes(),
            has_scores=True,
        )
        await engine.aclose()
