from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from turnwire.cli.connect import (
    BEGIN,
    CLIENTS,
    END,
    base_url,
    merged_json,
    recipe,
    run,
    with_block,
)
from turnwire.cli.main import app
from turnwire.errors import ConfigError

URL = "http://127.0.0.1:8787"
BLOCK = 'model = "sim"\nmodel_providers.turnwire.name = "Turnwire"\n'
OURS = tomllib.loads(BLOCK)

# Files that people could have: keys on top, then tables.
NAMES = st.sampled_from(["a", "b", "c", "model_reasoning_effort"])
TABLES = st.sampled_from(["features", "model_providers.other", "mcp_servers.x", "profiles.y"])
FILES = st.builds(
    lambda keys, tables: (
        "".join(f"{key} = 1  # mine\n" for key in keys)
        + "".join(f"\n[{table}]\nkey = 2\n" for table in tables)
    ),
    st.lists(NAMES, unique=True),
    st.lists(TABLES, unique=True),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8787", "http://127.0.0.1:8787/v1"),
        ("http://127.0.0.1:8787/", "http://127.0.0.1:8787/v1"),
        ("https://models.example/v1", "https://models.example/v1"),
        ("https://models.example/v1/", "https://models.example/v1"),
        ("https://example/turnwire", "https://example/turnwire/v1"),
    ],
)
def test_an_address_gets_its_version(url: str, expected: str) -> None:
    """The base address ends in /v1, once."""
    assert expected == base_url(url)


@pytest.mark.parametrize("url", ["", "localhost:8787", "ws://x", "http://", "http://x?a=b"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """Anything but the address of an HTTP server is refused."""
    with pytest.raises(ConfigError, match="is not the address of a server"):
        base_url(url)


@given(FILES)
def test_a_block_changes_nothing_else(text: str) -> None:
    """The file keeps every line, gains our keys, and does not change a second time."""
    made = with_block(text, BLOCK)
    assert made.endswith(text)
    merged = {**tomllib.loads(text), **OURS}
    merged["model_providers"] = {
        **tomllib.loads(text).get("model_providers", {}),
        **OURS["model_providers"],
    }
    assert merged == tomllib.loads(made)
    assert made == with_block(made, BLOCK)


@given(FILES, FILES)
def test_a_block_is_replaced_in_its_place(before: str, after: str) -> None:
    """What stands around an older block stays where it is, if the file was right at all."""
    old = f'{before.partition("[")[0]}{BEGIN}\nmodel = "old"\n{END}\n{after.partition("[")[2]}'
    try:
        tomllib.loads(old)
    except tomllib.TOMLDecodeError:
        with pytest.raises(ConfigError):
            with_block(old, BLOCK)
    else:
        assert old.replace('model = "old"\n', BLOCK) == with_block(old, BLOCK)


@pytest.mark.parametrize(
    "text",
    [
        'model = "mine"\n',
        '[model_providers.turnwire]\nname = "mine"\n',
        'model_providers = { other = { name = "x" } }\n',
        "not toml\n",
        f"{BEGIN}\n",
        f"{END}\n{BEGIN}\n",
        f"[table]\n{BEGIN}\n{END}\n",
    ],
    ids=["key", "table", "inline table", "no TOML", "half", "turned round", "in a table"],
)
def test_a_file_that_would_break_is_refused(text: str) -> None:
    """Where our keys clash with what is there, or would land in another table, nothing is made."""
    with pytest.raises(ConfigError):
        with_block(text, BLOCK)


@given(OBJECTS, OBJECTS)
def test_json_is_merged(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Our keys hold, keys that we do not have stay, and a second time changes nothing."""
    made = merged_json(json.dumps(theirs), ours)

    def check(merged: Any, old: Any, new: Any) -> None:
        if not isinstance(new, dict):
            assert new == merged
            return
        before = old if isinstance(old, dict) else {}
        assert {*before, *new} == set(merged)
        for key, value in merged.items():
            if key in new:
                check(value, before.get(key), new[key])
            else:
                assert before[key] == value

    check(json.loads(made), theirs, ours)
    assert made == merged_json(made, ours)


@pytest.mark.parametrize("text", ['{"a": 1 // why\n}', "[]", "{"])
def test_json_that_cannot_be_kept_is_refused(text: str) -> None:
    """A file with comments, or one that is no object, is not changed."""
    with pytest.raises(ConfigError):
        merged_json(text, {"a": 2})


@pytest.mark.parametrize("client", CLIENTS)
def test_a_recipe_names_server_and_model(
    client: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed holds address and model; nothing is written."""
    env = {"HOME": str(tmp_path)}
    assert 0 == run(client, url=URL, model="sim-65", write=False, env=env)
    printed = capsys.readouterr().out
    assert f"{URL}/v1" in printed
    assert "sim-65" in printed
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("client", ["agents", "openai-python"])
def test_python_recipes_compile(client: str) -> None:
    """Names with quotes in them do not break a snippet."""
    compile(recipe(client, URL, 'a"b\\', {}).text, client, "exec")


def test_codex_gets_a_profile_of_its_own(tmp_path: Path) -> None:
    """The settings go into a profile in CODEX_HOME; config.toml is not touched."""
    (tmp_path / "config.toml").write_text('model = "mine"\n')
    env = {"CODEX_HOME": str(tmp_path)}
    assert 0 == run("codex", url=URL, model="sim", write=True, env=env)
    assert 'model = "mine"\n' == (tmp_path / "config.toml").read_text()
    written = tomllib.loads((tmp_path / "turnwire.config.toml").read_text())
    provider = written["model_providers"]["turnwire"]
    assert ("sim", "turnwire") == (written["model"], written["model_provider"])
    assert (f"{URL}/v1", "responses", True) == (
        provider["base_url"],
        provider["wire_api"],
        provider["supports_websockets"],
    )


def test_writing_keeps_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other settings and the file's mode stay, the first version is kept, the change is shown."""
    path = tmp_path / "turnwire.config.toml"
    path.write_bytes(b'# mine\r\napproval_policy = "never"\r\n')
    path.chmod(0o640)
    env = {"CODEX_HOME": str(tmp_path)}
    for model in ("sim", "sim-65", "sim-65"):
        assert 0 == run("codex", url=URL, model=model, write=True, env=env)
    assert path.read_bytes().endswith(b'# mine\r\napproval_policy = "never"\r\n')
    assert 0o640 == path.stat().st_mode & 0o777
    copy = tmp_path / "turnwire.config.toml.before-turnwire"
    assert b'# mine\r\napproval_policy = "never"\r\n' == copy.read_bytes()
    assert {path.name, copy.name} == {each.name for each in tmp_path.iterdir()}
    printed = capsys.readouterr().out
    assert '-model = "sim"\n+model = "sim-65"\n' in printed
    assert printed.endswith(f"{path} is as it should be.\n")


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A file that is kept elsewhere is changed there, and the link stays."""
    real = tmp_path / "dotfiles.toml"
    real.write_text("a = 1\n")
    link = tmp_path / "turnwire.config.toml"
    link.symlink_to(real)
    assert 0 == run("codex", url=URL, model="sim", write=True, env={"CODEX_HOME": str(tmp_path)})
    assert link.is_symlink()
    assert 1 == tomllib.loads(real.read_text())["a"]
    assert "sim" == tomllib.loads(real.read_text())["model"]


def test_opencode_keeps_other_providers(tmp_path: Path) -> None:
    """What else is configured stays."""
    path = tmp_path / "opencode" / "opencode.json"
    path.parent.mkdir()
    path.write_text('{"theme": "x", "provider": {"other": {}, "openai": {"options": {"a": 1}}}}')
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert 0 == run("opencode", url=URL, model="sim", write=True, env=env)
    written = json.loads(path.read_text())
    assert ("x", {}) == (written["theme"], written["provider"]["other"])
    assert {"a": 1, "baseURL": f"{URL}/v1"} == written["provider"]["openai"]["options"]


def test_opencode_with_comments_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of its two files it obeys the one that may have comments, and those would be lost."""
    path = tmp_path / "opencode" / "opencode.jsonc"
    path.parent.mkdir()
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    path.write_text('{"theme": "x" /* mine */}')
    assert 2 == run("opencode", url=URL, model="sim", write=True, env=env)
    assert "Leave out --write to see what belongs there." in capsys.readouterr().err
    assert ('{"theme": "x" /* mine */}', [path]) == (path.read_text(), list(path.parent.iterdir()))
    path.write_text('{"theme": "x"}')
    assert 0 == run("opencode", url=URL, model="sim", write=True, env=env)
    assert ("x", "openai/sim") == tuple(
        json.loads(path.read_text())[key] for key in ("theme", "model")
    )
    assert not path.with_suffix(".json").exists()


@pytest.mark.parametrize(
    ("client", "url", "write", "reason"),
    [
        ("codex", URL, True, "was left as it is"),
        ("cline", URL, True, "has no file of its own"),
        ("codex", "nowhere", False, "is not the address of a server"),
        ("vim", URL, False, "There is no recipe for 'vim'"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    client: str,
    url: str,
    write: bool,
    reason: str,
) -> None:
    """A failure is exit 2 and one line on standard error, and changes no file."""
    path = tmp_path / "turnwire.config.toml"
    path.write_text('model = "mine"\n')
    env = {"CODEX_HOME": str(tmp_path)}
    assert 2 == run(client, url=url, model="sim", write=write, env=env)
    printed = capsys.readouterr()
    assert "" == printed.out
    assert 1 == len(printed.err.splitlines())
    assert reason in printed.err
    assert 'model = "mine"\n' == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`turnwire connect` passes its options on."""
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    options = ["--url", "https://models.example", "--model", "m", "--write"]
    assert 0 == CliRunner().invoke(app, ["connect", "codex", *options]).exit_code
    written = tomllib.loads((tmp_path / "turnwire.config.toml").read_text())
    expected = ("m", "https://models.example/v1")
    assert expected == (written["model"], written["model_providers"]["turnwire"]["base_url"])
