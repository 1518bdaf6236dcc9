"""Engines and models, as the configuration file names them: `[engine.NAME]` and `[model.NAME]`.

An engine turns tokens into tokens, and several models may share one. A model is what clients ask
for by its name: an engine with a vocabulary and a template, or an endpoint of another server. Every
table has a `kind`, which says which other fields it may have; `[model.NAME]` without one stands
on an engine.

Secrets are never in the file: a field `key_env` names the environment variable that holds one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from turnwire.errors import ConfigError

__all__ = [
    "ChatModelConfig",
    "EngineConfig",
    "EngineModelConfig",
    "LlamaCppConfig",
    "ModelConfig",
    "Prices",
    "Secrets",
    "SimConfig",
    "given_model",
    "key_names",
    "problems",
    "with_kinds",
]

Name = Annotated[str, Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Money = Annotated[float, Meta(ge=0)]
Speed = Annotated[float, Meta(gt=0)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Window = Annotated[int, Meta(ge=2)]
HubName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*/(?:[A-Za-z0-9_][\w.+-]*/)*[\w+-][\w.+-]*\Z"
    ),
]
"""OWNER/NAME/FILE: a repository of the hub, and a file in it. No part of it is `..`."""

HUB_PREFIX: Final = "hf:"
HUB_FILE: Final = re.compile(r"(?!.*\.\.)(?:[\w-][\w.-]*/){2,}[\w-][\w.-]*\.gguf", re.ASCII)
"""Of a repository, which has two names, a file; perhaps in a folder."""


class Secrets:
    """Values of the environment variables that the file names. Shows in no repr, text or copy."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def get(self, name: str | None) -> str | None:
        """The value of a variable, if it was asked for and is set."""
        return None if name is None else self._values.get(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secrets) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._values)})"


class SimConfig(Struct, frozen=True, kw_only=True, tag_field="kind", tag="sim"):
    """A simulated engine with the vocabulary of the package.

    Attributes:
        tokens_per_sec: Decoding speed of one generation; None for as fast as it can be read.
        prefill_overhead_sec: Before the first token, whatever the prompt.
        prefill_sec_per_token: The same, for each prompt token that is not cached.
        slots: Generations that run at the same time.
        max_waiting: Generations that wait for a slot; further ones are refused.
        window: Most tokens of prompt and output together.
    """

    tokens_per_sec: Speed | None = None
    prefill_overhead_sec: Seconds = 0.0
    prefill_sec_per_token: Seconds = 0.0
    slots: Positive = 256
    max_waiting: NotNegative = 4096
    window: Window = 131_072


class LlamaCppConfig(Struct, frozen=True, kw_only=True, tag_field="kind", tag="llamacpp"):
    """llama.cpp: exactly one of `path`, `hf` and `url` says where.

    Attributes:
        path: A GGUF file, run in a process of the server's own. Needs the extra `llamacpp`.
        hf: The same from the hub, as `OWNER/NAME/FILE.gguf`; downloaded once, when it starts.
        url: A llama-server that runs already.
        key_env: Environment variable that holds the key of that server.
        window: Tokens of prompt and output together; None for what the file says, up to 32,768.
            Not with `url`.
        slots: Generations at the same time. Not with `url`.
        threads: Threads that compute; None for llama.cpp's own choice. Not with `url`.
        gpu_layers: Layers on a GPU; -1 for as many as fit. Not with `url`.
        cache_ram_mib: Memory for conversations without a slot. Not with `url`.
        max_waiting: Generations that wait for a slot; further ones are refused.
    """

    path: Path | None = None
    hf: Name | None = None
    url: Name | None = None
    key_env: Name | None = None
    window: Window | None = None
    slots: Positive = 4
    threads: Positive | None = None
    gpu_layers: Annotated[int, Meta(ge=-1)] = -1
    cache_ram_mib: NotNegative = 2048
    max_waiting: NotNegative = 256


EngineConfig = SimConfig | LlamaCppConfig


class Prices(Struct, frozen=True, kw_only=True):
    """What a million tokens cost, in one currency of your choice.

    Attributes:
        input: Of the prompt, where the engine had to compute them.
        cached: Of the prompt, where it had them; None for the price of `input`.
        output: Sampled.
    """

    input: Money
    output: Money
    cached: Money | None = None

    def cost(self, num_prompt: int, num_cached: int, num_output: int) -> float:
        """What a response costs; `num_cached` is part of `num_prompt`."""
        cached = self.input if self.cached is None else self.cached
        return (
            (num_prompt - num_cached) * self.input + num_cached * cached + num_output * self.output
        ) / 1e6


class _Model(Struct, frozen=True, kw_only=True):
    aliases: tuple[Name, ...] = ()
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    max_concurrent: Positive | None = None
    effort: Effort | None = None
    prices: Prices | None = None


class EngineModelConfig(_Model, frozen=True, kw_only=True, tag_field="kind", tag="engine"):
    """A model on an engine of `[engine.NAME]`.

    Attributes:
        aliases: Further names that clients may ask for it by.
        max_output_tokens: Most tokens of an answer, whatever a request asks for.
        max_concurrent: Most answers at the same time; further ones wait.
        effort: Reasoning effort of requests that name none.
        prices: Of a million tokens.
        engine: Name of its engine.
        tokenizer: A GGUF file, for what is in its head; a `tokenizer.json`; or a folder with one
            and what else says how it is used. None for the engine's own file.
        template: A file with a chat template in Jinja; None for what the same file says.
        family: Format of the model, where the template does not tell.
    """

    engine: Name
    tokenizer: Path | None = None
    template: Path | None = None
    family: Name | None = None


class ChatModelConfig(_Model, frozen=True, kw_only=True, tag_field="kind", tag="chat"):
    """A model of any server with `/chat/completions`.

    Attributes:
        aliases: Further names that clients may ask for it by.
        max_output_tokens: Most tokens of an answer, whatever a request asks for.
        max_concurrent: Most answers at the same time; further ones wait. 64 if not given.
        effort: Reasoning effort of requests that name none.
        prices: Of a million tokens.
        base_url: Up to and with its version, such as `http://127.0.0.1:11434/v1`.
        model: The endpoint's own name for the model; None for the same name.
        key_env: Environment variable that holds its key.
        headers: Further headers of every request; no secrets.
        window: Tokens of prompt and output together, if that is known.
        proxy: An HTTP proxy to go through.
        system_role: Role of the first message.
        later_system_role: Role of system messages after that; `user` for templates that take
            one in the first place only.
        alternates: Join what the user says in a row into one message, for templates that insist
            on user and assistant taking turns.
        reasoning_field: Under which key a model gets its earlier reasoning back; None drops it.
        short_ids: Give calls ids of nine letters and digits, which Mistral insists on.
        takes_images: Whether pictures may be sent.
        takes_files: Whether files may be sent.
        max_tokens_field: How the endpoint spells the output limit.
        sends_strict: Pass `strict` of tools on.
        sends_effort: Pass the reasoning effort on.
        sends_cache_key: Pass `prompt_cache_key` on, made different for each owner.
        sends_cache_salt: Send `cache_salt` (vLLM), so that owners share no cached prefix.
        checks: Hold the output to the schemas that say `strict: true`.
        warms: Answer a warm-up by having the endpoint read the prompt.
        connect_sec: Longest wait for a connection.
        first_byte_sec: Longest wait for the first byte of an answer.
        idle_sec: Longest wait between two reads of an answer.
        max_retries: Further tries of a request that was certainly not served.
        extra: Further fields of every request body, such as `chat_template_kwargs`.
    """

    base_url: Name
    model: Name | None = None
    key_env: Name | None = None
    headers: dict[str, str] = {}
    window: Window | None = None
    proxy: Name | None = None
    system_role: Literal["system", "developer"] = "system"
    later_system_role: Literal["system", "developer", "user"] = "system"
    alternates: bool = False
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    short_ids: bool = False
    takes_images: bool = False
    takes_files: bool = False
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    sends_strict: bool = False
    sends_effort: bool = True
    sends_cache_key: bool = False
    sends_cache_salt: bool = False
    checks: bool = True
    warms: bool = False
    connect_sec: Seconds = 10.0
    first_byte_sec: Seconds = 600.0
    idle_sec: Seconds = 120.0
    max_retries: NotNegative = 2
    extra: dict[str, Any] = {}


ModelConfig = EngineModelConfig | ChatModelConfig


def with_kinds(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tables of a file, with `kind = "engine"` in those of models that leave it out."""
    models = layer.get("model")
    if not isinstance(models, Mapping):
        return layer
    kinded = {
        name: {"kind": "engine", **table} if isinstance(table, Mapping) else table
        for name, table in models.items()
    }
    return {**layer, "model": kinded}


def given_model(text: str) -> dict[str, dict[str, Any]]:
    """Return the tables that `--model` stands for.

    Args:
        text: `FILE.gguf` or `hf:OWNER/NAME/FILE.gguf`, after `NAME=` for another name than the
            file's; or `NAME=URL` of a server with chat completions, which knows it by that name.

    Raises:
        ConfigError: it is none of these.
    """
    named = re.match(r"([^=/\\]+)=(.+)\Z", text, re.DOTALL)
    name, place = (named[1], named[2]) if named else ("", text)
    if name and place.startswith(("http://", "https://")):
        return {"model": {name: {"kind": "chat", "base_url": place}}}
    if not place.endswith(".gguf"):
        raise ConfigError(
            f"--model {text}: expected FILE.gguf or {HUB_PREFIX}OWNER/NAME/FILE.gguf, perhaps "
            "after NAME=, or NAME=URL of a server with chat completions."
        )
    name = name or place.replace("\\", "/").rpartition("/")[2].removesuffix(".gguf")
    if place.startswith(HUB_PREFIX):
        where = {"hf": place.removeprefix(HUB_PREFIX)}
    else:
        where = {"path": place}
    return {
        "engine": {name: {"kind": "llamacpp", **where}},
        "model": {name: {"kind": "engine", "engine": name}},
    }


def problems(
    engines: Mapping[str, EngineConfig], models: Mapping[str, ModelConfig]
) -> Iterator[str]:
    """What contradicts itself in them, each as a sentence."""
    for name, engine in engines.items():
        if not isinstance(engine, LlamaCppConfig):
            continue
        places = {"path": engine.path, "hf": engine.hf, "url": engine.url}
        given = [field for field, value in places.items() if value is not None]
        if len(given) != 1:
            yield (
                f"engine.{name} needs exactly one of path, hf and url; it has "
                f"{' and '.join(given) or 'none'}."
            )
        if engine.hf is not None and not HUB_FILE.fullmatch(engine.hf):
            yield f"engine.{name}: hf must be OWNER/NAME/FILE.gguf, not {engine.hf!r}."
        if engine.key_env is not None and engine.url is None:
            yield f"engine.{name} has key_env, which is for a url only."
    owner: dict[str, str] = {}
    for name, model in models.items():
        if isinstance(model, EngineModelConfig):
            built_on = engines.get(model.engine)
            if built_on is None:
                there = f"there are {', '.join(engines)}" if engines else "there are none"
                yield f"model.{name}: there is no engine.{model.engine}; {there}."
            elif isinstance(built_on, SimConfig) and (
                model.tokenizer or model.template or model.family
            ):
                yield (
                    f"model.{name} has a tokenizer, a template or a family, but its engine "
                    "pretends, and has its own."
                )
        for called in (name, *model.aliases):
            if called in owner:
                yield f"Two models are called {called!r}: {owner[called]} and {name}."
            owner[called] = name


def key_names(
    engines: Mapping[str, EngineConfig], models: Mapping[str, ModelConfig]
) -> Iterator[tuple[str, str]]:
    """Where a secret is asked for, and the environment variable that holds it."""
    for name, engine in engines.items():
        if isinstance(engine, LlamaCppConfig) and engine.key_env is not None:
            yield f"engine.{name}", engine.key_env
    for name, model in models.items():
        if isinstance(model, ChatModelConfig) and model.key_env is not None:
            yield f"model.{name}", model.key_env
