"""Tests of `turnwire.cli.doctor_probe`."""

from __future__ import annotations

from turnwire.cli.doctor_probe import MAX_OUTPUT_TOKENS, probe
from turnwire.models.embedded import embedded_models


async def test_three_turns_of_a_conversation_that_is_new() -> None:
    """Each is appended to the one before, and nothing of the first was known."""
    model = embedded_models()[0]
    for _ in range(2):  # the second time it is another conversation
        first, second, third = [seen async for seen in probe(model)]
        assert ("full", "append", "append") == (first.mode, second.mode, third.mode)
        assert 0 == first.num_cached
        for before, seen in ((first, second), (second, third)):
            assert before.num_prompt - 16 <= seen.num_cached < seen.num_prompt
        for seen in (first, second, third):
            assert seen.whole == seen.num_prompt
            assert 0 < seen.num_output <= MAX_OUTPUT_TOKENS
            assert seen.first_sec is not None
            assert 0 < seen.first_sec <= seen.sec
