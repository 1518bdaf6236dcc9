"""Padding evens out the sizes of deltas, and changes nothing else."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.protocol.events import (
    CustomToolCallInputDelta,
    Event,
    FunctionCallArgumentsDelta,
    OutputTextDelta,
    OutputTextDone,
    ReasoningSummaryTextDelta,
    RefusalDelta,
)
from turnwire.server.obfuscation import obfuscated, obfuscated_frame, padding
from turnwire.server.writer import sse_chunk, sse_frame


def text_delta(text: str) -> OutputTextDelta:
    """A delta of a message."""
    return OutputTextDelta(
        sequence_number=3, item_id="msg_1", output_index=0, content_index=0, delta=text
    )


def deltas(text: str) -> list[Event]:
    """A delta of each kind that is padded."""
    return [
        text_delta(text),
        FunctionCallArgumentsDelta(sequence_number=1, item_id="fc_1", output_index=0, delta=text),
        ReasoningSummaryTextDelta(
            sequence_number=1, item_id="rs_1", output_index=0, summary_index=0, delta=text
        ),
    ]


def data_of(frame: bytes) -> dict[str, object]:
    """The event of an SSE frame."""
    decoded: dict[str, object] = json.loads(frame.split(b"\n")[1].removeprefix(b"data: "))
    return decoded


@given(st.text(max_size=40))
def test_sizes_are_multiples_of_sixteen(text: str) -> None:
    """In characters, and in bytes as they are sent."""
    padded = padding(text)
    assert 0 == (len(text) + len(padded)) % 16
    sizes = [len(msgspec.json.encode(one)) - 2 for one in (text, padded)]
    assert 0 == sum(sizes) % 16


def test_padding_is_random() -> None:
    """Two paddings of one delta differ; one that needs none has none."""
    assert 1 < len({padding("a") for _ in range(10)})
    assert "" == padding("0123456789abcdef")


@given(st.text(max_size=20))
def test_a_frame_that_was_kept_is_padded_like_a_live_one(text: str) -> None:
    """Both ways give the same event but for the random letters, and the event is as it was."""
    for event in deltas(text):
        plain = sse_frame(event)
        later, live = obfuscated_frame(plain), obfuscated(sse_frame)(event)
        assert len(later) == len(live)
        for frame in (later, live):
            found = data_of(frame)
            added = found.pop("obfuscation")
            assert isinstance(added, str)
            assert 0 == (len(text) + len(added)) % 16
            assert data_of(plain) == found
            assert frame.endswith(b"}\n\n")
            assert 3 == frame.count(b"\n")


@pytest.mark.parametrize(
    "event",
    [
        OutputTextDone(
            sequence_number=1, item_id="m", output_index=0, content_index=0, text='"delta":"x"'
        ),
        RefusalDelta(sequence_number=1, item_id="m", output_index=0, content_index=0, delta="x"),
        CustomToolCallInputDelta(sequence_number=1, item_id="m", output_index=0, delta="x"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_other_events_stay_as_they_are(event: Event) -> None:
    """Only the deltas of section 5.4 are padded."""
    assert sse_frame(event) == obfuscated(sse_frame)(event) == obfuscated_frame(sse_frame(event))
    assert sse_chunk(event) == obfuscated(sse_chunk)(event)
