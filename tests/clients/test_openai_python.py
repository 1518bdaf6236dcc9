"""openai-python as it is published, in each way that it has to hold a conversation.

The integration tests drive the same library in detail; here it is a client like any other.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.clients.conftest import Program, Proven
from tests.clients.install import python
from tests.clients.loop import (
    NUM_CREATES,
    check_told,
    check_websocket,
    ended,
    is_incremental,
    sse_responses,
)
from tests.clients.steady import NUM_CALLS
from tests.clients.tape import Json, Tape

VERSION = "3.57.0"
PROGRAM = Path(__file__).parent / "programs" / "openai_python.py"

Play = Callable[[str], Awaitable[str]]


@pytest.fixture
def play(tape: Tape, program: Program) -> Play:
    """Play the program's two questions in one of its ways; what it printed."""
    interpreter = python("openai-python", [f"openai[realtime]=={VERSION}"])

    async def play(way: str) -> str:
        return await program([interpreter, PROGRAM, f"{tape.url}/v1", way])

    return play


def bodies(tape: Tape) -> list[Json]:
    """The JSON answers to what was posted, in order."""
    return [json.loads(post.answer) for post in tape.posts]


async def test_websocket(tape: Tape, play: Play, proven: Proven) -> None:
    """Its session plays both turns on one lane of one connection, sending what is new."""
    check_websocket(tape, await play("websocket"))
    assert is_incremental(tape)
    assert {"weather"} == {event["stream_id"] for event in tape.sockets[0].received}
    fact = (
        "`responses.connect()` and its session: tool rounds in two turns on one lane, "
        "only what is new"
    )
    proven("openai-python", VERSION, "WebSocket", fact)


async def test_http(tape: Tape, play: Play, proven: Proven) -> None:
    """Its stream helper accumulates both turns over HTTP."""
    printed = await play("http")
    tape.check_clean()
    assert [] == tape.sockets
    check_told(sse_responses(tape), printed)
    proven("openai-python", VERSION, "HTTP", "`responses.stream()`: tool rounds in two turns")


async def test_background(tape: Tape, play: Play, proven: Proven) -> None:
    """It leaves each background stream in the middle and resumes it with `starting_after`."""
    printed = await play("background")
    tape.check_clean()
    resumed = [exchange for exchange in tape.exchanges if "starting_after=3" in exchange.path]
    assert NUM_CREATES == len(tape.posts) == len(resumed)
    check_told([ended(exchange) for exchange in resumed], printed)
    fact = "`background` streams, left and resumed with `starting_after`: tool rounds in two turns"
    proven("openai-python", VERSION, "HTTP", fact)


async def test_conversation(tape: Tape, play: Play, proven: Proven) -> None:
    """It keeps both turns in a conversation of the server's, lists it and deletes it."""
    printed = await play("conversation")
    tape.check_clean()
    check_told(bodies(tape), printed)
    assert {1, NUM_CALLS} == {len(post.create["input"]) for post in tape.posts}
    fact = "`conversations`: tool rounds in two turns, kept, listed and deleted"
    proven("openai-python", VERSION, "HTTP", fact)
