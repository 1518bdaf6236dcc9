from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from rich.pretty import pretty_repr

from turnwire.config import (
    Config,
    KeyConfig,
    LoggingConfig,
    SecurityConfig,
    ServerConfig,
    StoreConfig,
    WebSocketConfig,
    default_data_dir,
)
from turnwire.config_sources import faults, load
from turnwire.errors import ConfigError

HOME = {"HOME": "/home/someone"}
SEAL_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SHA256_OF_SECRET = hashlib.sha256(b"secret").hexdigest()


def write(directory: Path, text: str) -> Path:
    path = directory / "turnwire.toml"
    path.write_text(text)
    return path


def test_without_anything_the_defaults_hold() -> None:
    """No file, no environment and no flags give the defaults and the data dir of the user."""
    config = load(None, HOME)
    data_dir = Path("/home/someone/.local/share/turnwire")
    assert Config(server=ServerConfig(data_dir=data_dir)) == config
    assert (data_dir / "turnwire.db", data_dir / "seal.key") == (
        config.store_path,
        config.seal_key_path,
    )


@pytest.mark.parametrize(
    ("file", "env", "flags", "port"),
    [
        pytest.param("", {}, {}, 8787, id="default"),
        pytest.param("[server]\nport = 1", {}, {}, 1, id="file over default"),
        pytest.param("[server]\nport = 1", {"TURNWIRE_PORT": "2"}, {}, 2, id="env over file"),
        pytest.param("", {"TURNWIRE_SERVER__PORT": "2"}, {}, 2, id="env, long name"),
        pytest.param(
            "[server]\nport = 1", {"TURNWIRE_PORT": "2"}, {"port": 3}, 3, id="flag over env"
        ),
        pytest.param("", {}, {"server.port": 3}, 3, id="flag, long name"),
        pytest.param("[server]\nport = 1", {}, {"port": None}, 1, id="a flag not given"),
    ],
)
def test_precedence(
    tmp_path: Path, file: str, env: dict[str, str], flags: dict[str, object], port: int
) -> None:
    """A flag wins over the environment, that over the file, and that over the default."""
    assert port == load(write(tmp_path, file), HOME | env, flags).server.port


def test_layers_join_field_by_field(tmp_path: Path) -> None:
    """A source that sets one field of a section leaves the section's other fields alone."""
    path = write(tmp_path, "[server]\nworkers = 2\nmax_body_bytes = 5\n[logging]\nlevel = 'error'")
    env = HOME | {
        "TURNWIRE_LOGGING__FORMAT": "json",
        "TURNWIRE_WEBSOCKET__MAX_AGE_SEC": "1.5",
        "TURNWIRE_MODELS__EMBEDDED": "sim, sim-65",
    }
    config = load(path, env, {"port": 9, "data_dir": Path("/data")})
    expected = ServerConfig(port=9, workers=2, max_body_bytes=5, data_dir=Path("/data"))
    assert expected == config.server
    assert LoggingConfig(level="error", format="json") == config.logging
    assert WebSocketConfig(max_age_sec=1.5) == config.websocket
    assert ("sim", "sim-65") == config.models.embedded


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    """TURNWIRE_CONFIG is the file where no path is given, and a given path wins over it."""
    path = write(tmp_path, "[server]\nport = 1")
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 2")
    env = HOME | {"TURNWIRE_CONFIG": str(other)}
    assert (2, 1) == (load(None, env).server.port, load(path, env).server.port)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HOME": "/h"}, "/h/.local/share/turnwire"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/x"}, "/x/turnwire"),
        ({"HOME": "/h", "XDG_DATA_HOME": "relative"}, "/h/.local/share/turnwire"),
    ],
)
def test_default_data_dir(env: dict[str, str], expected: str) -> None:
    """Data goes to the XDG data home of the user, if that is an absolute path."""
    assert Path(expected) == default_data_dir(env)
    assert Path(expected) == load(None, env).server.data_dir


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home of the environment, and relative paths start at the working directory."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "[server]\ndata_dir = '~/d'\n[store]\npath = 'x.db'")
    config = load(path, HOME)
    assert (Path("/home/someone/d"), tmp_path / "x.db") == (
        config.server.data_dir,
        config.store_path,
    )


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("[server]\nprot = 1", "unknown key server.prot; did you mean port?"),
        ("[sever]\nport = 1", "unknown key sever; did you mean server?"),
        ("[[keys]]\nowner = 'a'\nkye = 'b'", "unknown key keys.kye; did you mean key?"),
        ("zzzzzz = 1", "unknown key zzzzzz."),
        ("[server]\nport = '1'", "server.port: expected `int`, got `str`."),
        ("[server]\nport = 65536", "server.port: expected `int` <= 65535."),
        ("[server]\ndata_dir = 3", "server.data_dir: expected `Path`, got `int`."),
        ("server = 3", "server: expected `object`, got `int`."),
        ("[[keys]]\nkey = 'a'", "keys[0]: object missing required field `owner`."),
        ("[[keys]]\nowner = 'a'\nkey_sha256 = 'zz'", "keys[0].key_sha256: expected `str` matching"),
        ("[store]\nkind = 'redis'", "store.kind: invalid enum value 'redis'."),
        ("[server", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_named_with_its_field(tmp_path: Path, file: str, message: str) -> None:
    """What is wrong in the file is refused, with the file, the field and the nearest known key."""
    path = write(tmp_path, file)
    with pytest.raises(ConfigError) as caught:
        load(path, HOME)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"TURNWIRE_PORT": "x"}, "Environment variable TURNWIRE_PORT: expected `int`, got `str`."),
        ({"TURNWIRE_PROT": "1"}, "variable TURNWIRE_PROT; did you mean TURNWIRE_PORT?"),
        (
            {"TURNWIRE_LIMITS__MAX_CONNECTION": "1"},
            "TURNWIRE_LIMITS__MAX_CONNECTION; did you mean TURNWIRE_LIMITS__MAX_CONNECTIONS?",
        ),
        ({"TURNWIRE_KEYS__OWNER": "a"}, "unknown environment variable TURNWIRE_KEYS__OWNER"),
        ({"TURNWIRE_CONFIG": "/no/such.toml"}, "Cannot read the configuration file /no/such.toml"),
    ],
)
def test_a_bad_environment_is_named(env: dict[str, str], message: str) -> None:
    """What is wrong in the environment is refused, with the variable's name."""
    with pytest.raises(ConfigError) as caught:
        load(None, HOME | env)
    assert message in str(caught.value)


def test_a_bad_flag_is_named() -> None:
    """What is wrong on the command line is said to be there."""
    with pytest.raises(ConfigError, match=r"the command line: server\.port: expected `int` >= 0"):
        load(None, HOME, {"port": -1})


def test_variables_of_others_are_left_alone() -> None:
    """What Kubernetes sets for a service called turnwire, and far names, change nothing."""
    env = HOME | {
        "TURNWIRE_PORT": "tcp://10.0.0.1:8787",
        "TURNWIRE_PORT_8787_TCP": "tcp://10.0.0.1:8787",
        "TURNWIRE_PORT_8787_TCP_PROTO": "tcp",
        "TURNWIRE_SERVICE_HOST": "10.0.0.1",
        "TURNWIRE_SERVICE_PORT": "8787",
        "TURNWIRE_SECRET_OF_ALICE": "s",
    }
    assert load(None, HOME) == load(None, env)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.168.1.2", False),
        ("example.com", False),
    ],
)
def test_only_loopback_is_served_without_keys(host: str, allowed: bool) -> None:
    """An address that others can reach needs keys; with a key every address is allowed."""
    if allowed:
        assert host == load(None, HOME, {"host": host}).server.host
    else:
        with pytest.raises(ConfigError, match=r"without keys.*\[\[keys\]\].*TURNWIRE_API_KEY"):
            load(None, HOME, {"host": host})
    assert host == load(None, HOME | {"TURNWIRE_API_KEY": "k"}, {"host": host}).server.host


@pytest.mark.parametrize(
    ("form", "env"),
    [
        ("key = 'secret'", {}),
        (f"key_sha256 = '{SHA256_OF_SECRET.upper()}'", {}),
        ("key_env = 'MY_KEY'", {"MY_KEY": "secret"}),
        ("key_env = 'TURNWIRE_KEY_OF_A'", {"TURNWIRE_KEY_OF_A": "secret"}),
    ],
)
def test_every_form_of_a_key_becomes_a_digest(
    tmp_path: Path, form: str, env: dict[str, str]
) -> None:
    """A key, its hash and the name of its variable all load as the same digest."""
    path = write(tmp_path, f"[[keys]]\nowner = 'a'\nmodels = ['sim']\n{form}")
    expected = KeyConfig(owner="a", key_sha256=SHA256_OF_SECRET, models=("sim",))
    assert (expected,) == load(path, HOME | env).keys


def test_the_environment_adds_a_key(tmp_path: Path) -> None:
    """TURNWIRE_API_KEY is one more key, of the owner who is served without keys."""
    path = write(tmp_path, "[[keys]]\nowner = 'a'\nkey = 'other'")
    keys = load(path, HOME | {"TURNWIRE_API_KEY": "secret"}).keys
    assert ["a", "local"] == [key.owner for key in keys]
    assert bytes.fromhex(SHA256_OF_SECRET) == keys[1].digest()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("[[keys]]\nowner = 'a'", "exactly one of key, key_sha256 and key_env; it has none"),
        (
            "[[keys]]\nowner = 'a'\nkey = 'k'\nkey_env = 'E'",
            "exactly one of key, key_sha256 and key_env; it has key and key_env",
        ),
        ("[[keys]]\nowner = 'a'\nkey_env = 'NOT_SET'", "variable NOT_SET, which is not set"),
        (
            "[[keys]]\nowner = 'a'\nkey = 'k'\n[[keys]]\nowner = 'b'\nkey = 'k'",
            "Two entries of [[keys]] have the same key",
        ),
        ("[store]\nkind = 'memory'\n[server]\nworkers = 2", "cannot be shared by several workers"),
        ("[security]\nseal_keys = []", "security.seal_keys is empty"),
        (f"[security]\nseal_keys = ['{SEAL_KEY}', 'short']", "security.seal_keys[1] is not 32"),
        (f"[security]\nseal_keys = ['{SEAL_KEY[:-2]}é=']", "security.seal_keys[0] is not 32"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, file: str, message: str) -> None:
    """Values that cannot work together are refused with the mend."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, file), HOME)
    assert message in str(caught.value)


def test_a_key_that_was_not_loaded_has_no_digest() -> None:
    """A key still to be read from the environment cannot be used."""
    with pytest.raises(ConfigError):
        KeyConfig(owner="a", key_env="E").digest()


@given(st.text(min_size=12))
def test_secrets_are_not_shown(secret: str) -> None:
    """Neither repr nor Rich shows a key, its hash or a sealing key, wherever they are."""
    hidden = Config(
        keys=(
            KeyConfig(owner="a", key=secret),
            KeyConfig(owner="a", key_sha256=SHA256_OF_SECRET),
        ),
        security=SecurityConfig(seal_keys=(secret,)),
    )
    public = Config(
        keys=(KeyConfig(owner="a", key="x"), KeyConfig(owner="a", key_sha256="y")),
        security=SecurityConfig(seal_keys=("z",)),
    )
    assert (repr(public), pretty_repr(public)) == (repr(hidden), pretty_repr(hidden))
    assert "key='***'" in repr(hidden)


def test_a_key_that_is_not_set_is_shown_as_such() -> None:
    """The repr says which forms of a key are unset."""
    expected = "KeyConfig(owner='a', key=None, key_sha256=None, key_env='E', models=None, "
    shown = repr(KeyConfig(owner="a", key_env="E"))
    assert expected == shown.removesuffix("zero_data_retention=False)")


def test_the_store_path_can_be_chosen() -> None:
    """A configured path is the store's, wherever the data directory is."""
    assert Path("/s.db") == Config(store=StoreConfig(path=Path("/s.db"))).store_path


def documented_sections() -> dict[str, Iterable[type[Struct]]]:
    """Every section of the file by its heading, and the structs that it fills."""
    found: dict[str, Iterable[type[Struct]]] = {}
    for name, hint in get_type_hints(Config).items():
        if name in ("engine", "model"):
            for struct in get_args(get_args(hint)[1]):
                tag = struct.__struct_config__.tag
                found[f'[{name}.NAME] with kind = "{tag}"'] = [struct]
        elif name == "keys":
            found["[[keys]]"] = [KeyConfig]
        elif name != "secrets":
            found[f"[{name}]"] = [hint]
    return found


def test_every_field_is_documented() -> None:
    """The reference names exactly the fields there are, section by section."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
    documented = {
        section.splitlines()[0]: sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        for section in page.read_text("utf-8").split("\n## ")[1:]
    }
    actual = {
        heading: sorted(field for struct in structs for field in struct.__struct_fields__)
        for heading, structs in documented_sections().items()
    }
    assert actual == documented


@pytest.mark.parametrize(
    ("origins", "with_key", "named"),
    [
        ("https://a.example,http://localhost:3000", False, None),
        ("http://[::1]:3000", False, None),
        ("*", True, None),
        ("*", False, "no keys"),
        ("https://a.example/", True, "no origin"),
        ("a.example", True, "no origin"),
        ("https://", True, "no origin"),
        ("null", True, "no origin"),
    ],
)
def test_allowed_origins(origins: str, with_key: bool, named: str | None) -> None:
    """Origins are written as browsers send them; a star is for servers with keys only."""
    env = {"TURNWIRE_ALLOWED_ORIGINS": origins, "HOME": "/home/x"}
    if with_key:
        env["TURNWIRE_API_KEY"] = "sk-0123456789abcdef"
    if named is None:
        assert tuple(origins.split(",")) == load(None, env).server.allowed_origins
    else:
        with pytest.raises(ConfigError, match=named):
            load(None, env)


def test_all_faults_of_a_file_are_listed(tmp_path: Path) -> None:
    """`load` stops at the first; this is for whoever wants to mend them all."""
    path = write(tmp_path, '[server]\nprt = 1\n[store]\nkind = "x"\n[engine.a]\nkind = "y"\n')
    found = faults(path, HOME)
    assert [True] * 3 == [
        word in text
        for word, text in zip(("server.prt", "store.kind", "engine.a"), found, strict=True)
    ]
    assert [] == faults(write(tmp_path, "[server]\nport = 1"), HOME) == faults(None, HOME)
    broken = write(tmp_path, "[server")
    (text,) = faults(None, {"TURNWIRE_CONFIG": str(broken)})
    assert "not valid TOML" in text
