"""A model that speaks in tokens: rendering above, an engine below.

Theory of operation. A prompt is `[preamble: instructions + tools] + items + [opening]`. Each
link of the context keeps a `TokenView`: the ids it adds (`segment`), the whole sequence up to
it (`tokens`), and the state of the template (`turn`). A continuation with the same preamble
appends to its parent's `tokens` and costs O(new items). With another preamble the segments are
joined anew behind it, and nothing is tokenised again, if the template says that no segment
depends on the preamble. Otherwise, and for a context that another tokenizer rendered, it is
rendered again in full. A template may take back ids at the end of what stands, when it knows
what follows (`dropped`).

The model sees a window of the chain (`context.window`). A link with a compaction item starts a new
run: its segment is all that is seen up to there, and its `tokens` begin with the preamble again.
Truncation is a second run beside the whole one (`models.truncation`); each turn extends both.

After a response the sampled ids are kept as sampled, so that the engine's KV prefix holds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal

from msgspec import Struct, structs

from turnwire.constraint import Constraint
from turnwire.context.chain import Context
from turnwire.context.pairing import require_outputs
from turnwire.context.window import Seen, links, seen
from turnwire.engines.base import Engine, Generation
from turnwire.engines.sim import InvalidHint
from turnwire.errors import (
    ContextLengthExceeded,
    ContextTooLong,
    EngineUnavailable,
    InvalidRequest,
    Overloaded,
)
from turnwire.models.base import RenderMode, RenderReport, Settings
from turnwire.models.takes import TEXT_ONLY, Takes
from turnwire.models.truncation import Cut, output_room, truncate
from turnwire.parts import Finished, ItemFinished, Part
from turnwire.protocol.items import Item
from turnwire.protocol.requests import JsonSchemaFormat, PlainTextFormat
from turnwire.protocol.tools import ToolSet
from turnwire.rendering.base import Label, Rendered, Spoken, Template
from turnwire.rendering.logprobs import ScoredParser
from turnwire.tokens import EMPTY, TokenArray, Tokens, token_array

__all__ = ["Preamble", "PreparedTokens", "TokenModel", "TokenView"]

MAX_PREAMBLES: Final = 512  # some KB of tokens each; agents share a handful
MAX_CONSTRAINTS: Final = 512


class Preamble(Struct, frozen=True, eq=False):
    """Instructions and tools, rendered. Identity is equality: one object per distinct preamble.

    Attributes:
        turn: State of the template behind it.
        effort: The reasoning effort, where the template puts it there; else None.
        separable: Whether nothing behind it depends on it.
    """

    tokens: Tokens
    turn: Any
    instructions: str | None
    tools: ToolSet
    effort: str | None
    separable: bool


class TokenView(Struct, frozen=True, eq=False):
    """What a token model keeps on a context link.

    Attributes:
        vocabulary: Fingerprint of tokenizer and template.
        preamble: The preamble in front of `tokens`.
        before: State of the template in front of the segment.
        segment: The ids this link adds to the window; whatever the preamble, if the template is
            separable.
        num_dropped: How many ids before the segment it takes back.
        tokens: Preamble and every segment from the window's start up to here.
        turn: State of the template after the segment.
        goes_on: Whether the tokens go on from the prompt that an answer was made to.
        cut: The same with items left out, if they had to be.
    """

    vocabulary: str
    preamble: Preamble
    before: Any
    segment: TokenArray
    num_dropped: int
    tokens: Tokens
    turn: Any
    goes_on: bool = True
    cut: Cut | None = None


class TokenModel:
    """Joins a renderer and an engine into a Model.

    Attributes:
        name: As clients ask for it.
        engine: Where the tokens come from.
        takes: Text alone: a prompt is made of words.
    """

    takes: Final[Takes] = TEXT_ONLY

    def __init__(
        self, name: str, renderer: Template, engine: Engine, *, every_schema: bool = False
    ) -> None:
        """Join the two.

        Args:
            name: As clients ask for it.
            renderer: Template and vocabulary.
            engine: Where the tokens come from.
            every_schema: Hold calls of tools that are not strict to their schemas too.
        """
        self.name: Final = name
        self._every_schema: Final = every_schema
        self.engine: Final = engine
        self.renderer: Final = renderer
        # Large inputs are prepared in threads.
        self._lock: Final = threading.Lock()
        self._preambles: OrderedDict[tuple[str | None, bytes, str | None], Preamble] = OrderedDict()
        self._constraints: OrderedDict[object, Constraint | None] = OrderedDict()

    def prepare(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> PreparedTokens:
        """Render a turn and check that the engine can take it; see `Model.prepare`."""
        prepared = self._prepared(parent, items, settings)
        self._check(prepared._request)
        return prepared

    def count(self, parent: Context | None, items: Sequence[Item], settings: Settings) -> int:
        """Render a turn for its length only; see `Model.count`."""
        return self._prepared(parent, items, settings).num_prompt_tokens

    def _prepared(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> PreparedTokens:
        context = Context(parent, items)
        if not settings.warm_up:
            require_outputs(context.open_calls)
        num_tokenised = 0
        preamble, fresh = self._preamble(parent, settings)
        if fresh:
            num_tokenised += len(preamble.tokens)
        view, mode, reason, made = self._view(context, preamble)
        num_tokenised += made
        if settings.truncate:
            view, moved = self._fit(context, view, settings)
            if moved:
                mode, reason = "full", "truncated"
        thinking = settings.effort not in (None, "none")
        run = view.cut or view
        opening = (
            token_array()
            if settings.warm_up
            else self.renderer.opening(run.turn, reasoning=thinking)
        )
        request = Generation(
            prompt=run.tokens.extend(opening),
            max_new_tokens=settings.max_output_tokens,
            stop=self.renderer.stop,
            temperature=settings.temperature,
            top_p=settings.top_p,
            presence_penalty=settings.presence_penalty,
            frequency_penalty=settings.frequency_penalty,
            top_logprobs=settings.top_logprobs,
            constraint=self._constraint(settings, thinking),
            session=settings.session,
            cache_salt=settings.owner,
            hints=settings.hints,
        )
        report = RenderReport(mode=mode, reason=reason, num_tokenised=num_tokenised)
        return PreparedTokens(self, context, view, opening, request, settings, thinking, report)

    @property
    def window(self) -> int:
        """Window of the engine."""
        return self.engine.window

    @property
    def num_slots(self) -> int:
        """Slots of the engine."""
        return self.engine.num_slots

    @property
    def num_running(self) -> int:
        """Generations that hold a slot of the engine."""
        return self.engine.num_running

    @property
    def num_waiting(self) -> int:
        """Generations that wait for a slot."""
        return self.engine.num_waiting

    async def aclose(self) -> None:
        """Close the engine."""
        await self.engine.aclose()

    # -- rendering

    def _preamble(self, parent: Context | None, settings: Settings) -> tuple[Preamble, bool]:
        """The rendered preamble, and whether it had to be rendered now."""
        effort = settings.effort if self.renderer.effort_in_start else None
        if parent is not None and isinstance(parent.view, TokenView):
            known = parent.view.preamble
            if (
                parent.view.vocabulary == self.renderer.fingerprint
                and known.tools is settings.tools
                and known.instructions == settings.instructions
                and known.effort == effort
            ):
                return known, False
        key = (settings.instructions, settings.tools.raw, effort)
        with self._lock:
            found = self._preambles.get(key)
            if found is not None:
                self._preambles.move_to_end(key)
                return found, False
            begun = self.renderer.start(settings.instructions, settings.tools, effort)
            made = Preamble(
                EMPTY.extend(begun.ids),
                begun.turn,
                settings.instructions,
                settings.tools,
                effort,
                begun.separable,
            )
            self._preambles[key] = made
            if len(self._preambles) > MAX_PREAMBLES:
                self._preambles.popitem(last=False)
            return made, True

    def _view(self, context: Context, preamble: Preamble) -> tuple[TokenView, RenderMode, str, int]:
        """Leave the view of `context` on it; return it with mode, reason and tokens made."""
        parent = context.parent
        if parent is None:
            view, made = self._append(context, preamble.turn, preamble.tokens, preamble)
            return view, "full", "first", made
        if context.start is context:
            view, made = self._append(context, preamble.turn, preamble.tokens, preamble)
            return view, "full", "compacted", made
        before = parent.view
        if isinstance(before, TokenView) and before.vocabulary == self.renderer.fingerprint:
            if before.preamble is preamble:
                view, made = self._append(context, before.turn, before.tokens, preamble)
                # A format that takes back what stood keeps a prefix only.
                return (
                    (view, "prefix", "template", made)
                    if view.num_dropped or not before.goes_on
                    else (view, "append", "", made)
                )
            reason = "preamble"
        else:
            reason = "restored"
            if before is not None:
                reason = "model"
            elif parent.start is parent and parent.parent is not None:
                reason = "compacted"  # at the end of the turn before
        if not preamble.separable:
            view, made = self._render_all(context, preamble)
            return view, "full", reason, made
        tokens, turn, total = preamble.tokens, preamble.turn, 0
        for link in links(parent):
            known = link.view
            if (
                isinstance(known, TokenView)
                and known.vocabulary == self.renderer.fingerprint
                and known.preamble.separable
            ):
                segment, dropped, turn = known.segment, known.num_dropped, known.turn
                tokens = tokens.drop(dropped).extend(segment)
            else:
                view, made = self._append(link, turn, tokens, preamble)
                turn, tokens = view.turn, view.tokens
                total += made
        view, made = self._append(context, turn, tokens, preamble)
        mode: RenderMode = "prefix" if total == 0 else "full"
        return view, mode, reason, total + made

    def _fit(self, context: Context, view: TokenView, settings: Settings) -> tuple[TokenView, bool]:
        """The view with items left out if they have to be; whether others than a turn ago."""
        before = context.parent.view if context.parent is not None else None
        known = before.cut if isinstance(before, TokenView) else None
        window = self.engine.window
        cut = truncate(
            context,
            view.preamble.tokens,
            len(view.tokens),
            window,
            output_room(settings.max_output_tokens, window),
            known if context.start is not context else None,
            view.preamble.turn,
            self._part,
            self._segment,
            before_users=self.renderer.user_first,
        )
        if cut is None:
            return view, False
        context.view = structs.replace(view, cut=cut)
        return context.view, known is None or known.place != cut.place

    def _segment(self, link: Context, turn: Any) -> Rendered:
        """What a link adds behind a turn: as it was rendered, if that was behind such a turn."""
        known = link.view
        if (
            isinstance(known, TokenView)
            and known.vocabulary == self.renderer.fingerprint
            and known.preamble.separable
            and known.before == turn
        ):
            return Rendered(known.segment, known.turn, 0, known.num_dropped)
        return self._part(link, seen(link), turn)

    def _append(
        self, context: Context, turn: Any, tokens: Tokens, preamble: Preamble
    ) -> tuple[TokenView, int]:
        rendered = self._render([context], turn)
        view = self._viewed(rendered, turn, tokens, preamble)
        context.view = view
        return view, rendered.num_tokenised

    def _render_all(self, context: Context, preamble: Preamble) -> tuple[TokenView, int]:
        """Render the whole window in one go; the links between keep the views that they have."""
        rendered = self._render(links(context), preamble.turn)
        view = self._viewed(rendered, preamble.turn, preamble.tokens, preamble)
        context.view = view
        return view, rendered.num_tokenised

    def _viewed(
        self, rendered: Rendered, before: Any, tokens: Tokens, preamble: Preamble
    ) -> TokenView:
        return TokenView(
            self.renderer.fingerprint,
            preamble,
            before,
            rendered.ids,
            rendered.num_dropped,
            tokens.drop(rendered.num_dropped).extend(rendered.ids),
            rendered.turn,
        )

    def _render(self, chain: Sequence[Context], turn: Any, *, live: bool = False) -> Rendered:
        items: list[Item] = []
        labels: list[Label | None] = []
        sampled: list[TokenArray | None] = []
        spoken: list[Spoken] = []
        for link in chain:
            found = seen(link)
            ours = link.vocabulary == self.renderer.fingerprint
            if ours and (said := link.spoken()) is not None:
                spoken.append(Spoken(len(items), len(items) + len(found.items), said))
            items += found.items
            labels += [(call.name, call.ordinal) if call else None for call in found.answers]
            sampled += found.sampled if ours else (None,) * len(found.items)
        return self.renderer.extend(turn, items, labels, sampled, spoken, live=live)

    def _part(
        self, link: Context, found: Seen, turn: Any, begin: int = 0, end: int | None = None
    ) -> Rendered:
        """Render what is seen of a link, or some items of that."""
        if begin == 0 and end is None and found.items is link.items:
            return self._render([link], turn)
        part = slice(begin, end)
        items = found.items[part]
        ours = link.vocabulary == self.renderer.fingerprint
        return self.renderer.extend(
            turn,
            items,
            [(call.name, call.ordinal) if call else None for call in found.answers[part]],
            found.sampled[part] if ours else (None,) * len(items),
        )

    # -- decoding

    def _constraint(self, settings: Settings, thinking: bool) -> Constraint | None:
        tools, choice, text = settings.all_tools, settings.tool_choice, settings.text_format
        if isinstance(text, PlainTextFormat) and (not tools.offered or choice.mode == "none"):
            return None
        key = (
            tools.raw,
            choice.mode,
            choice.allowed,
            settings.parallel_tool_calls,
            (bytes(text.schema), text.strict) if isinstance(text, JsonSchemaFormat) else type(text),
            thinking,
        )
        with self._lock:
            if key in self._constraints:
                self._constraints.move_to_end(key)
                return self._constraints[key]
            made = self.renderer.constraint(
                tools,
                choice,
                parallel=settings.parallel_tool_calls,
                text_format=text,
                thinking_possible=thinking,
                every_schema=self._every_schema,
            )
            self._constraints[key] = made
            if len(self._constraints) > MAX_CONSTRAINTS:
                self._constraints.popitem(last=False)
            return made

    def _check(self, request: Generation) -> None:
        try:
            self.engine.check(request)
        except InvalidHint as error:
            raise InvalidRequest(error.message, param=f"metadata.{error.hint}") from error
        except ContextTooLong as error:
            raise ContextLengthExceeded(
                f"The input is {len(request.prompt)} tokens long; the model {self.name!r} takes "
                f"{self.engine.window} for input and output together. Send less, or compact.",
                param="input",
            ) from error
        except EngineUnavailable as error:
            raise Overloaded(
                f"The engine of {self.name!r} cannot take another request now: {error}.",
                retry_after_sec=1,
            ) from error


class PreparedTokens:
    """One turn of a TokenModel, rendered and ready; see `Prepared`."""

    def __init__(
        self,
        model: TokenModel,
        context: Context,
        view: TokenView,
        opening: TokenArray,
        request: Generation,
        settings: Settings,
        thinking: bool,
        report: RenderReport,
    ) -> None:
        self.report: Final = report
        self._model = model
        self.context: Final = context
        self._view = view
        self._opening = opening
        self._request = request
        self._settings = settings
        self._thinking = thinking
        self._sampled: list[TokenArray | None] = []
        self._num_cached = 0
        self._num_output = 0
        self._num_reasoning = 0

    @property
    def prompt(self) -> Tokens:
        """The ids the engine gets."""
        return self._request.prompt

    @property
    def num_prompt_tokens(self) -> int:
        """Prompt size, template tokens included."""
        return len(self._request.prompt)

    async def respond(self) -> AsyncGenerator[Part, None]:
        """Yield the parts of one response, `Finished` last; see `Prepared.respond`."""
        settings = self._settings
        # What looks like a call is text where calls are ruled out.
        offered = settings.all_tools.offered if settings.tool_choice.mode != "none" else {}
        renderer = self._model.renderer
        parser = renderer.parser(offered, thinking=self._thinking)
        wanted = self._request.top_logprobs is not None
        scored = ScoredParser(parser, renderer.tokenizer) if wanted else None
        sampled = self._sampled
        cut = False
        async with aclosing(self._model.engine.generate(self._request)) as deltas:
            async for delta in deltas:
                ids = delta.ids
                if delta.num_cached is not None:
                    self._num_cached = delta.num_cached
                self._num_output += len(ids)
                made = parser.feed(ids) if scored is None else scored.feed(ids, delta.logprobs)
                for part in made:
                    if type(part) is ItemFinished:
                        sampled.append(part.sampled)
                        self._num_reasoning = parser.num_reasoning_tokens
                    yield part
                if delta.finish is not None:
                    cut = delta.finish == "length"
        for part in (scored or parser).finish(cut=cut):
            if type(part) is ItemFinished:
                sampled.append(part.sampled)
            yield part
        if cut and parser.open_sampled is not None:
            sampled.append(parser.open_sampled)
        self._num_reasoning = parser.num_reasoning_tokens
        yield self._finished("max_output_tokens" if cut else "stop")

    def interrupted(self) -> Finished:
        """What was used so far; see `Prepared.interrupted`."""
        return self._finished("steered")

    def _finished(self, reason: Literal["stop", "max_output_tokens", "steered"]) -> Finished:
        return Finished(
            reason=reason,
            num_prompt_tokens=len(self._request.prompt),
            num_cached_tokens=self._num_cached,
            num_output_tokens=self._num_output,
            num_reasoning_tokens=self._num_reasoning,
        )

    async def warm(self) -> int:
        """Prefill the prompt; see `Prepared.warm`."""
        if not self._request.prompt:
            return 0
        return await self._model.engine.prefill(self._request)

    def settle(self, output: Sequence[Item]) -> Context:
        """Return the context after the response; see `Prepared.settle`.

        The ids kept are those that rendering `output` in full would give, with sampled ids in
        place of tokenised text. Normally that is the prompt plus what was sampled, so the chain
        goes on from the prompt; where the template would have opened the turn otherwise, it
        goes on from before the opening.
        """
        renderer = self._model.renderer
        if not output:
            return self.context
        context = Context(
            self.context,
            output,
            sampled=self._sampled,
            opening=self._opening,
            vocabulary=renderer.fingerprint,
        )
        before, cut = self._view, self._view.cut
        render = self._model._render
        rendered = render([context], before.turn, live=cut is None)
        view = self._model._viewed(rendered, before.turn, before.tokens, before.preamble)
        if cut is None:
            tokens, goes_on = self._said(before.tokens, rendered)
            view = structs.replace(view, tokens=tokens, goes_on=goes_on)
        else:
            shown = render([context], cut.turn, live=True)
            tokens, _ = self._said(cut.tokens, shown)
            view = structs.replace(view, cut=structs.replace(cut, tokens=tokens, turn=shown.turn))
        context.view = view
        return context

    def _said(self, tokens: Tokens, rendered: Rendered) -> tuple[Tokens, bool]:
        """What was prompted followed by what was said, and whether it goes on from the prompt."""
        opening = self._opening
        if not rendered.num_dropped and rendered.ids[: len(opening)] == opening:
            # Equal ids, but on the chain that the engine knows.
            return self._request.prompt.extend(rendered.ids[len(opening) :]), True
        return tokens.drop(rendered.num_dropped).extend(rendered.ids), False
