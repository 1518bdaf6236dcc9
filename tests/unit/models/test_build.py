"""Tests of `turnwire.models.build`: engines of llama.cpp are built for real."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs
from tests.random_model import random_model

from turnwire.config_sources import load
from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess
from turnwire.engines.sim import SimEngine
from turnwire.errors import ConfigError, EngineUnavailable
from turnwire.hub import HubError
from turnwire.model_config import (
    ChatModelConfig,
    EngineConfig,
    EngineModelConfig,
    LlamaCppConfig,
    ModelConfig,
    Prices,
    Secrets,
    SimConfig,
)
from turnwire.models.base import Settings
from turnwire.models.build import Builder, Hub
from turnwire.models.chat.model import ChatModel
from turnwire.models.chat.options import ChatOptions
from turnwire.models.registry import Offer
from turnwire.models.sim_model import SimModel
from turnwire.models.token_model import TokenModel
from turnwire.parts import Finished
from turnwire.protocol.items import InputText, Message
from turnwire.rendering.tokenizer import Tokenizer

SMALL = LlamaCppConfig(window=2048, slots=1, threads=1, cache_ram_mib=0)
OWN = (
    "{% for m in messages %}<|im_start|>{{ m.role }} says\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant says\n{% endif %}"
)


@asynccontextmanager
async def building(
    tmp_path: Path, secrets: Secrets | None = None, **engines: EngineConfig
) -> AsyncIterator[Builder]:
    """A builder that closes what it built."""
    hub = Hub(url="http://127.0.0.1:1", folder=tmp_path / "models")
    builder = Builder(engines, secrets or Secrets(), hub)
    try:
        yield builder
    finally:
        await builder.aclose()


async def says(offer: Offer, text: str = "Hello") -> Finished:
    """The end of an answer."""
    item = Message(role="user", content=(InputText(text=text),))
    prepared = offer.model.prepare(None, [item], Settings(max_output_tokens=16))
    async for part in prepared.respond():
        if isinstance(part, Finished):
            return part
    raise AssertionError("it finishes")


async def test_models_share_an_engine(tmp_path: Path) -> None:
    """Built once, with what the configuration says of it; each model has terms of its own."""
    async with building(tmp_path, fast=SimConfig(slots=3, window=500)) as builder:
        one = await builder.build(
            "one",
            EngineModelConfig(
                engine="fast",
                aliases=("uno",),
                max_output_tokens=20,
                max_concurrent=2,
                effort="low",
                prices=Prices(input=1, output=2),
            ),
        )
        two = await builder.build("two", EngineModelConfig(engine="fast"))
        assert isinstance(one.model, SimModel)
        assert isinstance(two.model, SimModel)
        engine = one.model.tokens.engine
        assert engine is two.model.tokens.engine
        assert isinstance(engine, SimEngine)
        assert (3, 500) == (engine.num_slots, engine.window)
        assert ("one", "uno") == one.names
        assert (20, 2, "low") == (one.limit(None), one.num_places, one.effort)
        assert (None, 3, None) == (two.limit(None), two.num_places, two.effort)
        assert 0 < (await says(two)).num_output_tokens


async def test_a_gguf_file(tmp_path: Path) -> None:
    """Vocabulary and template are the file's; what it says is sampled by llama.cpp."""
    async with building(tmp_path, local=structs.replace(SMALL, path=random_model())) as builder:
        offer = await builder.build("tiny", EngineModelConfig(engine="local"))
        assert isinstance(offer.model, TokenModel)
        assert 1 == offer.model.num_slots
        first = await says(offer)
        again = await says(offer)
        assert 0 == first.num_cached_tokens < again.num_cached_tokens
        assert builder.reports["tiny"].append_only


async def test_a_file_of_the_hub_that_is_there_already(tmp_path: Path) -> None:
    """Nobody is asked for it again."""
    path = tmp_path / "models/owner/name/tiny.gguf"
    path.parent.mkdir(parents=True)
    shutil.copy(random_model(), path)
    async with building(tmp_path, hub=structs.replace(SMALL, hf="owner/name/tiny.gguf")) as builder:
        offer = await builder.build("tiny", EngineModelConfig(engine="hub"))
        assert 0 < (await says(offer)).num_output_tokens


async def test_a_file_of_the_hub_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them have to be there, and the first says what the model is."""
    first = tmp_path / "models/owner/name/tiny-00001-of-00002.gguf"
    first.parent.mkdir(parents=True)
    first.touch()
    first.with_name("tiny-00002-of-00002.gguf").touch()
    told = structs.replace(SMALL, hf="owner/name/tiny-00002-of-00002.gguf")
    async with building(tmp_path, hub=told) as builder:
        monkeypatch.setattr("turnwire.hub.FIRST_PAUSE_SEC", 0.0)
        assert first == await builder.fetch(EngineModelConfig(engine="hub"))
        near = structs.replace(told, hf=None, path=first.with_name("tiny-00002-of-00002.gguf"))
        builder = Builder({"hub": near}, Secrets(), Hub(url="", folder=tmp_path))
        assert first == await builder.fetch(EngineModelConfig(engine="hub"))
    first.unlink()
    async with building(tmp_path, hub=told) as builder:
        with pytest.raises(HubError, match=r"tiny-00001-of-00002\.gguf could not be fetched"):
            await builder.fetch(EngineModelConfig(engine="hub"))


async def test_a_llama_server(tmp_path: Path) -> None:
    """By its URL and its key, with a vocabulary that has to be named."""
    somebody = LlamaCppProcess.of(
        random_model(), LlamaCppModel(window=2048, slots=1, threads=1, cache_ram_mib=0)
    )
    try:
        engine = LlamaCppConfig(url=await somebody.locate(), key_env="LLAMA_KEY")
        secrets = Secrets({"LLAMA_KEY": somebody.api_key})
        async with building(tmp_path, secrets, far=engine) as builder:
            with pytest.raises(ConfigError, match=r"does not show its vocabulary.*tokenizer"):
                await builder.build("tiny", EngineModelConfig(engine="far"))
            told = EngineModelConfig(engine="far", tokenizer=random_model())
            offer = await builder.build("tiny", told)
            assert 0 < (await says(offer)).num_output_tokens
    finally:
        await somebody.aclose()


@pytest.mark.parametrize("source", ["gguf", "json"])
async def test_a_template_of_ones_own(tmp_path: Path, source: str) -> None:
    """It is used in place of the file's, whichever kind of file the vocabulary comes from."""
    template = tmp_path / "own.jinja"
    template.write_text(OWN)
    tokenizer: Path | None = None
    if source == "json":
        tokenizer = tmp_path / "tokenizer.json"
        tokenizer.write_text(Tokenizer.shipped()._data)
    told = EngineModelConfig(engine="local", tokenizer=tokenizer, template=template)
    async with building(tmp_path, local=structs.replace(SMALL, path=random_model())) as builder:
        offer = await builder.build("tiny", told)
        assert isinstance(offer.model, TokenModel)
        item = Message(role="user", content=(InputText(text="Hello"),))
        prepared = offer.model.prepare(None, [item], Settings())
        text = offer.model.renderer.tokenizer.decode(prepared.prompt)
        assert text.endswith("<|im_start|>user says\nHello<|im_end|>\n<|im_start|>assistant says\n")


@pytest.mark.parametrize(
    ("engine", "model", "message"),
    [
        (SMALL, EngineModelConfig(engine="e", tokenizer=Path("/no.gguf")), "no.gguf"),
        (SMALL, EngineModelConfig(engine="e", tokenizer=Path("/no.json")), "no.json"),
        (SMALL, EngineModelConfig(engine="e", template=Path("/no.jinja")), "no.jinja"),
        (SMALL, EngineModelConfig(engine="e", family="latin"), "latin"),
        (
            SMALL,
            EngineModelConfig(engine="e", tokenizer=Path("/"), template=Path(__file__)),
            "chat_template.jinja",
        ),
        (structs.replace(SMALL, path=Path("/no.gguf")), EngineModelConfig(engine="e"), "no.gguf"),
        (structs.replace(SMALL, path=Path(__file__)), EngineModelConfig(engine="e"), "test_build"),
        (
            LlamaCppConfig(url="nonsense"),
            EngineModelConfig(engine="e", tokenizer=random_model()),
            "http://",
        ),
        (None, ChatModelConfig(base_url="nonsense"), "http://"),
    ],
)
async def test_what_cannot_be_built_is_named(
    tmp_path: Path, engine: LlamaCppConfig | None, model: ModelConfig, message: str
) -> None:
    """With the file or the field at fault, and without a process that stays behind."""
    if engine is SMALL:
        engine = structs.replace(SMALL, path=random_model())
    async with building(tmp_path, Secrets(), **({"e": engine} if engine else {})) as builder:
        with pytest.raises(ConfigError, match=message):
            await builder.build("m", model)


async def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    """A server elsewhere may come back, so that is another error."""
    async with building(tmp_path, e=LlamaCppConfig(url="http://127.0.0.1:1")) as builder:
        with pytest.raises(EngineUnavailable):
            await builder.build("m", EngineModelConfig(engine="e", tokenizer=random_model()))


async def test_a_chat_endpoint(tmp_path: Path) -> None:
    """Every field of its table reaches the model, and what is left out is the model's default."""
    file = tmp_path / "turnwire.toml"
    file.write_text(
        '[model.far]\nkind = "chat"\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "upstream"\n'
        'key_env = "FAR_KEY"\nheaders = { X-Team = "a" }\nwindow = 9000\n'
        'system_role = "developer"\n'
        'later_system_role = "user"\nalternates = true\nreasoning_field = "reasoning"\n'
        "short_ids = true\n"
        "takes_images = true\n"
        'takes_files = true\nmax_tokens_field = "max_completion_tokens"\nsends_strict = true\n'
        "sends_effort = false\nsends_cache_key = true\nsends_cache_salt = true\nchecks = false\n"
        "warms = true\nconnect_sec = 1\nfirst_byte_sec = 2\nidle_sec = 3\nmax_retries = 4\n"
        "max_concurrent = 5\nextra = { chat_template_kwargs = { thinking = true } }\n"
        '[model.near]\nkind = "chat"\nbase_url = "http://127.0.0.1:2/v1"\n'
    )
    config = load(file, {"HOME": str(tmp_path), "FAR_KEY": "sk-far"})
    async with building(tmp_path, config.secrets) as builder:
        far, near = [await builder.build(*told) for told in config.model.items()]
    assert isinstance(far.model, ChatModel)
    assert isinstance(near.model, ChatModel)
    options = far.model.options
    rules, patience = options.rules, options.patience
    assert ("upstream", "sk-far", {"X-Team": "a"}) == (
        options.model,
        options.api_key,
        options.headers,
    )
    assert ("developer", "user", True, "reasoning", True, True, True) == (
        rules.system_role,
        rules.later_system_role,
        rules.alternates,
        rules.reasoning_field,
        rules.short_ids,
        rules.takes_images,
        rules.takes_files,
    )
    assert (1.0, 2.0, 3.0, 4) == (
        patience.connect_sec,
        patience.first_byte_sec,
        patience.idle_sec,
        patience.max_retries,
    )
    assert (True, False, True, True, False, True) == (
        options.sends_strict,
        options.sends_effort,
        options.sends_cache_key,
        options.sends_cache_salt,
        options.checks,
        options.warms,
    )
    assert (5, 5, 9000, "max_completion_tokens", {"chat_template_kwargs": {"thinking": True}}) == (
        options.max_concurrent,
        far.num_places,
        options.window,
        options.max_tokens_field,
        options.extra,
    )
    assert ChatOptions(base_url="http://127.0.0.1:2/v1", model="near") == near.model.options
    await far.model.aclose()
    await near.model.aclose()
