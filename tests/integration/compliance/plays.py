"""What takes more than one request: conversations, failures, and the edges of a transport."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.integration.compliance.requests import said
from tests.integration.compliance.stage import TRANSPORTS, Stage, Told, Transport
from tests.integration.compliance.suite import Play
from tests.integration.serving import ALICE, bearer
from tests.integration.wire import Json, handshake, write_request

__all__ = ["PLAYS"]

NOT_FOUND: Final = (400, "previous_response_not_found", "previous_response_id")
ORPHAN: Final[Json] = {"type": "function_call_output", "call_id": "call_unknown", "output": "x"}


def same(one: Told, other: Told) -> None:
    """Both were told the same conversation: `sim` answers what it reads, word for word."""
    assert one.response["usage"]["input_tokens"] == other.response["usage"]["input_tokens"]
    assert one.text == other.text


def fault(error: Json) -> tuple[int, str | None, str | None]:
    """Status, code and field of an error."""
    return error["status"], error["code"], error["param"]


# --- conversations -----------------------------------------------------------------------------


async def one_after_the_other(stage: Stage) -> None:
    """Two requests on one connection, the second not about the first, are both answered."""
    async with stage.line() as line:
        first = await line.ask(input="One.", store=False)
        second = await line.ask(input="Two.", store=False)
    assert first.id != second.id
    assert [None, None] == [one.response["previous_response_id"] for one in (first, second)]


async def one_at_a_time(stage: Stage) -> None:
    """Requests sent at once are answered one at a time, in their order."""
    async with stage.line() as line:
        for text in ("One.", "Two.", "Three."):
            await line.send(input=text, metadata={"n": text})
        answers = [await line.read() for _ in range(3)]
    assert ["One.", "Two.", "Three."] == [one.response["metadata"]["n"] for one in answers]


async def stored(stage: Stage) -> None:
    """Whoever made a stored response: each transport goes on from input, output and new input."""
    settings: Json = {"instructions": "Be brief."}
    for maker in TRANSPORTS:
        first = await stage.ask(maker, input="I am Alice.", **settings)
        whole = [said("user", "I am Alice."), *first.output, said("user", "Who am I?")]
        resent = await stage.ask("json", input=whole)
        for transport in TRANSPORTS:
            second = await stage.ask(transport, input="Who am I?", previous_response_id=first.id)
            assert first.id == second.response["previous_response_id"]
            # Instructions are of one request.
            assert second.response["instructions"] is None
            same(resent, second)


async def no_store(stage: Stage) -> None:
    """A response that is not stored is continued on its connection, with what is new."""
    async with stage.line() as line:
        first = await line.ask(input="I am Alice.", store=False)
        second = await line.ask(input="Who am I?", store=False, previous_response_id=first.id)
        whole = [said("user", "I am Alice."), *first.output, said("user", "Who am I?")]
        resent = await line.ask(input=whole, store=False)
    assert first.id == second.response["previous_response_id"]
    same(resent, second)


async def cut_short(stage: Stage) -> None:
    """What was cut is continued like what was not."""
    first = await stage.ask("json", input="Go on.", max_output_tokens=16)
    whole = [said("user", "Go on."), *first.output, said("user", "And?")]
    resent = await stage.ask("json", input=whole)
    for transport in TRANSPORTS:
        same(resent, await stage.ask(transport, input="And?", previous_response_id=first.id))


async def reconnect(stage: Stage) -> None:
    """What was not stored is gone with its connection; the whole conversation goes on."""
    async with stage.line() as line:
        first = await line.ask(input="I am Alice.", store=False)
    async with stage.line() as line:
        more: Json = {"input": "Who am I?", "store": False}
        assert NOT_FOUND == fault(await line.refused(previous_response_id=first.id, **more))
        history = [said("user", "I am Alice."), *first.output, said("user", "Who am I?")]
        resent = await line.ask(input=history, store=False)
    assert "completed" == resent.response["status"]


async def eviction(stage: Stage) -> None:
    """A continuation that fails makes the connection forget its parent."""
    async with stage.line() as line:
        first = await line.ask(input="I am Alice.", store=False)
        later: Json = {"store": False, "previous_response_id": first.id}
        wrong = await line.refused(input=[ORPHAN], **later)
        assert (400, "input") == (wrong["status"], wrong["param"])
        assert NOT_FOUND == fault(await line.refused(input="Who am I?", **later))
        again = await line.ask(input="I am Bob.", store=False)
    assert "completed" == again.response["status"]


async def unknown_parent(stage: Stage) -> None:
    """A parent that nobody knows is refused in the shape of the specification."""
    for transport in TRANSPORTS:
        for store in (True, False):
            error = await stage.refused(
                transport, input="x", store=store, previous_response_id="resp_unknown"
            )
            assert NOT_FOUND == fault(error)
            assert "resp_unknown" in error["message"]


async def sealed_thoughts(stage: Stage) -> None:
    """Reasoning that came sealed is seen again when it is sent back."""
    settings: Json = {"reasoning": {"effort": "low"}, "store": False}
    asked: Json = {**settings, "include": ["reasoning.encrypted_content"]}
    async with stage.line() as line:
        first = await line.ask(input="Think.", **asked)
        chained = await line.ask(input="And?", previous_response_id=first.id, **settings)
    whole = [said("user", "Think."), *first.output, said("user", "And?")]
    without = [item for item in whole if item["type"] != "reasoning"]
    for transport in TRANSPORTS:
        assert "reasoning" in (await stage.ask(transport, input="Think.", **asked)).types
        resent = await stage.ask(transport, input=whole, **settings)
        same(chained, resent)
        bare = await stage.ask(transport, input=without, **settings)
        assert bare.response["usage"]["input_tokens"] < resent.response["usage"]["input_tokens"]


async def orphan_output(stage: Stage) -> None:
    """An output whose call is in no conversation is refused."""
    for transport in TRANSPORTS:
        error = await stage.refused(transport, input=[ORPHAN])
        assert (400, "input") == (error["status"], error["param"])
        assert "call_unknown" in error["message"]


# --- compaction --------------------------------------------------------------------------------


LAUNCH: Final = [said("user", "We launch on Tuesday."), said("assistant", "On Tuesday, then.")]


async def compaction(stage: Stage) -> None:
    """The endpoint gives a window: the user's messages, then one compaction item."""
    made = await stage.compact(input=LAUNCH, prompt_cache_key="k" * 64)
    assert ["message", "compaction"] == [item["type"] for item in made["output"]]
    assert "user" == made["output"][0]["role"]
    assert made["usage"]["output_tokens"] > 0
    stored = await stage.ask("json", input="We launch on Tuesday.")
    made = await stage.compact(input="When?", previous_response_id=stored.id)
    assert ["message", "compaction"] == [item["type"] for item in made["output"]]


async def no_model(stage: Stage) -> None:
    """The endpoint needs a model."""
    answer = await stage.post("/v1/responses/compact", {"input": LAUNCH})
    assert (400, "model") == (answer.status, answer.error()["param"])


async def long_cache_key(stage: Stage) -> None:
    """The endpoint takes a cache key of 64 characters at most."""
    body: Json = {"model": "sim", "input": LAUNCH, "prompt_cache_key": "k" * 65}
    answer = await stage.post("/v1/responses/compact", body)
    assert (400, "prompt_cache_key") == (answer.status, answer.error()["param"])


async def from_the_window(stage: Stage) -> None:
    """A window is the input of a new chain, as it came, and of the responses after it."""
    window = (await stage.compact(input=[*LAUNCH, said("user", "Sum it up.")]))["output"]
    new = [*window, said("user", "When?")]
    for transport in TRANSPORTS:
        first = await stage.ask(transport, input=new, tools=[])
        assert first.response["previous_response_id"] is None
        assert "completed" == first.response["status"]
        second = await stage.ask(transport, input="Why?", previous_response_id=first.id)
        whole = [*new, *first.output, said("user", "Why?")]
        same(await stage.ask(transport, input=whole), second)
    async with stage.line() as line:
        first = await line.ask(input=new, store=False)
        second = await line.ask(input="Why?", store=False, previous_response_id=first.id)
        same(await line.ask(input=[*new, *first.output, said("user", "Why?")]), second)


async def above_the_threshold(stage: Stage) -> None:
    """A compaction item of a response is one of the specification, and stands for its past."""
    management = [{"type": "compaction", "compact_threshold": 1000}]
    for transport in TRANSPORTS:
        first = await stage.ask(transport, input="word " * 1200, context_management=management)
        assert ["compaction", "message"] == first.types
        resent = await stage.ask(transport, input=[*first.output, said("user", "And?")])
        same(resent, await stage.ask(transport, input="And?", previous_response_id=first.id))


# --- transports --------------------------------------------------------------------------------


async def failure(stage: Stage) -> None:
    """A failure behind the first event is response.failed, behind an error event over SSE."""
    broken: Json = {"input": "x", "metadata": {"sim.fault": "error:5"}}
    streamed = await stage.stream(**broken)
    assert ["error", "response.failed"] == [event["type"] for event in streamed[-2:]]
    async with stage.line() as line:
        await line.send(**broken)
        spoken = await line.read_all()
        again = await line.ask(input="x")
    assert "completed" == again.response["status"]
    for events in (streamed, spoken):
        response = events[-1]["response"]
        assert ("failed", None) == (response["status"], response["completed_at"])
        assert {"code", "message"} == set(response["error"])
    answer = await stage.post("/v1/responses", {"model": "sim", **broken})
    assert (500, "server_error") == (answer.status, answer.error()["type"])


async def framing(stage: Stage) -> None:
    """`event` and one line of `data` a frame, lines that end in LF, no `id`, `[DONE]` last."""
    answer = await stage.raw_stream(input="x\n", instructions="two\r\nlines")
    assert "text/event-stream" == answer.headers["content-type"].partition(";")[0]
    assert b"\r" not in answer.body
    *frames, done, rest = answer.body.split(b"\n\n")
    assert (b"data: [DONE]", b"") == (done, rest)
    for frame in frames:
        event, data = frame.split(b"\n")
        name, value = event.split(b": ")
        assert b"event" == name
        assert data.startswith(b"data: ")
        assert json.loads(data[6:])["type"] == value.decode()


async def keys(stage: Stage) -> None:
    """Without a key, or with a wrong one, nothing is answered and no socket is opened."""
    headers: list[dict[str, str]] = [{}, bearer("sk-wrong")]
    over_http: list[tuple[Transport, bool]] = [("json", False), ("sse", True)]
    for given in headers:
        async with stage.wire("websocket") as wire:
            await wire.send(handshake(given))
            answer = await wire.read_answer()
            assert (401, "invalid_api_key") == (answer.status, answer.error()["code"])
        for transport, stream in over_http:
            async with stage.wire(transport) as wire:
                answer = await wire.create(given, model="sim", input="x", stream=stream)
                assert (401, "invalid_api_key") == (answer.status, answer.error()["code"])


async def content_type(stage: Stage) -> None:
    """A body that is no JSON by its own word is refused."""
    body = b"model=sim&input=x"
    form = write_request("POST", "/v1/responses", body, bearer(ALICE)).replace(
        b"application/json", b"application/x-www-form-urlencoded"
    )
    async with stage.wire("json") as wire:
        await wire.send(form)
        answer = await wire.read_answer()
    assert (415, "invalid_request_error") == (answer.status, answer.error()["type"])


async def fields_of_http(stage: Stage) -> None:
    """`background` cannot be asked for on a connection, which goes on."""
    async with stage.line() as line:
        error = await line.refused(input="x", background=True)
        assert (400, "background") == (error["status"], error["param"])
        assert "completed" == (await line.ask(input="x")).response["status"]


def _socket(name: str, play: Any, asks: str, *suite: str) -> Play:
    return Play(name, play, asks, ("websocket",), suite)


def _everywhere(name: str, play: Any, asks: str, *suite: str) -> Play:
    return Play(name, play, asks, TRANSPORTS, suite)


def _json(name: str, play: Any, asks: str, *suite: str) -> Play:
    return Play(name, play, asks, ("json",), suite)


CONVERSATIONS: Final = (
    _socket(
        "sequential",
        one_after_the_other,
        "several responses on one connection",
        "websocket-sequential-responses",
    ),
    _socket("in order", one_at_a_time, "requests sent at once are answered one at a time"),
    _everywhere(
        "continuation",
        stored,
        "a stored response is continued from anywhere: its input, its output and what is new are "
        "seen as if they had come whole, its instructions are not",
    ),
    _socket(
        "continuation with `store: false`",
        no_store,
        "from the connection's memory",
        "websocket-continuation",
    ),
    _everywhere("continuation of what was cut", cut_short, "like that of what was not"),
    _socket(
        "reconnect",
        reconnect,
        "what was not stored is not found on a new connection, which goes on",
        "websocket-reconnect-store-false-recovery",
    ),
    _socket(
        "failed continuation",
        eviction,
        "it makes the connection forget the parent",
        "websocket-failed-continuation-evicts-cache",
    ),
    _everywhere(
        "unknown parent",
        unknown_parent,
        "refused with code and status",
        "websocket-previous-response-not-found",
    ),
    _everywhere("output without its call", orphan_output, "refused"),
    _everywhere(
        "sealed reasoning",
        sealed_thoughts,
        "`encrypted_content` that is sent back is seen as in a continuation",
    ),
)
COMPACTION: Final = (
    _json(
        "compaction",
        compaction,
        "`/responses/compact` gives the user's messages and one compaction item, and its usage",
        "compact-response",
    ),
    _json("compaction without a model", no_model, "refused", "compact-missing-model"),
    _json("compaction with a long cache key", long_cache_key, "refused above 64 characters"),
    _everywhere(
        "compacted window",
        from_the_window,
        "the output as it came, and a message, begin a new chain",
        "websocket-compact-new-chain",
    ),
    _everywhere(
        "compaction in a response",
        above_the_threshold,
        "above the threshold a compaction item comes first, and stands for what was before it",
    ),
)
EDGES: Final = (
    _everywhere(
        "failure",
        failure,
        "`response.failed` ends a stream, over HTTP behind `error`; as JSON it is an error",
    ),
    Play(
        "framing",
        framing,
        "`event` equals `type`, one line of `data`, LF alone, no `id`, `[DONE]` at the end",
        ("sse",),
    ),
    _everywhere("keys", keys, "none or a wrong one is a 401, before a socket is opened"),
    _json("content type", content_type, "a body that is not JSON is a 415"),
    _socket("fields of HTTP", fields_of_http, "`background` is refused on a connection"),
)
PLAYS: Final = (*CONVERSATIONS, *COMPACTION, *EDGES)
