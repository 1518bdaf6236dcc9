"""The Agents SDK over WebSocket: two questions of one conversation, with a tool.

Argument: base address.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Literal

from agents import (
    Agent,
    function_tool,
    responses_websocket_session,
    set_tracing_disabled,
)

calls: list[dict[str, str]] = []


async def weather(city: Literal["Lisbon", "Oslo", "Quito"]) -> str:
    """The weather in a city."""
    calls.append({"city": city})
    return f"17 degrees in {city}"


async def main(base_url: str) -> None:
    """Ask and print."""
    set_tracing_disabled(True)
    agent: Any = Agent(
        name="Forecaster",
        instructions="You know the weather.",
        model="sim",
        tools=[function_tool(weather)],
    )
    answers = []
    parent = None
    async with responses_websocket_session(base_url=base_url, api_key="any") as session:
        for question in ("Where is it warm?", "And where is it cold?"):
            result = session.run_streamed(
                agent, question, previous_response_id=parent, auto_previous_response_id=True
            )
            async for _ in result.stream_events():
                pass
            answers.append(result.final_output)
            parent = result.last_response_id
    print(json.dumps({"answers": answers, "calls": calls}))


asyncio.run(main(sys.argv[1]))
