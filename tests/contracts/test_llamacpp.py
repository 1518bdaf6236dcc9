"""The contract suite of engines, run on llama.cpp: our own process, and anybody's by URL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.contracts.engine import EngineContract, Subject
from tests.random_model import random_model

from turnwire.engines.llamacpp import LlamaCppEngine
from turnwire.engines.llamacpp_grammar import Dialect
from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess, start_llamacpp
from turnwire.engines.llamacpp_server import LlamaCppOptions
from turnwire.engines.vocabulary import END_OF_TEXT, END_OF_TURN, Vocabulary
from turnwire.rendering.tokenizer import Tokenizer

SHIPPED = Tokenizer.shipped()
VOCABULARY = Vocabulary(SHIPPED.token_bytes(), SHIPPED.special, SHIPPED.encode)
MODEL = LlamaCppModel(window=2048, slots=2, threads=1, cache_ram_mib=64)


def subject_of(engine: LlamaCppEngine) -> Subject:
    """The engine, with what the suite must know of its model."""
    return Subject(
        engine=engine,
        num_slots=2,
        words=[id_ for word in ("one", " two", " three") for id_ in SHIPPED.encode(word)],
        stop=frozenset({SHIPPED.special[END_OF_TURN], SHIPPED.special[END_OF_TEXT]}),
        token_bytes=SHIPPED.token_bytes(),
        has_scores=True,
    )


class TestLlamaCppProcess(EngineContract):
    """A GGUF file in a process of our own."""

    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        """A server of its own for each test, with nothing in its caches."""
        options = LlamaCppOptions(max_waiting=4)
        engine = await start_llamacpp(random_model(), VOCABULARY, model=MODEL, options=options)
        yield subject_of(engine)
        await engine.aclose()


class TestLlamaServerByUrl(EngineContract):
    """A llama-server that somebody else runs, spoken to in llama.cpp's own grammars."""

    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        """A server of its own for each test, known by its URL and its key."""
        somebody = LlamaCppProcess.of(random_model(), MODEL)
        engine = await LlamaCppEngine.connect(
            await somebody.locate(),
            VOCABULARY,
            api_key=somebody.api_key,
            options=LlamaCppOptions(max_waiting=4, dialect=Dialect.GBNF),
        )
        yield subject_of(engine)
        await engine.aclose()
        await somebody.aclose()
