"""LiveKit's LLM plugin over WebSocket: two questions of one conversation, with a tool.

Argument: base address.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Literal

from livekit.agents import llm  # type: ignore[import-not-found]
from livekit.agents.utils import http_context  # type: ignore[import-not-found]
from livekit.plugins.openai import responses  # type: ignore[import-not-found]

calls: list[dict[str, str]] = []


async def weather(city: Literal["Lisbon", "Oslo", "Quito"]) -> str:
    """The weather in a city."""
    calls.append({"city": city})
    return f"17 degrees in {city}"


async def main(base_url: str) -> None:
    """Ask and print."""
    async with http_context.open():  # a worker of theirs would do this
        await ask(base_url)


async def ask(base_url: str) -> None:
    """Play both turns."""
    # It wants the whole address, where others want the base.
    model: Any = responses.LLM(model="sim", base_url=f"{base_url}/responses", api_key="any")
    tool: Any = llm.function_tool(weather)
    chat: Any = llm.ChatContext.empty()
    chat.add_message(role="system", content="You know the weather.")
    answers = []
    for question in ("Where is it warm?", "And where is it cold?"):
        chat.add_message(role="user", content=question)
        while True:
            reply: Any = await model.chat(chat_ctx=chat, tools=[tool]).collect()
            if not reply.tool_calls:
                break
            for call in reply.tool_calls:
                result = await llm.execute_function_call(call, llm.ToolContext([tool]))
                chat.items.extend([result.fnc_call, result.fnc_call_out])
        chat.add_message(role="assistant", content=reply.text)
        answers.append(reply.text)
    await model.aclose()
    print(json.dumps({"answers": answers, "calls": calls}))


asyncio.run(main(sys.argv[1]))
