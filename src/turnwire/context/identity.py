"""When are two conversations the same to a model?

A client that sends a whole conversation again seldom sends the bytes it was given: ids and
statuses go missing, string content becomes a part or the other way round, reasoning comes back
sealed. A digest over what a prompt can depend on, chained item by item, makes two conversations
equal exactly when a model must not tell them apart:

    message      role, phase, its parts in order; text is text, whichever part type carries it
    call         call_id, name, namespace, arguments or input, whether it is async, whether it
                 was cut; of arguments that are JSON neither the whitespace between the signs
                 counts nor how strings are escaped, because clients parse and print them again
    output       call_id, its text or parts, name and namespace
    reasoning    its text, or where there is none its summary; what is still sealed, as it is
    compaction   what was sealed
    other items  every field but the id

Not part of it: item ids, statuses other than a cut call's, annotations, logprobs, and cache
breakpoints. `call_id` is, because outputs that come later name it.

A digest decides which prompt a client's words become, so it is a cryptographic one, and an owner
can at most deceive himself: it is only ever looked up among the conversations of one owner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import structs
from msgspec.msgpack import Encoder

from turnwire.context.chain import Context
from turnwire.context.pairing import calls_of
from turnwire.protocol.codec import encode_item, opaque_text
from turnwire.protocol.items import (
    AdditionalTools,
    Compaction,
    CompactionTrigger,
    ConfigurationUpdate,
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
)

__all__ = ["ROOT", "digest_of", "follow", "trail"]

DIGEST_SIZE: Final = 16
ROOT: Final = bytes(DIGEST_SIZE)
"""The digest of a conversation without items."""

MAX_UNHASHED_CHARS: Final = 262_144
"""More than this is not hashed just so that it may be found: half a millisecond."""

_ENCODER: Final = Encoder()


def follow(before: bytes, item: Item) -> bytes:
    """Return the digest of a conversation that goes on with an item; 16 bytes.

    Args:
        before: The digest of what comes before it.
        item: Not a reference.
    """
    digest = blake2b(before, digest_size=DIGEST_SIZE)
    digest.update(_ENCODER.encode(_essence(item)))
    return digest.digest()


def trail(context: Context | None, items: Iterable[Item]) -> list[bytes]:
    """Return the digest behind each of `items`, as a chain of contexts would have it.

    A call that is repeated adds nothing, as in `pairing`.

    Args:
        context: What comes before them, with its digest; None for nothing.
    """
    digest = ROOT
    if context is not None:
        if context.digest is None:
            raise AssertionError("a known context has its digest")
        digest = context.digest
    called: set[str] = set()
    found: list[bytes] = []
    for item in items:
        if isinstance(item, Compaction):
            called.update(call.call_id for call in calls_of(item))
        elif isinstance(item, FunctionCall | CustomToolCall):
            call_id = item.call_id
            if call_id in called or (context is not None and context.was_called(call_id)):
                found.append(digest)
                continue
            called.add(call_id)
        digest = follow(digest, item)
        found.append(digest)
    return found


def digest_of(context: Context) -> bytes | None:
    """Return a context's digest, made now where it is missing.

    Returns:
        None if more than `MAX_UNHASHED_CHARS` would have to be read for it.
    """
    links: list[Context] = []
    link: Context | None = context
    while link is not None and link.digest is None:
        links.append(link)
        link = link.parent
        if context.num_chars - (link.num_chars if link else 0) > MAX_UNHASHED_CHARS:
            return None  # and nobody walks further back, however long the conversation is
    digest = link.digest if link is not None else None
    digest = digest or ROOT
    for link in reversed(links):
        for item in link.items:
            digest = follow(digest, item)
        link.digest = digest
    return digest


def _essence(item: Item) -> object:
    """What a prompt may depend on. Different essences never encode to the same bytes."""
    match item:
        case Message():
            return ("m", item.role, item.phase, [_part(part) for part in item.content])
        case FunctionCall():
            return ("c", *_call(item), _canonical(item.arguments))
        case CustomToolCall():
            return ("x", *_call(item), item.input)
        case FunctionCallOutput():
            return ("o", item.call_id, item.name, item.namespace, _output(item))
        case CustomToolCallOutput():
            return ("y", item.call_id, _output(item))
        case Reasoning():
            if item.content:
                text = ("t", "".join([part.text for part in item.content]))
            else:
                text = ("s", "\n\n".join([part.text for part in item.summary]))
            return ("r", *text, item.encrypted_content)
        case ConfigurationUpdate():
            return ("u", encode_item(structs.replace(item, id=None)))
        case AdditionalTools():
            return ("a", opaque_text(item))
        case Compaction():
            return ("z", item.encrypted_content)
        case OpaqueItem():
            return ("?", opaque_text(item))
        case ItemReference() | CompactionTrigger():
            raise AssertionError("what is no part of a conversation is taken out before")


def _call(item: FunctionCall | CustomToolCall) -> tuple[object, ...]:
    cut = item.status == "incomplete"
    return (item.call_id, item.name, item.namespace, bool(item.async_), cut)


def _output(item: FunctionCallOutput | CustomToolCallOutput) -> object:
    output = item.output
    return output if isinstance(output, str) else [_part(part) for part in output]


def _part(part: ContentPart) -> object:
    match part:
        case InputText() | OutputText():
            return part.text
        case InputImage():
            return ("i", part.image_url, part.file_id, part.detail or "auto")
        case InputFile():
            return ("f", part.file_id, part.file_data, part.file_url, part.filename, part.detail)
        case _:
            return ("r", part.refusal)


_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


def _canonical(arguments: str) -> str:
    """JSON without whitespace between its signs and needless escapes; other text as it is."""
    try:
        compact = msgspec.json.format(arguments, indent=-1)
        # Printers agree on the other escapes.
        if "\\u" in compact or "\\/" in compact:
            return _STRING.sub(_unescaped, compact)
        return compact
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return arguments


def _unescaped(found: re.Match[str]) -> str:
    text = found.group()
    if "\\" not in text:
        return text
    return msgspec.json.encode(msgspec.json.decode(text)).decode()
