"""What the server is told before it starts: a frozen struct per layer, defaults in sight.

One value can come from four places; the first that has it wins:

1. a flag of the command line;
2. an environment variable `TURNWIRE_SECTION__FIELD` (`TURNWIRE_LIMITS__MAX_CONNECTIONS`); the
   fields of `server` also answer to `TURNWIRE_FIELD` (`TURNWIRE_PORT`);
3. the TOML file, named by `--config` or `TURNWIRE_CONFIG`;
4. the default written here.

`TURNWIRE_API_KEY` adds one key to those of the file. Lists in the environment are separated by
commas. This module is the only reader of the environment, and reads it once. Secrets leave it
as digests where that is enough, and never appear in a repr.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

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
    EngineConfig,
    EngineModelConfig,
    LlamaCppConfig,
    ModelConfig,
    Secrets,
    given_model,
    key_names,
    problems,
    with_kinds,
)

__all__ = [
    "BackgroundConfig",
    "Config",
    "KeyConfig",
    "LimitsConfig",
    "LoggingConfig",
    "ModelsConfig",
    "Secrets",
    "SecurityConfig",
    "ServerConfig",
    "SseConfig",
    "StoreConfig",
    "WebSocketConfig",
    "default_data_dir",
    "faults",
    "load",
]

HIDDEN: Final = "***"
MIB: Final = 1024 * 1024
ORIGIN: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[a-zA-Z0-9._:\[\]-]+")
"""As browsers send it: without user, path or slash at the end (RFC 6454 section 6.2)."""

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{64}\Z")]


def default_data_dir(env: Mapping[str, str]) -> Path:
    """Where data goes unless told: `$XDG_DATA_HOME/turnwire`, else `~/.local/share/turnwire`.

    A relative `XDG_DATA_HOME` is ignored, as the XDG base directory specification asks.
    """
    base = Path(env.get("XDG_DATA_HOME", ""))
    if base.is_absolute():
        return base / "turnwire"
    return _expand("~/.local/share/turnwire", env)


class ServerConfig(Struct, frozen=True, kw_only=True):
    """Where the server listens, and the size of what it takes.

    Attributes:
        host: Address to listen on. Anything but loopback needs keys.
        port: TCP port; 0 lets the system choose a free one.
        workers: Processes that share the port; each serves one core.
        data_dir: Holds the database and the sealing key. Created when missing, 0700.
        max_body_bytes: Largest HTTP request body.
        max_message_bytes: Largest WebSocket message from a client; 32 MiB leaves room for
            images inside it (protocol.md section 8.1).
        shutdown_grace_sec: How long running responses may take to end after SIGTERM.
        allowed_origins: Web pages that may call the server from a browser (CORS), such as
            `https://example.com`; `*` for every page, which needs keys.
    """

    host: Name = "127.0.0.1"
    port: Port = 8787
    workers: Positive = 1
    data_dir: Path = field(default_factory=lambda: default_data_dir(os.environ))
    max_body_bytes: Positive = 32 * MIB
    max_message_bytes: Positive = 32 * MIB
    shutdown_grace_sec: Seconds = 30.0
    allowed_origins: tuple[str, ...] = ()


class KeyConfig(Struct, frozen=True, kw_only=True):
    """One API key and what it may do. Exactly one of the three forms of the key is set.

    Attributes:
        owner: Whose key it is. Stored responses and prompt caches belong to an owner; several
            keys may share one.
        key: The key itself.
        key_sha256: Hex SHA-256 of the key: the file then holds no secret. After `load` every
            key has this form.
        key_env: Environment variable that holds the key.
        models: Names of the models the key may use; None for all.
        zero_data_retention: Nothing that is sent with this key, or answered to it, is stored.
    """

    owner: Name
    key: Name | None = None
    key_sha256: Sha256 | None = None
    key_env: Name | None = None
    models: tuple[str, ...] | None = None
    zero_data_retention: bool = False

    def digest(self) -> bytes:
        """SHA-256 of the key, 32 bytes.

        Raises:
            ConfigError: the key is still to be looked up in the environment, or there is none.
        """
        if self.key_sha256 is not None:
            return bytes.fromhex(self.key_sha256)
        if self.key is None:
            raise ConfigError(f"The key of owner {self.owner!r} has not been loaded.")
        return hashlib.sha256(self.key.encode()).digest()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _masked(self, "key", "key_sha256")

    def __repr__(self) -> str:
        return _text(self, self.__rich_repr__())


class StoreConfig(Struct, frozen=True, kw_only=True):
    """Where responses live that outlast their connection.

    Attributes:
        kind: sqlite: a file, survives a restart, shared by all workers. memory: gone with the
            process; one worker only.
        path: The SQLite file; None for `turnwire.db` in the data directory.
        max_turns: Most turns that the memory store keeps; older ones are dropped.
        zero_data_retention: Store nothing that anybody sends or is answered: `store` is false
            whatever a request says (protocol.md section 10).
    """

    kind: Literal["sqlite", "memory"] = "sqlite"
    path: Path | None = None
    max_turns: Positive = 100_000
    zero_data_retention: bool = False


class ModelsConfig(Struct, frozen=True, kw_only=True):
    """Which models are offered beside those of `[model.NAME]`.

    Attributes:
        embedded: Names of the models of the package to offer; None for all of them.
        hub_url: Where `hf` files come from.
        hub_key_env: Environment variable that holds a key for it; files that need none are
            fetched without.
        folder: Where they are kept; None for `models` in the data directory.
    """

    embedded: tuple[str, ...] | None = None
    hub_url: Name = "https://huggingface.co"
    hub_key_env: Name = "HF_TOKEN"
    folder: Path | None = None


class SecurityConfig(Struct, frozen=True, kw_only=True):
    """Secrets of the server itself.

    Attributes:
        seal_keys: Fernet keys (32 bytes, URL-safe base64) that seal reasoning which clients
            carry. The first seals, all open: put a new one in front to rotate. None: one key
            is made and kept in the data directory.
    """

    seal_keys: tuple[str, ...] | None = None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _masked(self, "seal_keys")

    def __repr__(self) -> str:
        return _text(self, self.__rich_repr__())


class LimitsConfig(Struct, frozen=True, kw_only=True):
    """How much is served at once; what is beyond is refused with a clear error.

    Attributes:
        max_connections: Open WebSocket connections per process.
        max_connections_per_owner: Of those, of one owner.
        max_in_flight: Responses that run at the same time per process.
        max_in_flight_per_owner: Of those, of one owner; 0 for no such limit. With one, answers
            say how much of it is left.
        max_in_flight_per_connection: Of those, on one WebSocket (protocol.md section 8.4).
        max_lanes_per_connection: Distinct `stream_id`s over a connection's life (8.4).
        max_queued_per_connection: Accepted creates that wait on one WebSocket (8.4).
        max_cached_bytes_per_connection: Memory for the contexts that one WebSocket can
            continue; beyond it the lanes unused for longest lose theirs.
        max_known_bytes: Memory, per process, for conversations that are recognised when a
            client sends them again in full; beyond it those unused for longest are forgotten.
            0 recognises none. They are never written anywhere, nor shared between owners.
    """

    max_connections: Positive = 10_000
    max_in_flight: Positive = 1024
    max_in_flight_per_owner: NotNegative = 0
    max_in_flight_per_connection: Positive = 16
    max_lanes_per_connection: Positive = 32
    max_queued_per_connection: Positive = 256
    max_connections_per_owner: Positive = 10_000
    max_cached_bytes_per_connection: Positive = 64 * MIB
    max_known_bytes: NotNegative = 256 * MIB


class WebSocketConfig(Struct, frozen=True, kw_only=True):
    """How WebSocket connections live and end. 0 turns a timer off.

    Attributes:
        enabled: False refuses handshakes with 426, and clients fall back to HTTP.
        compression: Agree to permessage-deflate when a client offers it.
        max_age_sec: Age at which a connection is closed (protocol.md section 8.6).
        idle_sec: Silence after which a connection without any conversation is closed.
        ping_sec: Silence after which the server pings; half of it later without a pong the
            client counts as gone.
        keepalive_sec: Silence of a running response after which it repeats
            `response.in_progress`, for clients that count events.
        stalled_sec: Time after which a client that takes nothing of what is sent is cut off.
    """

    enabled: bool = True
    compression: bool = False
    max_age_sec: Seconds = 3600.0
    idle_sec: Seconds = 600.0
    ping_sec: Seconds = 40.0
    keepalive_sec: Seconds = 30.0
    stalled_sec: Seconds = 60.0


class SseConfig(Struct, frozen=True, kw_only=True):
    """How streamed HTTP answers live and end. 0 turns a timer off.

    Attributes:
        keepalive_sec: Silence of a stream after which it sends a comment (protocol.md 7).
        stalled_sec: Time after which a client that takes nothing of what is sent is cut off.
    """

    keepalive_sec: Seconds = 15.0
    stalled_sec: Seconds = 60.0


class BackgroundConfig(Struct, frozen=True, kw_only=True):
    """How many background responses run, and what is remembered of them (protocol.md 12).

    Attributes:
        max_running: Background responses that run or are queued, per process.
        keep_sec: How long after its end a response's events can be replayed, and one with
            store:false be read.
        max_events: Events kept of one response; beyond it the oldest go.
        max_bytes_per_response: The same in bytes.
        max_bytes: Memory for all of them. Beyond it the events of stored responses that ended
            first go before their time, and where that is not enough new ones are refused.
    """

    max_running: Positive = 256
    keep_sec: Seconds = 600.0
    max_events: Positive = 100_000
    max_bytes_per_response: Positive = 16 * MIB
    max_bytes: Positive = 256 * MIB


class LoggingConfig(Struct, frozen=True, kw_only=True):
    """What the log says, and how. It never holds the content of a request.

    Attributes:
        level: Least severity that is written.
        format: json: one object per line. console: for people.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "console"


class Config(Struct, frozen=True, kw_only=True):
    """Everything the server is told. `load` returns one that is checked as a whole.

    Attributes:
        engine: Engines by name.
        model: Models by name, beside the embedded ones.
        secrets: What `key_env` fields stand for; in no file.
    """

    server: ServerConfig = field(default_factory=ServerConfig)
    keys: tuple[KeyConfig, ...] = ()
    store: StoreConfig = StoreConfig()
    models: ModelsConfig = ModelsConfig()
    engine: dict[Name, EngineConfig] = {}
    model: dict[Name, ModelConfig] = {}
    security: SecurityConfig = SecurityConfig()
    limits: LimitsConfig = LimitsConfig()
    websocket: WebSocketConfig = WebSocketConfig()
    sse: SseConfig = SseConfig()
    background: BackgroundConfig = BackgroundConfig()
    logging: LoggingConfig = LoggingConfig()
    secrets: Secrets = field(default_factory=Secrets)

    @property
    def models_dir(self) -> Path:
        """Where files from the hub are kept."""
        return self.models.folder or self.server.data_dir / "models"

    @property
    def store_path(self) -> Path:
        """The SQLite file."""
        return self.store.path or self.server.data_dir / "turnwire.db"

    @property
    def seal_key_path(self) -> Path:
        """Where the sealing key is kept when none is configured."""
        return self.server.data_dir / "seal.key"


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
        name: msgspec.structs.replace(engine, path=engine.path and _expand(engine.path, env))
        if isinstance(engine, LlamaCppConfig)
        else engine
        for name, engine in config.engine.items()
    }
    models = {
        name: msgspec.structs.replace(
            model,
            tokenizer=model.tokenizer and _expand(model.tokenizer, env),
            template=model.template and _expand(model.template, env),
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
        models=msgspec.structs.replace(config.models, folder=folder and _expand(folder, env)),
        secrets=_secrets(config, env),
        server=msgspec.structs.replace(server, data_dir=_expand(server.data_dir, env)),
        keys=keys,
        store=msgspec.structs.replace(store, path=store.path and _expand(store.path, env)),
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


def _expand(path: Path | str, env: Mapping[str, str]) -> Path:
    """Make a path absolute; `~` is the home directory of `env`."""
    first, *rest = Path(path).parts or (".",)
    if first == "~" and env.get("HOME"):
        path = Path(env["HOME"], *rest)
    return Path(path).expanduser().absolute()


def _masked(struct: Struct, *secrets: str) -> list[tuple[str, Any]]:
    values = ((name, getattr(struct, name)) for name in struct.__struct_fields__)
    return [
        (name, HIDDEN if name in secrets and value is not None else value) for name, value in values
    ]


def _text(struct: Struct, shown: list[tuple[str, Any]]) -> str:
    return f"{type(struct).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"
