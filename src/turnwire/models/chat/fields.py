"""Everything of a chat request but its model and messages."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from msgspec import Raw

from turnwire.models.base import Settings
from turnwire.models.chat.options import ChatOptions
from turnwire.models.chat.toolbox import Toolbox
from turnwire.protocol.requests import JsonObjectFormat, JsonSchemaFormat

__all__ = ["fields_of"]


def fields_of(
    settings: Settings, options: ChatOptions, box: Toolbox, limit: int | None
) -> dict[str, Any]:
    """The fields of a request's body, as the options have them.

    Args:
        settings: Of the turn.
        options: Of the endpoint.
        box: The turn's tools.
        limit: Most tokens of output, or None for no limit.
    """
    fields: dict[str, Any] = {"stream": True}
    if options.asks_usage:
        fields["stream_options"] = {"include_usage": True}
    if box.encoded:
        fields["tools"] = Raw(box.encoded)
        if box.choice is not None:
            fields["tool_choice"] = box.choice
        if not settings.parallel_tool_calls:
            fields["parallel_tool_calls"] = False
    text = settings.text_format
    if isinstance(text, JsonObjectFormat):
        fields["response_format"] = {"type": "json_object"}
    elif isinstance(text, JsonSchemaFormat):
        fields["response_format"] = {"type": "json_schema", "json_schema": _json_schema(text)}
    if settings.temperature != 1.0 or options.explicit_sampling:
        fields["temperature"] = settings.temperature
    if settings.top_p != 1.0 or options.explicit_sampling:
        fields["top_p"] = settings.top_p
    if settings.presence_penalty:
        fields["presence_penalty"] = settings.presence_penalty
    if settings.frequency_penalty:
        fields["frequency_penalty"] = settings.frequency_penalty
    if settings.top_logprobs is not None:
        fields["logprobs"] = True
        fields["top_logprobs"] = settings.top_logprobs
    if limit is not None:
        fields[options.max_tokens_field] = limit
    if settings.effort is not None and options.sends_effort:
        fields["reasoning_effort"] = settings.effort
    if settings.session and options.sends_cache_key:
        fields["prompt_cache_key"] = _digest(settings.owner, settings.session)
    if options.sends_cache_salt:
        fields["cache_salt"] = _digest(settings.owner)
    fields.update(options.extra)
    return fields


def _json_schema(text: JsonSchemaFormat) -> dict[str, Any]:
    schema: dict[str, Any] = {"name": text.name}
    if text.description is not None:
        schema["description"] = text.description
    schema["schema"] = text.schema
    if text.strict is not None:
        schema["strict"] = text.strict
    return schema


def _digest(*parts: str) -> str:
    """A name for an owner's own cache that does not tell who that is."""
    digest = blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
