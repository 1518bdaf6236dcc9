"""pydantic-ai with its WebSocket transport: two questions of one conversation, with a tool.

Argument: base address.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Literal

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider

calls: list[dict[str, str]] = []


async def weather(city: Literal["Lisbon", "Oslo", "Quito"]) -> str:
    """The weather in a city."""
    calls.append({"city": city})
    return f"17 degrees in {city}"


async def main(base_url: str) -> None:
    """Ask and print."""
    model = OpenAIResponsesModel(
        "sim",
        provider=OpenAIProvider(base_url=base_url, api_key="any"),
        profile=OpenAIModelProfile(openai_responses_supports_websocket=True),
    )
    agent: Any = Agent(
        model,
        instructions="You know the weather.",
        tools=[weather],
        model_settings=OpenAIResponsesModelSettings(openai_transport="websocket"),
    )
    answers = []
    history: Any = None
    async with agent:
        for question in ("Where is it warm?", "And where is it cold?"):
            result = await agent.run(question, message_history=history)
            answers.append(result.output)
            history = result.all_messages()
    print(json.dumps({"answers": answers, "calls": calls}))


asyncio.run(main(sys.argv[1]))
