"""How much of a stored response a client gets to see, without I/O.

Everything is kept, and filtered on the way out: `include` decides about the optional parts
(protocol.md section 10). Reasoning leaves sealed or not at all, never as text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct, structs
from msgspec.json import Decoder

from turnwire.protocol.codec import decode_items
from turnwire.protocol.items import (
    AdditionalTools,
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    OutputText,
    Reasoning,
)

__all__ = ["shown_item", "shown_response", "unscored"]

SEAL: Final = "reasoning.encrypted_content"
IMAGE: Final = "message.input_image.image_url"
LOGPROBS: Final = "message.output_text.logprobs"

_FIELDS: Final = Decoder(dict[str, Raw])


P = TypeVar("P", bound=ContentPart)


class _Kind(Struct):
    type: str


_KIND: Final = Decoder(_Kind)
_LIST: Final = Decoder(list[Raw])
EMPTY: Final = Raw(b"[]")


def shown_response(response: bytes, output: bytes, include: Collection[str]) -> bytes:
    """The response object as it may be read.

    The seal of its reasoning shows if `include` asks for it now, whether or not it did when the
    response was created; log probabilities if they were asked for then and now.

    Args:
        response: The object as it ended.
        output: Its output items as they are stored: reasoning with its sealed text.
        include: What the client asked for, of the values of `include`.

    Returns:
        The same bytes if nothing had to change.
    """
    response = unscored(response, include)
    if b'"type":"reasoning"' not in response:  # our own encoder wrote it: no spaces
        return response
    fields = _FIELDS.decode(response)
    items = _LIST.decode(fields["output"])
    seals: dict[str | None, str] = {}
    if SEAL in include:
        seals = {
            item.id: item.encrypted_content
            for item in decode_items(Raw(output))
            if type(item) is Reasoning and item.encrypted_content
        }
    changed = [_reasoning(raw, seals, keep=SEAL in include) for raw in items]
    fields["output"] = Raw(msgspec.json.encode(changed))
    return msgspec.json.encode(fields)


def unscored(response: bytes, include: Collection[str]) -> bytes:
    """The response object without log probabilities, unless `include` asks for them."""
    if LOGPROBS in include or b'"logprobs":[{' not in response:
        return response
    fields = _FIELDS.decode(response)
    changed = [_unscored_item(raw) for raw in _LIST.decode(fields["output"])]
    fields["output"] = Raw(msgspec.json.encode(changed))
    return msgspec.json.encode(fields)


def _unscored_item(raw: Raw) -> Raw:
    if _KIND.decode(raw).type != "message":
        return raw
    fields = _FIELDS.decode(raw)
    parts = [_FIELDS.decode(part) for part in _LIST.decode(fields["content"])]
    for part in parts:
        if "logprobs" in part:
            part["logprobs"] = EMPTY
    fields["content"] = Raw(msgspec.json.encode(parts))
    return Raw(msgspec.json.encode(fields))


def _reasoning(raw: Raw, seals: Mapping[str | None, str], *, keep: bool) -> Raw:
    if _KIND.decode(raw).type != "reasoning":
        return raw
    fields = _FIELDS.decode(raw)
    if not keep:
        fields.pop("encrypted_content", None)
    elif "encrypted_content" not in fields:
        seal = seals.get(msgspec.json.decode(fields["id"], type=str))
        if seal is not None:
            fields["encrypted_content"] = Raw(msgspec.json.encode(seal))
    return Raw(msgspec.json.encode(fields))


def shown_item(item: Item, include: Collection[str]) -> Item:
    """The item as it may be listed.

    Args:
        item: As it is stored: reasoning with its sealed text.
        include: What the client asked for, of the values of `include`.
    """
    match item:
        case Reasoning():
            sealed = item.encrypted_content if SEAL in include else None
            return structs.replace(item, content=None, encrypted_content=sealed)
        case Message():
            content = tuple(_shown_part(part, include) for part in item.content)
            # Items of a list have a status (section 13), also those that came without one.
            return structs.replace(item, content=content, status=item.status or "completed")
        case FunctionCall() | CustomToolCall():
            return structs.replace(item, status=item.status or "completed")
        case FunctionCallOutput() | CustomToolCallOutput():
            output = item.output
            if not isinstance(output, str):
                output = tuple(_shown_part(part, include) for part in output)
            return structs.replace(item, output=output, status=item.status or "completed")
        case AdditionalTools():
            # Tools are shown as a response shows its own: with every key that readers want.
            fields = _FIELDS.decode(item.raw)
            fields["tools"] = item.tools.echo
            return structs.replace(item, raw=msgspec.json.encode(fields))
        case _:
            return item


def _shown_part(part: P, include: Collection[str]) -> P:
    if isinstance(part, InputImage):
        url = part.image_url if IMAGE in include else None
        # A client may leave `detail` out; where an image is shown, all descriptions require it.
        return structs.replace(part, image_url=url, detail=part.detail or "auto")
    if isinstance(part, OutputText) and part.logprobs and LOGPROBS not in include:
        return structs.replace(part, logprobs=[])
    return part
