"""Where the configuration comes from, and how it is joined and checked.

One value can come from four places; the first that has it wins:

1. a flag of the command line;
2. an environment variable `TURNWIRE_SECTION__FIELD` (`TURNWIRE_LIMITS__MAX_CONNECTIONS`); the
   fields of `server` also answer to `TURNWIRE_FIELD` (`TURNWIRE_PORT`);
3. the TOML file, named by `--config` or `TURNWIRE_CONFIG`;
4. the default written in `config`.

`TURNWIRE_API_KEY` adds one key to those of the file. Lists in the environment are separated by
commas. This module is the only reader of the environment, and reads it once. Secrets leave it
as digests where that is enough.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import msgspec
from msgspec import Struct

from turnwire.config import Config, KeyConfig, ServerConfig, default_data_dir, expanded
from turnwire.config_layers import (
    ENV_PREFIX,
    convert,
    fields_of,
    lower_first,
    section_of,
    to_path,
    unknown,
)
from turnwire.errors import ConfigError
from turnwire.model_config import (
    EngineModelConfig,
    LlamaCppConfig,
    Secrets,
    given_model,
    key_names,
    problems,
    with_kinds,
)

__all__ = ["faults", "load"]

ORIGIN: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[a-zA-Z0-9._:\[\]-]+")
"""As browsers send it: without user, path or slash at the end (RFC 6454 section 6.2)."""


SHORTCUTS: Final = ServerConfig.__struct_fields__
"""Fields of `server` that flags and variables may name without their section."""


def load(
    path: Path | None,
    env: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Join flags, environment, file and defaults, and check the whole.

    Args:
        path: The TOML file; None for the one `TURNWIRE_CONFIG` names, or none at all.
        env: The environment.
        flags: Values by field of `server` (`port`) or by dotted path (`logging.level`); those
            that are None were not given. `model` is a list of models as `--model` names them.

    Returns:
        A configuration whose keys are digests and whose paths are absolute.

    Raises:
        ConfigError: something cannot be read, is unknown, of the wrong type or contradicts
            something else; the message names it and the mend.
    """
    path = _path(path, env)
    from_file = with_kinds(_read_file(path)) if path else {}
    from_flags: dict[str, Any] = {}
    for name, value in (flags or {}).items():
        if name == "model":
            for text in value if isinstance(value, list | tuple) else ():
                for table, named in given_model(text).items():
                    from_flags.setdefault(table, {}).update(named)
        elif value is not None:
            section, _, key = name.rpartition(".")
            from_flags.setdefault(section or "server", {})[key] = value
    # Each source is checked by itself, so that the message can say which one to mend.
    convert(from_file, Config, f"{path}")
    convert(from_flags, Config, "the command line")
    from_env = _read_env(env)
    merged: dict[str, Any] = {}
    for layer in (from_file, from_env, from_flags):
        for section, value in layer.items():
            if isinstance(value, Mapping):
                merged[section] = {**merged.get(section, {}), **value}
            else:
                merged[section] = value
    merged.setdefault("server", {}).setdefault("data_dir", str(default_data_dir(env)))
    return _finish(convert(merged, Config, "the configuration"), env)


def faults(path: Path | None, env: Mapping[str, str]) -> list[str]:
    """Return everything that is wrong with the file, each as a sentence.

    `load` stops at the first. What only shows in the whole (two sections that contradict each
    other, a variable that is not set) is not among them.

    Args:
        path: As for `load`.
        env: The same.
    """
    found: list[str] = []
    try:
        path = _path(path, env)
        layer = with_kinds(_read_file(path)) if path else {}
    except ConfigError as error:
        return [str(error)]
    for section, value in layer.items():
        named = section in ("engine", "model") and isinstance(value, Mapping)
        for part in ({name: table} for name, table in value.items()) if named else (value,):
            try:
                convert({section: part}, Config, f"{path}")
            except ConfigError as error:
                found.append(str(error))
    return found


def _path(path: Path | None, env: Mapping[str, str]) -> Path | None:
    """The file to read, if there is one."""
    named = env.get(f"{ENV_PREFIX}CONFIG")
    return Path(named) if path is None and named else path


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ConfigError(f"Cannot read the configuration file {path}: {reason}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def _read_env(env: Mapping[str, str]) -> dict[str, Any]:
    sections = {
        name: struct for name, hint in fields_of(Config).items() if (struct := section_of(hint))
    }
    found: dict[str, Any] = {}
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        section, separator, key = name.partition("__")
        if not separator:
            section, key = "server", name
            # Kubernetes announces a service called "turnwire" as TURNWIRE_PORT=tcp://...
            if key == "port" and text.startswith("tcp://"):
                continue
            if key not in SHORTCUTS:
                # Other programs and `key_env` may use the prefix: only a near miss is a slip.
                _reject_near_miss(variable, key)
                continue
        if section not in sections or key not in fields_of(sections[section]):
            known = [f"{s}__{k}" for s, struct in sections.items() for k in fields_of(struct)]
            raise ConfigError(unknown("environment variable", variable, name, known, env=True))
        found.setdefault(section, {})[key] = _parse(variable, text, sections[section], key)
    return found


def _reject_near_miss(variable: str, key: str) -> None:
    known = [*SHORTCUTS, "config", "api_key"]
    if key not in known and difflib.get_close_matches(key, known, n=1, cutoff=0.7):
        raise ConfigError(unknown("environment variable", variable, key, known, env=True))


def _parse(variable: str, text: str, struct: type[Struct], key: str) -> Any:
    hint = fields_of(struct)[key]
    value: Any = text
    if any(get_origin(option) is tuple for option in (hint, *get_args(hint))):
        value = [part.strip() for part in text.split(",") if part.strip()]
    try:
        converted = msgspec.convert(value, hint, strict=False, dec_hook=to_path)
    except msgspec.ValidationError as error:
        raise ConfigError(f"Environment variable {variable}: {lower_first(str(error))}.") from error
    return str(converted) if isinstance(converted, Path) else converted


def _finish(config: Config, env: Mapping[str, str]) -> Config:
    for problem in problems(config.engine, config.model):
        raise ConfigError(problem)
    server, store = config.server, config.store
    keys = tuple(_digested(key, env) for key in config.keys)
    if env.get(f"{ENV_PREFIX}API_KEY"):
        # The owner is the one that serves without keys, so that its data stays its own.
        keys += (_digested(KeyConfig(owner="local", key=env[f"{ENV_PREFIX}API_KEY"]), env),)
    engines = {
        name: msgspec.structs.replace(engine, path=engine.path and expanded(engine.path, env))
        if isinstance(engine, LlamaCppConfig)
        else engine
        for name, engine in config.engine.items()
    }
    models = {
        name: msgspec.structs.replace(
            model,
            tokenizer=model.tokenizer and expanded(model.tokenizer, env),
            template=model.template and expanded(model.template, env),
        )
        if isinstance(model, EngineModelConfig)
        else model
        for name, model in config.model.items()
    }
    folder = config.models.folder
    loaded = msgspec.structs.replace(
        config,
        engine=engines,
        model=models,
        models=msgspec.structs.replace(config.models, folder=folder and expanded(folder, env)),
        secrets=_secrets(config, env),
        server=msgspec.structs.replace(server, data_dir=expanded(server.data_dir, env)),
        keys=keys,
        store=msgspec.structs.replace(store, path=store.path and expanded(store.path, env)),
    )
    _check(loaded)
    return loaded


def _digested(key: KeyConfig, env: Mapping[str, str]) -> KeyConfig:
    forms = {"key": key.key, "key_sha256": key.key_sha256, "key_env": key.key_env}
    given = [name for name, value in forms.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            f"The key of owner {key.owner!r} needs exactly one of key, key_sha256 and key_env; "
            f"it has {' and '.join(given) or 'none'}."
        )
    if key.key_env is not None:
        secret = env.get(key.key_env)
        if not secret:
            raise ConfigError(
                f"The key of owner {key.owner!r} is read from the environment variable "
                f"{key.key_env}, which is not set."
            )
        key = msgspec.structs.replace(key, key=secret, key_env=None)
    return msgspec.structs.replace(key, key=None, key_sha256=key.digest().hex())


def _secrets(config: Config, env: Mapping[str, str]) -> Secrets:
    found: dict[str, str] = {}
    for place, variable in key_names(config.engine, config.model):
        if not env.get(variable):
            raise ConfigError(
                f"The key of {place} is read from the environment variable {variable}, which is "
                "not set."
            )
        found[variable] = env[variable]
    hub = config.models.hub_key_env
    if env.get(hub):
        found[hub] = env[hub]
    return Secrets(found)


def _check(config: Config) -> None:
    server = config.server
    local = [
        name
        for name, engine in config.engine.items()
        if isinstance(engine, LlamaCppConfig) and engine.url is None
    ]
    if local and server.workers > 1:
        raise ConfigError(
            f"engine.{local[0]} runs in a process of the server's own, and each of the "
            f"{server.workers} workers would load it. Run llama-server and give its url, or set "
            "server.workers to 1."
        )
    if not config.keys and not _is_loopback(server.host):
        raise ConfigError(
            f"Refusing to listen on {server.host} without keys, because everyone who reaches it "
            "could use it. Add [[keys]] to the configuration file or set TURNWIRE_API_KEY, or "
            "listen on 127.0.0.1."
        )
    if len({key.key_sha256 for key in config.keys}) != len(config.keys):
        raise ConfigError("Two entries of [[keys]] have the same key; give each its own.")
    for origin in server.allowed_origins:
        if origin == "*" and not config.keys:
            raise ConfigError(
                "server.allowed_origins has '*', but there are no keys: any web page could use "
                "this server. Name the pages, or add [[keys]]."
            )
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"server.allowed_origins has {origin!r}, which is no origin: write scheme, host "
                "and perhaps port, as in 'https://example.com:8443'."
            )
    if config.store.kind == "memory" and server.workers > 1:
        raise ConfigError(
            "store.kind = 'memory' cannot be shared by several workers; use 'sqlite' or set "
            "server.workers to 1."
        )
    if config.security.seal_keys is not None:
        if not config.security.seal_keys:
            raise ConfigError("security.seal_keys is empty; leave it out or give one key.")
        for position, key in enumerate(config.security.seal_keys):
            if not _is_fernet_key(key):
                raise ConfigError(
                    f"security.seal_keys[{position}] is not 32 bytes in URL-safe base64."
                )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text.encode(), altchars=b"-_", validate=True)) == 32
    except (binascii.Error, UnicodeEncodeError):
        return False
