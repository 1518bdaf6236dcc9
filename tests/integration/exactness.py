"""Servers without sockets whose model says what it is told to, and the prompts that it is given.

What a prompt depends on is all there: requests and items are decoded from bytes, conversations
are remembered, stored, sealed and found again, and templates are those of real families.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from functools import cache
from typing import Any, Final

from msgspec import Struct
from tests.unit.rendering.imitations import TEMPLATES, byte_level, encoded, loaded

from turnwire.context.known import KnownContexts
from turnwire.context.recent import RecentContexts
from turnwire.conversations.keeper import Conversations
from turnwire.engines.base import Delta, Generation
from turnwire.errors import ContextTooLong, EngineError, WireError
from turnwire.history import History
from turnwire.ids import new_id
from turnwire.models.registry import Registry
from turnwire.models.token_model import TokenModel
from turnwire.order import Order, Remembered
from turnwire.protocol.codec import decode_create
from turnwire.protocol.events import ErrorEvent, Event
from turnwire.rendering.base import Template
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.resent import Resent
from turnwire.sealing import Sealer
from turnwire.store.memory import MemoryStore
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.metrics import Metrics
from turnwire.tokens import TokenArray, token_array
from turnwire.turn import Turns

__all__ = ["Answer", "Asked", "Family", "Json", "Place", "Server", "family"]

Json = dict[str, Any]
ROOM: Final = 1 << 30


class Noting(Tokenizer):
    """A vocabulary that notes what it is given to encode.

    Attributes:
        texts: Since somebody emptied it.
    """

    def __init__(self, data: str) -> None:
        self.texts: list[str] = []
        super().__init__(data)

    def encode(self, text: str) -> TokenArray:
        self.texts.append(text)
        return super().encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[TokenArray]:
        self.texts += texts
        return super().encode_batch(texts)


class Family(Struct, frozen=True, eq=False):
    """A template over a small vocabulary, and how its model writes.

    Attributes:
        name: Of the template.
        format: Of the output.
        template: The template.
        tokenizer: Its vocabulary.
    """

    name: str
    format: str
    template: Template
    tokenizer: Noting


@cache
def family(name: str) -> Family:
    """A family by its name in `TEMPLATES`, or `turnwire` for our own; made once."""
    if name == "turnwire":
        tokenizer = Noting(Tokenizer.shipped().to_json())
        return Family(name, name, Renderer(tokenizer), tokenizer)
    tokenizer = Noting(byte_level(TEMPLATES[name][1]).to_json())
    found = loaded(name, tokenizer=tokenizer)
    form = name if found.report.output == "plain" else found.report.output
    return Family(name, "named" if name == "mistral, named" else form, found.template, tokenizer)


class Answer(Struct, frozen=True):
    """What a model is told to say.

    Attributes:
        text: As it writes it, special tokens by name.
        odd: Whether it spells words letter by letter, as no tokenizer would.
        fails_after: The engine fails behind so many tokens.
    """

    text: str
    odd: bool = False
    fails_after: int | None = None

    def ids(self, tokenizer: Tokenizer) -> TokenArray:
        """The answer as it is sampled."""
        if not self.odd:
            return encoded(tokenizer, self.text)
        plain = encoded(tokenizer, self.text)
        special = frozenset(tokenizer.special.values())
        spelled = token_array()
        run = token_array()
        for token_id in (*plain, -1):
            if token_id >= 0 and token_id not in special:
                run.append(token_id)
                continue
            for letter in tokenizer.text_of(run):
                spelled += tokenizer.encode(letter)
            run = token_array()
            if token_id >= 0:
                spelled.append(token_id)
        return spelled


class Told:
    """An engine that answers what it is told to, token by token.

    Attributes:
        answer: What it says, to whatever it is asked.
        prompts: What it was asked, warm-ups included.
    """

    num_slots = 1
    num_running = 0
    num_waiting = 0

    def __init__(self, tokenizer: Tokenizer, window: int) -> None:
        self.window: Final = window
        self.answer = Answer("")
        self.prompts: list[list[int]] = []
        self._tokenizer: Final = tokenizer

    def check(self, request: Generation) -> None:
        """The window is kept."""
        if len(request.prompt) >= self.window:
            raise ContextTooLong("too long")

    async def generate(self, request: Generation) -> AsyncGenerator[Delta, None]:
        """The answer, as far as there is room for it."""
        self.check(request)
        self.prompts.append(list(request.prompt))
        ids = self.answer.ids(self._tokenizer)
        room = min(request.max_new_tokens or len(ids), self.window - len(request.prompt))
        yield Delta((), num_cached=0)
        for place, token_id in enumerate(ids[:room]):
            if place == self.answer.fails_after:
                raise EngineError("it was told to fail")
            yield Delta((token_id,))
        yield Delta((), finish="length" if room < len(ids) else "stop")

    async def prefill(self, request: Generation) -> int:
        """Nothing is cached."""
        self.prompts.append(list(request.prompt))
        return 0

    async def aclose(self) -> None:
        """Nothing is held."""


class Nowhere:
    """A sink for a client that waits for the end."""

    slow = congested = False

    def send(self, events: Sequence[Event | ErrorEvent], *, flush: bool = False) -> None:
        """Drop the events."""

    async def drain(self) -> None:
        """Never full."""


class Asked(Struct, frozen=True, eq=False):
    """What became of a request.

    Attributes:
        prompts: What the engine was asked.
        response: The response, or None for one that was refused.
        error: Message and code of the refusal.
        remembered: What a connection keeps of it.
        tokenised: The texts that were encoded for its prompts.
    """

    prompts: list[list[int]]
    response: Json | None
    error: tuple[str, str | None] | None
    remembered: Remembered | None
    tokenised: list[str]


class Place(Struct, frozen=True, eq=False):
    """What outlives a server: its store and its key. (And its metrics, which are slow to make.)"""

    store: MemoryStore
    sealer: Sealer
    metrics: Metrics

    @classmethod
    def empty(cls) -> Place:
        return cls(MemoryStore(100_000), Sealer([Sealer.generate_key()]), Metrics())


class Server:
    """Everything between a request and an engine."""

    def __init__(
        self, of: Family, place: Place, *, window: int = 1_000_000, max_bytes: int = ROOM
    ) -> None:
        """Start on what is stored, with nothing in memory.

        Args:
            of: What it speaks.
            place: Where it stores.
            window: Of its engine.
            max_bytes: For whole conversations that are sent again.
        """
        self.family: Final = of
        self.engine: Final = Told(of.tokenizer, window)
        history = History(place.store, place.sealer, RecentContexts())
        self.conversations: Final = Conversations(place.store.conversations, history)
        self.turns: Final = Turns(
            Registry([TokenModel("told", of.template, self.engine)]),
            history,
            self.conversations,
            Resent(KnownContexts(max_bytes), history),
            place.metrics,
        )

    async def ask(
        self,
        body: Json,
        answer: Answer,
        *,
        parent: Remembered | None = None,
        warm_up: bool = False,
        steered: bool = False,
        owner: str = "me",
    ) -> Asked:
        """One request, as a transport hands it on.

        Args:
            body: As a client sends it.
            answer: What the model says to it.
            parent: What the connection remembers.
            warm_up: Whether nothing is generated.
            steered: Whether a steer comes while the first item is written.
            owner: Who asks.
        """
        engine = self.engine
        engine.answer = answer
        engine.prompts = []
        request = decode_create(json.dumps(body))
        request.generate = False if warm_up else None
        kept: list[Remembered] = []
        order = Order(
            request=request,
            response_id=new_id("resp"),
            owner=owner,
            transport="http" if parent is None else "websocket",
            parent=parent.context if parent is not None else None,
            tools=parent.tools if parent is not None else None,
            remember=kept.append,
            clock=StageClock(),
            steered=steered,
        )
        texts = self.family.tokenizer.texts
        texts.clear()
        response, refusal = None, None
        try:
            ended = await self.turns.run(order, _nowhere)
            response = json.loads(bytes(ended.response))
        except WireError as error:
            refusal = (error.message, error.code)
        tokenised = list(texts)
        return Asked(engine.prompts, response, refusal, kept[0] if kept else None, tokenised)


async def _nowhere() -> Nowhere:
    return Nowhere()
