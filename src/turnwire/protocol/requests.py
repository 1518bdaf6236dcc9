"""The body of POST /v1/responses and of a `response.create` event (protocol.md section 2).

`input`, `tools` and `tool_choice` stay raw here: the codec decodes them item by item, and tools
that equal the previous turn's by bytes are not decoded again. Unknown fields are ignored,
because clients add private ones. `None` means absent or null: the two are the same; for a raw
field `ABSENT` means absent, and null arrives as the bytes `null`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

__all__ = [
    "ABSENT",
    "CacheOptions",
    "ContextManagement",
    "ConversationRef",
    "CreateResponse",
    "Effort",
    "Include",
    "JsonObjectFormat",
    "JsonSchemaFormat",
    "Metadata",
    "PlainTextFormat",
    "ReasoningConfig",
    "StreamOptions",
    "TextConfig",
    "TextFormat",
]

ABSENT = Raw(b"")

Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=16)]


class PlainTextFormat(Struct, frozen=True, tag="text", tag_field="type"):
    """Free text."""


class JsonObjectFormat(Struct, frozen=True, tag="json_object", tag_field="type"):
    """Any JSON object."""


class JsonSchemaFormat(Struct, frozen=True, tag="json_schema", tag_field="type", kw_only=True):
    """JSON that obeys `schema`. All five keys are echoed, `description` as null if unset."""

    name: Annotated[str, Meta(pattern=r"\A[a-zA-Z0-9_-]{1,64}\Z")]
    description: str | None = None
    schema: Raw
    strict: bool | None = None


TextFormat = PlainTextFormat | JsonObjectFormat | JsonSchemaFormat


class TextConfig(Struct, frozen=True, kw_only=True):
    """`text`: the output's format and verbosity."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningConfig(Struct, frozen=True, kw_only=True):
    """`reasoning`: how much to think and what to tell of it."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: str | None = None


class StreamOptions(Struct, frozen=True, kw_only=True):
    """`stream_options`."""

    include_obfuscation: bool | None = None


class ConversationRef(Struct, frozen=True, kw_only=True):
    """`conversation` in its object form."""

    id: str


class ContextManagement(Struct, frozen=True, kw_only=True):
    """An element of `context_management`: compact when the prompt has so many tokens.

    Attributes:
        compact_threshold: Tokens; None for 80 % of the model's window.
    """

    type: Literal["compaction"]
    compact_threshold: Annotated[int, Meta(ge=1000)] | None = None


class CacheOptions(Struct, frozen=True, kw_only=True):
    """`prompt_cache_options`."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None
    prewarm: bool | None = None
    comparison_response_id: str | None = None


class CreateResponse(Struct, kw_only=True):
    """One request for one response; `echo` fills in the defaults that the response shows."""

    model: str | None = None
    input: Raw = ABSENT
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    include: list[Include] | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    text: TextConfig | None = None
    tools: Raw = ABSENT
    tool_choice: Raw = ABSENT
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Metadata | None = None
    service_tier: (
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None
    ) = None
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    user: str | None = None
    prompt: Raw = ABSENT
    # There is one type of it, so more than one element contradict each other.
    context_management: (
        Annotated[list[ContextManagement], Meta(min_length=1, max_length=1)] | None
    ) = None
    moderation: Raw = ABSENT
    # WebSocket mode only (section 8); ignored in an HTTP body.
    generate: bool | None = None

    @property
    def wanted_logprobs(self) -> int | None:
        """Alternatives to show for each token of a text, or None for no log probabilities.

        `include` asks for them; so does `top_logprobs` above 0 alone ([D], section 2).
        """
        included = "message.output_text.logprobs" in (self.include or ())
        return (self.top_logprobs or 0) if included else (self.top_logprobs or None)

    @property
    def obfuscated(self) -> bool:
        """Whether a stream over HTTP pads its deltas; off by default ([D], section 5.4)."""
        options = self.stream_options
        return options is not None and options.include_obfuscation is True

    @property
    def warm_up(self) -> bool:
        """Whether only the prefix is to be prepared; `prewarm` overrides `generate` (8.3)."""
        options = self.prompt_cache_options
        return self.generate is False or (options is not None and options.prewarm is True)
