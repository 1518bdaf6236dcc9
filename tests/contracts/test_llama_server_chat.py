"""The contract suite of models, run on a real llama-server's chat route."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.contracts.model import ModelContract, Subject
from tests.random_model import random_model

from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess
from turnwire.models.chat.model import ChatModel, PreparedChat
from turnwire.models.chat.options import ChatOptions

NUM_SLOTS = 2
SERVED = LlamaCppModel(window=2048, slots=4, threads=1, cache_ram_mib=0)


class TestLlamaServerChat(ModelContract):
    """Random weights, which say the same each time; the template knows no tools."""

    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        """A server of its own for each test, known by its URL and its key."""
        somebody = LlamaCppProcess.of(random_model(), SERVED)
        url = f"{await somebody.locate()}/v1"

        def chat(slots: int, limit: int | None) -> ChatModel:
            options = ChatOptions(
                base_url=url,
                model="random",
                api_key=somebody.api_key,
                max_concurrent=slots,
                max_output_tokens=limit,
                warms=True,
                # Its own stop token is as likely as any other.
                extra={"temperature": 0, "ignore_eos": True},
            )
            return ChatModel("random", options)

        def sent(prepared: PreparedChat) -> bytes:
            return b"".join(prepared.body())

        model, endless = chat(4, 12), chat(NUM_SLOTS, None)
        yield Subject(model, endless, NUM_SLOTS, sent, has_scores=True)
        await model.aclose()
        await endless.aclose()
        await somebody.aclose()
