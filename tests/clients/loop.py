"""What every loop of the programs here must come to.

There are two questions, and to each two rounds of two calls and then an answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from tests.clients.steady import NUM_CALLS, NUM_ROUNDS
from tests.clients.tape import Exchange, Json, Tape
from tests.integration.wire import TERMINAL

__all__ = [
    "NUM_CREATES",
    "check_rounds",
    "check_told",
    "check_websocket",
    "ended",
    "is_incremental",
    "sse_responses",
]

NUM_QUESTIONS: Final = 2
NUM_CREATES: Final = NUM_QUESTIONS * (NUM_ROUNDS + 1)


def check_websocket(tape: Tape, printed: str, *, num_sockets: int = 1) -> None:
    """All of it went over so many WebSockets and arrived; nothing was refused, nothing posted."""
    tape.check_clean()
    assert [] == tape.posts
    assert num_sockets == len(tape.sockets)
    assert NUM_CREATES == len(tape.creates)
    check_told(tape.responses, printed)


def check_told(responses: Sequence[Json], printed: str, num_calls: int = NUM_CALLS) -> None:
    """The client's program saw the calls and messages that the server made.

    Args:
        responses: What the server answered, in order.
        printed: What the program printed; its last line is JSON, `answers` and `calls`.
        num_calls: How many calls there are in each round.
    """
    told = json.loads(printed.strip().splitlines()[-1])
    kinds = [[item["type"] for item in response["output"]] for response in responses]
    expected = [["function_call"] * num_calls] * NUM_ROUNDS + [["message"]]
    assert expected * NUM_QUESTIONS == kinds
    items = [item for response in responses for item in response["output"]]
    calls = [json.loads(item["arguments"]) for item in items if item["type"] == "function_call"]
    texts = [item["content"][0]["text"] for item in items if item["type"] == "message"]
    assert (calls, texts) == (told["calls"], told["answers"])
    assert {"Lisbon", "Oslo", "Quito"} >= {call["city"] for call in calls}


def check_rounds(creates: Sequence[Json], responses: Sequence[Json], tool: str) -> str:
    """Every call of every round was carried out, and its output came with the next request.

    Args:
        creates: What an agent asked, to one message of its user.
        responses: What it was answered.
        tool: The one that is called.

    Returns:
        The message at the end.
    """
    assert NUM_ROUNDS + 1 == len(creates) == len(responses)
    for response, create in zip(responses[:-1], creates[1:], strict=True):
        calls = response["output"]
        assert [("function_call", tool)] * NUM_CALLS == [(c["type"], c["name"]) for c in calls]
        outputs = [(item["type"], item.get("call_id")) for item in create["input"][-NUM_CALLS:]]
        assert [("function_call_output", call["call_id"]) for call in calls] == outputs
    (message,) = responses[-1]["output"]
    text: str = message["content"][0]["text"]
    return text


def is_incremental(tape: Tape) -> bool:
    """Whether each request after the first names the response before it, and brings what is new."""
    parents = [response["id"] for response in tape.responses[:-1]]
    later = tape.creates[1:]
    return parents == [create.get("previous_response_id") for create in later] and all(
        len(create["input"]) == (1 if "role" in create["input"][0] else NUM_CALLS)
        for create in later
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
