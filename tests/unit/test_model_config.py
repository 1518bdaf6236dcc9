"""Tests of `turnwire.model_config`, as `config.load` reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.pretty import pretty_repr

from turnwire.config_sources import load
from turnwire.errors import ConfigError
from turnwire.model_config import (
    ChatModelConfig,
    EngineModelConfig,
    LlamaCppConfig,
    SimConfig,
)

HOME = {"HOME": "/home/someone"}


def write(directory: Path, text: str) -> Path:
    """A configuration file."""
    path = directory / "turnwire.toml"
    path.write_text(text)
    return path


ENGINE = """
[engine.fast]
kind = "sim"
tokens_per_sec = 4000
[model."lab/fast:1"]
engine = "fast"
aliases = ["fast"]
effort = "low"
prices = { input = 1, cached = 0.5, output = 2 }
"""
CHAT = """
[model.far]
kind = "chat"
base_url = "http://127.0.0.1:1/v1"
key_env = "FAR_KEY"
"""


def test_engines_and_models_have_names(tmp_path: Path) -> None:
    """A model stands on an engine, or names another server; each kind has fields of its own."""
    told = load(write(tmp_path, ENGINE + CHAT), {**HOME, "FAR_KEY": "sk-far", "OTHER": "x"})
    assert {"fast": SimConfig(tokens_per_sec=4000)} == told.engine
    assert ["lab/fast:1", "far"] == list(told.model)
    fast, far = told.model.values()
    assert isinstance(fast, EngineModelConfig)
    assert isinstance(far, ChatModelConfig)
    assert ("fast", ("fast",), "low") == (fast.engine, fast.aliases, fast.effort)
    assert fast.prices is not None
    assert 1.5 + 0.5 == fast.prices.cost(2_000_000, 1_000_000, 250_000)
    assert "sk-far" == told.secrets.get(far.key_env)
    assert None is told.secrets.get("OTHER") is told.secrets.get(None)
    assert "sk-far" not in repr(told) + pretty_repr(told)


def test_paths_of_models_are_expanded(tmp_path: Path) -> None:
    """As other paths are."""
    told = load(
        write(
            tmp_path,
            '[engine.e]\nkind = "llamacpp"\npath = "~/a.gguf"\n[model.m]\nengine = "e"\n'
            'tokenizer = "~/t.json"\n[models]\nfolder = "~/files"',
        ),
        HOME,
    )
    engine, model = told.engine["e"], told.model["m"]
    assert isinstance(engine, LlamaCppConfig)
    assert isinstance(model, EngineModelConfig)
    home = Path("/home/someone")
    assert [home / "a.gguf", home / "t.json", None, home / "files"] == [
        engine.path,
        model.tokenizer,
        model.template,
        told.models_dir,
    ]
    assert home / ".local/share/turnwire/models" == load(None, HOME).models_dir


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[engine.a]\nkind = "llamacp"',
            "engine.a: unknown kind 'llamacp'; did you mean llamacpp?",
        ),
        ("[engine.a]\nslots = 3", "engine.a needs a kind; there are sim, llamacpp."),
        ('[engine.a]\nkind = "sim"\nslot = 3', "unknown key engine.a.slot; did you mean slots?"),
        ('[engine.a]\nkind = "sim"\npath = "x"', "unknown key engine.a.path."),
        ('[engine."a.b"]\nkind = "sim"\nslots = 0', "engine.a.b: slots: expected `int` >= 1."),
        ("[engine]\nx = 1", "engine.x: expected `object`, got `int`."),
        ("[engine]\nx = { kind = 1 }", "engine.x: unknown kind 1; there are sim, llamacpp."),
        ('[engine.l]\nkind = "llamacpp"', "exactly one of path, hf and url; it has none."),
        (
            '[engine.l]\nkind = "llamacpp"\nhf = "a/b/c.gguf"\nurl = "http://x"',
            "exactly one of path, hf and url; it has hf and url.",
        ),
        ('[engine.l]\nkind = "llamacpp"\nhf = "a/b/../c.gguf"', "must be OWNER/NAME/FILE.gguf"),
        ('[engine.l]\nkind = "llamacpp"\nhf = "b/c.gguf"', "must be OWNER/NAME/FILE.gguf"),
        (
            '[engine.l]\nkind = "llamacpp"\npath = "x"\nkey_env = "K"',
            "has key_env, which is for a url only.",
        ),
        (
            '[engine.l]\nkind = "llamacpp"\npath = "x"\n[server]\nworkers = 2',
            "each of the 2 workers would load it",
        ),
        ('[model.m]\nengine = "x"', "model.m: there is no engine.x; there are none."),
        (
            ENGINE.replace('aliases = ["fast"]', 'family = "hermes"'),
            "model.lab/fast:1 has a tokenizer, a template or a family",
        ),
        ('[model.m]\nkind = "chat"', "model.m: object missing required field `base_url`."),
        (CHAT, "environment variable FAR_KEY, which is not set."),
        (
            ENGINE + '[model.fast]\nkind = "chat"\nbase_url = "x"',
            "Two models are called 'fast': lab/fast:1 and fast.",
        ),
        (ENGINE.replace("input", "inputs"), "unknown key model.lab/fast:1.prices.inputs"),
        (ENGINE.replace("0.5", "-1"), "model.lab/fast:1: prices.cached: expected `float` >= 0.0."),
        ("[secrets]\nFAR_KEY = 1", "unknown key secrets"),
    ],
)
def test_what_is_wrong_with_a_model_is_named(tmp_path: Path, text: str, message: str) -> None:
    """The table, the field and the mend."""
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, text), HOME)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "name", "engine"),
    [
        ("a/b.Q4.gguf", "b.Q4", LlamaCppConfig(path=Path("/work/a/b.Q4.gguf"))),
        ("x=b.gguf", "x", LlamaCppConfig(path=Path("/work/b.gguf"))),
        ("hf:o/n/b.gguf", "b", LlamaCppConfig(hf="o/n/b.gguf")),
        ("x=hf:o/n/q/b.gguf", "x", LlamaCppConfig(hf="o/n/q/b.gguf")),
    ],
)
def test_a_model_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str, engine: LlamaCppConfig
) -> None:
    """`--model` adds a model and its engine to those of the file."""
    monkeypatch.chdir(tmp_path)
    told = load(write(tmp_path, ENGINE), HOME, {"model": [text], "port": 1})
    assert ["lab/fast:1", name] == list(told.model)
    assert EngineModelConfig(engine=name) == told.model[name]
    if engine.path is not None:
        engine = LlamaCppConfig(path=tmp_path / engine.path.relative_to("/work"))
    assert engine == told.engine[name]
    assert 1 == told.server.port


def test_a_model_of_another_server_on_the_command_line() -> None:
    """A name and the address of a server with chat completions need no file and no engine."""
    told = load(None, HOME, {"model": ["qwen3:8b=http://127.0.0.1:11434/v1"]})
    assert {"qwen3:8b": ChatModelConfig(base_url="http://127.0.0.1:11434/v1")} == told.model
    assert {} == told.engine


@pytest.mark.parametrize("text", ["", "model", "hf:o/n", "=x.gguf.bin", "http://127.0.0.1/v1"])
def test_no_model_on_the_command_line(text: str) -> None:
    """What is neither a file nor a name of the hub is refused with what would be."""
    with pytest.raises(ConfigError, match=r"FILE\.gguf"):
        load(None, HOME, {"model": [text]})
