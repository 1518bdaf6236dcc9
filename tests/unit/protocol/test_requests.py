"""The request struct."""

from __future__ import annotations

import pytest

from turnwire.protocol.requests import CacheOptions, CreateResponse


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
