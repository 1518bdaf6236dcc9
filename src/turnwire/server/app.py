"""The composition root: concrete classes meet here, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler

from turnwire.config import Config
from turnwire.context.known import KnownContexts
from turnwire.context.recent import RecentContexts
from turnwire.conversations.keeper import Conversations
from turnwire.engines.sim import SIM_PROFILES
from turnwire.errors import ConfigError, Overloaded, TooManyRequests
from turnwire.history import History
from turnwire.hub import Progress
from turnwire.models.base import Model
from turnwire.models.registry import Offer, Registry
from turnwire.resent import Resent
from turnwire.sealing import Sealer, load_or_create_key
from turnwire.server.answers import json_answer
from turnwire.server.auth import Authenticator, Caller
from turnwire.server.background import Background
from turnwire.server.bodies import Bodies
from turnwire.server.compacting import CompactingApi
from turnwire.server.conversations import ConversationApi
from turnwire.server.cors import Cors
from turnwire.server.counting import CountingApi
from turnwire.server.faults import fault_middleware, stamp
from turnwire.server.heap import settle_heap
from turnwire.server.http import Api
from turnwire.server.local import local_guard
from turnwire.server.offered import offered
from turnwire.server.openapi import document
from turnwire.server.shutdown import drain
from turnwire.server.stored import StoredApi
from turnwire.server.streams import Streams
from turnwire.server.websocket import Socket, SocketSettings, UpgradeRequired
from turnwire.server.workers import ALONE, Siblings, Workers
from turnwire.session.connection import ConnectionLimits
from turnwire.session.watch import Watch
from turnwire.store.base import Store
from turnwire.store.conversations import ConversationStore
from turnwire.store.memory import MemoryStore
from turnwire.store.sqlite import SqliteStore
from turnwire.telemetry import logs
from turnwire.telemetry.metrics import CONTENT_TYPE, Metrics
from turnwire.turn import Turns

__all__ = ["Server", "run", "serve"]

BEAT_SEC: Final = 1.0
STORED: Final = "/v1/responses/{id:(?!(?:input_tokens|compact)$)[^{}/]+}"
"""No response has the name of an endpoint: without this, that one would seem to have methods."""


class Server:
    """A server that is built and ready to listen.

    Attributes:
        config: What it was told.
        metrics: What it counts.
        registry: The models it offers.
        url: Where it listens, once it does: `http://127.0.0.1:8787`.
    """

    def __init__(
        self,
        config: Config,
        models: Iterable[Model | Offer],
        store: Store,
        conversation_store: ConversationStore,
        workers: Workers = ALONE,
    ) -> None:
        """Join the parts. Opens nothing and starts nothing."""
        self.config: Final = config
        self.metrics: Final = Metrics()
        self.registry: Final = Registry(models)
        self.url = ""
        self._store: Final = store
        self._sockets: Final[set[Socket]] = set()
        self._num_sockets: Final[Counter[str]] = Counter()
        self._draining = False
        self._authenticator: Final = Authenticator(
            config.keys, zero_data_retention=config.store.zero_data_retention
        )
        limits = config.limits
        history = History(store, _sealer(config), RecentContexts())
        conversations = Conversations(conversation_store, history)
        self._turns: Final = Turns(
            self.registry,
            history,
            conversations,
            Resent(KnownContexts(limits.max_known_bytes), history),
            self.metrics,
            max_in_flight=limits.max_in_flight,
            max_in_flight_per_owner=limits.max_in_flight_per_owner,
        )
        websocket = config.websocket
        self._socket_settings: Final = SocketSettings(
            limits=ConnectionLimits(
                max_in_flight=limits.max_in_flight_per_connection,
                max_lanes=limits.max_lanes_per_connection,
                max_queued=limits.max_queued_per_connection,
                max_cached_bytes=limits.max_cached_bytes_per_connection,
            ),
            watch=Watch(
                max_age_sec=websocket.max_age_sec,
                idle_sec=websocket.idle_sec,
                keepalive_sec=websocket.keepalive_sec,
                stalled_sec=websocket.stalled_sec,
            ),
            max_message_bytes=config.server.max_message_bytes,
            ping_sec=websocket.ping_sec,
            compression=websocket.compression,
        )
        bodies = self._bodies = Bodies(config.server.max_body_bytes)
        self._streams: Final = Streams(
            keepalive_sec=config.sse.keepalive_sec, stalled_sec=config.sse.stalled_sec
        )
        self._background: Final = Background(
            self._turns, history, self.metrics, config.background, workers
        )
        self._api: Final = Api(
            self._turns,
            self._authenticator,
            self.metrics,
            bodies,
            self._streams,
            self._background,
        )
        self._counting: Final = CountingApi(self._turns, self._authenticator, bodies)
        self._compacting: Final = CompactingApi(
            self._turns, self._authenticator, self.metrics, bodies
        )
        self._document: Final = document(version("turnwire"), keys=bool(config.keys))
        self._stored: Final = StoredApi(
            history, self._background, self._authenticator, self._streams
        )
        self._siblings: Final = Siblings(workers, self._streams)
        self._conversations: Final = ConversationApi(conversations, self._authenticator, bodies)

    def app(self) -> web.Application:
        """The routes."""
        cors = Cors(self.config.server.allowed_origins)
        middlewares = [fault_middleware(self.metrics)]
        if not self.config.keys:
            middlewares.append(local_guard(cors.allows))
        if cors.is_on:
            middlewares.append(cors.middleware)
        app = web.Application(
            middlewares=middlewares,
            client_max_size=self.config.server.max_body_bytes,
        )
        app.on_response_prepare.append(stamp)
        app.on_response_prepare.append(self._api.tell_rates)
        app.on_response_prepare.append(cors.stamp)
        app.on_cleanup.append(self._cleanup)
        api, stored, expect = self._api, self._stored, self._bodies.expect

        def at_home(handler: Handler) -> Handler:
            return self._siblings.at_home(handler, stored.lives_in_memory)

        app.add_routes(
            [
                web.post("/v1/responses", self._create, expect_handler=expect),
                web.get("/v1/responses", self._connect, allow_head=False),
                web.post(
                    "/v1/responses/input_tokens",
                    self._counting.input_tokens,
                    expect_handler=expect,
                ),
                web.post("/v1/responses/compact", self._compact, expect_handler=expect),
                web.get(STORED, at_home(stored.retrieve), allow_head=False),
                web.delete(STORED, at_home(stored.delete)),
                web.post("/v1/responses/{id}/cancel", at_home(stored.cancel)),
                web.get("/v1/responses/{id}/input_items", stored.input_items, allow_head=False),
                *self._conversations.routes(),
                web.get("/v1/models", api.models, allow_head=False),
                web.get("/v1/models/{id}", api.model, allow_head=False),
                web.get("/health", self._health),
                web.get("/ready", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/openapi.json", self._openapi),
            ]
        )
        return app

    async def recover(self) -> None:
        """Give an end to the responses that another process was running when it ended.

        Raises:
            StoreError: the store failed.
        """
        await self._background.recover()

    async def drain(self) -> None:
        """End what runs and close what is open, within the configured time; see `shutdown`."""
        self._draining = True
        await drain(self._turns, self._sockets, self.config.server.shutdown_grace_sec)

    async def beat(self, every_sec: float = BEAT_SEC) -> None:
        """Look after connections and streams at this distance, for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(every_sec)
            await self._look_after(clock())

    async def _look_after(self, now: float) -> None:
        # A frame of its own: what its loops looked at last is not kept until the next beat.
        for number, one in enumerate(tuple(self._sockets), start=1):
            one.beat(now)
            if number % 500 == 0:
                await asyncio.sleep(0)
        for number, stream in enumerate(self._streams, start=1):
            self._streams.beat(stream, now)
            if number % 500 == 0:
                await asyncio.sleep(0)
        self._background.beat(now)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        self._refuse_when_draining()
        return await self._api.create(request)

    async def _compact(self, request: web.Request) -> web.StreamResponse:
        self._refuse_when_draining()
        return await self._compacting.compact(request)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        caller = self._api.caller(request)
        self._refuse_when_draining()
        self._refuse_too_many(caller)
        if not self.config.websocket.enabled:
            raise UpgradeRequired(
                "WebSocket mode is off on this server: POST to this path instead."
            )
        one = Socket(self._turns, caller, self.metrics, self._socket_settings)
        self._sockets.add(one)
        self._num_sockets[caller.owner] += 1
        try:
            return await one.run(request)
        finally:
            self._sockets.discard(one)
            self._num_sockets[caller.owner] -= 1
            if not self._num_sockets[caller.owner]:
                del self._num_sockets[caller.owner]

    def _refuse_when_draining(self) -> None:
        if self._draining:
            raise Overloaded("The server is restarting; send the request again.", retry_after_sec=1)

    def _refuse_too_many(self, caller: Caller) -> None:
        limits = self.config.limits
        for count, most, whose in (
            (len(self._sockets), limits.max_connections, "This server has"),
            (self._num_sockets[caller.owner], limits.max_connections_per_owner, "You have"),
        ):
            if count >= most:
                raise TooManyRequests(
                    f"{whose} {count} WebSocket connections open, the limit. Close one, try "
                    "again later, or POST to this path.",
                    code="websocket_connection_limit_reached",
                    retry_after_sec=5,
                )

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.Response:
        if self._draining:
            return web.json_response({"status": "draining"}, status=503)
        return web.json_response({"status": "ready"})

    async def _openapi(self, request: web.Request) -> web.Response:
        return json_answer(self._document)

    async def _metrics(self, request: web.Request) -> web.Response:
        metrics = self.metrics
        queued = sum(one.connection.num_queued for one in self._sockets)
        metrics.lanes_queued.set(queued)
        self._background.measure()
        for name in self.registry.names():
            model = self.registry.get(name)
            metrics.engine_slots(name, "running", model.num_running)
            metrics.engine_slots(name, "waiting", model.num_waiting)
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _cleanup(self, app: web.Application) -> None:
        await self._background.aclose()
        await self._siblings.aclose()
        await self.registry.aclose()
        await self._store.aclose()


def _sealer(config: Config) -> Sealer:
    keys = config.security.seal_keys
    if keys is not None:
        return Sealer([key.encode() for key in keys])
    if config.store.kind == "memory":
        return Sealer([Sealer.generate_key()])  # nothing of this process is to outlive it
    return Sealer([load_or_create_key(config.seal_key_path)])


async def _store(config: Config) -> MemoryStore | SqliteStore:
    if config.store.kind == "memory":
        return MemoryStore(config.store.max_turns)
    return await SqliteStore.open(config.store_path)


@asynccontextmanager
async def serve(
    config: Config,
    *,
    models: Iterable[Model | Offer] | None = None,
    progress: Progress | None = None,
    listener: socket.socket | None = None,
    beat_sec: float = BEAT_SEC,
    workers: Workers = ALONE,
) -> AsyncIterator[Server]:
    """Serve while the context is open; on leaving, drain and close everything.

    Args:
        config: What to serve.
        models: Instead of those that the configuration names.
        progress: Hears how far a model's file is, where one has to be fetched.
        listener: A bound socket to listen on, instead of the configured address.
        beat_sec: Distance at which connections are looked after: how exact their timers are.
        workers: Which process this is, of several that share the address.

    Raises:
        ConfigError: the configuration names something that is not there.
        EngineUnavailable, HubError: an engine, or a model's file.
        StoreError: the store cannot be opened.
        OSError: the address cannot be listened on.
    """
    logs.configure_if_not()
    chosen = list(models) if models is not None else await offered(config, progress)
    store = await _store(config)
    server = Server(config, chosen, store, store.conversations, workers)
    # `handler_cancellation`: when a client goes away its turn is cancelled, and the engine freed.
    runner = web.AppRunner(
        server.app(),
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,  # `Bodies` does it, with a bound
        shutdown_timeout=1.0,  # `drain` had its time before
    )
    await runner.setup()
    try:
        await server.recover()
        site: web.BaseSite
        if listener is not None:
            site = web.SockSite(runner, listener, backlog=1024)
        else:
            site = web.TCPSite(runner, config.server.host, config.server.port, backlog=1024)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if workers.count > 1:
            await web.UnixSite(runner, str(workers.socket(workers.index))).start()
        beat = asyncio.create_task(server.beat(beat_sec), name="beat")
        try:
            yield server
        finally:
            await server.drain()
            beat.cancel()
    finally:
        await runner.cleanup()


async def _serve_until_told(
    config: Config,
    listener: socket.socket | None,
    workers: Workers = ALONE,
    progress: Progress | None = None,
) -> None:
    told = asyncio.Event()
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine runs in a task")
    # Models may take minutes to fetch and to load, and nothing is lost then.
    _on_signal(task.cancel)
    async with serve(config, listener=listener, workers=workers, progress=progress) as server:
        _on_signal(told.set)
        settle_heap()
        if config.server.workers == 1:
            _announce(server.url, server.registry.names())
        await told.wait()
        # The second signal does not wait for anything.
        _on_signal(partial(os._exit, 1))


def _on_signal(act: Callable[[], object]) -> None:
    """What the next signal that asks to end does."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, act)


def _announce(url: str, models: Iterable[str]) -> None:
    """Print the one line that says the server is ready."""
    print(f"Turnwire is ready at {url}/v1 (models: {', '.join(models)})", flush=True)


def run(config: Config, progress: Progress | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: What to serve.
        progress: As for `serve`.

    Raises:
        ConfigError, StoreError, OSError: as `serve`.
    """
    logs.configure(config.logging.level, config.logging.format)
    if config.server.workers > 1:
        _run_workers(config)
    else:
        with contextlib.suppress(asyncio.CancelledError):  # told to end before it was ready
            uvloop.run(_serve_until_told(config, None, progress=progress))


def _run_workers(config: Config) -> None:
    """Fork workers that share the port; end when told, or when one of them dies."""
    # Not in the data directory: the path of a socket may have 107 bytes.
    folder = Path(mkdtemp(prefix="turnwire-"))
    parent = os.getpid()
    try:
        _fork_workers(config, folder)
    finally:
        if os.getpid() == parent:  # a worker that fails comes this way too
            shutil.rmtree(folder, ignore_errors=True)


def _fork_workers(config: Config, folder: Path) -> None:
    listeners = [_listen(config.server.host, config.server.port)]
    port = listeners[0].getsockname()[1]
    while len(listeners) < config.server.workers:
        listeners.append(_listen(config.server.host, port))
    children = set()
    for index, listener in enumerate(listeners):
        child = os.fork()
        if child == 0:
            workers = Workers(index, len(listeners), folder)
            with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
                uvloop.run(_serve_until_told(config, listener, workers))
            sys.stdout.flush()
            os._exit(0)
        children.add(child)
    for listener in listeners:
        listener.close()

    def pass_on(number: int, frame: object) -> None:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    shipped = SIM_PROFILES if config.models.embedded is None else config.models.embedded
    _announce(f"http://{config.server.host}:{port}", [*config.model, *shipped])
    failed = False
    while children:
        child, status = os.wait()
        children.discard(child)
        if status != 0 and not failed:
            failed = True
            pass_on(signal.SIGTERM, None)
    if failed:
        raise ConfigError("A worker ended with an error; its own lines above say why.")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.setblocking(False)
    return listener
