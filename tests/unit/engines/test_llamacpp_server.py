"""Tests of `turnwire.engines.llamacpp_server`: what is learnt of a server, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.unit.engines.llama_stub import Stub, stub

from turnwire.engines.llamacpp import LlamaCppEngine
from turnwire.engines.llamacpp_grammar import Dialect
from turnwire.engines.llamacpp_server import Facts, Fixed, LlamaCppOptions, LlamaServer
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import ConfigError, EngineUnavailable

OPTIONS = LlamaCppOptions(connect_sec=2.0, silence_sec=2.0, ready_sec=0.2)


@pytest.fixture
async def server(vocabulary: Vocabulary) -> AsyncIterator[Stub]:
    """A server that does what it is told."""
    async with stub(vocabulary) as running:
        yield running


async def learn(
    url: str, vocabulary: Vocabulary, key: str | None = None, options: LlamaCppOptions = OPTIONS
) -> Facts:
    """Connect, and close again."""
    engine = await LlamaCppEngine.connect(url, vocabulary, api_key=key, options=options)
    await engine.aclose()
    return engine.facts


@pytest.mark.parametrize(
    ("grammar", "obeys", "dialect"),
    [
        ("%llguidance {}\nstart: %json {}", True, Dialect.LLGUIDANCE),
        ('root ::= "{}"', True, Dialect.GBNF),
        ('root ::= "{}"', False, Dialect.NONE),
        (None, True, Dialect.GBNF),
    ],
    ids=["llguidance", "gbnf", "old", "no schemas"],
)
async def test_the_dialect_is_found(
    server: Stub, vocabulary: Vocabulary, grammar: str | None, obeys: bool, dialect: Dialect
) -> None:
    """What a server makes of a schema tells llguidance; an obeyed grammar tells GBNF."""
    server.grammar, server.obeys = grammar, obeys
    assert Facts(64, 2, dialect) == await learn(server.url, vocabulary)


async def test_a_dialect_that_is_told_is_not_probed(server: Stub, vocabulary: Vocabulary) -> None:
    """Who knows better is believed."""
    options = msgspec.structs.replace(OPTIONS, dialect=Dialect.NONE)
    assert Dialect.NONE is (await learn(server.url, vocabulary, options=options)).dialect


async def test_a_server_that_loads_is_waited_for(server: Stub, vocabulary: Vocabulary) -> None:
    """503 from /health means that it is not ready yet."""
    server.loading = 2
    assert 64 == (await learn(server.url, vocabulary)).window
    server.loading = 1_000_000
    with pytest.raises(EngineUnavailable, match="does not get ready"):
        await learn(server.url, vocabulary)


async def test_keys(server: Stub, vocabulary: Vocabulary) -> None:
    """A wrong key is the configuration's fault, and is not repeated in the message."""
    server.key = "right"
    assert 64 == (await learn(server.url, vocabulary, "right")).window
    with pytest.raises(ConfigError, match="another API key") as caught:
        await learn(server.url, vocabulary, "wrong")
    assert "wrong" not in str(caught.value)


async def test_another_vocabulary(server: Stub, vocabulary: Vocabulary) -> None:
    """Ids that mean something else over there are found before the first turn."""
    turned = Vocabulary(
        (*vocabulary.token_bytes[:16], *reversed(vocabulary.token_bytes[16:])),
        vocabulary.special,
        vocabulary.encode,
    )
    with pytest.raises(ConfigError, match=r"another vocabulary.*token"):
        await learn(server.url, turned)


async def test_no_llama_server(server: Stub, vocabulary: Vocabulary) -> None:
    """A server of another kind is refused by name, without the path and what else is in its URL."""
    with pytest.raises(ConfigError, match="does not answer /props: HTTP 404") as caught:
        await learn(server.url.replace("http://", "http://me:secret@") + "/other?key=x", vocabulary)
    assert "secret" not in str(caught.value)
    assert "key=x" not in str(caught.value)


async def test_nobody_there(vocabulary: Vocabulary) -> None:
    """A server that is not there may come later."""
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:9 does not answer \(no connection"):
        await learn("http://127.0.0.1:9", vocabulary)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", ""])
def test_urls(url: str) -> None:
    """What is no URL of a server is refused."""
    with pytest.raises(ConfigError, match="http"):
        Fixed(url)


async def test_closing_ends_answers(server: Stub, vocabulary: Vocabulary) -> None:
    """An answer that streams when the server is closed fails, and says why."""
    client = LlamaServer(Fixed(server.url), api_key=None, options=OPTIONS)
    await client.learn(vocabulary)
    server.answer = server.stall()
    answer = await client.complete((b'{"prompt":[1]}',))
    await client.aclose()
    with pytest.raises(EngineUnavailable, match="the engine was closed"):
        await answer.next()
    with pytest.raises(EngineUnavailable, match="the engine was closed"):
        await client.complete((b'{"prompt":[1]}',))
