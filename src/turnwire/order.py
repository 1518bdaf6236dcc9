"""What a transport gives to a turn, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol

from msgspec import Raw, Struct

from turnwire.context.chain import Context
from turnwire.errors import WireError
from turnwire.protocol.events import ErrorEvent, Event
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import ToolSet
from turnwire.session.emitter import Emitter
from turnwire.session.stage import Stage
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.metrics import Transport

__all__ = ["Ended", "Order", "Remembered", "Sink"]


class Sink(Protocol):
    """Where a turn's events go. `send` never waits; `drain` does when the client is slow."""

    @property
    def slow(self) -> bool:
        """Whether the client is behind: fewer and larger events serve it better."""
        ...

    @property
    def congested(self) -> bool:
        """Whether the sender should `drain` before it sends more."""
        ...

    def send(self, events: Sequence[Event | ErrorEvent], *, flush: bool = False) -> None:
        """Take events in order; write them soon, or now if `flush`."""
        ...

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        ...


class Remembered(Struct, frozen=True, eq=False):
    """What a connection keeps of a response, for the turn that continues it.

    Attributes:
        context: The conversation after it.
        tools: Its tools, so that equal ones are not decoded again.
    """

    context: Context
    tools: ToolSet

    @property
    def num_bytes(self) -> int:
        """About what it holds in memory."""
        return self.context.num_bytes


class Order(Struct, kw_only=True, eq=False):
    """What a transport asks for.

    Attributes:
        request: The decoded envelope.
        response_id: The id the response will have.
        owner: Whose turn it is.
        models: Names this caller may use, or None for all.
        zero_data_retention: Nothing of it may be stored: `store` is false, whatever the request
            says, from the moment that there is an order.
        transport: For metrics, and for what a fault looks like.
        stream_id: The lane, echoed on events; None on the default lane and over HTTP.
        client: Who shares a turn at the engine's slots: a connection, or an owner over HTTP.
        parent: What the connection remembers of `previous_response_id`, if anything.
        nearby: Gives the other conversations of the connection, for references to their items.
        tools: The tools of the turn before, if any; equal bytes are not decoded again.
        remember: Called when the response became continuable, before its terminal event.
        clock: The stopwatch, started when the request arrived.
        cancelled: Set before the turn's task is cancelled because the client asked for it
            (`response.cancel`): the response then ends as cancelled.
        stopped_by: Set before the turn's task is cancelled because the server has to end it: the
            response then fails with this error.
        steered: Set when the client sent new messages for the running response: it then ends
            after the item it is at.
        emitter: Set when the response begins; numbers what else is said about it.
    """

    request: CreateResponse
    response_id: str
    owner: str
    models: frozenset[str] | None = None
    zero_data_retention: bool = False
    transport: Transport
    stream_id: str | None = None
    client: Hashable = None
    parent: Context | None = None
    nearby: Callable[[], Iterable[Context]] = tuple
    tools: ToolSet | None = None
    remember: Callable[[Remembered], None] | None = None
    clock: StageClock
    cancelled: bool = False
    stopped_by: WireError | None = None
    steered: bool = False
    emitter: Emitter | None = None

    def __post_init__(self) -> None:
        if self.zero_data_retention:
            self.request.store = False

    @property
    def is_ending(self) -> bool:
        """Whether it ends by itself now: how it ended may be in the store already."""
        return self.emitter is not None and self.emitter.stage in (Stage.CLOSED, Stage.ENDED)

    @property
    def background(self) -> bool:
        """Whether nobody need wait for it: it is queued first, and stored when it begins."""
        return self.transport == "background"


class Ended(Struct, frozen=True, kw_only=True):
    """How a turn ended.

    Attributes:
        response: The terminal response object, encoded.
        error: What went wrong after `response.created`, or None.
    """

    response: Raw
    error: WireError | None = None
