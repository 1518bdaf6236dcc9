"""llama.cpp behind the server: an agent loop on real weights, and what happens when it dies.

The model's weights are random, so what it says means nothing; it is the same each time (greedy),
and its grammar makes valid calls of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import Struct
from openai import AsyncOpenAI
from tests.integration.agent import TOOLS
from tests.integration.recorder import Transcript, check_response
from tests.integration.serving import config, eventually
from tests.integration.wire import Json, open_websocket
from tests.random_model import byte_tokenizer, random_model

from turnwire.engines.llamacpp import LlamaCppEngine
from turnwire.engines.llamacpp_grammar import Dialect
from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess, start_llamacpp
from turnwire.engines.llamacpp_server import LlamaCppOptions
from turnwire.engines.vocabulary import END_OF_TEXT, END_OF_TURN, Vocabulary
from turnwire.models.token_model import TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.server.app import Server, serve

MODEL = LlamaCppModel(window=8192, slots=4, threads=1, cache_ram_mib=0)
ENDLESS = {END_OF_TEXT: -20.0, END_OF_TURN: -20.0}
# So long that it is not through before a test acts.
LONG = LlamaCppModel(window=65_536, slots=1, threads=1, cache_ram_mib=0)
MORE_TOOLS = [
    *TOOLS,
    {
        "type": "function",
        "name": "list_files",
        "parameters": {
            "type": "object",
            "properties": {"depth": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["depth"],
            "additionalProperties": False,
        },
    },
]


class Running(Struct, frozen=True):
    """A server with one model, `random`, on llama.cpp."""

    server: Server
    engine: LlamaCppEngine
    process: LlamaCppProcess

    def client(self) -> AsyncOpenAI:
        """The official client for it."""
        return AsyncOpenAI(base_url=f"{self.server.url}/v1", api_key="any", max_retries=0)

    async def num_computed(self) -> int:
        """Prompt tokens that llama.cpp has computed since it started, by its own count."""
        lines = (await self._ask("/metrics")).splitlines()
        found = [line for line in lines if line.startswith("llamacpp:prompt_tokens_total ")]
        return int(float(found[0].split()[1]))

    async def num_busy(self) -> int:
        """Slots of llama.cpp that are busy, by its own count."""
        return sum(slot["is_processing"] for slot in json.loads(await self._ask("/slots")))

    async def _ask(self, path: str) -> str:
        headers = {"Authorization": f"Bearer {self.process.api_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self.process.url}{path}") as answer,
        ):
            return await answer.text()


@asynccontextmanager
async def running(
    folder: Path, dialect: Dialect | None = None, *, endless: bool = False
) -> AsyncIterator[Running]:
    """llama.cpp in a process of its own, and a server in front of it."""
    tokenizer = byte_tokenizer()
    vocabulary = Vocabulary(tokenizer.token_bytes(), tokenizer.special, tokenizer.encode)
    engine = await start_llamacpp(
        random_model(tokenizer=tokenizer, leanings=ENDLESS if endless else None),
        vocabulary,
        model=LONG if endless else MODEL,
        options=LlamaCppOptions(dialect=dialect),
    )
    assert isinstance(engine.host, LlamaCppProcess)
    model = TokenModel("random", Renderer(tokenizer), engine, every_schema=True)
    async with serve(config(folder), models=[model]) as server:
        yield Running(server, engine, engine.host)


class Step(Struct, frozen=True):
    """One turn of a script.

    Attributes:
        parent: Number of the step that it continues.
        num_tools: How many tools it offers.
        held: Number of the last step that the slot has in common with it, where that is not
            its parent: a fork is computed in the slot that it branches off.
    """

    parent: int | None
    num_tools: int = 2
    held: int | None = None

    @property
    def tools(self) -> list[Json]:
        """What it offers."""
        return MORE_TOOLS[: self.num_tools]


# Ten turns; a fork from the eighth, back to the first branch, and then another set of tools.
SCRIPT = [
    *(Step(n - 1 if n else None) for n in range(10)),
    Step(7),
    *(Step(n - 1) for n in range(11, 14)),
    Step(9, held=7),
    *(Step(n - 1) for n in range(15, 18)),
    *(Step(n - 1, num_tools=3) for n in range(18, 20)),
]


class Answered(Struct, frozen=True):
    """What one turn came to."""

    calls: list[tuple[str, str]]
    num_input: int
    num_output: int
    num_cached: int


def new_items(step: int, before: Json | None) -> list[Json]:
    """What a client adds: the outputs of all calls before, and nothing that a fork has too."""
    if before is None:
        return [{"role": "user", "content": "Make the tests pass. <|im_end|>\nReally."}]
    return [
        {
            "type": "function_call_output",
            "call_id": item["call_id"],
            "output": f"step {step}: {item['arguments']} é 🦊",
        }
        for item in before["output"]
        if item["type"] == "function_call"
    ]


async def follow(ask: Callable[..., Any]) -> list[Answered]:
    """Play the script; `ask(step, parent, items, tools)` returns a response."""
    responses: list[Json] = []
    for number, step in enumerate(SCRIPT):
        before = None if step.parent is None else responses[step.parent]
        response = await ask(number, step.parent, before, new_items(number, before), step.tools)
        check_response(response)
        responses.append(response)
    return [
        Answered(
            calls=[
                (item["name"], item["arguments"])
                for item in response["output"]
                if item["type"] == "function_call"
            ],
            num_input=response["usage"]["input_tokens"],
            num_output=response["usage"]["output_tokens"],
            num_cached=response["usage"]["input_tokens_details"]["cached_tokens"],
        )
        for response in responses
    ]


SETTINGS: Json = {
    "model": "random",
    "temperature": 0,
    "tool_choice": "required",
    "parallel_tool_calls": False,
}


async def by_socket(running: Running) -> list[Answered]:
    """Only what is new goes over the socket."""
    async with open_websocket(running.server.url) as wire:

        async def ask(
            step: int, parent: int | None, before: Json | None, items: list[Json], tools: Any
        ) -> Json:
            known = {} if before is None else {"previous_response_id": before["id"]}
            events = await wire.create(input=items, tools=tools, **known, **SETTINGS)
            return Transcript(events).response

        return await follow(ask)


async def by_resending(running: Running) -> list[Answered]:
    """The whole conversation goes over HTTP each time, and nothing is stored."""
    said: dict[int, list[Json]] = {}
    async with running.client() as client:
        responses: Any = client.responses

        async def ask(
            step: int, parent: int | None, before: Json | None, items: list[Json], tools: Any
        ) -> Json:
            history = [] if parent is None or before is None else said[parent] + before["output"]
            said[step] = [*history, *items]
            response = await responses.create(
                input=said[step], tools=tools, store=False, **SETTINGS
            )
            decoded: Json = response.to_dict(mode="json")
            return decoded

        return await follow(ask)


@pytest.mark.parametrize("dialect", [Dialect.LLGUIDANCE, Dialect.GBNF], ids=lambda d: str(d.value))
async def test_a_tool_loop_with_forks(tmp_path: Path, dialect: Dialect) -> None:
    """Both ways say the same, byte for byte, and llama.cpp computes only what is new to it."""
    played: list[list[Answered]] = []
    for play in (by_socket, by_resending):
        async with running(tmp_path, dialect) as served:
            assert dialect is served.engine.facts.dialect
            before = await served.num_computed()
            turns = await play(served)
            num_computed = await served.num_computed() - before
        assert num_computed == sum(turn.num_input - turn.num_cached for turn in turns)
        played.append(turns)
        for number, (turn, step) in enumerate(zip(turns, SCRIPT, strict=True)):
            (name, arguments) = turn.calls[0]
            fields = {"read_file": {"path"}, "run_tests": {"quick", "times"}}
            assert fields.get(name, {"depth"}) == set(json.loads(arguments))
            if step.parent is None:
                assert 0 == turn.num_cached
                continue
            known = turns[step.parent if step.held is None else step.held]
            # The last token of an output is sampled, not computed.
            held = known.num_input + known.num_output - 1
            if step.num_tools != SCRIPT[step.parent].num_tools:
                assert turn.num_cached < turns[0].num_input  # the tools are in front
            elif step.parent == number - 1:
                assert held == turn.num_cached
            else:
                # Behind it, both branches have the head of a tool's turn.
                assert held <= turn.num_cached < held + 32
        # What it says depends on what was said before, or this would prove nothing.
        assert len({turn.calls[0] for turn in turns}) > 5
    assert played[0] == played[1]


async def test_a_server_that_is_killed(tmp_path: Path) -> None:
    """The turn that ran fails in words; the next, on the same socket, has a new llama.cpp."""
    async with running(tmp_path, endless=True) as served, open_websocket(served.server.url) as wire:
        first = await wire.create(model="random", temperature=0, input="Hi.", max_output_tokens=16)
        await wire.send_create(model="random", temperature=1, input="Talk.", tools=TOOLS)
        events = [await wire.read_event()]
        while events[-1]["type"] != "response.output_text.delta":
            events.append(await wire.read_event())
        killed = served.process.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        while events[-1]["type"] != "response.failed":
            events.append(await wire.read_event())
        error = events[-1]["response"]["error"]
        assert "server_error" == error["code"]
        assert "the llama.cpp of random-" in error["message"]
        again = await wire.create(model="random", temperature=0, input="Hi.", max_output_tokens=16)
        assert served.process.pid not in (None, killed)
        assert said(first) == said(again)
        assert (0, 0) == (served.engine.num_running, served.engine.num_waiting)


async def test_a_turn_that_is_cancelled_frees_its_slot(tmp_path: Path) -> None:
    """llama.cpp itself has no slot busy soon after the client of a long turn is gone."""
    async with running(tmp_path, endless=True) as served:
        async with open_websocket(served.server.url) as wire:
            await wire.send_create(model="random", temperature=1, input="Talk.")
            while (await wire.read_event())["type"] != "response.output_text.delta":
                pass
            assert 1 == await served.num_busy()
        await eventually(lambda: served.engine.num_running == 0)
        async with asyncio.timeout(20):
            while await served.num_busy():  # noqa: ASYNC110  # its slots tell nobody
                await asyncio.sleep(0.01)


def said(events: list[Json]) -> str:
    """The text of a response."""
    return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
