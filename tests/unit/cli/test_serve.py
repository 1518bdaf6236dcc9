from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from turnwire.cli.serve import run
from turnwire.config import Config
from turnwire.errors import ConfigError, StoreError
from turnwire.hub import Progress

HOME = {"HOME": "/home/someone"}


class Server(ModuleType):
    """Stands in for the server: notes its configuration, then ends as it is told."""

    def __init__(self, end: BaseException | None = None) -> None:
        super().__init__("turnwire.server.process")
        self.end = end
        self.seen: list[Config] = []

    def run(self, config: Config, progress: Progress) -> None:
        assert callable(progress)
        self.seen.append(config)
        if self.end is not None:
            raise self.end


def test_the_server_gets_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags and environment reach the server, and its orderly end is exit code 0."""
    server = Server()
    monkeypatch.setitem(sys.modules, "turnwire.server.process", server)
    assert 0 == run(None, HOME | {"TURNWIRE_WORKERS": "2"}, {"port": 0, "host": None})
    (config,) = server.seen
    assert (0, 2, "127.0.0.1") == (config.server.port, config.server.workers, config.server.host)


@pytest.mark.parametrize(
    ("end", "code"), [(ConfigError("x"), 2), (StoreError("x"), 1), (KeyboardInterrupt(), 0)]
)
def test_how_the_server_ends_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, end: BaseException, code: int
) -> None:
    """What the server fails with becomes the exit code."""
    monkeypatch.setitem(sys.modules, "turnwire.server.process", Server(end))
    assert code == run(None, HOME, {})


def test_a_bad_configuration_never_reaches_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configuration that cannot be used ends with 2 before the server is asked."""
    server = Server()
    monkeypatch.setitem(sys.modules, "turnwire.server.process", server)
    assert 2 == run(Path("/no/such.toml"), HOME, {})
    assert [] == server.seen
    assert "turnwire: Cannot read the configuration file /no/such.toml: " in capsys.readouterr().err
