"""The composition root: concrete classes meet here, and nowhere else."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from turnwire.config import Config
from turnwire.context.known import KnownContexts
from turnwire.context.recent import RecentContexts
from turnwire.conversations.keeper import Conversations
from turnwire.errors import Overloaded, TooManyRequests, UpgradeRequired
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
from turnwire.server.faults import fault_middleware, stamp_prepared
from turnwire.server.http import CreatingApi
from turnwire.server.listening import listening_on
from turnwire.server.local import local_guard
from turnwire.server.models import ModelsApi
from turnwire.server.offered import offered
from turnwire.server.openapi import document
from turnwire.server.runner import Runner
from turnwire.server.shutdown import drain
from turnwire.server.stored import StoredApi
from turnwire.server.streams import Streams
from turnwire.server.websocket import Socket, SocketSettings
from turnwire.server.workers import ALONE, Siblings, Workers
from turnwire.session.connection import ConnectionLimits
from turnwire.session.watch import Watch
from turnwire.store.base import Store
from turnwire.store.conversations import ConversationStore
from turnwire.store.memory import MemoryStore
from turnwire.store.sqlite import SqliteStore
from turnwire.telemetry import logs
from turnwire.telemetry.gathered import gathered
from turnwire.telemetry.metrics import CONTENT_TYPE, Metrics
from turnwire.turn import Turns

__all__ = ["Server", "serve"]

BEAT_SEC: Final = 1.0
STORED: Final = "/v1/responses/{id:(?!(?:input_tokens|compact)$)[^{}/]+}"
"""No response has the name of an endpoint: without this, that one would seem to have methods."""
MODEL: Final = "/v1/models/{id:.+}"
"""Names such as `owner/model` are common, and not every client escapes the slash."""


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
        self._creating: Final = CreatingApi(
            self._turns,
            self._authenticator,
            self.metrics,
            bodies,
            self._streams,
            self._background,
        )
        self._models: Final = ModelsApi(self.registry, self._authenticator)
        self._counting: Final = CountingApi(self._turns, self._authenticator, bodies)
        self._compacting: Final = CompactingApi(
            self._turns, self._authenticator, self.metrics, bodies
        )
        self._document: Final = document(version("turnwire"), keys=bool(config.keys))
        self._stored: Final = StoredApi(
            history, self._background, self._authenticator, self._streams
        )
        self._workers: Final = workers
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
        app = web.Application(middlewares=middlewares)
        app.on_response_prepare.append(stamp_prepared)
        app.on_response_prepare.append(self._creating.tell_rates)
        app.on_response_prepare.append(cors.stamp)
        app.on_response_prepare.append(self._streams.see_off)
        app.on_cleanup.append(self._cleanup)
        for route in self._routes():
            route.kwargs["expect_handler"] = self._bodies.expect
            app.add_routes([route])
        return app

    def _routes(self) -> list[web.RouteDef]:
        stored, models = self._stored, self._models

        def at_home(handler: Handler) -> Handler:
            return self._siblings.at_home(handler, stored.lives_in_memory)

        return [
            web.post("/v1/responses", self._create),
            web.get("/v1/responses", self._connect, allow_head=False),
            web.post("/v1/responses/input_tokens", self._counting.input_tokens),
            web.post("/v1/responses/compact", self._compact),
            web.get(STORED, at_home(stored.retrieve), allow_head=False),
            web.delete(STORED, at_home(stored.delete)),
            web.post("/v1/responses/{id}/cancel", at_home(stored.cancel)),
            web.get("/v1/responses/{id}/input_items", stored.input_items, allow_head=False),
            *self._conversations.routes(),
            web.get("/v1/models", models.models, allow_head=False),
            web.get(MODEL, models.model, allow_head=False),
            web.get("/health", self._health),
            web.get("/ready", self._ready),
            web.get("/metrics", self._metrics),
            web.get("/openapi.json", self._openapi),
        ]

    async def recover(self) -> None:
        """Give an end to the responses that another process was running when it ended.

        Raises:
            StoreError: the store failed.
        """
        await self._background.recover()

    @property
    def num_running(self) -> int:
        """Responses that run now."""
        return len(self._turns.running)

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
        if not self._draining and self._workers.is_orphan():
            # A new server could not have the port, or would share it with us.
            signal.raise_signal(signal.SIGTERM)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        self._refuse_when_draining()
        return await self._creating.create(request)

    async def _compact(self, request: web.Request) -> web.StreamResponse:
        self._refuse_when_draining()
        return await self._compacting.compact(request)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        caller = self._authenticator.caller(request.headers)
        self._refuse_when_draining()
        self._refuse_too_many(caller)
        if not self.config.websocket.enabled:
            raise UpgradeRequired(
                "WebSocket mode is off on this server: POST to this path instead.", offered=False
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
        text = self._measure()
        workers = self._workers
        if workers.count > 1 and not self._siblings.are_asking(request):
            text = gathered({workers.index: text, **await self._siblings.glance(request.path)})
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    def _measure(self) -> bytes:
        metrics = self.metrics
        queued = sum(one.connection.num_queued for one in self._sockets)
        metrics.lanes_queued.set(queued)
        self._background.measure()
        for name in self.registry.names():
            model = self.registry.get(name)
            metrics.engine_slots(name, "running", model.num_running)
            metrics.engine_slots(name, "waiting", model.num_waiting)
        return metrics.render()

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
        AddressUnavailable: the address cannot be listened on.
    """
    logs.configure_if_not()
    store = await _store(config)  # first: a folder that cannot be written is seen at once
    try:
        chosen = list(models) if models is not None else await offered(config, progress)
    except BaseException:
        await store.aclose()
        raise
    server = Server(config, chosen, store, store.conversations, workers)
    # `handler_cancellation`: when a client goes away its turn is cancelled, and the engine freed.
    runner = Runner(
        server.app(),
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,  # `Bodies` does it, with a bound
        shutdown_timeout=1.0,  # `drain` had its time before
    )
    await runner.setup()
    try:
        await server.recover()
        if listener is not None:
            await web.SockSite(runner, listener, backlog=1024).start()
        else:
            told = config.server
            with listening_on(told.host, told.port):
                await web.TCPSite(runner, told.host, told.port, backlog=1024).start()
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
