"""Models, as `turnwire doctor` looks at them: are they there, and what do they do?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from turnwire.cli.doctor_probe import Seen, probe, takes_tools
from turnwire.cli.download_bar import DownloadBar
from turnwire.cli.finding import Finding
from turnwire.config import Config
from turnwire.errors import ConfigError, InvalidRequest, TurnwireError
from turnwire.model_config import ChatModelConfig, EngineModelConfig, LlamaCppConfig
from turnwire.models.registry import Offer, Registry

if TYPE_CHECKING:
    from turnwire.models.base import Model
    from turnwire.rendering.load import Report

__all__ = ["examine_models"]

ENOUGH: Final = 0.5
"""Of the turn before, what a prefix cache should know: the rest is blocks that are not full."""
MAX_NAMES: Final = 20
MAX_DETAIL_CHARS: Final = 300


async def examine_models(
    config: Config, timeout_sec: float, begun: Callable[[str], None]
) -> AsyncIterator[Finding]:
    """Build every model and talk to it; yield what was found of each.

    Args:
        config: Which models.
        timeout_sec: For each; a download has all the time it takes.
        begun: Hears which model is looked at now.
    """
    # Here, because it takes a second, and a file that cannot be read does not need it.
    from turnwire.server.offered import builder, embedded

    offers: list[Offer] = []
    async with AsyncExitStack() as stack:
        building = builder(config, stack.enter_context(DownloadBar()))
        stack.push_async_callback(building.aclose)
        for name, told in config.model.items():
            begun(name)
            try:
                await building.fetch(told)
                async with asyncio.timeout(timeout_sec):
                    offer = await building.build(name, told)
            except (TurnwireError, OSError, TimeoutError) as error:
                yield _broken(config, name, error)
                continue
            stack.push_async_callback(offer.model.aclose)
            offers.append(offer)
            yield await _examined(config, offer, timeout_sec, building.reports.get(name))
        try:
            others = [Offer(model=model) for model in embedded(config)]
            Registry([*offers, *others])
        except ConfigError as error:
            yield Finding(what="models", state="broken", text=str(error))
            return
        names = [name for offer in (*offers, *others) for name in offer.names]
        for finding in _allowances(config, list(dict.fromkeys([*config.model, *names]))):
            yield finding
        for offer in others:
            begun(offer.model.name)
            stack.push_async_callback(offer.model.aclose)
            yield await _examined(config, offer, timeout_sec)
        if not config.model and not others:
            yield Finding(
                what="models",
                state="broken",
                text="none are offered",
                mend="Add a [model.NAME], or leave models.embedded out.",
            )


def _allowances(config: Config, there: Collection[str]) -> Iterator[Finding]:
    """Keys that may use what there is not."""
    for key in config.keys:
        if lost := [name for name in key.models or () if name not in there]:
            yield Finding(
                what="keys",
                state="note",
                text=f"a key of {key.owner} may use {', '.join(lost)}, and there is no such model",
                mend=f"Name models as the server does: {', '.join(there)}.",
            )


async def _examined(
    config: Config, offer: Offer, timeout_sec: float, report: Report | None = None
) -> Finding:
    model = offer.model
    name = model.name
    turns: list[Seen] = []
    refusal = ""  # of tools
    try:
        async with asyncio.timeout(timeout_sec):
            async for seen in probe(model):
                turns.append(seen)  # noqa: PERF401 - what came before a failure counts
            try:
                await takes_tools(model)
            except InvalidRequest as error:
                refusal = _words(error)
    except (TurnwireError, OSError, TimeoutError) as error:
        where = f"turn {len(turns) + 1}: "
        return _broken(config, name, error, where, turns, await _names_there(model))
    first_sec = turns[0].first_sec
    known = [
        min(turn.num_cached / max(before.num_prompt + before.num_output, 1), 1.0)
        for before, turn in pairwise(turns)
    ]
    parts = [
        f"answers{'' if first_sec is None else f' after {1000 * first_sec:.0f} ms'}",
        f"{min(known):.0%} of a conversation is cached",
    ]
    if offer.prices is not None:
        parts.append(f"costs {offer.prices.input:g} in, {offer.prices.output:g} out")
    mends: list[str] = []
    if report is not None:
        parts.append(f"{report.family} template")
        if not report.append_only:
            parts.append(f"not append-only: {'; '.join(report.reasons)}")
        elif report.reasons:
            parts.append("; ".join(report.reasons))
        if report.reads_calls:
            parts.append(f"calls are read as {report.output}")
        else:
            parts.append("tool calls are not read")
            mends.append(_calls_mend(name))
    rebuilt = next((turn for turn in turns[1:] if turn.mode != "append"), None)
    if rebuilt is not None:
        parts.append(f"prompts are built anew ({rebuilt.mode}: {rebuilt.reason})")
        mends.append("Something is behind a turn that was not there before: a turn costs more.")
    if any(turn.whole != turn.num_prompt for turn in turns):
        parts.append("a resent conversation has other tokens")
    if min(known) < ENOUGH:
        mends.append(_cache_mend(config, name))
    if refusal:
        parts.append(f"takes no tools: {refusal}")
        mends.append(
            "Agents need tools: choose a model that knows them, or have its server offer them "
            "(vLLM: --enable-auto-tool-choice and --tool-call-parser)."
        )
    return Finding(
        what=f"model {name}",
        state="note" if mends else "ok",
        text="; ".join(parts),
        mend=" ".join(mends),
        turns=turns,
    )


def _broken(
    config: Config,
    name: str,
    error: BaseException,
    where: str = "",
    turns: Sequence[Seen] = (),
    names_there: Sequence[str] = (),
) -> Finding:
    mends = [_mend(config, name, error)]
    if names_there:
        mends.append(f"What is there offers {', '.join(names_there[:MAX_NAMES])}.")
    return Finding(
        what=f"model {name}",
        state="broken",
        text=f"{where}{_words(error)}",
        mend=" ".join(filter(None, mends)),
        turns=turns,
    )


async def _names_there(model: Model) -> Sequence[str]:
    """What the endpoint of a model offers, where it is one and says so."""
    from turnwire.models.chat.model import ChatModel

    return await model.names_there() if isinstance(model, ChatModel) else ()


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    text = " ".join(str(error).split())
    if isinstance(error, TurnwireError) and error.detail and error.detail not in text:
        return f"{text} It says: {error.detail[:MAX_DETAIL_CHARS]}"
    return text


def _mend(config: Config, name: str, error: BaseException) -> str:
    """Where to look when a model does not answer."""
    told = config.model.get(name)
    if isinstance(error, TimeoutError):
        return "Give it more time with --timeout, or look at what it does."
    if isinstance(told, ChatModelConfig):
        version = "" if "/v" in told.base_url else " Most end with /v1."
        return (
            f"Check that {told.base_url} is the right address, up and takes its key, and that it "
            f"has the model {told.model or name!r}.{version}"
        )
    if isinstance(told, EngineModelConfig):
        engine = config.engine[told.engine]
        if isinstance(engine, LlamaCppConfig) and engine.url is not None:
            return f"Check that llama-server is up at {engine.url} and takes its key."
    return ""


def _calls_mend(name: str) -> str:
    return (
        "Its chat template writes no tool calls that are known here, so agents get text where it "
        f"calls. Name a template for tools in model.{name}.template, or serve the model through "
        'a server that reads its calls (kind = "chat").'
    )


def _cache_mend(config: Config, name: str) -> str:
    told = config.model.get(name)
    if isinstance(told, ChatModelConfig):
        return (
            "Its endpoint does not keep what it has read, or does not say so: with vLLM start it "
            "with --enable-prefix-caching and --enable-prompt-tokens-details."
        )
    return "Its engine does not keep what it has read: give it more slots, or memory for its cache."
