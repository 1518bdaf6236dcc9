"""A llama-server, as one who speaks its HTTP sees it: what it is, and answers that stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from turnwire.engines.http_client import HttpClient, NoConnection, Reply
from turnwire.engines.llamacpp_grammar import Dialect
from turnwire.engines.llamacpp_wire import Frame, Frames, Props, failure_text, probe_body
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import ConfigError, EngineError, EngineUnavailable

__all__ = ["Answer", "Facts", "Fixed", "Host", "LlamaCppOptions", "LlamaServer"]

_MAX_ANSWER_BYTES: Final = 1 << 20
# cpp-httplib hangs up on a connection that was idle for five seconds.
_KEEP_ALIVE_SEC: Final = 4.0
_NUM_SAMPLES: Final = 64
_MAX_REASON_CHARS: Final = 300
_PORTS: Final = {"http": 80, "https": 443}


class LlamaCppOptions(Struct, frozen=True, kw_only=True):
    """How to use a llama-server.

    Attributes:
        max_waiting: Generations that wait for a slot; further ones are refused.
        connect_sec: Longest wait for a connection.
        silence_sec: Longest wait for the next sign of life: a token, or a report that another
            batch of the prompt was computed.
        ready_sec: Longest wait for a server that says that it loads its model.
        dialect: How grammars are written for it; None to find out.
    """

    max_waiting: int = 256
    connect_sec: float = 5.0
    silence_sec: float = 300.0
    ready_sec: float = 300.0
    dialect: Dialect | None = None


class Host(Protocol):
    """Where a llama-server is; one that moves when it is started anew is asked again."""

    @property
    def name(self) -> str:
        """What errors call it: without user, password and query, which may be secrets."""
        ...

    async def locate(self) -> str:
        """Return its URL.

        Raises:
            EngineUnavailable: there is none now.
        """
        ...

    async def aclose(self) -> None: ...


class Fixed:
    """A server that others run, always in the same place."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            ConfigError: it is no URL of a server.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("the URL of a llama-server begins with http:// or https://")
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise ConfigError("the URL of a llama-server is written in ASCII, without spaces")
        self._url = url.rstrip("/")
        self._name = f"llama-server at {parts.hostname}:{parts.port or _PORTS[parts.scheme]}"

    @property
    def name(self) -> str:
        """Host and port."""
        return self._name

    async def locate(self) -> str:
        """Return the URL."""
        return self._url

    async def aclose(self) -> None:
        """Nothing is ours to close."""


class Facts(Struct, frozen=True):
    """What a server is.

    Attributes:
        window: Tokens of prompt and output together, in one slot.
        num_slots: Generations at the same time.
        dialect: How grammars are written for it.
    """

    window: int
    num_slots: int
    dialect: Dialect


class LlamaServer:
    """One server.

    Attributes:
        name: What errors call it.
        lost: Whether it was out of reach since it was last asked what it is: what answers next
            may be another one, with nothing in its caches.
    """

    def __init__(self, host: Host, *, api_key: str | None, options: LlamaCppOptions) -> None:
        """Prepare; nothing is sent before `learn`.

        Raises:
            ConfigError: the key cannot be sent.
        """
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigError("the API key of a llama-server is written in ASCII")
        self.name: Final = host.name
        self.lost = False
        self._host: Final = host
        self._options: Final = options
        self._closed = False
        self._model = ""  # that it had when it was asked what it is
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = HttpClient(
            {"Content-Type": "application/json", "User-Agent": "turnwire", **headers},
            connect_sec=options.connect_sec,
            silence_sec=options.silence_sec,
            keep_alive_sec=_KEEP_ALIVE_SEC,
        )
        self._answers: set[Answer] = set()

    async def learn(self, vocabulary: Vocabulary) -> Facts:
        """Find the server and ask it what it is.

        Raises:
            EngineUnavailable: it cannot be reached, or does not get ready.
            ConfigError: it wants another key, its model has another vocabulary, or it is no
                llama-server.
        """
        self._http.aim(await self._host.locate())
        await self._wait_until_ready()
        try:
            props = msgspec.json.decode(await self._ask("/props"), type=Props)
        except msgspec.DecodeError as error:
            raise ConfigError(f"the {self.name} does not answer as one: {error}") from error
        await self._check_vocabulary(vocabulary)
        self._model = ""
        dialect = self._options.dialect or await self._find_dialect(vocabulary)
        self.lost = False
        return Facts(props.default_generation_settings.n_ctx, props.total_slots, dialect)

    async def complete(self, pieces: Sequence[bytes]) -> Answer:
        """Send one request to `/completion`; return the answer when it has begun well.

        Close it in any case: the server stops when it is closed before its end.

        Raises:
            EngineUnavailable: it has not.
        """
        try:
            reply = await self._http.request("POST", "/completion", pieces)
        except OSError as error:
            raise self.unavailable(error) from error
        if reply.status == 200 and reply.content_type == "text/event-stream":
            answer = Answer(self, reply)
            self._answers.add(answer)
            return answer
        try:
            text = failure_text(reply.status, await reply.read_all(_MAX_ANSWER_BYTES))
        except OSError as error:
            raise self.unavailable(error) from error
        finally:
            reply.close()
        # It was started anew, and reads its model.
        self.lost = self.lost or (reply.status == 503 and "oading model" in text)
        raise EngineUnavailable(f"the {self.name} refused: {text}")

    async def aclose(self) -> None:
        """End every answer that streams, and the host."""
        self._closed = True
        for answer in list(self._answers):
            answer.close()
        await self._http.aclose()
        await self._host.aclose()

    # -- errors

    def unavailable(self, error: BaseException) -> EngineUnavailable:
        """What to raise when nothing was said."""
        if self._closed:
            return EngineUnavailable("the engine was closed")
        self.lost = True
        return EngineUnavailable(f"the {self.name} does not answer ({_kind(error)})")

    def broken(self, error: BaseException) -> EngineError:
        """What to raise later."""
        if self._closed:
            return EngineError("the engine was closed")
        self.lost = True
        return EngineError(f"the {self.name} broke off ({_kind(error)})")

    def check_model(self, last: Frame) -> None:
        """See that an answer is of the model that the server was asked about.

        Raises:
            EngineError: it is another's; ids mean something else there.
        """
        if last.model and self._model and last.model != self._model:
            self.lost = True
            raise EngineError(f"the {self.name} was started anew with another model")

    def left(self, answer: Answer) -> None:
        """An answer is closed."""
        self._answers.discard(answer)

    # -- what it is

    async def _wait_until_ready(self) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._options.ready_sec
        pause_sec = 0.05
        while True:
            try:
                status, _ = await self._get("GET", "/health")
            except OSError as error:
                raise self.unavailable(error) from error
            if status != 503:  # it loads its model
                return
            if clock() > deadline:
                raise EngineUnavailable(f"the {self.name} does not get ready")
            await asyncio.sleep(pause_sec)
            pause_sec = min(1.0, 2 * pause_sec)

    async def _ask(self, path: str, data: object = None) -> bytes:
        sent = () if data is None else (msgspec.json.encode(data),)
        try:
            status, text = await self._get("POST" if sent else "GET", path, sent)
        except OSError as error:
            raise self.unavailable(error) from error
        if status in (401, 403):
            raise ConfigError(f"the {self.name} wants another API key")
        if status != 200:
            raise ConfigError(
                f"the {self.name} does not answer {path}: {failure_text(status, text)}"
            )
        return text

    async def _get(self, method: str, path: str, body: Sequence[bytes] = ()) -> tuple[int, bytes]:
        reply = await self._http.request(method, path, body)
        try:
            return reply.status, await reply.read_all(_MAX_ANSWER_BYTES)
        finally:
            reply.close()

    async def _check_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Compare some tokens' texts: ids of another vocabulary would be nonsense, silently."""
        special = set(vocabulary.special.values())
        table = vocabulary.token_bytes
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

    async def _find_dialect(self, vocabulary: Vocabulary) -> Dialect:
        """How to write grammars for it.

        A server without llguidance aborts when it is sent one of its grammars, so this is not
        tried: what the server makes of a JSON schema tells.
        """
        schema: dict[str, object] = {"json_schema": {"type": "object"}}
        if any("%llguidance" in frame.grammar for frame in await self._probe(schema)):
            return Dialect.LLGUIDANCE
        id_ = min(vocabulary.special.values(), default=0)
        told = await self._probe({"grammar": f"root ::= <[{id_}]>"})
        obeyed = any(id_ in frame.tokens and frame.prompt_progress is None for frame in told)
        return Dialect.GBNF if obeyed else Dialect.NONE

    async def _probe(self, asked: dict[str, object]) -> list[Frame]:
        found: list[Frame] = []
        try:
            answer = await self.complete(probe_body(asked))
        except EngineUnavailable as error:
            if "refused" in str(error):
                return found  # a grammar that it cannot read
            raise
        try:
            while frames := await answer.next():
                found += frames
        finally:
            answer.close()
        self._model = found[-1].model if found else ""
        return found


class Answer:
    """An answer that streams."""

    def __init__(self, server: LlamaServer, reply: Reply) -> None:
        self._server = server
        self._reply = reply
        self._frames = Frames()
        self._begun = False
        self._ended = False
        self._error: str | None = None  # to be raised when what came before it was read

    async def next(self) -> list[Frame]:
        """What has arrived together, at least one event; nothing behind the last event.

        Raises:
            EngineUnavailable: the server failed or broke off before anything was said.
            EngineError: later.
        """
        while not self._ended:
            if self._error is not None:
                text = f"the {self._server.name} failed: {self._error}"
                raise EngineError(text) if self._begun else EngineUnavailable(text)
            try:
                data = await self._reply.read()
            except OSError as error:
                raise self._failed(error) from error
            if not data:
                raise self._failed(EOFError())
            frames = self._frames.feed(data)
            for place, frame in enumerate(frames):
                if frame.error is not None:
                    self._error = frame.error.message[:_MAX_REASON_CHARS]
                    frames = frames[:place]
                    break
            if frames:
                self._begun = True
                self._ended = frames[-1].stop
                if self._ended:
                    self._server.check_model(frames[-1])
                return frames
        return []

    def close(self) -> None:
        """Leave it; if it is not at its end, the server stops within a step."""
        self._reply.close(whole=self._ended)
        self._server.left(self)

    def _failed(self, error: BaseException) -> EngineError:
        return self._server.broken(error) if self._begun else self._server.unavailable(error)


class _Text(Struct):
    content: str


def _kind(error: BaseException) -> str:
    """What went wrong, in words without an address."""
    match error:
        case TimeoutError():
            return "timeout"
        case NoConnection():
            return "no connection"
        case _:
            return "the connection ended"
