"""An agent loop through the official client, unmodified, over each way to ask.

What a tool answers is a function of what it was asked and when, so that two loops see the same
conversation if, and only if, the model says the same in both.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec import Struct
from openai import AsyncOpenAI
from openai.resources.responses.responses import AsyncResponsesConnection
from tests.integration.recorder import Transcript, check_response
from tests.integration.wire import TERMINAL, Json

__all__ = ["TOOLS", "Asker", "Turn", "asker", "play"]

TOOLS: Final[list[Json]] = [
    {
        "type": "function",
        "name": "read_file",
        "description": "Read a file.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string", "maxLength": 12}},
            "required": ["path"],
            "additionalProperties": False,
        },
    },
    {
        "type": "function",
        "name": "run_tests",
        "description": "Run the tests.",
        "parameters": {
            "type": "object",
            "properties": {"quick": {"type": "boolean"}, "times": {"enum": [1, 2, 3]}},
            "required": ["quick", "times"],
            "additionalProperties": False,
        },
    },
]


class Turn(Struct, frozen=True):
    """What one turn came to, ids left out.

    Attributes:
        text: What the model said to the user.
        calls: Names and arguments.
        num_input: Tokens of the prompt.
        num_output: Tokens sampled.
        num_reasoning: Of those, reasoning.
    """

    text: str
    calls: list[tuple[str, str]]
    num_input: int
    num_output: int
    num_reasoning: int


class Asker(ABC):
    """One way to hold a conversation.

    Attributes:
        cached: Of each turn, the prompt tokens that the engine had in its cache.
    """

    def __init__(self, client: AsyncOpenAI, **settings: Any) -> None:
        # Its parameters are typed one by one; what a table of settings holds is not.
        self.responses: Final[Any] = client.responses
        self.settings: Final = {"store": False, **settings}
        self.cached: Final[list[int]] = []

    async def say(self, items: Sequence[Json]) -> Json:
        """Add items to the conversation; return the response."""
        response = await self.ask(items)
        check_response(response)
        self.cached.append(response["usage"]["input_tokens_details"]["cached_tokens"])
        return response

    @abstractmethod
    async def ask(self, items: Sequence[Json]) -> Json:
        """Send what this way of asking sends."""


class Incremental(Asker):
    """WebSocket: only what is new, and the id of the response before."""

    def __init__(
        self, client: AsyncOpenAI, connection: AsyncResponsesConnection, **settings: Any
    ) -> None:
        super().__init__(client, **settings)
        self._connection: Final = connection
        self._latest: str | None = None

    async def ask(self, items: Sequence[Json]) -> Json:
        """One `response.create`."""
        parent = {"previous_response_id": self._latest} if self._latest else {}
        await self._connection.response.create(input=list(items), **parent, **self.settings)  # type: ignore[arg-type]
        events: list[Json] = []
        while not events or events[-1]["type"] not in TERMINAL:
            data = await self._connection.recv_bytes()
            events.append(json.loads(data))
            assert self._connection.parse_event(data).type == events[-1]["type"]
        transcript = Transcript(events)
        self._latest = transcript.id
        return transcript.response


class Resend(Asker):
    """HTTP without any state at the server: the whole conversation, every time."""

    def __init__(self, client: AsyncOpenAI, **settings: Any) -> None:
        super().__init__(client, **settings)
        self._items: Final[list[Json]] = []

    async def ask(self, items: Sequence[Json]) -> Json:
        """One POST."""
        self._items.extend(items)
        response = await self.post(list(self._items))
        self._items.extend(response["output"])
        return response

    @abstractmethod
    async def post(self, items: list[Json]) -> Json:
        """Send it."""


class Streamed(Resend):
    """As SSE."""

    async def post(self, items: list[Json]) -> Json:
        """Read the stream to its end."""
        stream = await self.responses.create(input=items, stream=True, **self.settings)
        events = [event.to_dict(mode="json") async for event in stream]
        return Transcript(events, sse=True).response


class Plain(Resend):
    """As JSON."""

    async def post(self, items: list[Json]) -> Json:
        """Read the answer."""
        response = await self.responses.create(input=items, **self.settings)
        decoded = response.to_dict(mode="json")
        assert isinstance(decoded, dict)
        return decoded


@asynccontextmanager
async def asker(kind: str, client: AsyncOpenAI, **settings: Any) -> AsyncIterator[Asker]:
    """A conversation over `websocket`, `sse` or `json`."""
    match kind:
        case "websocket":
            async with client.responses.connect() as connection:
                yield Incremental(client, connection, **settings)
        case "sse":
            yield Streamed(client, **settings)
        case _:
            yield Plain(client, **settings)


async def play(conversation: Asker, prompt: str, *, max_turns: int) -> list[Turn]:
    """Let the model call tools until it has no more to call; every turn of it."""
    turns: list[Turn] = []
    new: list[Json] = [{"role": "user", "content": prompt}]
    while len(turns) < max_turns:
        response = await conversation.say(new)
        output = response["output"]
        calls = [item for item in output if item["type"] == "function_call"]
        usage = response["usage"]
        turns.append(
            Turn(
                text="".join(
                    part["text"]
                    for item in output
                    if item["type"] == "message"
                    for part in item["content"]
                ),
                calls=[(call["name"], call["arguments"]) for call in calls],
                num_input=usage["input_tokens"],
                num_output=usage["output_tokens"],
                num_reasoning=usage["output_tokens_details"]["reasoning_tokens"],
            )
        )
        if not calls:
            break
        new = [
            {
                "type": "function_call_output",
                "call_id": call["call_id"],
                "output": f"{len(turns)}.{index} <|im_end|>\n {call['arguments']} é 🦊",
            }
            for index, call in enumerate(calls)
        ]
    return turns
