from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from turnwire import __version__
from turnwire.cli.main import app
from turnwire.config import Config

RUNNER = CliRunner()


class Called(ModuleType):
    """Stands in for a command's module: notes how `run` is called and returns a code."""

    def __init__(self, name: str, code: int = 0) -> None:
        super().__init__(name)
        self.code = code
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def run(self, *args: Any, **kwargs: Any) -> int:
        self.calls.append((args, kwargs))
        return self.code


def test_version() -> None:
    """--version prints the package's version and succeeds."""
    result = RUNNER.invoke(app, ["--version"])
    assert (0, f"turnwire {__version__}\n") == (result.exit_code, result.output)


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=str)
def test_help_names_every_command(arguments: list[str]) -> None:
    """Without arguments, and with --help, the commands are listed."""
    output = RUNNER.invoke(app, arguments).output
    assert "serve" in output
    assert "demo" in output


@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        ("serve", ["127.0.0.1", "8787", "~/.local/share/turnwire", "1", "$TURNWIRE_CONFIG"]),
        ("chat", ["the first there is", "one of its own", "its own way", "$TURNWIRE_CONFIG"]),
        ("connect", ["http://127.0.0.1:8787", "sim-1000"]),
        ("doctor", ["$TURNWIRE_CONFIG", "120.0"]),
        ("demo", ["20", "sim-1000", "3"]),
    ],
)
def test_help_shows_every_default(command: str, defaults: list[str]) -> None:
    """What an option is when it is not given stands in the help, in 80 columns of plain text."""
    told = RUNNER.invoke(app, [command, "-h"], terminal_width=80, color=True)
    words = " ".join(told.output.split())
    assert [] == [text for text in defaults if f"[default: {text}" not in words]
    assert "\x1b" not in told.output
    assert 80 >= max(map(len, told.output.splitlines()))


@pytest.mark.parametrize(
    ("arguments", "config", "flags"),
    [
        ([], None, dict.fromkeys(("host", "port", "data_dir", "workers", "model"))),
        (
            [
                "--config",
                "t.toml",
                "--host",
                "::1",
                "--port",
                "0",
                "--data-dir",
                "d",
                "--workers",
                "3",
                "--model",
                "a.gguf",
                "--model",
                "b=hf:o/n/b.gguf",
            ],
            Path("t.toml"),
            {
                "host": "::1",
                "port": 0,
                "data_dir": Path("d"),
                "workers": 3,
                "model": ["a.gguf", "b=hf:o/n/b.gguf"],
            },
        ),
    ],
)
def test_serve_passes_its_flags(
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    config: Path | None,
    flags: dict[str, object],
) -> None:
    """`serve` hands on what was given, None for what was not, and exits with the code it gets."""
    module = Called("turnwire.cli.serve", 7)
    monkeypatch.setitem(sys.modules, "turnwire.cli.serve", module)
    result = RUNNER.invoke(app, ["serve", *arguments])
    (((path, _, passed), _),) = module.calls
    assert (7, config, flags) == (result.exit_code, path, passed)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"turns": 20, "model": "sim-1000", "rounds": 3, "as_json": False}),
        (
            ["--turns", "3", "--model", "sim", "--rounds", "1", "--json"],
            {"turns": 3, "model": "sim", "rounds": 1, "as_json": True},
        ),
    ],
)
def test_demo_passes_its_options(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: dict[str, object]
) -> None:
    """`demo` hands on its options, and exits with the code it gets."""
    module = Called("turnwire.cli.demo", 1)
    monkeypatch.setitem(sys.modules, "turnwire.cli.demo", module)
    assert 1 == RUNNER.invoke(app, ["demo", *arguments]).exit_code
    assert [((), expected)] == module.calls


def test_a_config_error_is_one_line_and_exit_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address others can reach is refused without keys, on one line that says what to do."""
    module = ModuleType("turnwire.server.process")
    started: list[Config] = []
    monkeypatch.setattr(module, "run", started.append, raising=False)
    monkeypatch.setitem(sys.modules, "turnwire.server.process", module)
    monkeypatch.delenv("TURNWIRE_API_KEY", raising=False)
    result = RUNNER.invoke(app, ["serve", "--host", "0.0.0.0"])  # noqa: S104
    assert 2 == result.exit_code
    assert 1 == len(result.stderr.splitlines())
    assert result.stderr.startswith("turnwire: Refusing to listen on 0.0.0.0 without keys")
    assert [] == started
