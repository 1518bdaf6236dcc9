"""The response object as it begins: the request, with every default filled in.

Source: defaults of protocol.md section 2, fields of section 4.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec import UNSET, UnsetType

from turnwire.protocol.requests import (
    CacheOptions,
    ConversationRef,
    CreateResponse,
    JsonSchemaFormat,
    PlainTextFormat,
    ReasoningConfig,
    TextConfig,
)
from turnwire.protocol.responses import (
    CacheOptionsEcho,
    ConversationEcho,
    ReasoningEcho,
    Response,
)
from turnwire.protocol.tool_codec import single_line
from turnwire.protocol.tools import ToolChoice, ToolSet

__all__ = ["echo"]

T = TypeVar("T")


def echo(
    request: CreateResponse,
    tools: ToolSet,
    tool_choice: ToolChoice,
    *,
    id: str,
    created_at: int,
    model: str,
) -> Response:
    """Return the response of a request that has just begun: in_progress, without output.

    It holds no view of the request's bytes.

    Args:
        request: What was asked.
        tools: Its `tools`, decoded.
        tool_choice: Its `tool_choice`, decoded.
        id: The response's id.
        created_at: Unix seconds.
        model: The name of the model that answers, which may differ from the one asked for.
    """
    retention = request.prompt_cache_retention
    return Response(
        id=id,
        created_at=created_at,
        status="in_progress",
        background=request.background is True,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        # Readers know the spelling with the underscore only.
        prompt_cache_retention=retention.replace("-", "_") if retention else None,
        prompt_cache_options=_cache_options(request.prompt_cache_options),
        reasoning=_reasoning(request.reasoning),
        safety_identifier=request.safety_identifier,
        # The tier really used shows once the response has ended [W].
        service_tier="auto",
        store=request.store is not False,
        temperature=_or(request.temperature, 1.0),
        text=_text(request.text),
        tool_choice=tool_choice.echo,
        tools=tools.echo,
        top_logprobs=_or(request.top_logprobs, 0),
        top_p=_or(request.top_p, 1.0),
        presence_penalty=_or(request.presence_penalty, 0.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        truncation=request.truncation or "disabled",
        user=request.user,
        metadata=dict(request.metadata or {}),
        conversation=_conversation(request.conversation),
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _text(config: TextConfig | None) -> TextConfig:
    if config is None:
        return TextConfig(format=PlainTextFormat(), verbosity="medium")
    chosen = config.format or PlainTextFormat()
    if isinstance(chosen, JsonSchemaFormat):
        chosen = JsonSchemaFormat(
            name=chosen.name,
            description=chosen.description,
            schema=single_line(bytes(chosen.schema)),
            strict=chosen.strict is True,
        )
    return TextConfig(format=chosen, verbosity=config.verbosity or "medium")


def _reasoning(config: ReasoningConfig | None) -> ReasoningEcho:
    if config is None:
        return ReasoningEcho()
    return ReasoningEcho(
        effort=config.effort,
        summary=config.summary or config.generate_summary,
        # The one that holds: what was thought before stays in the prompt, so that it only grows.
        context="all_turns" if config.context else UNSET,
        mode=config.mode or UNSET,
    )


def _cache_options(options: CacheOptions | None) -> CacheOptionsEcho | UnsetType:
    if options is None:
        return UNSET
    return CacheOptionsEcho(
        mode=options.mode or "implicit",
        ttl=options.ttl or "30m",
        comparison_response_id=options.comparison_response_id or UNSET,
    )


def _conversation(conversation: str | ConversationRef | None) -> ConversationEcho | UnsetType:
    match conversation:
        case None:
            return UNSET
        case str():
            return ConversationEcho(id=conversation)
        case _:
            return ConversationEcho(id=conversation.id)
