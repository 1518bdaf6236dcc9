"""The contract suite of models, run on the models that are here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
from tests.contracts.endpoint import endpoint
from tests.contracts.model import CallingModelContract, Subject
from tests.contracts.sim_endpoint import simulated

from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.engines.vocabulary import Vocabulary
from turnwire.models.chat.model import ChatModel, PreparedChat
from turnwire.models.chat.options import ChatOptions, MessageRules
from turnwire.models.token_model import PreparedTokens, TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer

SHORT = {"sim.output_tokens": "12"}
LONG = {"sim.output_tokens": "100000"}
NUM_SLOTS = 2


def simulation(*, slots: int, tokens_per_sec: float | None = None) -> TokenModel:
    """A simulated model."""
    tokenizer = Tokenizer.shipped()
    vocabulary = Vocabulary(
        token_bytes=tokenizer.token_bytes(), special=tokenizer.special, encode=tokenizer.encode
    )
    profile = SimProfile(tokens_per_sec=tokens_per_sec, slots=slots, window=200_000)
    return TokenModel("sim", Renderer(tokenizer), SimEngine(vocabulary, profile))


class TestTokenModel(CallingModelContract):
    """The simulated model: tokens in, tokens out."""

    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        """One with room for many, and one with two places that never comes to an end."""
        model = simulation(slots=64)
        endless = simulation(slots=NUM_SLOTS, tokens_per_sec=2000.0)

        def sent(prepared: PreparedTokens) -> bytes:
            return prepared.prompt.to_array().tobytes()

        yield Subject(model, endless, NUM_SLOTS, sent, SHORT, LONG, has_scores=True)
        await model.aclose()
        await endless.aclose()


class TestChatModel(CallingModelContract):
    """The same model behind chat completions."""

    @pytest.fixture(
        params=[MessageRules(), MessageRules(reasoning_field="reasoning_content")],
        ids=["reasoning-dropped", "reasoning-sent-back"],
    )
    async def subject(self, request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
        """Its own places are what limits it."""
        brief = simulation(slots=64)
        talking = simulation(slots=64, tokens_per_sec=2000.0)
        async with endpoint(simulated(brief)) as one, endpoint(simulated(talking)) as other:

            def chat(url: str, slots: int, hints: Mapping[str, str]) -> ChatModel:
                options = ChatOptions(
                    base_url=url,
                    model="sim",
                    rules=request.param,
                    max_concurrent=slots,
                    warms=True,
                    extra={"metadata": hints},
                )
                return ChatModel("chat", options)

            def sent(prepared: PreparedChat) -> bytes:
                return b"".join(prepared.body())

            model, endless = chat(one.url, 64, SHORT), chat(other.url, NUM_SLOTS, LONG)
            yield Subject(model, endless, NUM_SLOTS, sent, has_scores=True)
            await model.aclose()
            await endless.aclose()
        await brief.aclose()
        await talking.aclose()
