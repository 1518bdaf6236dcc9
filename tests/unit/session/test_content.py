"""The parts of a message, one after the other."""

from __future__ import annotations

import msgspec
import pytest

from turnwire.errors import InvalidTransition
from turnwire.logprobs import LogProb
from turnwire.protocol.items import OutputText, Refusal
from turnwire.session.content import Content


def test_parts_follow_each_other() -> None:
    """Each part has what was added while it was open, and the next index."""
    content = Content()
    opened = content.open("output_text")
    assert {"type": "output_text", "text": "", "annotations": [], "logprobs": []} == (
        msgspec.json.decode(opened)
    )
    content.texts.append("a")
    content.texts.append("b")
    [encoded] = content.score([LogProb("b", -1.0, (98,))])
    part = content.close()
    assert OutputText(text="ab", logprobs=[encoded]) == part
    assert (1, None) == (content.index, content.kind)
    assert {"type": "refusal", "refusal": ""} == msgspec.json.decode(content.open("refusal"))
    content.texts.append("no")
    assert Refusal(refusal="no") == content.close()
    assert 2 == len(content.closed)


def test_one_part_at_a_time() -> None:
    """Opening twice and closing what is not open are bugs, and change nothing."""
    content = Content()
    with pytest.raises(InvalidTransition):
        content.close()
    content.open("refusal")
    with pytest.raises(InvalidTransition):
        content.open("output_text")
    assert ("refusal", []) == (content.kind, content.closed)
