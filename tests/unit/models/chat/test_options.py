"""What is said about an endpoint."""

from __future__ import annotations

from turnwire.models.chat.options import ChatOptions, MessageRules


def test_the_key_is_not_shown() -> None:
    """Neither it nor other headers are in what a log or a traceback might show."""
    options = ChatOptions(
        base_url="http://host/v1", model="m", api_key="sk-secret", headers={"X": "sk-other"}
    )
    assert "sk-" not in repr(options) + str(options)


def test_equal_rules_are_equal() -> None:
    """So that what one model wrote can be sent by another that would write the same."""
    assert MessageRules(takes_images=True) == MessageRules(takes_images=True)
    assert MessageRules(takes_images=True) != MessageRules()
