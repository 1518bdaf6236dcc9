"""Libraries of JavaScript, in programs that ask two questions and have a tool."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.clients.conftest import Program, Proven
from tests.clients.install import node, npm
from tests.clients.loop import check_told, check_websocket, is_incremental, sse_responses
from tests.clients.tape import Json, Tape

from turnwire.resent import Outcome

PROGRAMS = Path(__file__).parent / "programs"

OPENAI = "7.59.0"
AGENTS = "0.20.0"
AI_SDK = "7.0.173"
AI_SDK_PACKAGES = (
    f"ai@{AI_SDK}",
    "@ai-sdk/openai@4.0.118",
    "@vercel/ai-sdk-openai-websocket-fetch@1.0.0",
    "zod@4.6.7",
)
OPENAI_PACKAGES = (f"openai@{OPENAI}", "ws@8.23.0")
AGENTS_PACKAGES = (f"@openai/agents@{AGENTS}", f"openai@{OPENAI}", "ws@8.23.0", "zod@4.6.7")

RESENT = {
    "true": "tool rounds in two turns, streamed; resent as references to stored items",
    "false": "`store: false`: tool rounds in two turns, streamed; resent whole",
}


def refers(creates: Sequence[Json]) -> bool:
    """Whether a request refers to items that the server stored."""
    items = [item for create in creates for item in create["input"]]
    return any(item.get("type") == "item_reference" for item in items)


def check_known(tape: Tape) -> None:
    """What it sends again is recognised.

    Its second question leaves out the tool round of the first, so that the answer after it stands
    where it never stood, and has to be rendered anew.
    """
    outcomes: tuple[Outcome, ...] = ("first", "hit", "partial", "miss")
    assert [1, 4, 1, 0] == [tape.known(outcome) for outcome in outcomes]


def prepared(name: str, packages: Sequence[str]) -> list[Path]:
    """The command that runs one of the programs, beside the packages that it imports."""
    place = npm(name, packages) / "program.mjs"
    shutil.copyfile(PROGRAMS / f"{name}.mjs", place)
    return [node(), place]


@pytest.mark.parametrize("store", ["true", "false"])
async def test_ai_sdk_over_websocket(
    tape: Tape, program: Program, proven: Proven, store: str
) -> None:
    """With its WebSocket fetch every step goes over one WebSocket, the whole conversation each."""
    command = prepared("ai_sdk", AI_SDK_PACKAGES)
    check_websocket(tape, await program([*command, f"{tape.url}/v1", "websocket", store]))
    assert not [create for create in tape.creates if create.get("previous_response_id")]
    assert refers(tape.creates) is (store == "true")
    # It resends everything; the engine finds what it knows.
    cached = [r["usage"]["input_tokens_details"]["cached_tokens"] for r in tape.responses]
    assert all(count > 0 for count in cached[1:])
    check_known(tape)
    name = "Vercel AI SDK (`ai`, WebSocket fetch 1.0.0)"
    proven(name, AI_SDK, "WebSocket", f"{RESENT[store]}; found in the cache")


@pytest.mark.parametrize("store", ["true", "false"])
async def test_ai_sdk_over_http(tape: Tape, program: Program, proven: Proven, store: str) -> None:
    """As it comes it streams over HTTP."""
    command = prepared("ai_sdk", AI_SDK_PACKAGES)
    printed = await program([*command, f"{tape.url}/v1", "http", store])
    tape.check_clean()
    assert [] == tape.sockets
    assert refers([post.create for post in tape.posts]) is (store == "true")
    check_told(sse_responses(tape), printed)
    check_known(tape)
    proven("Vercel AI SDK (`ai`)", AI_SDK, "HTTP", RESENT[store])


async def test_openai_node(tape: Tape, program: Program, proven: Proven) -> None:
    """`ResponsesWS` keeps a conversation on one WebSocket, each request with what is new."""
    command = prepared("openai_node", OPENAI_PACKAGES)
    check_websocket(tape, await program([*command, f"{tape.url}/v1"]))
    assert is_incremental(tape)
    fact = "`ResponsesWS`: tool rounds in two turns on one connection, only what is new"
    proven("openai-node", OPENAI, "WebSocket", fact)


async def test_agents_js(tape: Tape, program: Program, proven: Proven) -> None:
    """A WebSocket session of the Agents SDK plays both turns on one connection."""
    command = prepared("agents_js", AGENTS_PACKAGES)
    check_websocket(tape, await program([*command, f"{tape.url}/v1"]))
    fact = "`withResponsesWebSocketSession`: tool rounds in two turns on one connection"
    proven("Agents SDK (JavaScript)", AGENTS, "WebSocket", fact)
