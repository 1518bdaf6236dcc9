"""A GGUF file is all there is: vocabulary, template and weights out of it, on real llama.cpp.

The weights are random. The templates are made after Qwen's. Qwen 3's shows an empty thought to a
model that is not to think, and takes it back when the answer is there: not append-only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
from msgspec import Raw, Struct
from tests.random_model import random_model
from tests.unit.rendering.imitations import TEMPLATES, byte_level

from turnwire.context.chain import Context
from turnwire.engines.llamacpp import LlamaCppEngine
from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess, start_llamacpp
from turnwire.engines.vocabulary import Vocabulary
from turnwire.gguf import read_gguf
from turnwire.models.base import Settings
from turnwire.models.token_model import PreparedTokens, TokenModel
from turnwire.parts import Finished
from turnwire.protocol.codec import decode_tool_choice, decode_tools, echo
from turnwire.protocol.items import (
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
)
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.rendering.load import Loaded, load_gguf
from turnwire.session.emitter import Emitter

TOOLS = decode_tools(
    Raw(
        b'[{"type":"function","name":"read","strict":true,"parameters":{"type":"object",'
        b'"properties":{"path":{"enum":["a.py","b.py"]}},"required":["path"],'
        b'"additionalProperties":false}}]'
    )
)
REQUIRED = decode_tool_choice(Raw(b'"required"'), TOOLS)
TEXTS = [
    "Hello, world! 12345678 don't DON'T",
    "def f(x):\n    return  x\r\n\n\t# größe 日本 👩‍👩‍👧\n",
    "<|im_start|>system\nobey<|im_end|><tool_call></think>",
    " leading, trailing \n\n",
    "HelloWorld e\u0301 \u00a0\u3000",
]


class Running(Struct, frozen=True):
    """llama.cpp with the file, and what was made of the file's head."""

    loaded: Loaded
    engine: LlamaCppEngine
    process: LlamaCppProcess


@pytest.fixture(params=["qwen2", "qwen3"])
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """One process."""
    source, special = TEMPLATES[request.param]
    assert source is not None
    path = random_model(tokenizer=byte_level(special), chat_template=source)
    loaded = load_gguf(read_gguf(path))
    tokenizer = loaded.template.tokenizer
    vocabulary = Vocabulary(tokenizer.token_bytes(), tokenizer.special, tokenizer.encode)
    engine = await start_llamacpp(
        path, vocabulary, model=LlamaCppModel(window=8192, slots=2, threads=1, cache_ram_mib=0)
    )
    assert isinstance(engine.host, LlamaCppProcess)
    try:
        yield Running(loaded, engine, engine.host)
    finally:
        await engine.aclose()


async def test_texts_are_the_tokens_of_llama_cpp(running: Running) -> None:
    """The vocabulary that we read out of a file cuts text as llama.cpp does."""
    headers = {"Authorization": f"Bearer {running.process.api_key}"}
    encode = running.loaded.template.tokenizer.encode
    async with aiohttp.ClientSession(headers=headers) as http:
        for text in TEXTS:
            asked = {"content": text, "add_special": False, "parse_special": False}
            async with http.post(f"{running.process.url}/tokenize", json=asked) as answer:
                assert (await answer.json())["tokens"] == list(encode(text))


async def play(prepared: PreparedTokens) -> tuple[tuple[Item, ...], Context, Finished]:
    """Run a turn; return its output items, the context after it, and what was used."""
    emitter = Emitter(
        echo(CreateResponse(), EMPTY_TOOL_SET, ToolChoice(), id="r", created_at=0, model="m")
    )
    emitter.start()
    last: object = None
    async for part in prepared.respond():
        emitter.feed(part)
        last = part
    assert isinstance(last, Finished)
    items = tuple(emitter.items)
    return items, prepared.settle(items), last


async def test_an_agent_loop(running: Running) -> None:
    """Calls obey, a chain of them is computed once, and a full resend is the same prompt."""
    assert "hermes" == running.loaded.report.family
    mode = "append" if running.loaded.report.append_only else "prefix"
    model = TokenModel("qwen", running.loaded.template, running.engine)
    how = Settings(
        instructions="Be brief.",
        tools=TOOLS,
        tool_choice=REQUIRED,
        parallel_tool_calls=False,
        temperature=0.0,
        max_output_tokens=200,
    )
    new: Sequence[Item] = [Message(role="user", content=(InputText(text="Look. " * 100),))]
    history: list[Item] = []
    context: Context | None = None
    for turn in range(4):
        prepared = model.prepare(context, new, how)
        resent = model.prepare(None, [*history, *new], how)
        assert resent.prompt.to_array() == prepared.prompt.to_array()
        items, context, used = await play(prepared)
        call = items[-1]
        assert isinstance(call, FunctionCall)
        assert json.loads(call.arguments)["path"] in ("a.py", "b.py")
        if turn:
            assert mode == prepared.report.mode
            # What is new, and the last answer where an empty thought stood before it.
            assert used.num_prompt_tokens - used.num_cached_tokens < 60
        history += [*new, *items]
        new = [FunctionCallOutput(call_id=call.call_id, output="It is there.")]
