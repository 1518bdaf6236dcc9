"""The Codex CLI on a GGUF file that llama.cpp runs: nothing is simulated, but the weights.

They are random, so what is said means nothing. What is judged is how it is said: transport,
events, usage, and what llama.cpp itself computed. Left to itself such a model would call any tool
with any arguments; here it must call `get_goal`, which changes nothing, once after each message of
the user, and may call nothing else. The end of a turn is the likeliest of its tokens, so that it
stops by itself, as Codex wants of a model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from tests.clients.conftest import Program, Proven
from tests.clients.tape import Json, Tape, taping
from tests.clients.test_codex import VERSION, codex, events, home, messages
from tests.integration.serving import config
from tests.random_model import random_model

from turnwire.context.chain import Context
from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess, start_llamacpp
from turnwire.engines.vocabulary import CALL, END_OF_TURN, Vocabulary
from turnwire.models.base import Settings
from turnwire.models.token_model import PreparedTokens, TokenModel
from turnwire.protocol.items import FunctionCallOutput, Item
from turnwire.protocol.tools import ToolChoice
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.server.app import serve

__all__ = ["codex"]

MODEL = LlamaCppModel(window=32_768, slots=2, threads=1, cache_ram_mib=0)
# A dozen tokens or so, rarely a hundred.
BRIEF = {END_OF_TURN: 17.0, CALL: -50.0}
ALLOWED = ("get_goal",)


class ObedientModel(TokenModel):
    """Calls a tool that is allowed, and says something to what it returns."""

    def prepare(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> PreparedTokens:
        """As of any token model, but the choice of tools is ours."""
        answered = bool(items) and isinstance(items[-1], FunctionCallOutput)
        choice = ToolChoice(mode="none" if answered else "required", allowed=ALLOWED)
        return super().prepare(parent, items, msgspec.structs.replace(settings, tool_choice=choice))


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Tape, LlamaCppProcess]]:
    """llama.cpp, a server on it with the model `harmless`, and a tape before that."""
    tokenizer = Tokenizer.shipped()
    vocabulary = Vocabulary(tokenizer.token_bytes(), tokenizer.special, tokenizer.encode)
    path = random_model(leanings=BRIEF)
    engine = await start_llamacpp(path, vocabulary, model=MODEL)
    assert isinstance(engine.host, LlamaCppProcess)
    model = ObedientModel("harmless", Renderer(tokenizer), engine, every_schema=True)
    async with serve(config(folder), models=[model]) as server, taping(server.url) as tape:
        yield tape, engine.host


async def num_computed(process: LlamaCppProcess) -> int:
    """Prompt tokens that llama.cpp has computed since it started, by its own count."""
    headers = {"Authorization": f"Bearer {process.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{process.url}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    (line,) = [line for line in lines if line.startswith("llamacpp:prompt_tokens_total ")]
    return int(float(line.split()[1]))


def check_usage(usages: Sequence[Json]) -> None:
    """A warm-up, a call and what is said to its result: each has all before it in the cache."""
    warm_up, call, answer = usages
    assert 0 == warm_up["output_tokens"]
    assert call["input_tokens_details"]["cached_tokens"] >= warm_up["input_tokens"] - 1
    # The last token of an output is sampled, not computed.
    held = call["input_tokens"] + call["output_tokens"] - 1
    assert held == answer["input_tokens_details"]["cached_tokens"]
    for usage in usages:
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


async def test_codex_on_a_gguf_file(
    codex: Path, program: Program, tmp_path: Path, proven: Proven
) -> None:
    """Two runs of one conversation over WebSocket: a tool round each, and only what is new."""
    async with serving(tmp_path / "data") as (tape, process):
        before = await num_computed(process)
        env = home(tmp_path, tape, websockets=True)
        options = ["--skip-git-repo-check", "--json"]
        first = events(await program([codex, "exec", *options, "Plan the day."], env))
        second = events(
            await program([codex, "exec", "resume", "--last", *options, "And now?"], env)
        )
        computed = await num_computed(process) - before

    tape.check_clean()
    assert [] == tape.posts
    assert 2 == len(tape.sockets)
    for socket, reported in zip(tape.sockets, (first, second), strict=True):
        assert [False, None, None] == [create.get("generate") for create in socket.creates]
        ids = [response["id"] for response in socket.responses]
        parents = [create.get("previous_response_id") for create in socket.creates]
        assert [None, *ids[:2]] == parents
        (call,) = socket.responses[1]["output"]
        assert ("get_goal", "{}") == (call["name"], call["arguments"])
        said = [item["content"][0]["text"] for item in socket.responses[2]["output"]]
        assert said == messages(reported)
        check_usage([response["usage"] for response in socket.responses])
        assert {"turn.completed"} == {reported[-1]["type"]}
        assert reported[-1]["usage"]["output_tokens"] > 0
    usages = [response["usage"] for response in tape.responses]
    uncached = [u["input_tokens"] - u["input_tokens_details"]["cached_tokens"] for u in usages]
    assert computed == sum(uncached)
    fact = "on a GGUF file in llama.cpp: a tool round in each of two runs, only what is new"
    proven("Codex CLI", VERSION, "WebSocket", fact)
