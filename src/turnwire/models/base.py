"""The seam between a turn and whatever answers it.

A model first prepares a turn (synchronous CPU: render what is new, check that it fits), then
responds with parts (`turnwire.parts`), which the emitter turns into the protocol's events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from turnwire.context.chain import Context
from turnwire.models.takes import Takes
from turnwire.parts import Finished, Part
from turnwire.protocol.items import Item
from turnwire.protocol.requests import PlainTextFormat, TextFormat
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice, ToolSet, join

__all__ = [
    "Model",
    "Prepared",
    "RenderMode",
    "RenderReport",
    "Settings",
]


class Settings(Struct, frozen=True, kw_only=True):
    """What one turn asks of a model, apart from its context.

    Attributes:
        owner: Whose turn it is; prefix caches are not shared between owners.
        instructions: This request's own; they never carry over.
        tools: The request's own, which stand in front of the conversation.
        added: Those that the conversation added; they stand in it.
        effort: Reasoning effort, or None for no reasoning.
        presence_penalty: -2 to 2.
        frequency_penalty: -2 to 2.
        top_logprobs: Text comes with the log probabilities of its tokens and of so many
            alternatives to each; None for text alone. A model that has none sends none.
        max_output_tokens: Visible plus reasoning tokens, or None for the window's rest.
        session: Opaque key for affinity: `prompt_cache_key` or the conversation's root.
        hints: The request's metadata; only simulating models read it.
        truncate: Leave out items from the start of the conversation where it would not fit
            (`context.window`); otherwise what does not fit is refused.
        warm_up: Prepare the prefix only: nothing will be sampled, calls may be open, and the
            prompt may be empty.
    """

    owner: str = "local"
    instructions: str | None = None
    tools: ToolSet = EMPTY_TOOL_SET
    added: ToolSet = EMPTY_TOOL_SET
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    text_format: TextFormat = PlainTextFormat()
    effort: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int | None = None
    max_output_tokens: int | None = None
    session: str = ""
    hints: Mapping[str, str] = {}
    truncate: bool = False
    warm_up: bool = False

    @property
    def all_tools(self) -> ToolSet:
        """Every tool that may be called, as far as `tool_choice` lets it."""
        return join(self.tools, self.added)


RenderMode = Literal["append", "prefix", "full"]
"""append: only new items were rendered. prefix: a known prefix was kept and joined anew behind
another preamble, only new items were tokenised. full: items before were rendered too, or what is
seen begins elsewhere than before."""


class RenderReport(Struct, frozen=True, kw_only=True):
    """How a prompt was built, for the metrics.

    Attributes:
        mode: How.
        reason: Why it was not append (`first`, `preamble`, `compacted`, ...), or "".
        num_tokenised: Tokens made by the tokenizer in this turn.
    """

    mode: RenderMode
    reason: str = ""
    num_tokenised: int


class Prepared(Protocol):
    """A turn that is rendered and ready to run, once."""

    @property
    def report(self) -> RenderReport: ...

    @property
    def context(self) -> Context:
        """The link of the turn's input, and all before it."""
        ...

    @property
    def num_prompt_tokens(self) -> int: ...

    def respond(self) -> AsyncGenerator[Part, None]:
        """Yield the parts of one response, `Finished` last.

        Raises:
            EngineUnavailable: refused before the first part; may be retried.
            EngineError: failed later; parts already yielded stand.

        `aclose()` stops the engine within one decode step.
        """
        ...

    def interrupted(self) -> Finished:
        """What was used so far, as the last part of a response that was stopped between items.

        Call it after `aclose()` of the parts, in place of waiting for `Finished`.
        """
        ...

    async def warm(self) -> int:
        """Prefill the prompt without output; return how many tokens were cached already."""
        ...

    def settle(self, output: Sequence[Item]) -> Context:
        """Return the context after the response: the prompt's items, then `output`.

        Call it once, after `Finished`, with the items as the client saw them. Costs O(output).
        """
        ...


class Model(Protocol):
    """Context and settings in, parts out. Contract suite: `tests/contracts/model.py`."""

    @property
    def name(self) -> str: ...

    @property
    def takes(self) -> Takes:
        """What it takes beside text; the rest is refused before it is asked."""
        ...

    @property
    def window(self) -> int | None:
        """Most tokens of prompt and output together, or None if that is not known."""
        ...

    @property
    def num_slots(self) -> int:
        """Turns that can be answered at the same time; more wait, by turns of connections."""
        ...

    @property
    def num_running(self) -> int:
        """Turns that are being answered now."""
        ...

    @property
    def num_waiting(self) -> int:
        """Turns that wait for a place."""
        ...

    def prepare(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> Prepared:
        """Render a turn: `parent`'s conversation followed by `items`. O(items) on a known parent.

        What of it the model sees is `context.window`'s to say.

        Raises:
            ContextLengthExceeded: it does not fit the window.
            InvalidRequest: the settings ask for something the model cannot do.
        """
        ...

    def count(self, parent: Context | None, items: Sequence[Item], settings: Settings) -> int:
        """Return the `num_prompt_tokens` that `prepare` would give.

        Neither the window nor the engine's places are asked: what is too long is counted too.

        Raises:
            InvalidRequest: the settings ask for something the model cannot do.
        """
        ...

    async def aclose(self) -> None: ...
