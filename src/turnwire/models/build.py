"""From what the configuration says to models that answer.

What an engine or a model needs beyond the package itself is imported only where one is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from turnwire.engines.author import Author
from turnwire.engines.base import Engine
from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import ConfigError
from turnwire.gguf import GgufHeader, read_gguf
from turnwire.hub import Progress, fetch, parts_of
from turnwire.model_config import (
    ChatModelConfig,
    EngineConfig,
    EngineModelConfig,
    LlamaCppConfig,
    ModelConfig,
    Secrets,
    SimConfig,
)
from turnwire.models.base import Model
from turnwire.models.registry import Offer
from turnwire.models.sim_model import SimModel
from turnwire.models.token_model import TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer

if TYPE_CHECKING:
    from turnwire.rendering.load import Loaded, Report

__all__ = ["Builder", "Hub"]

MAX_CHATS: Final = 64
TEMPLATE_KEY: Final = "tokenizer.chat_template"


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
    """Builds models one by one; an engine that several of them name is built once.

    Attributes:
        reports: What was found out about the templates of models, by name.
    """

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
        self.reports: Final[dict[str, Report]] = {}

    async def fetch(self, told: ModelConfig) -> Path | None:
        """Return the path of a model's own file; those of the hub are fetched if they are not here.

        Raises:
            HubError: it cannot be fetched.
        """
        if isinstance(told, ChatModelConfig):
            return None
        engine = self._engines[told.engine]
        if isinstance(engine, SimConfig):
            return None
        if engine.hf is None:
            return None if engine.path is None else Path(parts_of(str(engine.path))[0])
        hub = self._hub
        paths = [
            await fetch(part, hub.folder, hub_url=hub.url, key=hub.key, progress=hub.progress)
            for part in parts_of(engine.hf)
        ]
        return paths[0]

    async def build(self, name: str, told: ModelConfig) -> Offer:
        """Build a model; its engine with it, if that is its first.

        Args:
            name: As clients ask for it.
            told: What the configuration says of it.

        Raises:
            ConfigError: what it needs is not there, or cannot be used; says the mend.
            EngineUnavailable: its engine is not there now.
            HubError: its file cannot be fetched.
        """
        if isinstance(told, ChatModelConfig):
            model: Model = self._chat(name, told)
        elif isinstance(engine := self._engines[told.engine], SimConfig):
            model = self._on_sim(name, told.engine, engine)
        else:
            model = await self._on_llamacpp(name, told, engine)
        return Offer(
            model=model,
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

    # -- on engines

    def _on_sim(self, name: str, engine_name: str, told: SimConfig) -> SimModel:
        tokenizer = Tokenizer.shipped()
        engine = self._built.get(engine_name)
        if engine is None:
            vocabulary = _vocabulary(tokenizer)
            profile = SimProfile(
                tokens_per_sec=told.tokens_per_sec,
                prefill_overhead_sec=told.prefill_overhead_sec,
                prefill_sec_per_token=told.prefill_sec_per_token,
                slots=told.slots,
                max_waiting=told.max_waiting,
                window=told.window,
            )
            engine = self._built[engine_name] = SimEngine(vocabulary, profile, Author(vocabulary))
        return SimModel(TokenModel(name, Renderer(tokenizer), engine, every_schema=True))

    async def _on_llamacpp(
        self, name: str, told: EngineModelConfig, engine: LlamaCppConfig
    ) -> TokenModel:
        path = await self.fetch(told)
        # Some tenths of a second: a server that reloads must not stand still for it.
        loaded = await asyncio.to_thread(_template, told, path)
        self.reports[name] = loaded.report
        built = self._built.get(told.engine)
        if built is None:
            vocabulary = _vocabulary(loaded.template.tokenizer)
            built = await self._llamacpp(engine, path, vocabulary)
            self._built[told.engine] = built
        return TokenModel(name, loaded.template, built)

    async def _llamacpp(
        self, told: LlamaCppConfig, path: Path | None, vocabulary: Vocabulary
    ) -> Engine:
        from turnwire.engines.llamacpp_server import LlamaCppOptions

        options = LlamaCppOptions(max_waiting=told.max_waiting)
        if told.url is not None:
            from turnwire.engines.llamacpp import LlamaCppEngine

            key = self._secrets.get(told.key_env)
            return await LlamaCppEngine.connect(told.url, vocabulary, api_key=key, options=options)
        if path is None:
            raise AssertionError("one of path, hf and url is given")
        from turnwire.engines.llamacpp_process import LlamaCppModel, start_llamacpp

        model = LlamaCppModel(
            window=told.window,
            slots=told.slots,
            threads=told.threads,
            gpu_layers=told.gpu_layers,
            cache_ram_mib=told.cache_ram_mib,
        )
        return await start_llamacpp(path, vocabulary, model=model, options=options)

    # -- of other servers

    def _chat(self, name: str, told: ChatModelConfig) -> Model:
        from turnwire.models.chat.model import ChatModel
        from turnwire.models.chat.options import ChatOptions, MessageRules, Patience

        options = ChatOptions(
            base_url=told.base_url,
            model=told.model or name,
            api_key=self._secrets.get(told.key_env),
            headers=told.headers,
            window=told.window,
            proxy=told.proxy,
            rules=MessageRules(
                system_role=told.system_role,
                later_system_role=told.later_system_role,
                alternates=told.alternates,
                reasoning_field=told.reasoning_field,
                short_ids=told.short_ids,
                takes_images=told.takes_images,
                takes_files=told.takes_files,
            ),
            patience=Patience(
                connect_sec=told.connect_sec,
                first_byte_sec=told.first_byte_sec,
                idle_sec=told.idle_sec,
                max_retries=told.max_retries,
            ),
            max_concurrent=told.max_concurrent or MAX_CHATS,
            max_tokens_field=told.max_tokens_field,
            sends_strict=told.sends_strict,
            sends_effort=told.sends_effort,
            sends_cache_key=told.sends_cache_key,
            sends_cache_salt=told.sends_cache_salt,
            checks=told.checks,
            warms=told.warms,
            extra=told.extra,
        )
        return ChatModel(name, options)


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    return Vocabulary(
        token_bytes=tokenizer.token_bytes(), special=tokenizer.special, encode=tokenizer.encode
    )


def _template(told: EngineModelConfig, path: Path | None) -> Loaded:
    """The template of a model, from its own files or those of its engine.

    Raises:
        ConfigError: it cannot be found or used.
    """
    # Here, because a server without such a model needs none of it.
    from turnwire.rendering.load import load_directory, load_gguf, load_template

    source = told.tokenizer or path
    if source is None:
        raise ConfigError(
            "a llama-server does not show its vocabulary; name the model's "
            "GGUF file, its tokenizer.json or its folder in model.NAME.tokenizer."
        )
    text = _read(told.template) if told.template is not None else None
    if source.is_dir():
        if text is not None:
            raise ConfigError(
                f"put the template into {source} as chat_template.jinja, or name "
                "the tokenizer.json in it."
            )
        return load_directory(source, family=told.family)
    if source.suffix == ".json":
        return load_template(Tokenizer.load(source), text, family=told.family)
    header = read_gguf(source)
    return load_gguf(header if text is None else _with(header, text), family=told.family)


def _with(header: GgufHeader, template: str) -> GgufHeader:
    """The head of a file, as if it had another template."""
    kept = {key: value for key, value in header.metadata.items() if TEMPLATE_KEY not in key}
    return structs.replace(header, metadata={**kept, TEMPLATE_KEY: template})


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the template {path}: {error}") from error
