"""Log probabilities have the wire's shape."""

from __future__ import annotations

import json

from msgspec.json import encode
from openai.types.responses.response_output_text import Logprob

from turnwire.logprobs import LogProb, TopLogProb


def test_the_shape_is_the_official_one() -> None:
    """Every field is sent, bytes as numbers, and the official types take it."""
    one = LogProb("\ufffd", -0.5, (230,), (TopLogProb("a", -1.0, (97,)),))
    sent = json.loads(encode(one))
    assert {
        "token": "\ufffd",
        "logprob": -0.5,
        "bytes": [230],
        "top_logprobs": [{"token": "a", "logprob": -1.0, "bytes": [97]}],
    } == sent
    assert sent == Logprob.model_validate(sent, strict=True).model_dump()
