"""A Pipecat pipeline over WebSocket: two questions with a tool, an interruption between them.

Argument: base address.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pipecat.adapters.schemas.function_schema import FunctionSchema  # type: ignore[import-not-found]
from pipecat.adapters.schemas.tools_schema import ToolsSchema  # type: ignore[import-not-found]
from pipecat.frames.frames import (  # type: ignore[import-not-found]
    EndFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMMessagesAppendFrame,
    LLMTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # type: ignore[import-not-found]
from pipecat.pipeline.worker import PipelineWorker  # type: ignore[import-not-found]
from pipecat.processors.aggregators.llm_context import (  # type: ignore[import-not-found]
    LLMContext,
)
from pipecat.processors.aggregators.llm_response_universal import (  # type: ignore[import-not-found]
    LLMContextAggregatorPair,
)
from pipecat.processors.frame_processor import (  # type: ignore[import-not-found]
    FrameDirection,
    FrameProcessor,
)
from pipecat.services.openai.responses.llm import (  # type: ignore[import-not-found]
    OpenAIResponsesLLMService,
)
from pipecat.workers.runner import WorkerRunner  # type: ignore[import-not-found]

# It notes the result of a call right behind the call. So after several calls at once its
# conversation is another than the server's, and it sends all of it.
SINGLE = {"metadata": {"sim.parallel_calls": "1"}}
LONG = {"metadata": {"sim.output_tokens": "1000000"}, "tool_choice": "none"}
calls: list[dict[str, str]] = []


class Listener(FrameProcessor):  # type: ignore[misc]
    """Hears what the model says, and interrupts it where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupts = False
        self.said = asyncio.Queue[str]()
        self._text = ""
        self._cut = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take a frame, and pass it on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMFullResponseStartFrame):
            self._text, self._cut = "", False
        elif isinstance(frame, LLMTextFrame):
            self._text += frame.text
            if self.interrupts:
                self.interrupts, self._cut = False, True
                await self.broadcast_interruption()
        elif isinstance(frame, LLMFullResponseEndFrame) and self._text:
            self.said.put_nowait("" if self._cut else self._text)
        await self.push_frame(frame, direction)


async def weather(params: Any) -> None:
    """The tool."""
    calls.append(dict(params.arguments))
    await params.result_callback({"degrees": 17})


async def main(base_url: str) -> None:
    """Ask and print."""
    settings = OpenAIResponsesLLMService.Settings(
        model="sim", system_instruction="You know the weather."
    )
    model = OpenAIResponsesLLMService(
        api_key="any",
        base_url=base_url,
        ws_url=f"{base_url.replace('http', 'ws', 1)}/responses",
        settings=settings,
    )
    model.register_function("weather", weather)
    cities = {"city": {"type": "string", "enum": ["Lisbon", "Oslo", "Quito"]}}
    tool = FunctionSchema("weather", "The weather in a city.", cities, ["city"])
    context = LLMContext(tools=ToolsSchema(standard_tools=[tool]))
    aggregators = LLMContextAggregatorPair(context)
    listener = Listener()
    parts = [aggregators.user(), model, listener, aggregators.assistant()]
    worker = PipelineWorker(Pipeline(parts), cancel_on_idle_timeout=False)

    async def say(text: str) -> str:
        message = {"role": "user", "content": text}
        await worker.queue_frame(LLMMessagesAppendFrame(messages=[message], run_llm=True))
        return await listener.said.get()

    async def ask() -> list[str]:
        model._settings.extra = SINGLE
        answers = [await say("Where is it warm?")]
        model._settings.extra = LONG
        listener.interrupts = True
        assert "" == await say("Tell me everything.")
        model._settings.extra = SINGLE
        answers.append(await say("And where is it cold?"))
        await worker.queue_frame(EndFrame())
        return answers

    runner = WorkerRunner(handle_sigint=False)
    asking = asyncio.create_task(ask())
    await runner.run(worker)
    print(json.dumps({"answers": await asking, "calls": calls}))


asyncio.run(main(sys.argv[1]))
