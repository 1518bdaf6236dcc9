from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from turnwire.cli.demo_loop import Item, _Conversation, _Loop
from turnwire.cli.demo_server import Counters, DemoFailed
from turnwire.cli.demo_tools import Workbench

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def response(*output: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "model": "sim",
        "status": status,
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 50,
            "input_tokens_details": {"cached_tokens": 32, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 55,
        },
    }


def event(kind: str, **fields: Any) -> Any:
    return EVENT.validate_python({"type": kind, "sequence_number": 0, **fields})


CREATED = event("response.created", response=response(status="in_progress"))
DELTA = event("response.function_call_arguments.delta", item_id="fc_1", output_index=0, delta="{")
TEXT: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Done.", "annotations": [], "logprobs": []}],
}
FAILED = event("response.failed", response=response(status="failed"))
INCOMPLETE = event("response.incomplete", response=response(status="incomplete"))
ERROR = event("error", code="server_error", message="No.", param=None)


def call(place: int, name: str = "list_files", arguments: str = '{"folder": "."}') -> Any:
    return {
        "type": "function_call",
        "id": f"fc_{place}",
        "call_id": f"call_{place}",
        "name": name,
        "arguments": arguments,
        "status": "completed",
    }


def completed(*output: dict[str, Any]) -> Any:
    return event("response.completed", response=response(*output))


class Scripted(_Conversation):
    """Answers with the events of a script; notes what it was asked."""

    def __init__(self, *turns: Sequence[Any]) -> None:
        super().__init__({})
        self.turns = list(turns)
        self.asked: list[list[Item]] = []
        self.remembered: list[Response] = []

    async def events(self, new: Sequence[Item]) -> AsyncGenerator[Any, None]:
        self.asked.append(list(new))
        for one in self.turns.pop(0):
            yield one

    def remember(self, response: Response) -> None:
        self.remembered.append(response)


class Counting:
    """A server that counts 100 bytes and 10 tokens, and works a second, with every look at it."""

    def __init__(self) -> None:
        self.looks = 0

    def counters(self) -> Counters:
        self.looks += 1
        return Counters(received_bytes=100 * self.looks, rendered_tokens=10 * self.looks)

    def cpu_sec(self) -> float | None:
        return float(self.looks)


def loop(conversation: _Conversation, folder: Path, told: list[str]) -> _Loop:
    return _Loop(conversation, Counting(), Workbench(folder), told.append)  # type: ignore[arg-type]


async def test_a_loop_answers_calls_until_there_are_none(tmp_path: Path) -> None:
    """Every call is carried out, its answer goes into the next request, a message is the end."""
    two = completed(call(1), call(2, "read_file", '{"path": "README.md"}'))
    conversation = Scripted([CREATED, DELTA, two], [CREATED, DELTA, completed(TEXT)])
    told: list[str] = []
    first, last = await loop(conversation, tmp_path, told).run(max_turns=2)
    assert (("list_files", '{"folder": "."}'), ("read_file", '{"path": "README.md"}')) == (
        first.calls
    )
    assert ("Done.", ()) == (last.text, last.calls)
    assert ['list_files {"folder": "."}', "message"] == told
    sent = conversation.asked[1]
    assert [("function_call_output", "call_1"), ("function_call_output", "call_2")] == [
        (item["type"], item["call_id"]) for item in sent
    ]
    assert sent[1]["output"].startswith("   1  # measures\n")


async def test_a_turn_has_the_differences_of_the_counters(tmp_path: Path) -> None:
    """Bytes and tokens of a turn are what the server counted during it; usage is the answer's."""
    conversation = Scripted([CREATED, DELTA, completed(TEXT)])
    (turn,) = await loop(conversation, tmp_path, []).run(max_turns=1)
    assert (100, 10) == (turn.num_sent_bytes, turn.num_rendered)
    assert (50, 32, 5) == (turn.num_input, turn.num_cached, turn.num_output)
    # The processor time is read after the counters before the request, before those after it.
    assert 0.0 == turn.cpu_sec
    assert 0 <= turn.first_event_sec <= turn.first_delta_sec <= turn.sec


async def test_a_model_that_never_stops_is_stopped(tmp_path: Path) -> None:
    """There are so many turns and no more."""
    again = [CREATED, DELTA, completed(call(1))]
    conversation = Scripted(again, again, again)
    with pytest.raises(DemoFailed, match="still calls tools after 2 turns"):
        await loop(conversation, tmp_path, []).run(max_turns=2)
    assert 2 == len(conversation.asked)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([ERROR], "did not complete"),
        ([CREATED, FAILED], "did not complete"),
        ([CREATED, DELTA, INCOMPLETE], "did not complete"),
        ([], "without the events that belong to it"),
        ([CREATED, DELTA], "without the events that belong to it"),
        ([DELTA, completed(TEXT)], "without the events that belong to it"),
        ([CREATED, completed(TEXT)], "without the events that belong to it"),
    ],
)
async def test_a_response_must_complete(script: list[Any], reason: str) -> None:
    """A response that fails, or lacks an event that it must have, is not remembered."""
    conversation = Scripted(script)
    with pytest.raises(DemoFailed, match=reason):
        await conversation.say([])
    assert [] == conversation.remembered
