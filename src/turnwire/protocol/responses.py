"""The response object (protocol.md section 4): every field that must be present is.

Fields that echo the request or hold finished items stay raw, so that encoding a response is a
copy of bytes that exist already.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType, field

from turnwire.protocol.requests import TextConfig

__all__ = [
    "CacheOptionsEcho",
    "ConversationEcho",
    "IncompleteDetails",
    "InputTokensDetails",
    "OutputTokensDetails",
    "ReasoningEcho",
    "Response",
    "ResponseError",
    "ResponseStatus",
    "Usage",
]

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputTokensDetails(Struct, frozen=True, kw_only=True):
    """`cache_write_tokens` is always sent: strict clients require it."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True, kw_only=True):
    """How many of the output tokens were reasoning."""

    reasoning_tokens: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts; `input_tokens` includes cached ones, `output_tokens` reasoning ones."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int

    @classmethod
    def count(
        cls, *, prompt: int, cached: int, output: int, reasoning: int, written: int = 0
    ) -> Usage:
        """Build a usage whose totals add up."""
        return cls(
            input_tokens=prompt,
            input_tokens_details=InputTokensDetails(
                cached_tokens=cached, cache_write_tokens=written
            ),
            output_tokens=output,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=reasoning),
            total_tokens=prompt + output,
        )


class ResponseError(Struct, frozen=True, kw_only=True):
    """`error` of a failed response: two strings."""

    code: str
    message: str


class IncompleteDetails(Struct, frozen=True, kw_only=True):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens", "content_filter", "max_messages", "steered"]


class ReasoningEcho(Struct, frozen=True, kw_only=True):
    """`reasoning` as echoed: effort and summary always, nulls allowed; the rest where asked."""

    effort: str | None = None
    summary: str | None = None
    context: str | UnsetType = UNSET
    mode: str | UnsetType = UNSET


class CacheOptionsEcho(Struct, frozen=True, kw_only=True):
    """`prompt_cache_options` as echoed, with the defaults of protocol.md section 2 filled in."""

    mode: str = "implicit"
    ttl: str = "30m"
    comparison_response_id: str | UnsetType = UNSET


class ConversationEcho(Struct, frozen=True, kw_only=True):
    """`conversation` as echoed."""

    id: str


class Response(Struct, kw_only=True):
    """A response in any state. Mutable: the emitter moves it from state to state."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: ResponseStatus
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[Raw] = field(default_factory=list)
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: CacheOptionsEcho | UnsetType = UNSET
    reasoning: ReasoningEcho = ReasoningEcho()
    safety_identifier: str | None = None
    service_tier: str = "auto"
    store: bool = True
    temperature: float = 1.0
    text: TextConfig
    tool_choice: Raw = Raw(b'"auto"')
    tools: Raw = Raw(b"[]")
    top_logprobs: int = 0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    truncation: str = "disabled"
    usage: Usage | None = None
    user: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    conversation: ConversationEcho | UnsetType = UNSET
