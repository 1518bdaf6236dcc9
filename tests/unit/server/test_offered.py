"""Tests of `turnwire.server.offered`: models of a configuration, and what is said of them."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from turnwire.config import Config
from turnwire.config_sources import load
from turnwire.errors import ConfigError, EngineUnavailable
from turnwire.hub import HubError
from turnwire.models.build import Builder
from turnwire.models.registry import Offer
from turnwire.server import offered as module
from turnwire.server.offered import embedded, offered


def configured(tmp_path: Path, text: str) -> Config:
    """A configuration file with this text."""
    path = tmp_path / "turnwire.toml"
    path.write_text(f'[server]\ndata_dir = "{tmp_path}"\n{text}')
    return load(path, {})


ENGINE = '[model.two]\nengine = "e"\n[engine.e]\nkind = "llamacpp"\n'


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ('path = "nowhere.gguf"', ConfigError, "model.two: /.*nowhere.gguf: cannot be read"),
        ('url = "http://127.0.0.1:9"', ConfigError, "model.two: a llama-server does not show"),
        ('hf = "o/n/f.gguf"\n[models]\nhub_url = "http://127.0.0.1:9"', HubError, "model.two: "),
    ],
    ids=["file", "no-vocabulary", "hub"],
)
async def test_a_model_that_cannot_be_had_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception], says: str
) -> None:
    """There may be many of them."""
    monkeypatch.setattr("turnwire.hub.FIRST_PAUSE_SEC", 0.0)
    with pytest.raises(kind, match=f"^{says}"):
        await offered(configured(tmp_path, ENGINE + text))


async def test_a_model_that_takes_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """Nobody has to wonder whether anything goes on."""
    monkeypatch.setattr(module, "LOADING_SEC", 0.001)

    async def slow(*_: object) -> Offer:
        while log.getvalue().count("model_loading") < 2:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0)
        raise EngineUnavailable("it is not there after all")

    monkeypatch.setattr(Builder, "build", slow)
    with pytest.raises(EngineUnavailable, match=r"model\.two: it is not there after all"):
        await offered(configured(tmp_path, ENGINE + 'path = "x.gguf"'))
    assert '"model":"two"' in log.getvalue().replace(" ", "")


def test_embedded_models_are_chosen_by_name(tmp_path: Path) -> None:
    """All of them, those that are named, or none; a name that there is not is refused."""
    assert 1 < len(embedded(configured(tmp_path, "")))
    chosen = configured(tmp_path, '[models]\nembedded = ["sim-65", "sim"]')
    assert ["sim-65", "sim"] == [model.name for model in embedded(chosen)]
    with pytest.raises(ConfigError, match="names nobody; this package has sim"):
        embedded(configured(tmp_path, '[models]\nembedded = ["nobody"]'))
