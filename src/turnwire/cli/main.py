"""The command `turnwire` and its options. What each command does lives in its own module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from turnwire import __version__

__all__ = ["app", "chat", "connect", "demo", "doctor", "options", "serve"]

app = typer.Typer(
    name="turnwire",
    help="A self-hosted server of the OpenAI Responses API with WebSocket mode.",
    no_args_is_help=True,
    add_completion=False,
    # Plain text: it is the same in a pipe, and what stands in brackets is not taken for markup.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    # A traceback with local variables could print keys.
    pretty_exceptions_show_locals=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"turnwire {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """A self-hosted server of the OpenAI Responses API with WebSocket mode."""


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file. [default: $TURNWIRE_CONFIG]")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=65535, help="TCP port; 0 for any free one. [default: 8787]"
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Database and sealing key. [default: ~/.local/share/turnwire]"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes that share the port. [default: 1]"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="[NAME=]FILE.gguf, [NAME=]hf:OWNER/NAME/FILE.gguf, or NAME=URL of a server with "
            "chat completions; may be repeated.",
        ),
    ] = None,
) -> None:
    """Serve the API until Ctrl-C or SIGTERM."""
    from turnwire.cli.serve import run

    flags = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "workers": workers,
        "model": model,
    }
    raise typer.Exit(run(config, os.environ, flags))


@app.command()
def chat(
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who to ask. [default: the first there is]")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A server that runs; its key in TURNWIRE_KEY. [default: one of its own]",
        ),
    ] = None,
    effort: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="How hard it is to think. [default: its own way]"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="TOML file for a server of its own. [default: $TURNWIRE_CONFIG]"
        ),
    ] = None,
    serve: Annotated[
        list[str] | None,
        typer.Option(
            "--serve", metavar="MODEL", help="A model for a server of its own, as serve --model."
        ),
    ] = None,
) -> None:
    """Talk to a model in the terminal."""
    from turnwire.cli.chat import run

    raise typer.Exit(
        run(config, os.environ, url=url, model=model, effort=effort, given=serve or [])
    )


@app.command()
def connect(
    client: Annotated[
        str,
        typer.Argument(
            metavar="CLIENT",
            help="codex, ai-sdk, cline, opencode, agents, openai-python or openai-node.",
        ),
    ],
    url: Annotated[
        str, typer.Option(metavar="URL", help="Address of the server.")
    ] = "http://127.0.0.1:8787",
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Model that the client is to use.")
    ] = "sim-1000",
    write: Annotated[
        bool, typer.Option("--write", help="Change the client's own file; show the change.")
    ] = False,
) -> None:
    """Show what points a client at a server."""
    from turnwire.cli.connect import run

    raise typer.Exit(run(client, url=url, model=model, write=write, env=os.environ))


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file. [default: $TURNWIRE_CONFIG]")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A model beside those of the file, as serve --model."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="For each model.")
    ] = 120.0,
    json: Annotated[bool, typer.Option("--json", help="One finding a line, as JSON.")] = False,
) -> None:
    """Look whether configuration and models work."""
    from turnwire.cli.doctor import run

    raise typer.Exit(run(config, os.environ, given=model or [], timeout_sec=timeout, as_json=json))


@app.command()
def demo(
    turns: Annotated[
        int, typer.Option(metavar="N", min=1, help="Tool calls in the agent loop.")
    ] = 20,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Simulated model to drive.")
    ] = "sim-1000",
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, help="How often to play each side.")
    ] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Compare an agent loop over HTTP and WebSocket."""
    from turnwire.cli.demo import run

    raise typer.Exit(run(turns=turns, model=model, rounds=rounds, as_json=json))


if __name__ == "__main__":
    app()
