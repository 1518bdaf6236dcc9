"""Families whose calls are read, forced to call on a real llama.cpp.

The weights are random, so what comes out is whatever the grammar lets through: in llguidance and in
GBNF. The engine holds every id against the original grammar, and an independent validator judges
the arguments.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec import Raw, Struct
from tests.integration.test_llamacpp_templates import play
from tests.random_model import random_model
from tests.unit.rendering.imitations import TEMPLATES, byte_level

from turnwire.engines.llamacpp import LlamaCppEngine
from turnwire.engines.llamacpp_grammar import Dialect
from turnwire.engines.llamacpp_process import LlamaCppModel, start_llamacpp
from turnwire.engines.llamacpp_server import LlamaCppOptions
from turnwire.engines.vocabulary import Vocabulary
from turnwire.gguf import read_gguf
from turnwire.models.base import Settings
from turnwire.models.token_model import TokenModel
from turnwire.protocol.codec import decode_tool_choice, decode_tools
from turnwire.protocol.items import FunctionCall, InputText, Message
from turnwire.rendering.load import load_gguf

FAMILIES = ("qwen-coder", "qwen-coder, tags as text", "glm", "dsml", "kimi")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"enum": ["a.py", "größe.md"]},
        "name": {"type": "string", "maxLength": 6},
        "code": {"type": "string", "pattern": "^[a-c]{2}-[0-9]$"},
        "line": {"type": "integer", "minimum": -9, "maximum": 99},
        "deep": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        "none": {"type": ["null", "integer"], "maximum": 3, "minimum": 0},
    },
    "required": ["path", "line", "code"],
    "additionalProperties": False,
}


def tools(schema: dict[str, Any]) -> Raw:
    """One strict function with these parameters."""
    tool = {"type": "function", "name": "read", "strict": True, "parameters": schema}
    return Raw(json.dumps([tool]).encode())


class Running(Struct, frozen=True):
    """A family on llama.cpp."""

    name: str
    model: TokenModel


@pytest.fixture(
    params=[
        *((name, Dialect.LLGUIDANCE) for name in FAMILIES),
        *((name, Dialect.GBNF) for name in (*FAMILIES, "qwen2", "mistral, named")),
    ],
    ids=lambda param: f"{param[0]}-{param[1].value}",
)
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """One process."""
    name, dialect = request.param
    source, special = TEMPLATES[name]
    assert source is not None
    leanings = dict.fromkeys(special[4:], 6.0)
    tokens = byte_level(dict.fromkeys((*special, "<|endoftext|>", "<|im_end|>")))
    path = random_model(tokenizer=tokens, chat_template=source, leanings=leanings)
    template = load_gguf(read_gguf(path)).template
    tokenizer = template.tokenizer
    engine = await start_llamacpp(
        path,
        Vocabulary(tokenizer.token_bytes(), tokenizer.special, tokenizer.encode),
        model=LlamaCppModel(window=4096, slots=1, threads=1, cache_ram_mib=0),
        options=LlamaCppOptions(dialect=dialect),
    )
    assert isinstance(engine, LlamaCppEngine)
    try:
        yield Running(name, TokenModel(name, template, engine))
    finally:
        await engine.aclose()


async def test_forced_calls_obey(running: Running) -> None:
    """Their arguments are valid, whether quotes and escapes or only tags hold them."""
    offered = decode_tools(tools(SCHEMA))
    ended = 0
    for seed in range(5):
        how = Settings(
            tools=offered,
            tool_choice=decode_tool_choice(Raw(b'"required"'), offered),
            parallel_tool_calls=False,
            temperature=1.0,
            max_output_tokens=300,
        )
        question = Message(role="user", content=(InputText(text=f"Go {seed}."),))
        items, _, _ = await play(running.model.prepare(None, [question], how))
        for item in items:
            if isinstance(item, FunctionCall) and item.status == "completed":
                Draft202012Validator(SCHEMA).validate(json.loads(item.arguments))
                ended += 1
    assert ended >= 4


async def test_free_text_up_to_a_tag(running: Running) -> None:
    """A string without bounds is any text; every id is what the original grammar lets through."""
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
        "additionalProperties": False,
    }
    offered = decode_tools(tools(schema))
    how = Settings(
        tools=offered,
        tool_choice=decode_tool_choice(Raw(b'"required"'), offered),
        temperature=1.0,
        max_output_tokens=120,
    )
    items, _, used = await play(
        running.model.prepare(None, [Message(role="user", content=(InputText(text="Go."),))], how)
    )
    assert isinstance(items[0], FunctionCall)
    assert items[0].arguments.startswith('{"text": "')
    assert 0 < used.num_output_tokens
