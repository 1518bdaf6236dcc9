"""What a request asks for, once all that it names is found: the model, its past, its settings.

Nothing is rendered here. Whatever a request can be refused for before a prompt is made, but for its
length, is refused here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from msgspec import Raw, Struct, structs

from turnwire.compaction import Wanted, question, summary_settings, wanted
from turnwire.context.chain import Context
from turnwire.context.standing import NOTHING_STANDS, Standing, applied, stand
from turnwire.conversations.keeper import Conversations, Talk
from turnwire.errors import InvalidRequest, PermissionDenied
from turnwire.familiar import Familiar
from turnwire.history import History
from turnwire.models.base import Model, Settings
from turnwire.models.registry import Offer, Registry
from turnwire.models.takes import check_taken
from turnwire.order import Order
from turnwire.protocol.codec import decode_items, decode_tool_choice, decode_tools
from turnwire.protocol.compaction import take_trigger
from turnwire.protocol.items import ConfigurationUpdate, Item
from turnwire.protocol.media import check_media, media_in
from turnwire.protocol.requests import ABSENT, CreateResponse, JsonSchemaFormat, PlainTextFormat
from turnwire.protocol.tools import ToolSet, join
from turnwire.resent import Resent, Said

__all__ = ["Asked", "Asking"]

T = TypeVar("T")

# Tokenising this much new input takes some milliseconds: a thread does it, other clients go on.
LARGE_INPUT_CHARS: Final = 32_768
# A schema takes about as long to compile as four times its text does to tokenise.
COMPILED_CHARS_WEIGHT: Final = 4


class Asked(Struct, frozen=True, eq=False):
    """A turn whose parts were found; how long it is, nobody knows yet.

    Attributes:
        request: With what its history sets in place of its own.
        model: Who is to answer.
        parent: The conversation so far, or None.
        items: What is new, ready for a context.
        settings: For the model.
        talk: The conversation by name, if it is one.
        said: Where the input is a whole conversation: what of it was known.
        compaction: What is to be summed up, if anything.
        num_new_chars: About how much is to be rendered and compiled.
        given: The items as the request spells them.
        left_out: Types of the tools that its items add, but that are not offered.
    """

    request: CreateResponse
    model: Model
    parent: Context | None
    items: Sequence[Item]
    settings: Settings
    talk: Talk | None
    said: Said | None
    compaction: Wanted | None
    num_new_chars: int
    given: Sequence[Item]
    left_out: Sequence[str]

    @property
    def with_past(self) -> bool:
        """Whether everything before it is the client's own words, or a conversation's, to store."""
        return self.talk is not None or (self.said is not None and self.said.parent is not None)

    def summing_up(self) -> Asked:
        """The same, to be answered with a summary; the question for it is still to be put."""
        settings = summary_settings(self.settings, self.model.window)
        return structs.replace(self, settings=settings)

    def as_counted(self) -> Asked:
        """The same as it is first prompted: for a summary, if that is asked for."""
        if self.compaction is None or not self.compaction.asked:
            return self
        return structs.replace(self.summing_up(), items=[*self.items, question()])

    async def render(self, render: Callable[[Context | None, Sequence[Item], Settings], T]) -> T:
        """Call `render` with parent, items and settings, in a thread if that takes a while.

        Raises:
            InvalidRequest: as `render`; `param` is where the request spells what is wrong.
        """
        try:
            if self.num_new_chars < LARGE_INPUT_CHARS:
                return render(self.parent, self.items, self.settings)
            return await asyncio.to_thread(render, self.parent, self.items, self.settings)
        except InvalidRequest as error:
            where = _format_from(self.given)
            if where and (error.param or "").startswith("text.format"):
                error.param = f"{where}.{error.param}"
            raise


class _Past(Struct, frozen=True, eq=False, kw_only=True):
    """What a request goes on from, and what it adds.

    Attributes:
        parent: The context to go on from.
        before: All that is before the input.
        items: The input, ready for a context.
        given: The input as the request spells it.
        compact: Whether the input ends with a `compaction_trigger`.
    """

    parent: Context | None
    before: Context | None
    items: Sequence[Item]
    given: Sequence[Item]
    talk: Talk | None = None
    said: Said | None = None
    compact: bool = False


class Asking:
    """Finds what requests ask for. Holds no state of a single one."""

    def __init__(
        self,
        registry: Registry,
        history: History,
        conversations: Conversations,
        resent: Resent,
        default_model: str | None,
    ) -> None:
        """
        Args:
            default_model: For requests without `model`, or None to refuse them.
        """
        self._registry: Final = registry
        self._history: Final = history
        self._conversations: Final = conversations
        self._resent: Final = resent
        self._default_model: Final = default_model
        self._familiar: Final = Familiar()

    async def find(self, order: Order) -> Asked:
        """Find all that an order names, and check what can be checked before a prompt is made.

        Raises:
            WireError: it cannot be served; nothing was changed.
        """
        request = order.request
        _refuse_unsupported(request)
        offer = self._offer(order)
        model = offer.model
        tools = decode_tools(request.tools, order.tools)
        past = await self._whole(order, model) or await self._continued(order, model)
        order.clock.mark("authorise")
        parent = past.parent
        before = parent.standing if parent is not None else NOTHING_STANDS
        standing = stand(before, past.items)
        request = applied(standing, request, tools)
        settings = _settings(order, request, offer, tools, standing)
        num_new_chars = _num_unrendered(request, past, settings, model)
        formatted = isinstance(settings.text_format, JsonSchemaFormat)
        if tools is not order.tools or standing is not before or formatted:
            num_new_chars += self._num_compiled_chars(settings)
        return Asked(
            request=request,
            model=model,
            parent=parent,
            items=past.items,
            settings=settings,
            talk=past.talk,
            said=past.said,
            compaction=wanted(request, past.compact, model),
            num_new_chars=num_new_chars,
            given=past.given,
            left_out=standing.tools.left_out[len(before.tools.left_out) :],
        )

    async def _whole(self, order: Order, model: Model) -> _Past | None:
        """The past of a request that says everything itself; None if it is another one."""
        request = order.request
        if (
            order.parent is not None
            or request.previous_response_id is not None
            or request.conversation is not None
        ):
            return None
        check = partial(_check_media, model, "input")
        said = await self._resent.read(order.owner, request.input, check, order.nearby)
        order.clock.mark("parse")
        _require_something(order, nothing=said.parent is None and not said.given)
        return _Past(
            parent=said.parent,
            before=said.parent,
            items=said.items,
            given=said.given,
            said=said,
            compact=said.compact,
        )

    async def _continued(self, order: Order, model: Model) -> _Past:
        """The past of a request that goes on from what it names, or from nothing."""
        request = order.request
        items, compact = take_trigger(decode_items(request.input))
        order.clock.mark("parse")
        parent = order.parent
        parent_id = request.previous_response_id
        talk: Talk | None = None
        if request.conversation is not None:
            talk = await self._conversations.resume(order.owner, request.conversation)
            parent = talk.context
        elif parent is None and parent_id is not None:
            parent = await self._history.find(order.owner, parent_id)
        nothing_before = talk.is_empty if talk is not None else parent is None
        _require_something(order, nothing=nothing_before and not items)
        stored = await self._history.referred(order.owner, items)
        before = talk.seen() if talk is not None else parent
        opened = self._history.open_items(order.owner, before, items, stored, order.nearby)
        origin = "conversation" if talk is not None else "previous_response_id"
        _check_media(model, origin, before, opened)
        if talk is not None:
            if request.store is not False:
                opened = await self._conversations.admit(order.owner, talk, items, opened)
            opened = [*talk.leading, *opened]
        return _Past(
            parent=parent, before=before, items=opened, given=items, talk=talk, compact=compact
        )

    def _offer(self, order: Order) -> Offer:
        name = order.request.model or self._default_model
        if not name:
            raise InvalidRequest(
                "Missing required parameter: 'model'.",
                code="missing_required_parameter",
                param="model",
            )
        offer = self._registry.offer(name)
        if order.models is not None and order.models.isdisjoint((name, offer.model.name)):
            raise PermissionDenied(f"This key may not use the model {name!r}.", param="model")
        return offer

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


def _settings(
    order: Order, request: CreateResponse, offer: Offer, tools: ToolSet, standing: Standing
) -> Settings:
    reasoning = request.reasoning
    return Settings(
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


def _num_unrendered(request: CreateResponse, past: _Past, settings: Settings, model: Model) -> int:
    """About how many characters of the conversation no model has rendered yet."""
    parent, before, said = past.parent, past.before, past.said
    rendered = parent.num_chars if parent is not None and parent.view is not None else 0
    if settings.truncate and model.window is not None and rendered > 2 * model.window:
        rendered = 0  # it hardly fits, and is looked at again to find where to cut it
    num_before = before.num_chars if before is not None else 0
    num_given = memoryview(request.input).nbytes if said is None else said.num_new_chars
    return num_given + num_before - rendered


def _check_media(model: Model, origin: str, before: Context | None, items: Sequence[Item]) -> None:
    """Check the images and files of new items, and that the model takes those before them.

    Raises:
        InvalidRequest: as `check_media` and `check_taken`.
    """
    media = media_in(items)
    check_media(media)
    check_taken(model.name, model.takes, before, media, origin=origin)


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


def _given(raw: Raw) -> bool:
    return raw is not ABSENT and bytes(raw) not in (b"", b"null")


def _format_from(items: Sequence[Item]) -> str:
    """The path of the last item that sets the text format, or ""."""
    for index in range(len(items) - 1, -1, -1):
        item = items[index]
        if type(item) is ConfigurationUpdate and item.text is not None:
            return f"input[{index}]"
    return ""
