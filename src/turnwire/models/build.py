"""From what the configuration says to models that answer.

What an engine or a model needs beyond the package itself is imported only where one is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from turnwire.engines.author import Author
from turnwire.engines.base import Engine
from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.engines.vocabulary import Vocabulary
from turnwire.hub import Progress
from turnwire.model_config import EngineConfig, EngineModelConfig, ModelConfig, Secrets, SimConfig
from turnwire.models.base import Model
from turnwire.models.registry import Offer
from turnwire.models.token_model import TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["Builder", "Hub"]


class Hub(Struct, frozen=True, kw_only=True):
    """Where files named by `hf` come from, and where they are kept.

    Attributes:
        url: Of the hub.
        folder: Where its files are kept.
        key: For those that are not public.
        progress: Hears how far a download is.
    """

    url: str
    folder: Path
    key: str | None = None
    progress: Progress | None = None


class Builder:
    """Builds models one by one; an engine that several of them name is built once."""

    def __init__(self, engines: Mapping[str, EngineConfig], secrets: Secrets, hub: Hub) -> None:
        """
        Args:
            engines: By name.
            secrets: What `key_env` fields stand for.
            hub: For engines whose file is there.
        """
        self._engines: Final = engines
        self._secrets: Final = secrets
        self._hub: Final = hub
        self._built: Final[dict[str, Engine]] = {}

    async def build(self, name: str, told: ModelConfig) -> Offer:
        """Build a model; its engine with it, if that is its first.

        Args:
            name: As clients ask for it.
            told: What the configuration says of it.

        Raises:
            ConfigError: what it needs is not there, or cannot be used; names the mend.
            EngineUnavailable: its engine is not there now.
            HubError: its file cannot be fetched.
        """
        return Offer(
            model=await self._model(name, told),
            aliases=told.aliases,
            max_output_tokens=told.max_output_tokens,
            max_concurrent=told.max_concurrent,
            effort=told.effort,
            prices=told.prices,
        )

    async def aclose(self) -> None:
        """Close every engine; for when not all that is wanted could be built."""
        for engine in self._built.values():
            await engine.aclose()

    async def _model(self, name: str, told: ModelConfig) -> Model:
        if not isinstance(told, EngineModelConfig):
            raise AssertionError
        return await self._on_engine(name, told)

    async def _on_engine(self, name: str, told: EngineModelConfig) -> TokenModel:
        engine = self._engines[told.engine]
        if not isinstance(engine, SimConfig):
            raise AssertionError
        renderer = Renderer(Tokenizer.shipped())
        return TokenModel(name, renderer, self._sim(told.engine, engine), every_schema=True)

    def _sim(self, name: str, told: SimConfig) -> Engine:
        built = self._built.get(name)
        if built is None:
            tokenizer = Tokenizer.shipped()
            vocabulary = Vocabulary(
                token_bytes=tokenizer.token_bytes(),
                special=tokenizer.special,
                encode=tokenizer.encode,
            )
            profile = SimProfile(
                tokens_per_sec=told.tokens_per_sec,
                prefill_overhead_sec=told.prefill_overhead_sec,
                prefill_sec_per_token=told.prefill_sec_per_token,
                slots=told.slots,
                max_waiting=told.max_waiting,
                window=told.window,
            )
            built = self._built[name] = SimEngine(vocabulary, profile, Author(vocabulary))
        return built
