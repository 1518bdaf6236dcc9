"""A server in this process and loop, started in some 50 ms, and what a test asks of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from aiohttp import web_app
from msgspec import Struct

from turnwire.config import (
    Config,
    KeyConfig,
    LimitsConfig,
    ServerConfig,
    StoreConfig,
    WebSocketConfig,
)
from turnwire.engines.author import Author
from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.engines.vocabulary import Vocabulary
from turnwire.models.sim_model import SimModel
from turnwire.models.token_model import TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.server.app import Server, serve
from turnwire.server.workers import ALONE, Workers

__all__ = [
    "ALICE",
    "BOB",
    "PROFILES",
    "Serving",
    "bearer",
    "config",
    "eventually",
    "serving",
    "shipped",
]

ALICE: Final = "sk-alice-0123456789abcdef"
BOB: Final = "sk-bob-0123456789abcdef"

PROFILES: Final = {
    "sim": SimProfile(),
    # Slow enough that a test can act while it talks; no test waits for its end.
    "sim-slow": SimProfile(tokens_per_sec=50.0),
    # One at a time: a slot that is not given back shows in the next request.
    "sim-single": SimProfile(tokens_per_sec=200.0, slots=1, max_waiting=0),
}
PATIENCE_SEC: Final = 20.0


@cache
def shipped() -> tuple[Renderer, Vocabulary, Author]:
    """Tokenizer, template and author of the simulated models; made once."""
    tokenizer = Tokenizer.shipped()
    vocabulary = Vocabulary(
        token_bytes=tokenizer.token_bytes(), special=tokenizer.special, encode=tokenizer.encode
    )
    return Renderer(tokenizer), vocabulary, Author(vocabulary)


class Serving(Struct, frozen=True):
    """A server that runs.

    Attributes:
        server: The server itself.
        engines: The engines behind its models, by the model's name.
    """

    server: Server
    engines: dict[str, SimEngine]

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.server.url

    def count(self, name: str, **labels: str) -> float:
        """A metric's value now; 0 if nothing was counted."""
        return self.server.metrics.registry.get_sample_value(f"turnwire_{name}", labels) or 0.0

    async def idle(self) -> None:
        """Wait until no response runs and every slot is free; fail if that never comes."""
        await eventually(
            lambda: (
                self.count("responses_in_flight") == 0
                and all(not e.num_running and not e.num_waiting for e in self.engines.values())
            )
        )


def config(
    data_dir: Path,
    *,
    store: Literal["memory", "sqlite"] = "memory",
    keys: Sequence[KeyConfig] = (),
    limits: LimitsConfig | None = None,
    **server: Any,
) -> Config:
    """A configuration for a free port on loopback.

    Unless `limits` say otherwise, conversations that come in full are not recognised: sending
    everything again is what these tests measure all else by. Nobody is pinged, however long a test
    takes on a busy machine.
    """
    return Config(
        server=ServerConfig(port=0, data_dir=data_dir, shutdown_grace_sec=5.0, **server),
        keys=tuple(keys),
        store=StoreConfig(kind=store),
        websocket=WebSocketConfig(ping_sec=0),
        limits=limits or LimitsConfig(max_known_bytes=0),
    )


@asynccontextmanager
async def serving(
    told: Config,
    names: Sequence[str] = tuple(PROFILES),
    *,
    profiles: Mapping[str, SimProfile] = PROFILES,
    beat_sec: float = 1.0,
    workers: Workers = ALONE,
) -> AsyncIterator[Serving]:
    """Serve while the context is open; fresh engines, a shared tokenizer and template."""
    renderer, vocabulary, author = shipped()
    engines = {name: SimEngine(vocabulary, profiles[name], author) for name in names}
    models = [SimModel(TokenModel(name, renderer, engine)) for name, engine in engines.items()]
    try:
        async with serve(told, models=models, beat_sec=beat_sec, workers=workers) as server:
            yield Serving(server, engines)
    finally:
        # aiohttp keeps the handlers of the last 1024 applications, and with them every engine
        # of a test run: some gigabytes.
        web_app._cached_build_middleware.cache_clear()


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until `holds()`; a test that waits for ever fails here instead."""
    async with asyncio.timeout(PATIENCE_SEC):
        while not holds():  # noqa: ASYNC110  # what is watched has no event to wait for
            await asyncio.sleep(0.002)
