"""A model behind chat completions: what it sends, and what it makes of what it gets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.contracts.endpoint import Asked, Endpoint, Reply, call, end, endpoint, sse, text, usage
from tests.contracts.model import items_of, message, play, wire

from turnwire.context.chain import Context
from turnwire.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineUnavailable,
    InvalidJson,
    InvalidRequest,
    TooManyRequests,
    TurnwireError,
)
from turnwire.models.base import Settings
from turnwire.models.chat.model import ChatModel, PreparedChat
from turnwire.models.chat.options import ChatOptions, MessageRules, Patience
from turnwire.models.takes import EVERYTHING, TEXT_ONLY
from turnwire.parts import CallStarted, Finished, Part
from turnwire.protocol.codec import decode_tool_choice, decode_tools
from turnwire.protocol.requests import JsonObjectFormat, JsonSchemaFormat
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolSet, join

Json = dict[str, Any]

RUN: Json = {
    "type": "function",
    "name": "run",
    "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}},
}
NOTE: Json = {"type": "custom", "name": "note"}
NO_WAITING = Patience(backoff_sec=0.0, max_retries=0)


def chat(url: str = "http://127.0.0.1:9/v1", **options: Any) -> ChatModel:
    return ChatModel(
        "m", ChatOptions(base_url=url, model="up", **{"patience": NO_WAITING, **options})
    )


def tools_of(tools: Sequence[Json]) -> Any:
    return decode_tools(Raw(json.dumps(tools).encode())) if tools else EMPTY_TOOL_SET


def sent(prepared: PreparedChat) -> Json:
    body: Json = json.loads(b"".join(prepared.body()))
    return body


def asked(settings: Settings | None = None, **options: Any) -> Json:
    """The body of a small request, without its messages."""
    prepared = chat(**options).prepare(None, items_of([message("hi")]), settings or Settings())
    body = sent(prepared)
    assert [{"role": "user", "content": "hi"}] == body.pop("messages")
    return body


PLAIN = {"model": "up", "stream": True, "stream_options": {"include_usage": True}}
SCHEMA = JsonSchemaFormat(name="s", schema=Raw(b'{"type":"object"}'), strict=True)


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ({}, {}, {}),
        ({"temperature": 0.5, "top_p": 0.9}, {}, {"temperature": 0.5, "top_p": 0.9}),
        ({}, {"explicit_sampling": True}, {"temperature": 1.0, "top_p": 1.0}),
        ({"max_output_tokens": 50}, {}, {"max_tokens": 50}),
        ({}, {"max_output_tokens": 70}, {"max_tokens": 70}),
        ({"max_output_tokens": 50}, {"max_output_tokens": 70}, {"max_tokens": 50}),
        (
            {"max_output_tokens": 50},
            {"max_tokens_field": "max_completion_tokens"},
            {"max_completion_tokens": 50},
        ),
        ({"effort": "high"}, {}, {"reasoning_effort": "high"}),
        ({"effort": "high"}, {"sends_effort": False}, {}),
        (
            {"text_format": JsonObjectFormat()},
            {},
            {"response_format": {"type": "json_object"}},
        ),
        (
            {"text_format": SCHEMA},
            {},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
        ({"parallel_tool_calls": False}, {}, {}),
        (
            {"presence_penalty": 0.5, "frequency_penalty": -1.0},
            {},
            {"presence_penalty": 0.5, "frequency_penalty": -1.0},
        ),
        ({"top_logprobs": 0}, {}, {"logprobs": True, "top_logprobs": 0}),
        ({"session": "s", "hints": {"sim.fault": "x"}}, {}, {}),
        ({}, {"extra": {"top_k": 20}}, {"top_k": 20}),
    ],
    ids=[
        "nothing",
        "sampling",
        "explicit-sampling",
        "limit",
        "limit-of-the-model",
        "lower-limit",
        "limit-by-another-name",
        "effort",
        "effort-not-sent",
        "json-object",
        "json-schema",
        "parallel-without-tools",
        "penalties",
        "logprobs",
        "session-and-hints",
        "extra",
    ],
)
def test_settings_in_a_body(fields: Json, options: Json, expected: Json) -> None:
    """Each setting has its field; what was not asked for is not sent."""
    assert PLAIN | expected == asked(Settings(**fields), **options)


def test_usage_need_not_be_asked_for() -> None:
    """Some servers do not know `stream_options`."""
    assert {"model": "up", "stream": True} == asked(asks_usage=False)


def test_tools_in_a_body() -> None:
    """They are functions; one call at a time is asked for where that was."""
    tools = tools_of([RUN])
    choice = decode_tool_choice(Raw(b'"required"'), tools)
    body = asked(Settings(tools=tools, tool_choice=choice, parallel_tool_calls=False))
    assert [{"type": "function", "function": {"name": "run", "parameters": RUN["parameters"]}}] == (
        body["tools"]
    )
    assert ("required", False) == (body["tool_choice"], body["parallel_tool_calls"])


def test_owners_have_caches_of_their_own() -> None:
    """Keys for an endpoint's cache differ between owners, and do not tell who they are."""
    options = {"sends_cache_key": True, "sends_cache_salt": True}
    one, other, again = (
        asked(Settings(owner=owner, session="s"), **options) for owner in ("ann", "bob", "ann")
    )
    assert one == again
    for key in ("prompt_cache_key", "cache_salt"):
        assert one[key] != other[key]
        assert "ann" not in one[key]
    assert "prompt_cache_key" not in asked(Settings(owner="ann"), **options)


@asynccontextmanager
async def answering(
    reply: Reply | Callable[[Asked], Reply], **options: Any
) -> AsyncIterator[tuple[ChatModel, Endpoint]]:
    script = reply if callable(reply) else lambda _: reply
    async with endpoint(script) as one:
        model = chat(one.url, **options)
        try:
            yield model, one
        finally:
            await model.aclose()


async def finished_of(reply: Reply, **options: Any) -> Finished:
    async with answering(reply, **options) as (model, _):
        parts, _, _ = await play(model.prepare(None, items_of([message("hi")]), Settings()))
    assert isinstance(parts[-1], Finished)
    return parts[-1]


async def test_usage_is_the_endpoints() -> None:
    """What a response reports is what the endpoint counted."""
    chunks = sse(text("hi"), end(), usage(90, 8, cached=64, reasoning=3))
    assert Finished(
        reason="stop",
        num_prompt_tokens=90,
        num_cached_tokens=64,
        num_output_tokens=8,
        num_reasoning_tokens=3,
    ) == await finished_of(Reply(chunks))


async def test_usage_is_estimated_where_none_comes() -> None:
    """Four bytes of JSON count as a token, so that clients that compact by usage still do."""
    chunks = sse(text("", reasoning="x" * 8), text("y" * 12), end())
    finished = await finished_of(Reply(chunks))
    assert (5, 2, 0) == (
        finished.num_output_tokens,
        finished.num_reasoning_tokens,
        finished.num_cached_tokens,
    )
    assert 0 < finished.num_prompt_tokens < 20


async def test_usage_that_makes_no_sense_breaks_no_turn() -> None:
    """Counts below zero are none, and those that are missing are estimated."""
    broken = {"choices": [], "usage": {"prompt_tokens": -5, "completion_tokens": None}}
    finished = await finished_of(Reply(sse(text("y" * 12), end(), broken)))
    assert (3, 0) == (finished.num_output_tokens, finished.num_cached_tokens)
    assert 0 < finished.num_prompt_tokens < 20


async def test_an_answer_that_is_not_streamed() -> None:
    """A server that ignores `stream` is understood."""
    whole = {
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    finished = await finished_of(
        Reply([json.dumps(whole).encode()], kind="application/json; charset=utf-8")
    )
    assert (3, 1) == (finished.num_prompt_tokens, finished.num_output_tokens)


async def test_done_without_a_reason_is_an_end() -> None:
    """Some servers stop with `[DONE]` alone."""
    assert "stop" == (await finished_of(Reply(sse(text("hi"))))).reason


async def test_content_that_was_filtered() -> None:
    """The response is incomplete, and says why."""
    finished = await finished_of(Reply(sse(text("hi"), end("content_filter"))))
    assert "content_filter" == finished.reason


def picky(asked: Asked) -> Reply:
    """An endpoint with ways of its own, which it explains one at a time."""
    body = asked.body
    roles = [one["role"] for one in body["messages"]]
    for wrong, words in (
        ("max_tokens" in body, "Unsupported parameter: 'max_tokens'"),
        ("stream_options" in body, "Extra inputs are not permitted, field: 'stream_options'"),
        (body.get("tool_choice") == "required", "tool_choice should be 'auto', 'none' or 'any'"),
        ("reasoning_effort" in body, "this model does not support thinking"),
        ("system" in roles[1:], "System message must be at the beginning."),
    ):
        if wrong:
            error = {"error": {"message": words, "type": "invalid_request_error"}}
            return Reply([json.dumps(error).encode()], status=400)
    return Reply(sse(text("hi"), end()))


async def test_an_endpoint_with_ways_of_its_own() -> None:
    """What it refuses is said in another way, and next time in that way at once."""
    async with answering(picky) as (model, one):
        tools = tools_of([RUN, {**RUN, "name": "walk"}])
        choice = decode_tool_choice(Raw(b'"required"'), tools)
        settings = Settings(
            owner="alice",
            instructions="Be brief.",
            tools=tools,
            tool_choice=choice,
            effort="high",
            max_output_tokens=64,
        )
        items = items_of([message("a"), message("b", "developer"), message("c")])
        prepared = model.prepare(None, items, settings)
        await play(prepared)
        assert 6 == len(one.asked)
        last = one.asked[-1].body
        assert (64, "any") == (last["max_completion_tokens"], last["tool_choice"])
        assert ["system", "user", "user", "user"] == [m["role"] for m in last["messages"]]
        again = model.prepare(prepared.settle(()), items_of([message("d", "developer")]), settings)
        await play(again)
        assert 7 == len(one.asked)
        assert last["messages"] == one.asked[-1].body["messages"][:4]


async def test_a_schema_is_told_where_it_cannot_be_sent() -> None:
    """The endpoint reads it in the instructions, and what it answers is held to it all the same."""

    def script(asked: Asked) -> Reply:
        if asked.body["response_format"]["type"] == "json_schema":
            words = b'{"error":{"message":"This response_format type is unavailable now"}}'
            return Reply([words], status=400)
        return Reply(sse(text('{"q":"so"}'), end()))

    async with answering(script) as (model, one):
        for schema, fails in ((b'{"required":["q"]}', False), (b'{"required":["r"]}', True)):
            form = JsonSchemaFormat(name="n", schema=Raw(schema), strict=True)
            settings = Settings(text_format=form)
            prepared = model.prepare(None, items_of([message("hi")]), settings)
            if fails:
                with pytest.raises(EngineError, match=r"breaks the schema of `text\.format`"):
                    await play(prepared)
            else:
                await play(prepared)
            assert schema.decode() in one.asked[-1].body["messages"][0]["content"]
        assert 3 == len(one.asked)


async def test_a_refusal_that_nothing_helps_teaches_nothing() -> None:
    """What was tried for it is forgotten, and the endpoint's last words are the client's."""
    words = b'{"error":{"message":"Unsupported: max_tokens and max_completion_tokens"}}'
    async with answering(lambda _: Reply([words], status=400)) as (model, one):
        settings = Settings(owner="alice", max_output_tokens=64)
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="max_completion_tokens"):
                await play(model.prepare(None, items_of([message("a")]), settings))
        assert ["max_tokens" in asked.body for asked in one.asked] == [True, False] * 2
        assert 0 == model.num_running


SAYS_ERROR = b'data: {"error":{"message":"boom at 10.0.0.7"}}\n\n'


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (Reply([b"{}"], status=500), EngineUnavailable, "status 500"),
        (Reply([b'{"error":"no"}'], status=400), InvalidRequest, "'m' refused the request: no"),
        (
            Reply([b'{"error":"maximum context length is 9"}'], status=400),
            ContextLengthExceeded,
            "too long for the model 'm'",
        ),
        (Reply(status=429), TooManyRequests, "'m' takes no more requests"),
        (Reply([b"<html>"], kind="text/html"), EngineError, "no chat completion"),
        (Reply([b"<html>"], kind="application/json"), EngineError, "no chat completion"),
        (Reply(sse(text("a"), done=False)), EngineError, "broke off"),
        (Reply(sse(text("a")), cut=True), EngineError, ""),
        (Reply([*sse(text("a"), done=False), SAYS_ERROR]), EngineError, "reported an error"),
        (Reply([b"data: {oops\n\n"]), EngineError, "no chat completion"),
        (Reply([b"data: [DONE]\n\n"]), EngineError, "without a word"),
    ],
    ids=[
        "500", "400", "context", "429", "html", "html-as-json", "no-end", "done-then-cut",
        "error-in-stream", "no-json", "done-at-once",
    ],
)  # fmt: skip
async def test_faults(reply: Reply, kind: type[TurnwireError], says: str) -> None:
    """They are ours and of the right kind, the place is free again, and the next turn goes."""
    async with answering(reply, max_concurrent=1, max_waiting=0) as (model, one):
        prepared = model.prepare(None, items_of([message("hi")]), Settings())
        if says:
            with pytest.raises(kind, match=says) as raised:
                await play(prepared)
            assert "10.0.0.7" not in str(raised.value)
        else:
            await play(prepared)  # what comes after `[DONE]` does not matter
        assert 0 == model.num_running
        again = model.prepare(None, items_of([message("hi")]), Settings())
        if says:
            with pytest.raises(kind):
                await play(again)
        assert len(one.asked) == (2 if says else 1)


async def test_a_warm_up_is_sent_where_it_is_wanted() -> None:
    """One token of output has the endpoint read the prompt; by default nothing is sent."""
    reply = Reply(sse(text("x"), end("length"), usage(20, 1, cached=16)))
    settings = Settings(warm_up=True, max_output_tokens=100)
    for warms, num_cached, num_asked in ((True, 16, 1), (False, 0, 0)):
        async with answering(reply, warms=warms) as (model, one):
            prepared = model.prepare(None, items_of([message("hi")]), settings)
            assert num_cached == await prepared.warm()
            assert num_asked == len(one.asked)
            assert all(1 == ask.body["max_tokens"] for ask in one.asked)


async def test_a_context_is_shared_by_models_with_equal_rules() -> None:
    """Another model goes on with the bytes there are; other rules write them anew."""
    chunks = sse(text("", reasoning="hm"), text("hi"), end())
    async with answering(Reply(chunks)) as (model, one):
        _, _, after = await play(model.prepare(None, items_of([message("a")]), Settings()))
        same = chat(one.url).prepare(after, items_of([message("b")]), Settings())
        rules = MessageRules(reasoning_field="reasoning")
        other = chat(one.url, rules=rules).prepare(after, items_of([message("b")]), Settings())
        assert ("append", "full") == (same.report.mode, other.report.mode)
        assert "hm" == sent(other)["messages"][1]["reasoning"]


async def test_the_key_reaches_the_endpoint_and_nobody_else() -> None:
    """Not even where the endpoint quotes it."""
    key = "sk-very-secret"

    def script(request: Asked) -> Reply:
        assert f"Bearer {key}" == request.headers["Authorization"]
        said = {"error": {"message": f"{request.headers['Authorization']} is odd"}}
        return Reply([json.dumps(said).encode()], status=400)

    async with answering(script, api_key=key) as (model, _):
        with pytest.raises(InvalidRequest, match=r"Bearer \*\*\* is odd"):
            await play(model.prepare(None, items_of([message("hi")]), Settings()))
        assert key not in repr(model.options)


OUTPUTS = st.lists(
    st.one_of(
        st.builds(message, st.sampled_from(["so", "日本\n"]), st.just("assistant")),
        st.just({"type": "reasoning", "summary": [], "content": [
            {"type": "reasoning_text", "text": "hm"}]}),
        st.sampled_from(["function_call", "custom_tool_call"]),
    ),
    max_size=3,
)  # fmt: skip
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "back": st.sampled_from([0, 0, 1, 3]),
            "new": st.lists(
                st.builds(
                    message,
                    st.sampled_from(["u", "", '"\\\n', "é"]),
                    st.sampled_from(["user", "system", "developer", "assistant"]),
                ),
                max_size=2,
            ),
            "output": OUTPUTS,
            "tools": st.sampled_from([(), (RUN,), (RUN, NOTE)]),
            "instructions": st.sampled_from([None, "Be brief.", "Sois bref.\n"]),
        }
    ),
    min_size=1,
    max_size=6,
)
RULES = [
    MessageRules(),
    MessageRules(reasoning_field="reasoning_content", later_system_role="user"),
    MessageRules(alternates=True, later_system_role="user"),
]


@given(STEPS, st.sampled_from(RULES))
def test_continuing_sends_what_a_full_resend_sends(steps: list[Json], rules: MessageRules) -> None:
    """Byte for byte, over roles, forks, calls, reasoning, tools and instructions."""
    model = chat(rules=rules)
    nodes: list[tuple[Context | None, list[Json]]] = [(None, [])]
    for number, step in enumerate(steps):
        parent, history = nodes[-1 - min(step["back"], len(nodes) - 1)]
        open_calls = parent.open_calls.values() if parent is not None else ()
        new = [
            {
                "type": f"{'function' if one.kind == 'function' else 'custom_tool'}_call_output",
                "call_id": one.call_id,
                "output": f"of {number}",
            }
            for one in open_calls
        ]
        new += step["new"]
        settings = Settings(tools=tools_of(step["tools"]), instructions=step["instructions"])
        continued = model.prepare(parent, items_of(new), settings)
        resent = model.prepare(None, items_of(history + new), settings)
        assert b"".join(resent.body()) == b"".join(continued.body())
        assert resent.num_prompt_tokens == continued.num_prompt_tokens
        output = items_of(
            [
                made
                if isinstance(made, dict)
                else {
                    "type": made,
                    "call_id": f"call_{number}_{place}",
                    "name": "run" if made == "function_call" else "note",
                    ("arguments" if made == "function_call" else "input"): "{}",
                }
                for place, made in enumerate(step["output"])
            ]
        )
        after = continued.settle(output)
        nodes.append((after, history + new + [wire(item) for item in output]))


@pytest.mark.parametrize("where", ["tools", "format"])
def test_a_schema_that_is_nested_too_deeply(where: str) -> None:
    """It is the client's fault, and is said before anything is asked."""
    deep = b'{"x":' * 5000 + b"1" + b"}" * 5000
    if where == "tools":
        tool = OfferedTool(name="f", parameters=deep)
        settings = Settings(tools=ToolSet(raw=b"[]", offered={"f": tool}, echo=Raw(b"[]")))
    else:
        form = JsonSchemaFormat(name="s", schema=Raw(deep), strict=True)
        settings = Settings(text_format=form)
    with pytest.raises(InvalidJson, match="nested too deeply"):
        chat().prepare(None, items_of([message("hi")]), settings)


def test_what_it_takes_is_what_its_rules_say() -> None:
    """Images and files are refused before it is asked, unless it is said to take them."""
    assert TEXT_ONLY == chat().takes
    rules = MessageRules(takes_images=True, takes_files=True)
    assert EVERYTHING == chat(rules=rules).takes


def test_the_window_is_what_was_said() -> None:
    """It may be unknown, and is never a reason to refuse: prompts are only estimated."""
    assert chat().window is None
    small = chat(window=10)
    assert small.window == 10
    assert small.prepare(None, items_of([message("word " * 99)]), Settings()).num_prompt_tokens > 99


async def test_a_tool_loop() -> None:
    """Calls go out as they came, under the endpoint's own ids, with their outputs behind them."""

    def script(request: Asked) -> Reply:
        if request.body["messages"][-1]["role"] == "tool":
            return Reply(sse(text("Done."), end()))
        return Reply(
            sse(
                text("I look."),
                call(0, "run", '{"cmd": "ls"}', "functions.run:0"),
                call(1, "note", '{"input": "x"}', "functions.note:1"),
                end("tool_calls"),
            )
        )

    async with answering(script) as (model, one):
        settings = Settings(tools=tools_of([RUN, NOTE]))
        _, output, after = await play(model.prepare(None, items_of([message("go")]), settings))
        assert ["message", "function_call", "custom_tool_call"] == [
            wire(item)["type"] for item in output
        ]
        answers = [
            {"type": "function_call_output", "call_id": "functions.run:0", "output": "a"},
            {"type": "custom_tool_call_output", "call_id": "functions.note:1", "output": "b"},
        ]
        parts: list[Part]
        parts, _, _ = await play(model.prepare(after, items_of(answers), settings))
        assert isinstance(parts[-1], Finished)
        assistant = one.asked[1].body["messages"][1]
        assert "I look." == assistant["content"]
        assert ["functions.run:0", "functions.note:1"] == [
            entry["id"] for entry in assistant["tool_calls"]
        ]
        assert ['{"cmd": "ls"}', '{"input":"x"}'] == [
            entry["function"]["arguments"] for entry in assistant["tool_calls"]
        ]


async def test_tools_that_a_history_adds() -> None:
    """They stand with the request's own, can be chosen and called, and keep what they are."""
    late: Json = {**RUN, "name": "late", "strict": True, "async": True}
    added: Json = {"type": "additional_tools", "role": "developer", "tools": [late]}
    update: Json = {"type": "configuration_update", "reasoning": {"effort": "low"}}
    context = Context(None, items_of([message("hi"), added, update, message("go")]))
    own = tools_of([RUN])
    every = join(own, context.standing.tools)
    choice = decode_tool_choice(Raw(b'{"type":"function","name":"late"}'), every)
    settings = Settings(tools=own, added=context.standing.tools, tool_choice=choice)
    reply = Reply(sse(call(0, "late", "{}", "c"), end("tool_calls")))
    async with answering(reply) as (model, _):
        prepared = model.prepare(None, context.items, settings)
        body = sent(prepared)
        assert ["hi", "go"] == [one["content"] for one in body["messages"]]
        assert ["late"] == [one["function"]["name"] for one in body["tools"]]
        parts = [part async for part in prepared.respond()]
    (started,) = [part for part in parts if isinstance(part, CallStarted)]
    assert ("late", True) == (started.name, started.is_async)
