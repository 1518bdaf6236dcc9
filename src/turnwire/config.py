"""What the server is told before it starts: a frozen struct per layer, defaults in sight.

Where the values come from is in `config_sources`. Secrets are digests where that is enough, and
never appear in a repr.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from turnwire.errors import ConfigError
from turnwire.model_config import (
    EngineConfig,
    ModelConfig,
    Secrets,
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
    "expanded",
]

HIDDEN: Final = "***"
MIB: Final = 1024 * 1024
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
    return expanded("~/.local/share/turnwire", env)


def expanded(path: Path | str, env: Mapping[str, str]) -> Path:
    """Make a path absolute; `~` is the home directory of `env`."""
    first, *rest = Path(path).parts or (".",)
    if first == "~" and env.get("HOME"):
        path = Path(env["HOME"], *rest)
    return Path(path).expanduser().absolute()


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


def _masked(struct: Struct, *secrets: str) -> list[tuple[str, Any]]:
    values = ((name, getattr(struct, name)) for name in struct.__struct_fields__)
    return [
        (name, HIDDEN if name in secrets and value is not None else value) for name, value in values
    ]


def _text(struct: Struct, shown: list[tuple[str, Any]]) -> str:
    return f"{type(struct).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"
