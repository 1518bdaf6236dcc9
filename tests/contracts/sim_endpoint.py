"""The simulated model behind chat completions: an endpoint with a mind of its own.

What it answers is a pure function of the messages and the tools, so two ways of building the same
conversation have to give the same answer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from msgspec import Raw, to_builtins
from tests.contracts.endpoint import Asked, Reply, call, end, sse, text, usage

from turnwire.errors import WireError
from turnwire.models.base import Prepared, Settings
from turnwire.models.token_model import TokenModel
from turnwire.parts import (
    CallArguments,
    CallStarted,
    Finished,
    ItemFinished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from turnwire.protocol.codec import decode_items, decode_tool_choice, decode_tools
from turnwire.protocol.requests import JsonSchemaFormat, PlainTextFormat, TextFormat

__all__ = ["simulated"]

Json = dict[str, Any]


def simulated(model: TokenModel) -> Callable[[Asked], Reply]:
    """A script for `endpoint`: the model answers; `metadata` of the body controls it."""

    def script(asked: Asked) -> Reply:
        try:
            prepared = model.prepare(None, _items(asked.body), _settings(asked.body))
        except WireError as error:
            said = {"error": {"message": error.message, "type": error.type, "code": error.code}}
            return Reply([json.dumps(said).encode()], status=error.status, kind="application/json")
        return Reply(_stream(prepared))

    return script


def _items(body: Json) -> Any:
    items: list[Json] = []
    for message in body["messages"]:
        role, content = message["role"], message["content"]
        if role == "tool":
            items.append(
                {
                    "type": "function_call_output",
                    "call_id": message["tool_call_id"],
                    "output": content,
                }
            )
            continue
        if thought := message.get("reasoning_content"):
            told = [{"type": "reasoning_text", "text": thought}]
            items.append({"type": "reasoning", "summary": [], "content": told})
        if content:
            items.append({"type": "message", "role": role, "content": content})
        items += [
            {"type": "function_call", "call_id": entry["id"], **entry["function"]}
            for entry in message.get("tool_calls", ())
        ]
    return decode_items(Raw(json.dumps(items).encode()))


def _settings(body: Json) -> Settings:
    tools = [{"type": "function", **entry["function"]} for entry in body.get("tools", ())]
    tool_set = decode_tools(Raw(json.dumps(tools).encode()))
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        choice = {"type": "function", "name": choice["function"]["name"]}
    form: TextFormat = PlainTextFormat()
    if (asked := body.get("response_format")) is not None:
        schema = asked["json_schema"]
        form = JsonSchemaFormat(
            name=schema["name"], schema=Raw(json.dumps(schema["schema"]).encode()), strict=True
        )
    return Settings(
        tools=tool_set,
        tool_choice=decode_tool_choice(Raw(json.dumps(choice).encode()), tool_set),
        parallel_tool_calls=body.get("parallel_tool_calls", True),
        text_format=form,
        effort=body.get("reasoning_effort"),
        max_output_tokens=body.get("max_tokens"),
        top_logprobs=body.get("top_logprobs"),
        hints=body.get("metadata", {}),
    )


async def _stream(prepared: Prepared) -> AsyncIterator[bytes]:
    index = -1
    async with aclosing(prepared.respond()) as parts:
        async for part in parts:
            match part:
                case TextDelta(text=said, logprobs=scores):
                    chunk = text(said)
                    if scores:
                        chunk["choices"][0]["logprobs"] = {"content": to_builtins(scores)}
                case RefusalDelta(text=said):
                    chunk = text("", refusal=said)
                case ReasoningDelta(text=said):
                    chunk = text("", reasoning_content=said)
                case CallStarted():
                    index += 1
                    chunk = call(index, part.name, "", part.call_id)
                case CallArguments(text=said):
                    chunk = call(index, None, said, None)
                case ItemFinished():
                    continue
                case Finished():
                    cut = part.reason == "max_output_tokens"
                    reason = "length" if cut else "tool_calls" if index >= 0 else "stop"
                    counts = usage(
                        part.num_prompt_tokens,
                        part.num_output_tokens,
                        cached=part.num_cached_tokens,
                        reasoning=part.num_reasoning_tokens,
                    )
                    for piece in sse(end(reason), counts):
                        yield piece
                    return
            yield sse(chunk, done=False)[0]
