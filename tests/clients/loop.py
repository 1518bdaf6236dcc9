"""What every loop of the programs here must come to: two questions, each a call and an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.clients.tape import Exchange, Json, Tape
from tests.integration.wire import TERMINAL

__all__ = ["check_told", "check_websocket", "ended", "is_incremental", "sse_responses"]


def check_websocket(tape: Tape, printed: str, *, num_sockets: int = 1) -> None:
    """All of it went over so many WebSockets and arrived; nothing was refused, nothing posted."""
    tape.check_clean()
    assert [] == tape.posts
    assert num_sockets == len(tape.sockets)
    assert 4 == len(tape.creates)
    check_told(tape.responses, printed)


def check_told(responses: Sequence[Json], printed: str) -> None:
    """The client's program saw the calls and messages that the server made.

    Args:
        responses: What the server answered, in order.
        printed: What the program printed; its last line is JSON, `answers` and `calls`.
    """
    told = json.loads(printed.strip().splitlines()[-1])
    items = [item for response in responses for item in response["output"]]
    kinds = [item["type"] for item in items]
    assert ["function_call", "message"] * 2 == kinds
    calls = [json.loads(item["arguments"]) for item in items if item["type"] == "function_call"]
    texts = [item["content"][0]["text"] for item in items if item["type"] == "message"]
    assert (calls, texts) == (told["calls"], told["answers"])
    assert {"Lisbon", "Oslo", "Quito"} >= {call["city"] for call in calls}


def is_incremental(tape: Tape) -> bool:
    """Whether each request after the first names the response before it, and brings one item."""
    parents = [response["id"] for response in tape.responses[:-1]]
    later = tape.creates[1:]
    return parents == [create.get("previous_response_id") for create in later] and all(
        1 == len(create["input"]) for create in later
    )


def sse_responses(tape: Tape) -> list[Json]:
    """The terminal response objects of the event streams that were posted for, in order."""
    return [ended(post) for post in tape.posts]


def ended(exchange: Exchange) -> Json:
    """The terminal response object of an event stream."""
    events = [
        json.loads(line.removeprefix("data: "))
        for line in exchange.answer.decode().splitlines()
        if line.startswith("data: {")
    ]
    (terminal,) = [event for event in events if event["type"] in TERMINAL]
    response: Json = terminal["response"]
    return response
