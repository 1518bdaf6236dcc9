"""One turn: ask, render, generate, emit, settle. The one place that joins the parts.

The same pipeline serves plain JSON, SSE and WebSocket; a transport gives an `Order` and a
`Sink`, and gets an `Ended`. Before `response.created` a fault is raised, for the transport to
answer in its own way; after it, a fault becomes the response's terminal event.

Settling: a stored response is in the store, and the context is the connection's latest, before
the terminal event is handed to the sink, so that a client may GET or continue at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import partial
from typing import Final

from msgspec import Raw, Struct

from turnwire.admission import Slots
from turnwire.asked import Asked, Asking
from turnwire.compaction import Compacting, Wanted, prepare_summary, sum_up
from turnwire.context.chain import Context
from turnwire.context.window import fingerprint, user_messages
from turnwire.conversations.keeper import Conversations, Talk
from turnwire.errors import EngineError, ServiceError, StoreError, WireError
from turnwire.fault import engine_failed, response_code, told
from turnwire.history import History, Put
from turnwire.ids import item_id
from turnwire.models.base import Model, Prepared
from turnwire.models.registry import Registry
from turnwire.order import Ended, Order, Remembered, Sink
from turnwire.parts import Finished, ItemFinished
from turnwire.protocol.codec import echo, encode_response
from turnwire.protocol.items import Message
from turnwire.protocol.tools import ToolSet
from turnwire.resent import Resent
from turnwire.running import Running
from turnwire.session.coalescer import Coalescer
from turnwire.session.emitter import Emitter
from turnwire.session.reasoning import ReasoningView
from turnwire.telemetry.clock import Stage as ClockStage
from turnwire.telemetry.logs import get_logger
from turnwire.telemetry.metrics import Metrics

__all__ = ["Summarised", "Turns"]

log = get_logger()


class _Started(Struct, frozen=True, eq=False):
    """A turn that passed every check."""

    model: Model
    prepared: Prepared
    emitter: Emitter
    tools: ToolSet
    store: bool
    talk: Talk | None
    with_past: bool  # everything before it may be stored with it


class Summarised(Struct, frozen=True, kw_only=True, eq=False):
    """A conversation that was summed up outside of a response.

    Attributes:
        messages: What the user said in the input; it stays beside the summary.
        encrypted_content: The summary, sealed for the owner.
        spent: The tokens it took.
    """

    messages: Sequence[Message]
    encrypted_content: str
    spent: Finished


class Turns:
    """Runs turns. Built once; holds no state of a single turn.

    Attributes:
        registry: The models.
        history: Stored responses, as conversations that can be continued.
        conversations: Conversations by name.
        resent: What is known of conversations that clients send in full.
        metrics: Where numbers go.
        show_reasoning: Stream raw reasoning text to every client (a server option).
        running: What runs now.
    """

    def __init__(
        self,
        registry: Registry,
        history: History,
        conversations: Conversations,
        resent: Resent,
        metrics: Metrics,
        *,
        default_model: str | None = None,
        show_reasoning: bool = False,
        max_in_flight: int = 1024,
        max_in_flight_per_owner: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            default_model: For requests without `model`, or None to refuse them.
        """
        self.registry: Final = registry
        self.history: Final = history
        self.conversations: Final = conversations
        self.resent: Final = resent
        self.metrics: Final = metrics
        self.show_reasoning: Final = show_reasoning
        self.running: Final = Running(metrics, max_in_flight, max_in_flight_per_owner)
        self._slots: Final = Slots()
        self._asking: Final = Asking(registry, history, conversations, resent, default_model)
        self._now: Final = now

    async def run(self, order: Order, connect: Callable[[], Awaitable[Sink]]) -> Ended:
        """Run one turn to its terminal event.

        Args:
            order: What to do.
            connect: Gives the sink; called once, when the turn has passed every check.

        Raises:
            WireError: it was refused before `response.created`; nothing was sent.
            asyncio.CancelledError: the client is gone; the engine was stopped, nothing stored.
        """
        with self.running.enter(order) as entry:
            # The conversation is free again in the same step of the loop that sends the terminal
            # event: a client may go on at once.
            with self._alone_in_conversation(order):
                started = await self._start(order)
                if order.background and started.store:
                    await self._begin(order, started)
                entry.status = "aborted"
                ended = await self._play(order, started, await connect())
            entry.status = started.emitter.response.status
            return ended

    async def summarise(self, order: Order, instructions: str | None) -> Summarised:
        """Sum up the conversation that `order` would continue; nothing is kept of it.

        Args:
            order: What to sum up. It has no emitter, and no events are sent.
            instructions: The client's own wishes for the summary.

        Raises:
            WireError: it was refused, or it failed.
            asyncio.CancelledError: the client is gone; the engine was stopped.
        """
        with self.running.enter(order) as entry:
            try:
                asked = (await self._asking.find(order)).summing_up()
                model = asked.model
                prepared = await asked.render(model.prepare)
                report, context = prepared.report, prepared.context
                self.metrics.context_rendered(report.mode, report.reason, report.num_tokenised)
                prepared = prepare_summary(model, context, asked.settings, instructions)
                order.clock.mark("render")
                entry.status = "failed"
                # A whole conversation is the input, however much of it is known already.
                before = asked.parent if asked.said is None else None
                messages = user_messages(context, before)
                stays = tuple(map(fingerprint, messages))
                async with self._slots.of(self.registry.offer(model.name)).hold(order.client):
                    summary, spent = await sum_up(prepared, context, stays)
                order.clock.mark("decode")
            except asyncio.CancelledError:
                if order.stopped_by is None:
                    entry.status = "aborted"
                    raise
                _uncancel()
                raise order.stopped_by from None
            except EngineError as fault:
                raise engine_failed(model.name, fault) from fault
            entry.status = "completed"
            self.metrics.tokens_used(
                spent.num_prompt_tokens, spent.num_cached_tokens, spent.num_output_tokens
            )
            return Summarised(
                messages=messages,
                encrypted_content=self.history.seal_summary(order.owner, summary, model.name),
                spent=spent,
            )

    def _alone_in_conversation(self, order: Order) -> AbstractContextManager[None]:
        conversation = order.request.conversation
        if conversation is None or order.request.previous_response_id is not None:
            return nullcontext()
        conversation_id = self.conversations.id_of(conversation)
        return self.conversations.locks.exclusive(order.owner, conversation_id)

    # -- ask, render

    async def count(self, order: Order) -> int:
        """Return the `input_tokens` that `run` would report; nothing runs and nothing is kept.

        Raises:
            WireError: as `run` before `response.created`, but for what is too long or too much
                at a time: that is counted all the same.
        """
        asked = (await self._asking.find(order)).as_counted()
        return await asked.render(asked.model.count)

    async def _start(self, order: Order) -> _Started:
        asked = await self._asking.find(order)
        model, settings = asked.model, asked.settings
        tools = settings.tools
        prepared = await asked.render(model.prepare)
        report, said = prepared.report, asked.said
        resent = said is not None and said.parent is not None
        reason = report.reason or ("resent" if resent else "")
        self.metrics.context_rendered(report.mode, reason, report.num_tokenised)
        if said is not None:
            self.resent.learn(order.owner, prepared.context, said)
            # What was left out of the prompt may have been tokenised all the same.
            num_kept = max(0, prepared.num_prompt_tokens - report.num_tokenised)
            self.metrics.history_resent(said.outcome, num_kept if resent else 0)
        if tools is not order.tools:
            for kind in tools.left_out:
                self.metrics.tool_left_out(kind)
        for kind in asked.left_out:
            self.metrics.tool_left_out(kind)
        response = echo(
            asked.request,
            tools,
            settings.tool_choice,
            id=order.response_id,
            created_at=int(self._now()),
            model=model.name,
        )
        emitter = Emitter(
            response, stream_id=order.stream_id, reasoning=self._reasoning_view(order)
        )
        if asked.compaction is not None:
            prepared = await self._compacting(order, asked, asked.compaction, prepared, emitter)
        order.clock.mark("render")
        return _Started(
            model, prepared, emitter, tools, response.store, asked.talk, asked.with_past
        )

    async def _compacting(
        self, order: Order, asked: Asked, wanted: Wanted, prepared: Prepared, emitter: Emitter
    ) -> Prepared:
        model, owner = asked.model, order.owner
        return await asked.render(
            lambda *_: Compacting(
                model,
                prepared,
                asked.settings,
                wanted,
                item_id=item_id("cmp", order.response_id, 0),
                seal=lambda summary: self.history.seal_summary(owner, summary, model.name),
                said=emitter.items,
                metrics=self.metrics,
            )
        )

    def _reasoning_view(self, order: Order) -> ReasoningView:
        request = order.request
        asked = request.reasoning
        include = request.include or ()
        sealed = request.store is False or "reasoning.encrypted_content" in include
        history, owner = self.history, order.owner
        return ReasoningView(
            summary=asked is not None and (asked.summary or asked.generate_summary) is not None,
            raw=self.show_reasoning,
            seal=(lambda text: history.seal(owner, text)) if sealed else None,
        )

    async def _begin(self, order: Order, started: _Started) -> None:
        """Store that a background response runs, before anybody is told its id.

        If this is cancelled or fails, nobody was told; should it be stored all the same, it
        counts as abandoned when this process ends.
        """
        response = started.emitter.response
        given = started.prepared.context
        try:
            await self.history.begin(
                order.owner,
                response.id,
                given,
                encode_response(response),
                response.created_at,
                with_past=started.with_past,
            )
        except StoreError as fault:
            log.error("store_failed", response_id=response.id, exc_info=fault)
            raise ServiceError("The response could not be stored.") from fault
        order.clock.mark("settle")

    # -- generate, emit, settle

    async def _play(self, order: Order, started: _Started, sink: Sink) -> Ended:
        emitter, clock = started.emitter, order.clock
        order.emitter = emitter
        sink.send(emitter.queue() if order.background else emitter.start(), flush=True)
        clock.first_event()
        clock.mark("emit")
        try:
            finished = await self._generate(order, started, sink)
            sealed = emitter.seal(int(self._now()))
            await self._settle(order, started, sealed)
        except asyncio.CancelledError:
            if not (order.cancelled or order.stopped_by):
                raise
            # Not kept in a variable: a task that ends by this very error would hold itself.
            _uncancel()
            if order.stopped_by is not None:
                return await self._fail(order, started, sink, order.stopped_by)
            return await self._end(order, started, sink, emitter.cancel())
        except Exception as error:
            return await self._fail(order, started, sink, error)
        sink.send([emitter.complete(sealed)], flush=True)
        self.metrics.tokens_used(
            finished.num_prompt_tokens, finished.num_cached_tokens, finished.num_output_tokens
        )
        clock.mark("emit")
        return Ended(response=sealed)

    async def _generate(self, order: Order, started: _Started, sink: Sink) -> Finished:
        prepared, emitter, clock = started.prepared, started.emitter, order.clock
        if order.request.warm_up:
            if order.background:
                sink.send(emitter.begin(), flush=True)
            return await self._warm(started)
        waiting: ClockStage = "prefill"
        emitting: ClockStage = "first_token"
        held: Coalescer | None = None
        async with (
            self._slots.of(self.registry.offer(started.model.name)).hold(order.client),
            aclosing(prepared.respond()) as parts,
        ):
            if order.background:
                sink.send(emitter.begin(), flush=True)
            async for part in parts:
                clock.mark(waiting)
                if held is None and not sink.slow:
                    events = emitter.feed(part)
                else:
                    held = held or Coalescer()
                    joined = held.hold(part) if sink.slow else [*held.release(), part]
                    events = [event for one in joined for event in emitter.feed(one)]
                    held = None if held.is_empty else held
                if events:
                    sink.send(events)
                clock.mark(emitting)
                waiting, emitting = "decode", "emit"
                if sink.congested:
                    # The engine waits with us: nobody asks it for its next token.
                    await sink.drain()
                if type(part) is Finished:
                    return part
                if order.steered and type(part) is ItemFinished:
                    break
            else:
                raise EngineError("it ended without saying why")
        finished = prepared.interrupted()
        sink.send(emitter.feed(finished))
        return finished

    async def _warm(self, started: _Started) -> Finished:
        finished = Finished(
            reason="stop",
            num_prompt_tokens=started.prepared.num_prompt_tokens,
            num_cached_tokens=await started.prepared.warm(),
            num_output_tokens=0,
            num_reasoning_tokens=0,
        )
        started.emitter.feed(finished)
        return finished

    async def _settle(self, order: Order, started: _Started, sealed: Raw) -> None:
        after = started.prepared.settle(started.emitter.items)
        self.resent.learn(order.owner, after)
        if started.store:
            await self._keep(order, started, after, sealed, append=True)
        if order.remember is not None:
            order.remember(Remembered(after, started.tools))
        order.clock.mark("settle")

    async def _keep(
        self, order: Order, started: _Started, after: Context, sealed: Raw, *, append: bool
    ) -> None:
        given, talk = started.prepared.context, started.talk
        begun = order.background
        put: Put | None = None
        if talk is not None and append:
            put = partial(self.conversations.append, order.owner, talk, given, after, begun=begun)
        await self.history.keep(
            order.owner,
            order.response_id,
            given,
            after,
            bytes(sealed),
            started.emitter.response.created_at,
            put=put,
            with_past=started.with_past,
            begun=begun,
            continuable=append,
        )

    async def _fail(self, order: Order, started: _Started, sink: Sink, fault: Exception) -> Ended:
        """End a response that began and cannot be completed; never quote an unforeseen error."""
        if isinstance(fault, ConnectionError) and not order.background:
            raise fault  # the client is gone: nobody is there to be told
        emitter, talk = started.emitter, started.talk
        conversation = talk.base.id if talk is not None else None
        error = told(fault, order.response_id, emitter.response.model, conversation)
        self.metrics.error(error.code)
        if order.transport in ("sse", "background"):
            sink.send([emitter.announce(error)])
        failed = emitter.fail(response_code(error), error.message)
        return await self._end(order, started, sink, failed, error)

    async def _end(
        self,
        order: Order,
        started: _Started,
        sink: Sink,
        sealed: Raw,
        error: WireError | None = None,
    ) -> Ended:
        """Send the terminal event of a failed or cancelled response, stored first if asked."""
        if started.store:
            given = started.prepared.context
            try:
                await self._keep(order, started, given, sealed, append=False)
            except StoreError as fault:
                log.error("store_failed", response_id=order.response_id, exc_info=fault)
        sink.send([started.emitter.failed(sealed)], flush=True)
        return Ended(response=sealed, error=error)


def _uncancel() -> None:
    """The current task was asked to end, and goes on."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
