"""LangChain's chat model, streaming: two questions of one conversation, with a tool.

Argument: base address.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Lisbon", "Oslo", "Quito"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def main(base_url: str) -> None:
    """Ask and print."""
    chat = ChatOpenAI(model="sim", base_url=base_url, api_key="any", use_responses_api=True)
    model: Any = chat.bind_tools([WEATHER], strict=True)
    answers: list[str] = []
    calls: list[dict[str, str]] = []
    messages: list[Any] = []
    for question in ("Where is it warm?", "And where is it cold?"):
        messages.append(HumanMessage(question))
        while True:
            reply: Any = None
            for piece in model.stream(messages):
                reply = piece if reply is None else reply + piece
            messages.append(reply)
            if not reply.tool_calls:
                break
            for call in reply.tool_calls:
                calls.append(call["args"])
                messages.append(ToolMessage("17 degrees", tool_call_id=call["id"]))
        answers.append(reply.text)
    print(json.dumps({"answers": answers, "calls": calls}))


main(sys.argv[1])
