"""llama.cpp, through the HTTP of its llama-server: token ids to `/completion`, ids back.

The server may be anybody's, reached by URL, or one of our own (`llamacpp_process`). Each of its
slots holds one conversation; `Places` chooses among them, so that a turn computes only what is
new, and no more generations are sent than there are slots. A prompt is sent whole each time, but
written once: `Tokens.to_json`.

Constraints are lowered into a grammar that the server has (`llamacpp_grammar`), and every id
that comes back is held against the original: a server that did not understand its grammar
ignores it without a word.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from msgspec import Struct

from turnwire.constraint import Constraint
from turnwire.engines.base import Delta, FinishReason, Generation
from turnwire.engines.constrain import Guide, Guides
from turnwire.engines.llamacpp_grammar import Dialect, lower
from turnwire.engines.llamacpp_wire import Frame, Frames, Props, body, failure_text, probe_body
from turnwire.engines.places import Places
from turnwire.engines.slots import Slots
from turnwire.engines.vocabulary import Vocabulary
from turnwire.engines.withheld import Withheld
from turnwire.errors import ConfigError, ContextTooLong, EngineError, EngineUnavailable

__all__ = ["Host", "LlamaCppEngine", "LlamaCppOptions"]

_MAX_GRAMMARS: Final = 256
_MAX_ANSWER_BYTES: Final = 1 << 20
# cpp-httplib hangs up on a connection that was idle for five seconds.
_KEEP_ALIVE_SEC: Final = 4.0
_NUM_SAMPLES: Final = 64
_MAX_ESCAPE_BYTES: Final = 6  # \\u003c


class LlamaCppOptions(Struct, frozen=True, kw_only=True):
    """How to use a llama-server.

    Attributes:
        max_waiting: Generations that wait for a slot; further ones are refused.
        connect_sec: Longest wait for a connection.
        silence_sec: Longest wait for the next sign of life: a token, or a report that another
            batch of the prompt was computed.
        ready_sec: How long `connect` waits while the server says that it loads its model.
        dialect: How grammars are written for it; None to find out.
    """

    max_waiting: int = 256
    connect_sec: float = 5.0
    silence_sec: float = 300.0
    ready_sec: float = 300.0
    dialect: Dialect | None = None


class Host(Protocol):
    """Where a llama-server is; one that moves when it is started anew is asked again."""

    async def locate(self) -> str:
        """Return its URL.

        Raises:
            EngineUnavailable: there is none now.
        """
        ...

    async def aclose(self) -> None: ...


class _Somewhere:
    """A server that others run, always in the same place."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def locate(self) -> str:
        return self._url

    async def aclose(self) -> None:
        pass


class LlamaCppEngine:
    """An engine behind a llama-server; see `turnwire.engines.base.Engine`.

    Made by `connect`, or by `start_llamacpp` of `llamacpp_process`.

    Attributes:
        name: What errors call it: without user, password and query, which may be secrets.
        host: Where the server is.
    """

    def __init__(
        self,
        host: Host,
        vocabulary: Vocabulary,
        *,
        api_key: str | None = None,
        options: LlamaCppOptions | None = None,
    ) -> None:
        """Prepare; use `connect`, which also asks the server what it is."""
        self.host: Final = host
        self.name = "llama-server"
        self._url = ""
        self._vocabulary = vocabulary
        self._options = options or LlamaCppOptions()
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SEC),
            headers={"Content-Type": "application/json", **headers},
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._options.connect_sec,
                sock_read=self._options.silence_sec,
            ),
            read_bufsize=1 << 18,
        )
        self._withheld = Withheld(vocabulary)
        self._guides: dict[frozenset[int], Guides] = {}
        self._grammars: OrderedDict[tuple[Constraint, bool], bytes] = OrderedDict()
        # Set by `_learn`.
        self._window = 0
        self._dialect = Dialect.NONE
        self._num_slots = 0
        self._slots = Slots(1, 0)
        self._places = Places(1)
        # After the server was lost: ask again what it is before the next generation.
        self._lost = False
        self._learning = asyncio.Lock()
        self._running: set[aiohttp.ClientResponse] = set()
        self._closed = False

    @classmethod
    async def connect(
        cls,
        url: str,
        vocabulary: Vocabulary,
        *,
        api_key: str | None = None,
        options: LlamaCppOptions | None = None,
    ) -> LlamaCppEngine:
        """Connect to a llama-server, and learn its window, its slots and its grammars.

        Args:
            url: `http://host:port`, with the server's prefix if it has one.
            vocabulary: Of the model that it serves.
            api_key: What it was started with as `--api-key`.

        Raises:
            EngineUnavailable: it cannot be reached, or does not get ready.
            ConfigError: it wants another key, its model has another vocabulary, or it is no
                llama-server.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("the URL of a llama-server begins with http:// or https://")
        return await cls.connect_to(_Somewhere(url), vocabulary, api_key=api_key, options=options)

    @classmethod
    async def connect_to(
        cls,
        host: Host,
        vocabulary: Vocabulary,
        *,
        api_key: str | None = None,
        options: LlamaCppOptions | None = None,
    ) -> LlamaCppEngine:
        """Connect to a server that may move; as `connect`. Closing the engine closes `host`."""
        engine = cls(host, vocabulary, api_key=api_key, options=options)
        try:
            await engine._learn()
        except BaseException:
            await engine.aclose()
            raise
        return engine

    @property
    def window(self) -> int:
        """Most tokens of prompt and output together: what one slot holds."""
        return self._window

    @property
    def num_slots(self) -> int:
        """Generations that can run at the same time."""
        return self._num_slots

    @property
    def num_running(self) -> int:
        """Generations that have a slot."""
        return self._slots.num_running

    @property
    def num_waiting(self) -> int:
        """Generations that wait for a slot."""
        return self._slots.num_waiting

    @property
    def dialect(self) -> Dialect:
        """How grammars are written for this server."""
        return self._dialect

    def check(self, request: Generation) -> None:
        """Raise at once what is known to be in the way; see `Engine.check`.

        Raises:
            ContextTooLong: the prompt plus one token exceeds the window.
            EngineUnavailable: closed or full.
        """
        if request.prompt.length >= self._window:
            raise ContextTooLong(
                f"{request.prompt.length} prompt tokens leave no room in {self._window}"
            )
        self._slots.check()

    async def generate(self, request: Generation) -> AsyncGenerator[Delta, None]:
        """Yield the new tokens of one generation; see `Engine.generate`.

        A delta is what arrived together. A token that ends the output for the model, but is
        none of `request.stop`, is told as one of those.
        """
        follower = self._follower(request)
        settings: dict[str, object] = {
            "n_predict": -1 if request.max_new_tokens is None else request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            **({} if request.seed is None else {"seed": request.seed}),
        }
        async with self._run(request, settings) as run:
            while (frames := await run.next()) is not None:
                delta = run.read(frames, request.stop, self._withheld)
                if follower is not None:
                    follower.follow(delta.ids)
                if delta.ids or delta.finish or delta.num_cached is not None:
                    yield delta
                if delta.finish is not None:
                    return

    async def prefill(self, request: Generation) -> int:
        """Bring the prompt into the prefix cache; see `Engine.prefill`."""
        async with self._run(request, {"n_predict": 0}) as run:
            while (frames := await run.next()) is not None:
                run.read(frames, frozenset(), self._withheld)
        return run.num_cached

    async def aclose(self) -> None:
        """Refuse new generations; those that run or wait end with EngineError."""
        self._closed = True
        self._slots.close()
        for response in list(self._running):
            response.close()
        await self._http.close()
        await self.host.aclose()

    # -- one generation

    @asynccontextmanager
    async def _run(
        self, request: Generation, settings: Mapping[str, object]
    ) -> AsyncGenerator[_Run, None]:
        """Hold a slot and an answer that streams; leaving it early has the server stop."""
        self.check(request)
        await self._slots.acquire()
        try:
            if self._lost:
                await self._learn_again()
            constraint = self._lowered(request)
            choice = self._places.take(
                request.prompt, salt=request.cache_salt, session=request.session
            )
            run = _Run(self)
            try:
                told = {**settings, "id_slot": choice.slot, "cache_prompt": choice.cached}
                pieces = body(request.prompt.to_json(), told, constraint)
                response = run.response = await self._post(pieces)
                self._running.add(response)
                try:
                    yield run
                finally:
                    self._running.discard(response)
                    # An answer that was read to its end has given its connection back.
                    response.close()
            finally:
                self._places.give_back(choice.slot, run.num_sampled)
        finally:
            self._slots.release()

    async def _post(self, pieces: Sequence[bytes]) -> aiohttp.ClientResponse:
        """Send one request; return the answer when it has begun well.

        Raises:
            EngineUnavailable: it has not.
        """
        data = b"".join(pieces)
        for attempt in (1, 2):
            try:
                response = await self._http.post(f"{self._url}/completion", data=_Body(data))
                break
            except (aiohttp.ClientError, TimeoutError, RuntimeError) as error:
                # A connection that had been kept may have been closed in the same moment; the
                # request was not begun then.
                if attempt == 1 and isinstance(error, aiohttp.ServerDisconnectedError | OSError):
                    continue
                raise self._unavailable(error) from error
        if response.status == 200 and response.content_type == "text/event-stream":
            return response
        try:
            text = failure_text(response.status, await response.content.read(_MAX_ANSWER_BYTES))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unavailable(error) from error
        finally:
            response.close()
        raise EngineUnavailable(f"the {self.name} refused: {text}")

    def _unavailable(self, error: BaseException) -> EngineUnavailable:
        if self._closed:
            return EngineUnavailable("the engine was closed")
        self._lost = True
        return EngineUnavailable(f"the {self.name} does not answer ({_kind(error)})")

    def _broken(self, error: BaseException) -> EngineError:
        if self._closed:
            return EngineError("the engine was closed")
        self._lost = True
        return EngineError(f"the {self.name} broke off ({_kind(error)})")

    # -- constraints

    def _follower(self, request: Generation) -> _Follower | None:
        if request.constraint is None:
            return None
        guides = self._guides.get(request.stop)
        if guides is None:
            guides = self._guides[request.stop] = Guides(self._vocabulary, request.stop)
        guide = guides.start(request.constraint, request.prompt.last())
        return _Follower(guide, self._vocabulary.token_bytes, self.name)

    def _lowered(self, request: Generation) -> bytes:
        """The constraint in the server's words, written once."""
        constraint = request.constraint
        if constraint is None:
            return b""
        opened = (
            constraint.free_span is not None and request.prompt.last() == constraint.free_span[0]
        )
        key = (constraint, opened)
        found = self._grammars.get(key)
        if found is None:
            made = lower(constraint, self._dialect, self._vocabulary, opened=opened)
            found = self._grammars[key] = msgspec.json.encode(made)[1:-1]
            if len(self._grammars) > _MAX_GRAMMARS:
                self._grammars.popitem(last=False)
        else:
            self._grammars.move_to_end(key)
        return found

    # -- what the server is

    async def _learn_again(self) -> None:
        async with self._learning:
            if not self._lost:
                return
            try:
                await self._learn()
            except ConfigError as error:
                raise EngineUnavailable(f"{error}") from error
            self._lost = False

    async def _learn(self) -> None:
        """Ask the server what it is.

        Raises:
            EngineUnavailable, ConfigError: as for `connect`.
        """
        self._url = await self.host.locate()
        parts = urlsplit(self._url)
        self.name = f"llama-server at {parts.hostname}:{parts.port or 80}"
        await self._wait_until_ready()
        try:
            props = msgspec.json.decode(await self._ask("/props"), type=Props)
        except msgspec.DecodeError as error:
            raise ConfigError(f"the {self.name} does not answer as one: {error}") from error
        self._window = props.default_generation_settings.n_ctx
        if not self._num_slots:
            self._num_slots = props.total_slots
            self._slots = Slots(self._num_slots, self._options.max_waiting)
            self._places = Places(self._num_slots)
        self._places.forget()
        await self._check_vocabulary()
        self._dialect = self._options.dialect or await self._find_dialect()
        self._grammars.clear()

    async def _wait_until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.ready_sec
        pause_sec = 0.05
        while True:
            try:
                async with self._http.get(f"{self._url}/health") as answer:
                    if answer.status != 503:  # it loads its model
                        return
            except (aiohttp.ClientError, TimeoutError, RuntimeError) as error:
                raise self._unavailable(error) from error
            if loop.time() > deadline:
                raise EngineUnavailable(f"the {self.name} does not get ready")
            await asyncio.sleep(pause_sec)
            pause_sec = min(1.0, 2 * pause_sec)

    async def _ask(self, path: str, data: object = None) -> bytes:
        method = "GET" if data is None else "POST"
        sent = None if data is None else msgspec.json.encode(data)
        try:
            async with self._http.request(method, self._url + path, data=sent) as answer:
                text = await answer.content.read(-1)
                if answer.status in (401, 403):
                    raise ConfigError(f"the {self.name} wants another API key")
                if answer.status != 200:
                    reason = failure_text(answer.status, text)
                    raise ConfigError(f"the {self.name} does not answer {path}: {reason}")
                return text
        except (aiohttp.ClientError, TimeoutError, RuntimeError) as error:
            raise self._unavailable(error) from error

    async def _check_vocabulary(self) -> None:
        """Compare some tokens' texts: ids of another vocabulary would be nonsense, silently."""
        special = set(self._vocabulary.special.values())
        table = self._vocabulary.token_bytes
        plain = [i for i, s in enumerate(table) if i not in special and s.isascii() and s.strip()]
        for id_ in plain[:: max(1, len(plain) // _NUM_SAMPLES)][:_NUM_SAMPLES]:
            answer = await self._ask("/detokenize", {"tokens": [id_]})
            try:
                text = msgspec.json.decode(answer, type=_Text).content
            except msgspec.DecodeError as error:
                raise ConfigError(f"the {self.name} does not answer as one: {error}") from error
            if text.strip() != table[id_].decode().strip():
                raise ConfigError(
                    f"the {self.name} has another vocabulary than this model was given: token "
                    f"{id_} is {text!r} there and {table[id_].decode()!r} here"
                )

    async def _find_dialect(self) -> Dialect:
        """How to write grammars for it.

        A server without llguidance aborts when it is sent one of its grammars, so this is not
        tried: what the server makes of a JSON schema tells.
        """
        schema: dict[str, object] = {"json_schema": {"type": "object"}}
        if any("%llguidance" in frame.grammar for frame in await self._probe(schema)):
            return Dialect.LLGUIDANCE
        id_ = min(self._vocabulary.special.values(), default=0)
        asked = await self._probe({"grammar": f"root ::= <[{id_}]>"})
        obeyed = any(id_ in frame.tokens and frame.prompt_progress is None for frame in asked)
        return Dialect.GBNF if obeyed else Dialect.NONE

    async def _probe(self, asked: dict[str, object]) -> list[Frame]:
        reader, found = Frames(), list[Frame]()
        response = await self._post(probe_body(asked))
        try:
            async for data in response.content.iter_any():
                found += reader.feed(data)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unavailable(error) from error
        finally:
            response.close()
        return found


class _Text(Struct):
    content: str


class _Follower:
    """Holds an output against its constraint, as far as that goes.

    JSON has several spellings for a character, and not every version of llguidance knows the
    same. Where a server takes one that ours does not (`\\/`), ours cannot go on, and that is no
    fault of the server's.
    """

    def __init__(self, guide: Guide, token_bytes: Sequence[bytes], name: str) -> None:
        self._guide: Guide | None = guide
        self._token_bytes = token_bytes
        self._name = name
        self._before = b""

    def follow(self, ids: Sequence[int]) -> None:
        """Take what was sampled.

        Raises:
            EngineError: the constraint does not allow it.
        """
        for id_ in ids:
            if self._guide is None:
                return
            spelling = self._token_bytes[id_]
            try:
                self._guide.commit(id_)
            except ValueError as error:
                if b"\\" not in self._before + spelling:
                    text = f"the {self._name} did not obey its grammar: {error}"
                    raise EngineError(text) from error
                self._guide = None
            self._before = (self._before + spelling)[-_MAX_ESCAPE_BYTES:]


class _Body(aiohttp.Payload):
    """A body of any size: the library's own kind warns of large ones, which are usual here."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, content_type="application/json")
        self._size = len(data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        data: bytes = self._value
        return data.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await writer.write(self._value)


class _Run:
    """One generation that has a slot.

    Attributes:
        response: The answer that streams.
        num_sampled: Ids that it brought so far.
        num_cached: Prompt tokens that were not computed again.
    """

    def __init__(self, engine: LlamaCppEngine) -> None:
        self._engine = engine
        self.response: aiohttp.ClientResponse
        self.num_sampled = 0
        self.num_cached = 0
        self._frames = Frames()
        self._ended = False
        self._stopped = False  # by a stop token; the server may know, or not
        self._num_counted = 0  # by the server
        self._told_cached = False

    async def next(self) -> list[Frame] | None:
        """What has arrived together; None after the last event.

        Raises:
            EngineUnavailable: it broke off before anything was said.
            EngineError: later.
        """
        while not self._ended:
            try:
                data = await self.response.content.readany()
            except (aiohttp.ClientError, TimeoutError, RuntimeError) as error:
                raise self._failed(error) from error
            if not data:
                raise self._failed(EOFError())
            frames = self._frames.feed(data)
            if frames:
                self._ended = frames[-1].stop
                return frames
        return None

    def _failed(self, error: BaseException) -> EngineError:
        engine = self._engine
        return engine._broken(error) if self._told_cached else engine._unavailable(error)

    def read(self, frames: list[Frame], stop: frozenset[int], withheld: Withheld) -> Delta:
        """Join what arrived together into one delta.

        Raises:
            EngineUnavailable, EngineError: the server says that it failed.
        """
        ids: list[int] = []
        finish: FinishReason | None = None
        num_cached: int | None = None
        for frame in frames:
            if frame.error is not None:
                text = f"the {self._engine.name} failed: {frame.error.message[:300]}"
                raise EngineError(text) if self._told_cached else EngineUnavailable(text)
            if not self._told_cached:
                self._told_cached = True
                progress = frame.prompt_progress
                num_cached = self.num_cached = 0 if progress is None else progress.cache
            if frame.prompt_progress is not None:
                continue
            if frame.stop:
                finish = "stop" if self._stopped or frame.stop_type == "eos" else "length"
                if finish == "stop" and stop and not self._stopped:
                    ids.append(min(stop))
                break
            if self._stopped:  # the server goes on: it is no stop token there
                finish = "stop"
                break
            for id_ in self._ids_of(frame, withheld):
                ids.append(id_)
                if id_ in stop:
                    self._stopped = True
                    break
        self.num_sampled += len(ids)
        return Delta(ids, finish, num_cached)

    def _ids_of(self, frame: Frame, withheld: Withheld) -> Sequence[int]:
        num_new = frame.tokens_predicted - self._num_counted
        self._num_counted = frame.tokens_predicted
        if num_new <= 1 or not frame.tokens:
            return frame.tokens
        return [*withheld.before(frame.tokens[0], frame.content, num_new - 1), *frame.tokens]


def _kind(error: BaseException) -> str:
    """What went wrong, without the address that the library's own message has."""
    match error:
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorError():
            return "no connection"
        case _:
            return "the connection ended"
