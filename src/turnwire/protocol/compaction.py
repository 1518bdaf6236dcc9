"""Compaction on the wire: the endpoint's body and answer, the trigger, and what is sealed.

Source: protocol.md sections 3.4 and 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from msgspec import DecodeError, Meta, Raw, Struct
from msgspec.json import Decoder, encode

from turnwire.errors import InvalidRequest
from turnwire.protocol.item_codec import decode_items, encode_item
from turnwire.protocol.items import CompactionTrigger, Item, Summary
from turnwire.protocol.requests import ABSENT, CacheOptions, CreateResponse
from turnwire.protocol.responses import Usage
from turnwire.protocol.validation import FAULTS, CheckedDecoder, explain

__all__ = [
    "CompactRequest",
    "CompactedResponse",
    "decode_compact",
    "decode_summary",
    "encode_summary",
    "take_trigger",
]


class CompactRequest(Struct, kw_only=True):
    """The body of POST /v1/responses/compact.

    Attributes:
        instructions: Steer the summary; the summary's reader does not see them.
    """

    model: str
    input: Raw = ABSENT
    previous_response_id: str | None = None
    instructions: str | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=64)] | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    service_tier: (
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None
    ) = None

    def as_create(self) -> CreateResponse:
        """The same as a create, which knows how to find what came before."""
        return CreateResponse(
            model=self.model,
            input=self.input,
            previous_response_id=self.previous_response_id,
            prompt_cache_key=self.prompt_cache_key,
            store=False,
        )


class CompactedResponse(Struct, frozen=True, kw_only=True):
    """What compacting answers; `output` is the input to go on with."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[Raw]
    usage: Usage


class _Sealed(Struct, frozen=True, tag_field="v", tag="compaction-1"):
    """The sealed content: its tag keeps sealed reasoning from being taken for a summary."""

    model: str
    summary: str
    retained: list[str]
    kept: Raw


_BODY: Final = CheckedDecoder[CompactRequest](CompactRequest)
_SEALED: Final = Decoder(_Sealed)


def decode_compact(body: bytes) -> CompactRequest:
    """Decode the body of POST /v1/responses/compact.

    Raises:
        InvalidJson: it is not a JSON object in UTF-8.
        InvalidRequest: `param` is the path of the field at fault.
    """
    try:
        body.decode()  # what stays raw is not looked at by the decoder, and comes back in answers
    except FAULTS as fault:
        raise explain(fault, body, CompactRequest) from None
    return _BODY.decode(body)


def take_trigger(items: Sequence[Item], param: str = "input") -> tuple[Sequence[Item], bool]:
    """Return the items without the trigger at their end, and whether it was there.

    Raises:
        InvalidRequest: there is one anywhere else.
    """
    for index, item in enumerate(items):
        if type(item) is CompactionTrigger:
            if index < len(items) - 1:
                raise InvalidRequest(
                    "The 'compaction_trigger' item must be the final input item.",
                    param=f"{param}[{index}]",
                )
            return items[:-1], True
    return items, False


def encode_summary(summary: Summary, model: str) -> bytes:
    """What is sealed into a compaction item.

    Args:
        summary: What the item stands for.
        model: The name of the model that wrote it.
    """
    kept = b"[" + b",".join(map(encode_item, summary.kept)) + b"]"
    retained = [mark.hex() for mark in summary.retained]
    return encode(_Sealed(model, summary.text, retained, Raw(kept)))


def decode_summary(content: bytes) -> Summary:
    """What `encode_summary` made.

    Raises:
        ValueError: it is something else.
    """
    try:
        sealed = _SEALED.decode(content)
    except DecodeError as error:
        raise ValueError("no content of a compaction item") from error
    return Summary(
        text=sealed.summary,
        retained=tuple(bytes.fromhex(mark) for mark in sealed.retained),
        kept=decode_items(sealed.kept.copy()),
    )
