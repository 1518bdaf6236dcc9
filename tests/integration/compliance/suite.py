"""What the compliance suite of Open Responses is made of, and what a case of ours is.

Facts about the suite of 2026-04-24, in its order; the names are those it is told to run one case
by. Its requests and checks are not here: ours are, and each says which of them it stands for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct
from tests.integration.compliance.stage import TRANSPORTS, Stage, Told, Transport
from tests.integration.wire import Json

__all__ = ["SUITE", "Limit", "Play", "Request"]

SUITE: Final = (
    "basic-response",
    "assistant-phase",
    "response-output-phase-schema",
    "streaming-response",
    "websocket-response",
    "websocket-sequential-responses",
    "websocket-continuation",
    "websocket-reconnect-store-false-recovery",
    "websocket-previous-response-not-found",
    "websocket-failed-continuation-evicts-cache",
    "websocket-compact-new-chain",
    "system-prompt",
    "tool-calling",
    "image-input",
    "multi-turn",
    "compact-response",
    "compact-missing-model",
)
"""The 17 cases."""


class Request(Struct, frozen=True):
    """One request, and what must hold for its answer, over each transport.

    Attributes:
        name: What it is about.
        fields: Of the request; the model and `stream` are added.
        check: What must hold for the answer.
        asks: The same in a sentence, for the page.
        suite: The cases of the suite that it stands for.
    """

    name: str
    fields: Json
    check: Callable[[Told], None]
    asks: str
    suite: tuple[str, ...] = ()

    @property
    def transports(self) -> tuple[Transport, ...]:
        """Where it is asked."""
        return TRANSPORTS

    async def play(self, stage: Stage) -> None:
        """Ask over each transport."""
        for transport in TRANSPORTS:
            self.check(await stage.ask(transport, **self.fields))


class Limit(Struct, frozen=True):
    """Two values of one field on either side of a limit: over each transport one is refused.

    Attributes:
        name: The field, and where in the request its fault is reported.
        limit: The limit, for the page.
        inside: Fields of a request that is answered.
        outside: Fields of one that is not.
    """

    name: str
    limit: str
    inside: Json
    outside: Json

    @property
    def asks(self) -> str:
        """What it wants to see, for the page."""
        return self.limit

    @property
    def suite(self) -> tuple[str, ...]:
        """The suite has no such case."""
        return ()

    @property
    def transports(self) -> tuple[Transport, ...]:
        """Where it is asked."""
        return TRANSPORTS

    async def play(self, stage: Stage) -> None:
        """Ask on both sides, over each transport."""
        for transport in TRANSPORTS:
            told = await stage.ask(transport, **{"input": "x", **self.inside})
            assert told.response["status"] in ("completed", "incomplete")
            error = await stage.refused(transport, **{"input": "x", **self.outside})
            assert (400, self.name) == (error["status"], error["param"])


class Play(Struct, frozen=True):
    """What takes more than one request, or no response.

    Attributes:
        name: What it is about.
        play: Plays it.
        asks: What it wants to see, for the page.
        transports: Where it is played; the test checks that it is so.
        suite: The cases of the suite that it stands for.
    """

    name: str
    play: Callable[[Stage], Awaitable[None]]
    asks: str
    transports: tuple[Transport, ...]
    suite: tuple[str, ...] = ()
