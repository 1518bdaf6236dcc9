"""The response struct and its parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnwire.protocol.responses import Usage

COUNT = st.integers(min_value=0, max_value=10**9)


@given(COUNT, COUNT, COUNT, COUNT)
def test_usage_adds_up(prompt: int, cached: int, output: int, reasoning: int) -> None:
    """The total is what went in plus what came out; details are parts of these."""
    usage = Usage.count(prompt=prompt, cached=cached, output=output, reasoning=reasoning)
    assert usage.input_tokens + usage.output_tokens == usage.total_tokens
    assert (prompt, output) == (usage.input_tokens, usage.output_tokens)
    assert cached == usage.input_tokens_details.cached_tokens
    assert reasoning == usage.output_tokens_details.reasoning_tokens
