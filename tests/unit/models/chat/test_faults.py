"""Whose fault is what an endpoint says?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from turnwire.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    Overloaded,
    ServiceError,
    TooManyRequests,
)
from turnwire.models.chat.faults import Loading, in_stream, refused, retry_after_of

KEY = "sk-very-secret"


def nested(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        nested(
            "This model's maximum context length is 4096 tokens. However, you requested 5000",
            code=400,
        ),
        nested("too long", code="context_length_exceeded"),
        nested(
            "the request exceeds the available context size, try increasing it",
            type="exceed_context_size_error",
            n_ctx=4096,
        ),
        b'{"object":"error","message":"The model\'s context length is 512","code":400}',
        b'{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048",'
        b'"error_type":"validation"}',
        nested("prompt is too long: 210000 tokens > 200000 maximum"),
        nested(
            "Trying to keep the first 5 tokens when context overflows. However, the model is "
            "loaded with context length of only 4"
        ),
    ],
    ids=["vllm", "openai", "llama-server", "vllm-flat", "tgi", "anthropic", "lm-studio"],
)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_context_that_is_too_long(body: bytes, status: int) -> None:
    """Each server says it in its own words; the client is told in the protocol's code."""
    fault = refused("m", status, body)
    assert isinstance(fault, ContextLengthExceeded)
    assert ("context_length_exceeded", "input") == (fault.code, fault.param)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (nested("bad schema:\n  no"), ": bad schema: no"),
        (b'{"detail":[{"loc":["body"],"msg":"no"}]}', ': [{"loc":["body"],"msg":"no"}]'),
        (b'{"error":"plain"}', ": plain"),
        (b'[{"error":{"code":400,"message":"listed"}}]', ": listed"),
        (b"[]", "."),
        (b"<html>", "."),
        (b"\xff", "."),
        (b"[" * 100_000, "."),
        (b"", "."),
        (b"null", "."),
        (nested(f"key {KEY} is odd"), ": key *** is odd"),
    ],
    ids=[
        "nested",
        "fastapi",
        "string",
        "gemini",
        "list",
        "html",
        "bytes",
        "deep",
        "empty",
        "null",
        "quotes-the-key",
    ],
)
def test_a_request_that_the_endpoint_finds_wrong(body: bytes, words: str) -> None:
    """The client gets the endpoint's words, on one line and without the key."""
    fault = refused("m", 400, body, secret=KEY)
    assert isinstance(fault, InvalidRequest)
    assert f"The model 'm' refused the request{words}" == fault.message


def test_words_are_cut() -> None:
    """No endpoint makes our errors longer than they should be."""
    fault = refused("m", 400, nested("x" * 5000))
    assert len(str(fault)) < 400


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (301, ServiceError, "not where this server looks"),
        (401, ServiceError, "refuses this server's key"),
        (403, ServiceError, "refuses this server's key"),
        (404, ServiceError, "does not know the model"),
        (500, EngineUnavailable, "status 500"),
        (502, EngineUnavailable, "status 502"),
        (503, Overloaded, "overloaded"),
        (418, EngineUnavailable, "status 418"),
        (206, EngineUnavailable, "status 206"),
    ],
)
def test_faults_that_are_not_the_clients(status: int, kind: type[Exception], says: str) -> None:
    """They are told without a word of the endpoint's, which may quote what is not theirs."""
    fault = refused("m", status, nested(f"internal {KEY} at 10.0.0.7"))
    assert type(fault) is kind
    assert says in str(fault)
    assert "10.0.0.7" not in str(fault)
    assert KEY not in str(fault)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Context size has been exceeded.", ContextLengthExceeded),
        ("Error: Jinja Exception: System message must be at the beginning.", InvalidRequest),
        ("failed to allocate a context window", EngineUnavailable),
    ],
    ids=["context", "template", "memory"],
)
def test_what_is_the_clients_though_the_status_says_otherwise(
    message: str, kind: type[Exception]
) -> None:
    """llama-server answers 500 to some requests that are wrong."""
    assert type(refused("m", 500, nested(message, code=500, type="server_error"))) is kind


def test_a_model_that_loads() -> None:
    """It is said to be loading, which is worth waiting for."""
    fault = refused("m", 503, nested("Loading model", type="unavailable_error", code=503))
    assert isinstance(fault, Loading)
    assert (503, 1) == (fault.status, fault.retry_after_sec)


def test_a_provider_behind_the_endpoint() -> None:
    """OpenRouter has the same message for all of them, and theirs beside it."""
    raw = '{"error":{"message":"maximum context length is 9"}}'
    body = nested("Provider returned error", code=400, metadata={"raw": raw})
    assert isinstance(refused("m", 400, body), ContextLengthExceeded)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_who_runs_this_server_finds_the_endpoints_words(status: int) -> None:
    """They are beside the error and not in it, and without the key."""
    fault = refused("m", status, nested(f"no {KEY} at 10.0.0.7"), secret=KEY)
    assert "no *** at 10.0.0.7" == fault.detail


def test_a_limit_is_passed_on() -> None:
    """With the time to wait, in the message too; unless waiting does not help."""
    fault = refused("m", 429, nested("slow down"), retry_after_sec=7)
    assert isinstance(fault, TooManyRequests)
    assert ("rate_limit_exceeded", 7) == (fault.code, fault.retry_after_sec)
    assert "try again in 7s." in fault.message
    assert "try again" not in str(refused("m", 429, b""))
    assert "try again in 1s." in str(refused("m", 429, b"", retry_after_sec=0))
    for status, code in ((429, "insufficient_quota"), (402, 402)):
        spent = refused("m", status, nested("You exceeded", code=code))
        assert type(spent) is ServiceError
        assert "no quota" in spent.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (b'{"message":"CUDA error","type":"server_error"}', EngineError),
        (b'"went wrong"', EngineError),
        (b"null", EngineError),
        (b'{"message":"context size exceeded","code":500}', ContextLengthExceeded),
        (b'{"code":429,"message":"m"}', TooManyRequests),
        (b'{"code":"rate_limit_exceeded","message":"m"}', TooManyRequests),
        (b'{"code":400,"message":"bad grammar"}', InvalidRequest),
        (b'{"code":402,"message":"Insufficient credits"}', ServiceError),
        (b'{"code":502,"message":"Provider disconnected"}', EngineError),
        (b'{"object":"error","code":500,"message":"m"}', EngineError),
    ],
    ids=[
        "server",
        "string",
        "null",
        "context",
        "limit",
        "named-limit",
        "refused",
        "spent",
        "openrouter",
        "vllm",
    ],
)
def test_errors_in_a_stream(error: bytes, kind: type[Exception]) -> None:
    """An answer that breaks off with an error fails with the nearest of ours."""
    assert type(in_stream("m", error)) is kind


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("7", 7),
        ("0.2", 1),
        ("-3", 0),
        ("0", 0),
        ("1e9", 86_400),
        ("inf", None),
        ("nan", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after(value: str | None, expected: int | None) -> None:
    """Whole seconds up to a day; what is no number is not known."""
    headers = CIMultiDict({} if value is None else {"retry-after": value})
    assert expected == retry_after_of(headers)
