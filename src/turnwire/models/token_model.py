"""A model that speaks in tokens: rendering above (`views`), an engine below.

After a response the sampled ids are kept as sampled, so that the engine's KV prefix holds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, Literal

from msgspec import structs

from turnwire.constraint import Constraint
from turnwire.context.chain import Context
from turnwire.context.pairing import require_outputs
from turnwire.engines.base import Engine, Generation
from turnwire.engines.sim import InvalidHint
from turnwire.errors import (
    ContextLengthExceeded,
    ContextTooLong,
    EngineUnavailable,
    InvalidRequest,
    Overloaded,
)
from turnwire.models.base import RenderReport, Settings
from turnwire.models.takes import TEXT_ONLY, Takes
from turnwire.models.views import TokenView, Views
from turnwire.parts import Finished, ItemFinished, Part
from turnwire.protocol.items import Item
from turnwire.protocol.requests import JsonSchemaFormat, PlainTextFormat
from turnwire.rendering.base import Rendered, Template
from turnwire.rendering.logprobs import ScoredParser
from turnwire.tokens import TokenArray, Tokens, token_array

__all__ = ["PreparedTokens", "TokenModel"]

MAX_CONSTRAINTS: Final = 512


class TokenModel:
    """Joins a renderer and an engine into a Model.

    Attributes:
        name: As clients ask for it.
        engine: Where the tokens come from.
        renderer: Template and vocabulary.
        views: Makes prompts with it.
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
        self.views: Final = Views(renderer)
        self._lock: Final = threading.Lock()  # large inputs are prepared in threads
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
        preamble, fresh = self.views.preamble(parent, settings)
        if fresh:
            num_tokenised += len(preamble.tokens)
        view, mode, reason, made = self.views.view(context, preamble)
        num_tokenised += made
        if settings.truncate:
            view, moved = self.views.fit(
                context, view, self.engine.window, settings.max_output_tokens
            )
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
        views = self._model.views
        rendered = views.render([context], before.turn, live=cut is None)
        view = views.viewed(rendered, before.turn, before.tokens, before.preamble)
        if cut is None:
            tokens, goes_on = self._said(before.tokens, rendered)
            view = structs.replace(view, tokens=tokens, goes_on=goes_on)
        else:
            shown = views.render([context], cut.turn, live=True)
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
