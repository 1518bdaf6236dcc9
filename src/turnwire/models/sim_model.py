"""The simulated models: a token model that also says what its template has no tokens for.

Turnwire's own template knows neither refusals nor phases. So that clients can be tested with both,
the parts of an answer are staged on their way out, where the request's `metadata` asks for it:

    sim.refusal: true    the message is a refusal, in the same words
    sim.phases: true     messages have a phase: commentary if anything follows in the same
                         response, final_answer if nothing does. It shows in the finished item,
                         as the template names no phase before the text

Everything else is the token model's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Final

from msgspec import structs

from turnwire.context.chain import Context
from turnwire.models.base import Prepared, RenderReport, Settings
from turnwire.models.takes import EVERYTHING, Takes
from turnwire.models.token_model import TokenModel
from turnwire.parts import Finished, ItemFinished, Part, RefusalDelta, TextDelta
from turnwire.protocol.items import Item
from turnwire.protocol.requests import PlainTextFormat

__all__ = ["SimModel", "Staged", "Staging"]


class Staging:
    """Parts as they are, in; parts as they were asked for, out."""

    def __init__(self, *, refusal: bool, phases: bool) -> None:
        self._refusal: Final = refusal
        self._phases: Final = phases
        self._in_message = False
        self._held: ItemFinished | None = None  # of a message; its phase is not known yet

    def feed(self, part: Part) -> Iterable[Part]:
        """Take a part; return those that can be said now, in order."""
        before = self._ended(part)
        match part:
            case TextDelta(text):
                self._in_message = True
                return (*before, RefusalDelta(text) if self._refusal else part)
            case ItemFinished() if self._in_message and self._phases:
                self._in_message = False
                self._held = part
                return before
            case ItemFinished():
                self._in_message = False
        return (*before, part)

    def _ended(self, following: Part) -> tuple[Part, ...]:
        held, self._held = self._held, None
        if held is None:
            return ()
        last = isinstance(following, Finished) and following.reason == "stop"
        return (structs.replace(held, phase="final_answer" if last else "commentary"),)


class Staged:
    """A prepared turn with other parts; see `Prepared`."""

    def __init__(self, inner: Prepared, staging: Staging) -> None:
        self._inner: Final = inner
        self._staging: Final = staging

    @property
    def report(self) -> RenderReport:
        """How the prompt was built."""
        return self._inner.report

    @property
    def context(self) -> Context:
        """The link of the turn's input."""
        return self._inner.context

    @property
    def num_prompt_tokens(self) -> int:
        """Prompt size."""
        return self._inner.num_prompt_tokens

    async def respond(self) -> AsyncGenerator[Part, None]:
        """Yield the staged parts; see `Prepared.respond`."""
        async with aclosing(self._inner.respond()) as parts:
            async for part in parts:
                for one in self._staging.feed(part):
                    yield one

    def interrupted(self) -> Finished:
        """What was used so far; see `Prepared.interrupted`."""
        return self._inner.interrupted()

    async def warm(self) -> int:
        """Prefill the prompt; see `Prepared.warm`."""
        return await self._inner.warm()

    def settle(self, output: Sequence[Item]) -> Context:
        """Return the context after the response; see `Prepared.settle`."""
        return self._inner.settle(output)


class SimModel:
    """A token model over the simulated engine; see `turnwire.models.base.Model`.

    Attributes:
        tokens: The token model.
        takes: Everything: what is no text is a word in the prompt that it was there.
    """

    takes: Final[Takes] = EVERYTHING

    def __init__(self, tokens: TokenModel) -> None:
        self.tokens: Final = tokens

    @property
    def name(self) -> str:
        """As clients ask for it."""
        return self.tokens.name

    @property
    def window(self) -> int:
        """Window of the engine."""
        return self.tokens.window

    @property
    def num_slots(self) -> int:
        """Slots of the engine."""
        return self.tokens.num_slots

    @property
    def num_running(self) -> int:
        """Generations that hold a slot of the engine."""
        return self.tokens.num_running

    @property
    def num_waiting(self) -> int:
        """Generations that wait for a slot."""
        return self.tokens.num_waiting

    def prepare(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> Prepared:
        """Render a turn; see `Model.prepare`. The engine says whether the hints are right."""
        hints = settings.hints
        refusal = hints.get("sim.refusal") == "true"
        phases = hints.get("sim.phases") == "true"
        if not (refusal or phases):
            return self.tokens.prepare(parent, items, settings)
        if refusal:
            # Whoever declines does not do so in the format that was asked for.
            settings = structs.replace(settings, text_format=PlainTextFormat())
        prepared = self.tokens.prepare(parent, items, settings)
        return Staged(prepared, Staging(refusal=refusal, phases=phases))

    def count(self, parent: Context | None, items: Sequence[Item], settings: Settings) -> int:
        """Return the length of the prompt; see `Model.count`."""
        return self.tokens.count(parent, items, settings)

    async def aclose(self) -> None:
        """Close the engine."""
        await self.tokens.aclose()
