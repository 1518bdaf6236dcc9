"""One turn: resolve, check, render, generate, emit, settle. The one place that joins the parts.

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
from typing import Final, TypeVar

from msgspec import Raw, Struct, structs

from turnwire.admission import Slots
from turnwire.compaction import (
    Compacting,
    Wanted,
    prepare_summary,
    question,
    sum_up,
    summary_settings,
    wanted,
)
from turnwire.context.chain import Context
from turnwire.context.standing import NOTHING_STANDS, applied, stand
from turnwire.context.window import fingerprint, user_messages
from turnwire.conversations.keeper import Conversations, Talk
from turnwire.errors import (
    ConversationChanged,
    ConversationLocked,
    EngineError,
    InvalidRequest,
    PermissionDenied,
    ServiceError,
    StoreError,
    WireError,
)
from turnwire.familiar import Familiar
from turnwire.history import History, Put
from turnwire.ids import item_id
from turnwire.models.base import Model, Prepared, Settings
from turnwire.models.registry import Offer, Registry
from turnwire.models.takes import check_taken
from turnwire.order import Ended, Order, Remembered, Sink
from turnwire.parts import Finished, ItemFinished
from turnwire.protocol.codec import (
    decode_items,
    decode_tool_choice,
    decode_tools,
    echo,
    encode_response,
)
from turnwire.protocol.compaction import take_trigger
from turnwire.protocol.events import ResponseFailed
from turnwire.protocol.items import ConfigurationUpdate, Item, Summary
from turnwire.protocol.media import check_media, media_in
from turnwire.protocol.requests import ABSENT, CreateResponse, JsonSchemaFormat, PlainTextFormat
from turnwire.protocol.tools import ToolSet, join
from turnwire.resent import Resent, Said
from turnwire.running import Running
from turnwire.session.coalescer import Coalescer
from turnwire.session.emitter import Emitter, ReasoningView
from turnwire.telemetry.clock import Stage as ClockStage
from turnwire.telemetry.logs import get_logger
from turnwire.telemetry.metrics import Metrics

__all__ = ["Summarised", "Turns"]

log = get_logger()

T = TypeVar("T")

# Tokenising this much new input takes some milliseconds: a thread does it, other clients go on.
LARGE_INPUT_CHARS: Final = 32_768
# A schema takes about as long to compile as four times its text does to tokenise.
COMPILED_CHARS_WEIGHT: Final = 4


class _Resolved(Struct, frozen=True, eq=False):
    """A turn whose parts were found; how long it is, nobody knows yet."""

    request: CreateResponse  # with what its history sets in place of its own
    model: Model
    parent: Context | None
    items: Sequence[Item]
    settings: Settings
    talk: Talk | None
    said: Said | None  # where the input is a whole conversation
    compaction: Wanted | None
    num_new_chars: int  # about how much is to be rendered
    given: Sequence[Item]  # as the request spells them
    left_out: Sequence[str]  # types of the tools that its items add, but that are not offered

    def summing_up(self) -> _Resolved:
        """The same, to be answered with a summary; the question for it is still to be put."""
        settings = summary_settings(self.settings, self.model.window)
        return structs.replace(self, settings=settings)


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
        context: The conversation.
        summary: What stands for it.
        encrypted_content: The same, sealed for the owner.
        spent: The tokens it took.
    """

    context: Context
    summary: Summary
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
        default_model: For requests without `model`, or None to refuse them.
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
        self.registry: Final = registry
        self.history: Final = history
        self.conversations: Final = conversations
        self.resent: Final = resent
        self.metrics: Final = metrics
        self.default_model: Final = default_model
        self.show_reasoning: Final = show_reasoning
        self.running: Final = Running(metrics, max_in_flight, max_in_flight_per_owner)
        self._slots: Final = Slots()
        self._familiar: Final = Familiar()
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
                asked = (await self._resolve(order)).summing_up()
                model, owner = asked.model, order.owner
                prepared = await self._render(model.prepare, asked)
                report, context = prepared.report, prepared.context
                self.metrics.context_rendered(report.mode, report.reason, report.num_tokenised)
                prepared = prepare_summary(model, context, asked.settings, instructions)
                order.clock.mark("render")
                entry.status = "failed"
                stays = [fingerprint(message) for message in user_messages(context)]
                async with self._slots.of(self.registry.offer(model.name)).hold(order.client):
                    summary, spent = await sum_up(prepared, context, tuple(stays))
                order.clock.mark("decode")
            except asyncio.CancelledError:
                if order.stopped_by is None:
                    entry.status = "aborted"
                    raise
                _uncancel()
                raise order.stopped_by from None
            except EngineError as fault:
                raise _engine_failed(model.name, fault) from fault
            entry.status = "completed"
            self.metrics.tokens_used(
                spent.num_prompt_tokens, spent.num_cached_tokens, spent.num_output_tokens
            )
            return Summarised(
                context=context,
                summary=summary,
                encrypted_content=self.history.seal_summary(owner, summary, model.name),
                spent=spent,
            )

    def _alone_in_conversation(self, order: Order) -> AbstractContextManager[None]:
        conversation = order.request.conversation
        if conversation is None or order.request.previous_response_id is not None:
            return nullcontext()
        conversation_id = self.conversations.id_of(conversation)
        return self.conversations.locks.exclusive(order.owner, conversation_id)

    # -- resolve, check, render

    async def count(self, order: Order) -> int:
        """Return the `input_tokens` that `run` would report; nothing runs and nothing is kept.

        Raises:
            WireError: as `run` before `response.created`, but for what is too long or too much
                at a time: that is counted all the same.
        """
        asked = await self._resolve(order)
        if asked.compaction is not None and asked.compaction.asked:
            asked = structs.replace(asked.summing_up(), items=[*asked.items, question()])
        return await self._render(asked.model.count, asked)

    async def _resolve(self, order: Order) -> _Resolved:
        request, clock = order.request, order.clock
        _refuse_unsupported(request)
        offer = self._offer(order)
        model = offer.model
        tools = decode_tools(request.tools, order.tools)
        said: Said | None = None
        talk: Talk | None = None
        compact = False
        if _is_whole(order):
            check = partial(_check_media, model, "input")
            said = await self.resent.read(order.owner, request.input, check, order.nearby)
            compact = said.compact
            parent, before, opened, items = said.parent, said.parent, said.items, said.given
            clock.mark("parse")
            _require_something(order, nothing=parent is None and not items)
        else:
            parent, before, opened, items, talk, compact = await self._continued(order, model)
        clock.mark("authorise")
        before_now = parent.standing if parent is not None else NOTHING_STANDS
        standing = stand(before_now, opened)
        request = applied(standing, request, tools)
        left_out = standing.tools.left_out[len(before_now.tools.left_out) :]
        reasoning = request.reasoning
        settings = Settings(
            owner=order.owner,
            instructions=request.instructions,
            tools=tools,
            added=standing.tools,
            tool_choice=decode_tool_choice(request.tool_choice, join(tools, standing.tools)),
            parallel_tool_calls=request.parallel_tool_calls is not False,
            text_format=(request.text and request.text.format) or PlainTextFormat(),
            effort=(reasoning and reasoning.effort) or offer.effort,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            top_logprobs=request.wanted_logprobs,
            max_output_tokens=offer.limit(request.max_output_tokens),
            session=request.prompt_cache_key or "",
            hints=request.metadata or {},
            truncate=request.truncation == "auto",
            warm_up=request.warm_up,
        )
        rendered = parent.num_chars if parent is not None and parent.view is not None else 0
        if settings.truncate and model.window is not None and rendered > 2 * model.window:
            rendered = 0  # it hardly fits, and is looked at again to find where to cut it
        unrendered = (before.num_chars if before is not None else 0) - rendered
        num_given = memoryview(request.input).nbytes if said is None else said.num_new_chars
        num_new_chars = num_given + unrendered
        formatted = isinstance(settings.text_format, JsonSchemaFormat)
        if tools is not order.tools or standing is not before_now or formatted:
            num_new_chars += self._num_compiled_chars(settings)
        return _Resolved(
            request,
            model,
            parent,
            opened,
            settings,
            talk,
            said,
            wanted(request, compact, model),
            num_new_chars,
            items,
            left_out,
        )

    async def _continued(
        self, order: Order, model: Model
    ) -> tuple[Context | None, Context | None, Sequence[Item], Sequence[Item], Talk | None, bool]:
        """What a request goes on from.

        Returns:
            The context to go on from, all that is before the input, the input ready for a
            context and as the request spells it, the conversation, and whether the input ends
            with a `compaction_trigger`.
        """
        request, clock = order.request, order.clock
        items, compact = take_trigger(decode_items(request.input))
        clock.mark("parse")
        parent = order.parent
        parent_id = request.previous_response_id
        talk: Talk | None = None
        if request.conversation is not None:
            talk = await self.conversations.resume(order.owner, request.conversation)
            parent = talk.context
        elif parent is None and parent_id is not None:
            parent = await self.history.find(order.owner, parent_id)
        nothing_before = talk.is_empty if talk is not None else parent is None
        _require_something(order, nothing=nothing_before and not items)
        stored = await self.history.referred(order.owner, items)
        before = talk.seen() if talk is not None else parent
        opened = self.history.open_items(order.owner, before, items, stored, order.nearby)
        origin = "conversation" if talk is not None else "previous_response_id"
        _check_media(model, origin, before, opened)
        if talk is not None:
            if request.store is not False:
                opened = await self.conversations.admit(order.owner, talk, items, opened)
            opened = [*talk.leading, *opened]
        return parent, before, opened, items, talk, compact

    def _num_compiled_chars(self, settings: Settings) -> int:
        """About how much of the settings is new and has to be compiled, as characters of input."""
        tools, form, choice = settings.all_tools, settings.text_format, settings.tool_choice
        schema = bytes(form.schema) if isinstance(form, JsonSchemaFormat) else b""
        how = (choice.mode, choice.allowed, settings.parallel_tool_calls, settings.effort)
        if self._familiar.meet((tools.raw, schema, how)):
            return 0
        if tools.has_grammar:
            return LARGE_INPUT_CHARS  # nobody knows
        return COMPILED_CHARS_WEIGHT * (len(tools.raw) + len(schema))

    async def _start(self, order: Order) -> _Started:
        asked = await self._resolve(order)
        model, settings = asked.model, asked.settings
        tools = settings.tools
        prepared = await self._render(model.prepare, asked)
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
        with_past = resent or asked.talk is not None
        return _Started(model, prepared, emitter, tools, response.store, asked.talk, with_past)

    async def _compacting(
        self, order: Order, asked: _Resolved, wanted: Wanted, prepared: Prepared, emitter: Emitter
    ) -> Prepared:
        model, owner = asked.model, order.owner
        return await self._render(
            lambda *_: Compacting(
                model,
                prepared,
                asked.settings,
                wanted,
                item_id=item_id("cmp", order.response_id, 0),
                seal=lambda summary: self.history.seal_summary(owner, summary, model.name),
                said=emitter.items,
                metrics=self.metrics,
            ),
            asked,
        )

    def _offer(self, order: Order) -> Offer:
        name = order.request.model or self.default_model
        if not name:
            raise InvalidRequest(
                "Missing required parameter: 'model'.",
                code="missing_required_parameter",
                param="model",
            )
        offer = self.registry.offer(name)
        if order.models is not None and order.models.isdisjoint((name, offer.model.name)):
            raise PermissionDenied(f"This key may not use the model {name!r}.", param="model")
        return offer

    async def _render(
        self,
        render: Callable[[Context | None, Sequence[Item], Settings], T],
        asked: _Resolved,
    ) -> T:
        try:
            if asked.num_new_chars < LARGE_INPUT_CHARS:
                return render(asked.parent, asked.items, asked.settings)
            return await asyncio.to_thread(render, asked.parent, asked.items, asked.settings)
        except InvalidRequest as error:
            where = _format_from(asked.given)
            if where and (error.param or "").startswith("text.format"):
                error.param = f"{where}.{error.param}"
            raise

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
        )

    async def _fail(self, order: Order, started: _Started, sink: Sink, fault: Exception) -> Ended:
        """End a response that began and cannot be completed; never quote an unforeseen error."""
        emitter = started.emitter
        error: WireError
        match fault:
            case ConnectionError() if not order.background:
                raise fault  # the client is gone: nobody is there to be told
            case WireError():
                error = fault
            case EngineError():
                error = _engine_failed(emitter.response.model, fault)
            case ConversationChanged() if started.talk is not None:
                error = ConversationLocked(started.talk.base.id)
            case StoreError():
                log.error("store_failed", response_id=order.response_id, exc_info=fault)
                error = ServiceError("The response could not be stored.")
            case _:
                log.error("turn_failed", response_id=order.response_id, exc_info=fault)
                error = ServiceError("The server failed; its log says where.")
        self.metrics.error(error.code)
        if order.transport in ("sse", "background"):
            sink.send([emitter.announce(error)])
        failed = emitter.fail(_response_code(error), error.message)
        return await self._end(order, started, sink, failed, error)

    async def _end(
        self,
        order: Order,
        started: _Started,
        sink: Sink,
        terminal: ResponseFailed,
        error: WireError | None = None,
    ) -> Ended:
        """Send the terminal event of a failed or cancelled response, stored first if asked."""
        if started.store:
            given = started.prepared.context
            try:
                await self._keep(order, started, given, terminal.response, append=False)
            except StoreError as fault:
                log.error("store_failed", response_id=order.response_id, exc_info=fault)
        sink.send([terminal], flush=True)
        return Ended(response=terminal.response, error=error)


def _engine_failed(model: str, fault: EngineError) -> ServiceError:
    return ServiceError(f"The engine of {model!r} failed: {fault}")


def _uncancel() -> None:
    """The current task was asked to end, and goes on."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _response_code(error: WireError) -> str:
    """The `error.code` of a failed response, which takes fewer codes than a refused request.

    Strict clients know the codes of the official types only (protocol.md section 4); Codex
    tells `context_length_exceeded` apart here as well.
    """
    if error.code in ("server_error", "rate_limit_exceeded", "context_length_exceeded"):
        return error.code
    if error.status == 429:
        return "rate_limit_exceeded"
    # 409: another process was faster at the conversation, for which there is no better code.
    return "server_error" if error.status >= 500 or error.status == 409 else "invalid_prompt"


def _check_media(model: Model, origin: str, before: Context | None, items: Sequence[Item]) -> None:
    """Check the images and files of new items, and that the model takes those before them.

    Raises:
        InvalidRequest: as `check_media` and `check_taken`.
    """
    media = media_in(items)
    check_media(media)
    check_taken(model.name, model.takes, before, media, origin=origin)


def _is_whole(order: Order) -> bool:
    """Whether a request says everything itself, and goes on from nothing."""
    request = order.request
    return (
        order.parent is None
        and request.previous_response_id is None
        and request.conversation is None
    )


def _require_something(order: Order, *, nothing: bool) -> None:
    if nothing and not order.request.warm_up:
        raise InvalidRequest(
            "Nothing to answer: send `input`, or go on from `previous_response_id` or from a "
            "`conversation`.",
            code="missing_required_parameter",
            param="input",
        )


def _refuse_unsupported(request: CreateResponse) -> None:
    """Check for what this server does not do.

    Raises:
        InvalidRequest: `unsupported_parameter`, naming the field.
    """
    if request.previous_response_id is not None and request.conversation is not None:
        raise InvalidRequest(
            "Send `previous_response_id` or `conversation`, not both.",
            code="invalid_value",
            param="conversation",
        )
    for name, given in (
        ("prompt", _given(request.prompt)),
        ("moderation", _given(request.moderation)),
    ):
        if given:
            raise InvalidRequest(
                f"This server does not support `{name}`; leave it out.",
                code="unsupported_parameter",
                param=name,
            )


def _format_from(items: Sequence[Item]) -> str:
    """The path of the last item that sets the text format, or ""."""
    for index in range(len(items) - 1, -1, -1):
        item = items[index]
        if type(item) is ConfigurationUpdate and item.text is not None:
            return f"input[{index}]"
    return ""


def _given(raw: Raw) -> bool:
    return raw is not ABSENT and bytes(raw) not in (b"", b"null")
