"""Tests of `turnwire.engines.llamacpp_wire`: bytes of a llama-server to events, and back."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.llamacpp_wire import Frames, body, failure_text, probe_body
from turnwire.tokens import EMPTY

# As llama-server b11549 sent it.
STREAM = (
    b'data: {"index":0,"content":"","tokens":[0],"stop":false,"id_slot":-1,"tokens_predicted":0,'
    b'"tokens_evaluated":4,"prompt_progress":{"total":4,"cache":3,"processed":3,"time_ms":0}}\n\n'
    b": ping\n\n"
    b'data: {"index":0,"content":" some","tokens":[2049],"stop":false,"id_slot":-1,'
    b'"tokens_predicted":1,"tokens_evaluated":4}\n\n'
    b'data: {"stop":true,"stop_type":"limit","tokens":[],"tokens_predicted":6,"timings":'
    b'{"cache_n":3,"prompt_n":1,"prompt_ms":0.592,"predicted_n":6,"predicted_ms":0.847}}\n\n'
)


@given(st.lists(st.integers(1, len(STREAM) - 1)))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    """However the stream is cut on its way, the same events come out of it."""
    reader = Frames()
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(places)]
    found = [frame for piece in pieces for frame in reader.feed(piece)]
    assert [None, [2049], []] == [None if f.prompt_progress else f.tokens for f in found]
    assert found[0].prompt_progress is not None
    assert 3 == found[0].prompt_progress.cache
    assert [False, False, True] == [frame.stop for frame in found]
    assert found[2].timings is not None
    assert (3, 1) == (found[2].timings.cache_n, found[2].timings.prompt_n)


@given(st.binary(max_size=200))
def test_nonsense_is_an_error_or_nothing(data: bytes) -> None:
    """Whatever a server says is an event, which may be an error, or is skipped."""
    for said in (data + b"\n", b"data:" + data + b"\n"):
        assert len(Frames().feed(said)) <= said.count(b"\n")


def test_what_was_understood_before_nonsense_counts() -> None:
    """The events in front of one that cannot be read come out with it."""
    frames = Frames().feed(STREAM.replace(b'"tokens":[]', b'"tokens":[1.5]'))
    assert [None, None] == [frame.error for frame in frames[:2]]
    assert frames[2].error is not None


def test_an_event_without_end_is_an_error() -> None:
    """What is kept of an unfinished event has a bound."""
    reader = Frames()
    found = [frame for _ in range(10) for frame in reader.feed(b"x" * (1 << 20))]
    assert found[0].error is not None


def test_a_body_is_json() -> None:
    """Ids, settings and constraint make one object."""
    prompt = EMPTY.extend([1, 2]).extend([3])
    text = b"".join(body(prompt.to_json(), {"id_slot": 1}, b'"grammar":"g"'))
    told = json.loads(text)
    assert ([1, 2, 3], 1, "g") == (told["prompt"], told["id_slot"], told["grammar"])
    assert "grammar" not in json.loads(b"".join(body((b"1",), {})))


def test_a_probe_asks_for_one_token() -> None:
    """It asks what the server makes of a grammar, and touches no cache."""
    told = json.loads(b"".join(probe_body({"grammar": "g"})))
    assert (1, False, "g") == (told["n_predict"], told["cache_prompt"], told["grammar"])
    assert "generation_settings/grammar" in told["response_fields"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"error":{"message":"a\\n  b"}}', "HTTP 500: a b"),
        (b'{"error":"x"}', "HTTP 500"),
        (b"\xff<html>", "HTTP 500"),
        (b"", "HTTP 500"),
    ],
)
def test_failures_in_one_line(data: bytes, text: str) -> None:
    """The server's own words if there are any, else the status alone."""
    assert text == failure_text(500, data)
