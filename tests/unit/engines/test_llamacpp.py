"""Tests of `turnwire.engines.llamacpp` against a server that says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import pytest
from tests.contracts.engine import collect, ids_of
from tests.unit.engines.llama_stub import Stub, event, last, progress, stub, token

from turnwire.constraint import Constraint
from turnwire.engines.base import Generation
from turnwire.engines.llamacpp import LlamaCppEngine
from turnwire.engines.llamacpp_server import LlamaCppOptions
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import ContextTooLong, EngineError, EngineUnavailable
from turnwire.logprobs import LEAST, Scores
from turnwire.tokens import EMPTY

STOP = frozenset({0, 2})
REQUEST = Generation(prompt=EMPTY.extend([30, 31]).extend([32]), stop=STOP, max_new_tokens=5)
OPTIONS = LlamaCppOptions(max_waiting=1, silence_sec=0.3, ready_sec=5.0)


@pytest.fixture
async def server(vocabulary: Vocabulary) -> AsyncIterator[Stub]:
    """A server that does what it is told."""
    async with stub(vocabulary) as running:
        yield running


@pytest.fixture
async def engine(server: Stub, vocabulary: Vocabulary) -> AsyncIterator[LlamaCppEngine]:
    """An engine that is connected to it."""
    made = await LlamaCppEngine.connect(server.url, vocabulary, options=OPTIONS)
    yield made
    await made.aclose()


async def test_what_is_sent(server: Stub, engine: LlamaCppEngine) -> None:
    """Ids, limits and sampling as asked, and nothing of the server's own defaults."""
    request = msgspec.structs.replace(REQUEST, temperature=0.5, top_p=0.9, seed=7)
    await collect(engine, request)
    told = server.bodies[0]
    assert [30, 31, 32] == told["prompt"]
    assert (5, 0.5, 0.9, 7) == tuple(
        told[key] for key in ("n_predict", "temperature", "top_p", "seed")
    )
    assert ["temperature", "top_p"] == told["samplers"]
    assert (0, True) == (told["id_slot"], told["cache_prompt"])
    assert "prompt" not in told["response_fields"]


async def test_no_limit_and_no_seed(server: Stub, engine: LlamaCppEngine) -> None:
    """Without a limit the server stops at its window; without a seed it takes one of its own."""
    await collect(engine, msgspec.structs.replace(REQUEST, max_new_tokens=None))
    assert -1 == server.bodies[0]["n_predict"]
    assert "seed" not in server.bodies[0]


async def test_tokens_of_reports_are_none(server: Stub, engine: LlamaCppEngine) -> None:
    """Only sampled ids are told; the cached count comes first."""
    server.answer = server.say(progress(2), progress(2), token(20, 1), token(21, 2), last())
    deltas = await collect(engine, REQUEST)
    assert 2 == deltas[0].num_cached
    assert [20, 21] == ids_of(deltas)
    assert "length" == deltas[-1].finish


async def test_a_server_without_reports(server: Stub, engine: LlamaCppEngine) -> None:
    """One that does not know of them is taken to have cached nothing."""
    server.answer = server.say(token(20, 1), last())
    deltas = await collect(engine, REQUEST)
    assert (0, [20]) == (deltas[0].num_cached, ids_of(deltas))


@pytest.mark.parametrize(
    ("chunks", "ids"),
    [
        pytest.param((token(20, 1), token(2, 2), last("eos")), [20, 2], id="the model's own"),
        pytest.param((token(20, 1), token(0, 2), token(22, 3)), [20, 0], id="only ours"),
        pytest.param((token(20, 1), token(7, 2), last("eos")), [20, 7, 0], id="only the model's"),
        pytest.param((token(20, 1), last("eos")), [20, 0], id="not told"),
    ],
)
async def test_stop_tokens(
    server: Stub, engine: LlamaCppEngine, chunks: tuple[bytes, ...], ids: list[int]
) -> None:
    """Whoever knows a stop token, the output ends behind it, with one of those asked for."""
    server.answer = server.stall(progress(), *chunks)
    deltas = await collect(engine, REQUEST)
    assert ids == ids_of(deltas)
    assert "stop" == deltas[-1].finish


async def test_a_character_in_pieces(
    server: Stub, engine: LlamaCppEngine, vocabulary: Vocabulary
) -> None:
    """Ids that a server withholds until a character is whole are found."""
    fox = list(vocabulary.encode("🦊"))
    assert len(fox) > 1
    server.answer = server.say(progress(), token(20, 1), token(fox[-1], 1 + len(fox), "🦊"), last())
    assert [20, *fox] == ids_of(await collect(engine, REQUEST))


async def test_connections_are_kept(server: Stub, engine: LlamaCppEngine) -> None:
    """An answer that was read to its end leaves its connection for the next request."""
    for _ in range(3):
        await collect(engine, REQUEST)
    assert 1 == len(set(server.addresses))


async def test_leaving_closes_the_connection(server: Stub, engine: LlamaCppEngine) -> None:
    """That is how a server is told to stop."""
    server.answer = server.stall(progress(), token(20, 1))
    async with aclosing(engine.generate(REQUEST)) as deltas:
        await anext(deltas)
        assert 1 == engine.num_running
    assert 0 == engine.num_running
    server.answer = server.say(progress(), last())
    await collect(engine, REQUEST)
    assert 2 == len(set(server.addresses))


async def test_a_prompt_that_is_too_long(server: Stub, engine: LlamaCppEngine) -> None:
    """It is not even sent."""
    request = msgspec.structs.replace(REQUEST, prompt=EMPTY.extend([30] * server.window))
    with pytest.raises(ContextTooLong, match="64 prompt tokens"):
        engine.check(request)
    with pytest.raises(ContextTooLong):
        await collect(engine, request)
    assert [] == server.bodies


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
async def test_an_http_error(server: Stub, engine: LlamaCppEngine, status: int) -> None:
    """It names the server and its reason in one line, and the slot is free again."""
    server.status = status
    with pytest.raises(EngineUnavailable, match=rf"127\.0\.0\.1:.* HTTP {status}: no such thing$"):
        await collect(engine, REQUEST)
    assert 0 == engine.num_running
    server.status = 200
    assert [20] == ids_of(await collect(engine, REQUEST))


async def test_an_http_error_of_somebody_else(server: Stub, engine: LlamaCppEngine) -> None:
    """A proxy's page is not quoted."""
    server.status, server.refusal = 502, b"<html>secret</html>"
    with pytest.raises(EngineUnavailable, match=r"HTTP 502$"):
        await collect(engine, REQUEST)


BROKEN = event(error={"code": 500, "message": "out of memory", "type": "server_error"})
OLD_BROKEN = b'error: {"code":500,"message":"out of memory","type":"server_error"}\n\n'


@pytest.mark.parametrize(
    ("kind", "chunk", "message"),
    [
        pytest.param("say", b"", "the connection ended", id="ends"),
        pytest.param("cut", b"", "the connection ended", id="is cut"),
        pytest.param("stall", b"", "timeout", id="is silent"),
        pytest.param("say", BROKEN, "out of memory", id="says so"),
        pytest.param("say", OLD_BROKEN, "out of memory", id="says so as it used to"),
        pytest.param("say", b"data: {\n\n", "cannot be read", id="talks nonsense"),
        pytest.param("say", b'data: {"tokens":[1e9]}\n\n', "cannot be read", id="wrong types"),
    ],
)
@pytest.mark.parametrize("begun", [False, True], ids=["before", "after"])
async def test_a_stream_that_fails(
    server: Stub, engine: LlamaCppEngine, kind: str, chunk: bytes, message: str, begun: bool
) -> None:
    """Before anything was said it may be tried again, later the turn fails; slots are freed."""
    before = [progress(), token(20, 1)] if begun else []
    server.answer = getattr(server, kind)(*before, *filter(None, [chunk]))
    with pytest.raises(EngineError, match=message) as caught:
        await collect(engine, REQUEST)
    assert isinstance(caught.value, EngineUnavailable) is not begun
    assert "127.0.0.1" in str(caught.value)
    assert 0 == engine.num_running
    server.answer = server.say(progress(), token(21, 1), last())
    assert [21] == ids_of(await collect(engine, REQUEST))


async def test_a_server_that_comes_back_smaller(server: Stub, engine: LlamaCppEngine) -> None:
    """After a server was lost, its window and its slots are asked for again."""
    server.answer = server.cut(progress(), token(20, 1))
    with pytest.raises(EngineError):
        await collect(engine, REQUEST)
    server.window, server.slots = 4, 1
    server.answer = server.say(progress(), last())
    await asyncio.gather(*(collect(engine, REQUEST) for _ in range(2)))
    assert (4, 1) == (engine.window, engine.num_slots)
    # The second was let in beside the first, for a slot that is not there: it waits over there.
    assert [-1, 0] == sorted(body["id_slot"] for body in server.bodies[1:])


async def test_a_server_that_loads_again(server: Stub, engine: LlamaCppEngine) -> None:
    """One that was started anew between two turns is waited for, and is asked what it is."""
    await collect(engine, REQUEST)
    server.status, server.loading, server.window = 503, 2, 5
    server.refusal = b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'
    server.loaded = lambda: setattr(server, "status", 200)
    assert [20] == ids_of(await collect(engine, REQUEST))
    assert 5 == engine.window


async def test_a_server_that_has_another_model_now(server: Stub, engine: LlamaCppEngine) -> None:
    """The turn in which that is seen fails, and the vocabulary is looked at before the next."""
    server.model = "other.gguf"
    server.answer = server.say(progress(), token(20, 1), last(model="other.gguf"))
    with pytest.raises(EngineError, match="was started anew with another model"):
        await collect(engine, REQUEST)
    assert [20] == ids_of(await collect(engine, REQUEST))
    server.answer = server.say(progress(), token(20, 1), last(model="third.gguf"))
    with pytest.raises(EngineError, match="another model"):
        await collect(engine, REQUEST)
    server.vocabulary = msgspec.structs.replace(
        server.vocabulary, token_bytes=server.vocabulary.token_bytes[::-1]
    )
    with pytest.raises(EngineUnavailable, match="has another vocabulary"):
        await collect(engine, REQUEST)


async def test_a_constraint_that_is_ignored(server: Stub, engine: LlamaCppEngine) -> None:
    """An id that the grammar does not allow ends the turn, not the engine."""
    request = msgspec.structs.replace(REQUEST, constraint=Constraint(grammar='start: "no"\n'))
    with pytest.raises(EngineError, match="did not obey its grammar"):
        await collect(engine, request)
    assert "root ::= obeyed" in server.bodies[0]["grammar"]
    await collect(engine, REQUEST)
    assert "grammar" not in server.bodies[1]


async def test_penalties(server: Stub, engine: LlamaCppEngine) -> None:
    """They are a sampler of their own, which is only there if it was asked for."""
    await collect(engine, msgspec.structs.replace(REQUEST, presence_penalty=0.5))
    told = server.bodies[0]
    assert ["penalties", "temperature", "top_p"] == told["samplers"]
    assert (0.5, 0.0) == (told["presence_penalty"], told["frequency_penalty"])


async def test_scores_of_tokens_that_were_not_told(
    server: Stub, engine: LlamaCppEngine, vocabulary: Vocabulary
) -> None:
    """They are the least there are, so that scores stay beside their ids."""
    fox = list(vocabulary.encode("🦊"))
    likely = [{"id": fox[-1], "logprob": -0.5}, {"id": 30, "logprob": -1.5}]
    scored = event(
        content="🦊",
        tokens=fox[-1:],
        tokens_predicted=len(fox),
        completion_probabilities=[{"id": fox[-1], "logprob": -0.5, "top_logprobs": likely}],
    )
    server.answer = server.say(progress(), scored, last("eos"))
    deltas = await collect(engine, msgspec.structs.replace(REQUEST, top_logprobs=1))
    scores = [score for delta in deltas for score in delta.logprobs or ()]
    assert [*fox, 0] == ids_of(deltas)
    unknown = Scores(LEAST)
    assert [unknown] * (len(fox) - 1) + [Scores(-0.5, ((fox[-1], -0.5),)), unknown] == scores
    assert 1 == server.bodies[0]["n_probs"]


async def test_prefill_samples_nothing(server: Stub, engine: LlamaCppEngine) -> None:
    """It asks for no token and returns what was cached."""
    server.answer = server.say(progress(2), last())
    assert 2 == await engine.prefill(REQUEST)
    assert 0 == server.bodies[0]["n_predict"]


async def test_another_owner_gets_no_cache(server: Stub, engine: LlamaCppEngine) -> None:
    """A server knows no owners, so the second one may not use what it holds."""
    for salt, cached in (("one", True), ("one", True), ("other", False), ("one", True)):
        await collect(engine, msgspec.structs.replace(REQUEST, cache_salt=salt))
        assert cached is server.bodies[-1]["cache_prompt"]
    assert [0, 0, 1, 0] == [told["id_slot"] for told in server.bodies]


async def test_large_prompts(server: Stub, vocabulary: Vocabulary) -> None:
    """More than a megabyte of ids goes out without a warning."""
    server.window = 1 << 20
    engine = await LlamaCppEngine.connect(server.url, vocabulary, options=OPTIONS)
    await collect(engine, msgspec.structs.replace(REQUEST, prompt=EMPTY.extend([12_000] * 200_000)))
    assert 200_000 == len(server.bodies[0]["prompt"])
    await engine.aclose()
