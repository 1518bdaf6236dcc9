"""The request struct."""

from __future__ import annotations

import pytest

from turnwire.protocol.requests import CacheOptions, CreateResponse, StreamOptions


@pytest.mark.parametrize(
    ("generate", "prewarm", "warm_up"),
    [
        (None, None, False),
        (True, None, False),
        (False, None, True),
        (True, True, True),
        (True, False, False),
        (False, False, True),
    ],
)
def test_warm_up(generate: bool | None, prewarm: bool | None, warm_up: bool) -> None:
    """`generate:false` asks for a warm-up, and `prewarm:true` overrides `generate`."""
    options = None if prewarm is None else CacheOptions(prewarm=prewarm)
    request = CreateResponse(generate=generate, prompt_cache_options=options)
    assert warm_up is request.warm_up


@pytest.mark.parametrize(
    ("included", "top", "wanted"),
    [
        (False, None, None),
        (False, 0, None),
        (False, 3, 3),
        (True, None, 0),
        (True, 0, 0),
        (True, 20, 20),
    ],
)
def test_wanted_logprobs(included: bool, top: int | None, wanted: int | None) -> None:
    """`include` asks for log probabilities, and so does `top_logprobs` above 0 alone."""
    request = CreateResponse(
        include=["message.output_text.logprobs"] if included else None, top_logprobs=top
    )
    assert wanted == request.wanted_logprobs


@pytest.mark.parametrize(
    ("options", "obfuscated"),
    [
        (None, False),
        (StreamOptions(), False),
        (StreamOptions(include_obfuscation=False), False),
        (StreamOptions(include_obfuscation=True), True),
    ],
)
def test_obfuscated(options: StreamOptions | None, obfuscated: bool) -> None:
    """Padding is off unless it is asked for."""
    assert obfuscated is CreateResponse(stream_options=options).obfuscated
