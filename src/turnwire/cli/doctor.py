"""`turnwire doctor`: is everything there that the configuration needs, and does it work?"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnwire.cli.doctor_probe import Seen, probe
from turnwire.cli.download_bar import DownloadBar
from turnwire.config import Config, faults, load
from turnwire.errors import ConfigError, TurnwireError
from turnwire.model_config import ChatModelConfig, EngineModelConfig, LlamaCppConfig
from turnwire.models.registry import Offer, Registry
from turnwire.server.listening import reason_of
from turnwire.telemetry import logs

if TYPE_CHECKING:
    from turnwire.rendering.load import Report

__all__ = ["Finding", "run"]

State = Literal["ok", "note", "broken"]

STYLES: Final[Mapping[State, str]] = {"ok": "green", "note": "yellow", "broken": "red"}
ENOUGH: Final = 0.5
"""Of the turn before, what a prefix cache should know: the rest is blocks that are not full."""


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at.

    Attributes:
        what: `configuration`, `data directory`, `model NAME`, ...
        state: ok. note: it works, but something could be better. broken: it does not.
        text: What was found.
        mend: What to do about it.
        turns: Of a model: what it did.
    """

    what: str
    state: State
    text: str
    mend: str = ""
    turns: Sequence[Seen] = ()


def run(
    path: Path | None,
    env: Mapping[str, str],
    *,
    given: list[str],
    timeout_sec: float,
    as_json: bool,
) -> int:
    """Look at everything, and say what was found.

    Args:
        path: The TOML file, or None.
        env: The environment.
        given: Models as `serve --model` names them.
        timeout_sec: For each model.
        as_json: Print findings as JSON, one object a line, and nothing else.

    Returns:
        The exit code. 0: all of it works. 1: something is broken.
    """
    logs.configure("error", "console")
    console = Console(highlight=False, soft_wrap=True)
    findings: list[Finding] = []

    async def look() -> None:
        async for finding in _examine(path, env, given=given, timeout_sec=timeout_sec):
            findings.append(finding)
            if as_json:
                typer.echo(msgspec.json.encode(finding).decode())

    try:
        asyncio.run(look())
    except KeyboardInterrupt:
        return 1
    if not as_json:
        console.print(_table(findings))
        for finding in findings:
            if finding.mend:
                console.print(Text.assemble("\n", (finding.what, "bold"), ": ", finding.mend))
    return int(any(finding.state == "broken" for finding in findings))


async def _examine(
    path: Path | None, env: Mapping[str, str], *, given: list[str], timeout_sec: float
) -> AsyncIterator[Finding]:
    """Yield findings as they are made."""
    try:
        config = load(path, env, {"model": given})
    except ConfigError as error:
        for text in faults(path, env) or [str(error)]:
            yield Finding(what="configuration", state="broken", text=text)
        return
    source = path or env.get("TURNWIRE_CONFIG") or "no file, defaults"
    yield Finding(what="configuration", state="ok", text=f"{source}; it can be used")
    yield _keys(config)
    yield _folder(config)
    yield _address(config)
    async for finding in _models(config, timeout_sec):
        yield finding


def _keys(config: Config) -> Finding:
    count = len(config.keys)
    if count:
        return Finding(what="keys", state="ok", text=f"{count}, of {_owners(config)}")
    return Finding(what="keys", state="ok", text="none: this machine only, and everybody on it")


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


def _owners(config: Config) -> str:
    return ", ".join(dict.fromkeys(key.owner for key in config.keys))


def _folder(config: Config) -> Finding:
    folder = config.server.data_dir
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        text = f"{folder}" if there == folder else f"{folder}, to be made"
        return Finding(what="data directory", state="ok", text=text)
    return Finding(
        what="data directory",
        state="broken",
        text=f"{folder} cannot be written",
        mend=f"Let this user write {there}, or name another with server.data_dir.",
    )


def _address(config: Config) -> Finding:
    host, port = config.server.host, config.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError as error:
            return Finding(
                what="address",
                state="note",
                text=f"{host}:{port} cannot be listened on: {reason_of(error)}",
                mend="If that is this server, which runs already, all is well. Otherwise stop "
                "what listens there, or choose another server.port.",
            )
    return Finding(what="address", state="ok", text=f"{host}:{port} is free")


async def _models(config: Config, timeout_sec: float) -> AsyncIterator[Finding]:
    # Here, because it takes a second, and a file that cannot be read does not need it.
    from turnwire.server.app import builder, embedded

    offers: list[Offer] = []
    async with AsyncExitStack() as stack:
        building = builder(config, stack.enter_context(DownloadBar()))
        stack.push_async_callback(building.aclose)
        for name, told in config.model.items():
            what = f"model {name}"
            try:
                async with asyncio.timeout(timeout_sec):
                    offer = await building.build(name, told)
            except (TurnwireError, OSError, TimeoutError) as error:
                yield Finding(
                    what=what, state="broken", text=_words(error), mend=_mend(config, name)
                )
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
            stack.push_async_callback(offer.model.aclose)
            yield await _examined(config, offer, timeout_sec)
        if not config.model and not others:
            yield Finding(
                what="models",
                state="broken",
                text="none are offered",
                mend="Add a [model.NAME], or leave models.embedded out.",
            )


async def _examined(
    config: Config, offer: Offer, timeout_sec: float, report: Report | None = None
) -> Finding:
    name = offer.model.name
    what = f"model {name}"
    turns: list[Seen] = []
    try:
        async with asyncio.timeout(timeout_sec):
            async for seen in probe(offer.model):
                turns.append(seen)  # noqa: PERF401 - what came before a failure counts
    except (TurnwireError, OSError, TimeoutError) as error:
        text = f"turn {len(turns) + 1}: {_words(error)}"
        return Finding(what=what, state="broken", text=text, mend=_mend(config, name), turns=turns)
    return _judged(config, offer, turns, report)


def _judged(config: Config, offer: Offer, turns: Sequence[Seen], report: Report | None) -> Finding:
    """What three turns say about a model that answered all of them."""
    name = offer.model.name
    known = min(
        min(turn.num_cached / max(before.num_prompt + before.num_output, 1), 1.0)
        for before, turn in pairwise(turns)
    )
    rebuilt = next((turn for turn in turns[1:] if turn.mode != "append"), None)
    parts = [
        _speed(turns[0].first_sec),
        f"{known:.0%} of a conversation is cached",
        *_price(offer),
        *_template(report),
    ]
    mends: list[str] = []
    if rebuilt is not None:
        parts.append(f"prompts are built anew ({rebuilt.mode}: {rebuilt.reason})")
        mends.append("Something is behind a turn that was not there before: a turn costs more.")
    if any(turn.whole != turn.num_prompt for turn in turns):
        parts.append("a resent conversation has other tokens")
    if known < ENOUGH:
        mends.append(_cache_mend(config, name))
    return Finding(
        what=f"model {name}",
        state="note" if mends else "ok",
        text="; ".join(parts),
        mend=" ".join(mends),
        turns=turns,
    )


def _speed(first_sec: float | None) -> str:
    return "answers" if first_sec is None else f"answers after {1000 * first_sec:.0f} ms"


def _price(offer: Offer) -> Iterator[str]:
    if offer.prices is not None:
        yield f"costs {offer.prices.input:g} in, {offer.prices.output:g} out"


def _template(report: Report | None) -> Iterator[str]:
    if report is None:
        return
    yield f"{report.family} template"
    if not report.append_only:
        yield f"not append-only: {'; '.join(report.reasons)}"
    elif report.reasons:
        yield "; ".join(report.reasons)


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return " ".join(str(error).split())


def _mend(config: Config, name: str) -> str:
    """Where to look when a model does not answer."""
    told = config.model.get(name)
    if isinstance(told, ChatModelConfig):
        return f"Check that {told.base_url} is the right address, up and takes its key."
    if isinstance(told, EngineModelConfig):
        engine = config.engine[told.engine]
        if isinstance(engine, LlamaCppConfig) and engine.url is not None:
            return f"Check that llama-server is up at {engine.url} and takes its key."
    return ""


def _cache_mend(config: Config, name: str) -> str:
    told = config.model.get(name)
    if isinstance(told, ChatModelConfig):
        return (
            "Its endpoint does not keep what it has read, or does not say so: with vLLM start it "
            "with --enable-prefix-caching and --enable-prompt-tokens-details."
        )
    return "Its engine does not keep what it has read: give it more slots, or memory for its cache."


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in findings:
        # Text, not strings: names of tables look like Rich's markup.
        state = Text(finding.state, style=STYLES[finding.state])
        table.add_row(Text(finding.what), state, Text(finding.text))
    return table
