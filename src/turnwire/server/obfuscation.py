"""Padding for deltas, so that the sizes of packets do not tell an eavesdropper what they say.

A token's length shows through encryption, and the lengths of many tokens give a text away. With
`include_obfuscation` each delta brings random padding: delta and padding together are a multiple
of 16 characters, and of 16 bytes on the wire too (protocol.md section 5.4). It is made for one
reader as the event leaves: what is kept, replayed to others or shown in a response has none.
"""

from __future__ import annotations

import secrets
from typing import Final

from msgspec import Struct, structs
from msgspec.json import Decoder, encode

from turnwire.protocol.codec import sse_prefix
from turnwire.protocol.events import (
    ErrorEvent,
    Event,
    FunctionCallArgumentsDelta,
    OutputTextDelta,
    ReasoningSummaryTextDelta,
)
from turnwire.server.writer import Frame

__all__ = ["obfuscated", "obfuscated_frame", "padding"]

BLOCK: Final = 16
TWO_BYTES: Final = "\N{LATIN SMALL LETTER O WITH STROKE}"

PADDED: Final = (OutputTextDelta, FunctionCallArgumentsDelta, ReasoningSummaryTextDelta)
HEADS: Final = tuple(
    sse_prefix(kind)
    for kind in (
        OutputTextDelta(sequence_number=0, item_id="", output_index=0, content_index=0, delta=""),
        FunctionCallArgumentsDelta(sequence_number=0, item_id="", output_index=0, delta=""),
        ReasoningSummaryTextDelta(
            sequence_number=0, item_id="", output_index=0, summary_index=0, delta=""
        ),
    )
)
END: Final = b"}\n\n"


class _Delta(Struct):
    delta: str


_DELTA: Final = Decoder(_Delta)


def padding(delta: str) -> str:
    """Random text that makes a delta's size a multiple of 16, in characters and in bytes.

    The two differ where the delta has characters of several bytes, or that JSON escapes; as many
    characters of two bytes in the padding make up for it.
    """
    num_chars, num_bytes = len(delta), len(encode(delta)) - 2
    num_wide = (num_chars - num_bytes) % BLOCK
    num_plain = -(num_chars + num_wide) % BLOCK
    return secrets.token_urlsafe(BLOCK)[:num_plain] + TWO_BYTES * num_wide


def obfuscated(frame: Frame) -> Frame:
    """The same framing, for a reader who asked for padding."""

    def padded(event: Event | ErrorEvent) -> bytes:
        if isinstance(event, PADDED):
            event = structs.replace(event, obfuscation=padding(event.delta))
        return frame(event)

    return padded


def obfuscated_frame(data: bytes) -> bytes:
    """One SSE frame that was kept without padding, with it."""
    for head in HEADS:
        if data.startswith(head):
            delta = _DELTA.decode(memoryview(data)[len(head) :]).delta
            return b'%b,"obfuscation":%b%b' % (
                data.removesuffix(END),
                encode(padding(delta)),
                END,
            )
    return data
