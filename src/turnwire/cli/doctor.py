"""`turnwire doctor`: is everything there that the configuration needs, and does it work?"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnwire.cli.doctor_models import examine_models
from turnwire.cli.finding import Finding, State
from turnwire.config import Config
from turnwire.config_sources import faults, load
from turnwire.errors import ConfigError
from turnwire.server.listening import reason_of
from turnwire.telemetry import logs

__all__ = ["run"]

STYLES: Final[Mapping[State, str]] = {"ok": "green", "note": "yellow", "broken": "red"}


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
    waiting = Console(stderr=True, highlight=False, soft_wrap=True)

    def begun(name: str) -> None:
        if waiting.is_terminal and not as_json:
            waiting.print(Text(f"looking at the model {name}", style="dim"))

    async def look() -> None:
        async for finding in _examine(path, env, given, timeout_sec, begun):
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
    path: Path | None,
    env: Mapping[str, str],
    given: list[str],
    timeout_sec: float,
    begun: Callable[[str], None],
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
    async for finding in examine_models(config, timeout_sec, begun):
        yield finding


def _keys(config: Config) -> Finding:
    count = len(config.keys)
    if count:
        return Finding(what="keys", state="ok", text=f"{count}, of {_owners(config)}")
    return Finding(what="keys", state="ok", text="none: this machine only, and everybody on it")


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
    text = f"{host}:{port} is free" if port else f"{host}, on any free port"
    return Finding(what="address", state="ok", text=text)


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
