"""What the micro benches work on: an agent's tools, instructions and conversation, seeded."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any, Final

from msgspec import Raw

from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.engines.vocabulary import Vocabulary
from turnwire.models.token_model import TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer

__all__ = [
    "INSTRUCTIONS",
    "NUM_NEW_TOKENS",
    "TOOLS",
    "model",
    "renderer",
    "tool_output",
    "vocabulary",
]

NUM_NEW_TOKENS: Final = 400
"""Of a typical tool output: a listing, a part of a file, a test report."""

INSTRUCTIONS: Final = (
    "You are a coding agent. Work in small steps: read before you write, run the tests after "
    "each change, and say what you did in one short paragraph when the work is done."
)

_NAMES: Final = [
    "read_file",
    "write_file",
    "apply_patch",
    "list_directory",
    "search_text",
    "run_command",
    "run_tests",
    "git_diff",
    "git_log",
    "fetch_page",
    "update_plan",
    "ask_person",
]


def _tool(name: str) -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "description": f"Use {name.replace('_', ' ')} when the task needs it; see its parameters.",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Relative to the workspace."},
                "pattern": {"type": "string", "description": "A regular expression."},
                "limit": {"type": "integer", "description": "Most lines to return."},
                "mode": {"enum": ["fast", "full", "dry"]},
            },
            "required": ["path", "pattern", "limit", "mode"],
            "additionalProperties": False,
        },
        "strict": True,
    }


TOOLS: Final = Raw(json.dumps([_tool(name) for name in _NAMES]).encode())
"""Twelve tools, as a client sends them."""


@cache
def renderer() -> Renderer:
    """The shipped vocabulary under the shipped template."""
    return Renderer(Tokenizer.shipped())


@cache
def vocabulary() -> Vocabulary:
    """The same for engines."""
    tokenizer = renderer().tokenizer
    return Vocabulary(
        token_bytes=tokenizer.token_bytes(), special=tokenizer.special, encode=tokenizer.encode
    )


@cache
def model() -> TokenModel:
    """An unthrottled simulated model with a window for a million tokens."""
    return TokenModel("sim", renderer(), SimEngine(vocabulary(), SimProfile(window=1_048_576)))


_LINES: Final = (
    "src/{a}/{b}.py:{n}: def {b}(self, {a}: list[str]) -> dict[str, int]:",
    "    return {{key: value for key, value in self.{a}.items() if key != '{b}'}}",
    "PASSED tests/{a}/test_{b}.py::test_{a}_{b} in {n} ms",
    "{n} files changed, {n} insertions(+), {n} deletions(-)  {a}/{b}.toml",
    "# {a} and {b} are kept apart, because one of them may end first.",
)
_WORDS: Final = [
    "parser",
    "writer",
    "lane",
    "cache",
    "token",
    "engine",
    "session",
    "store",
    "event",
    "frame",
    "codec",
    "item",
]


def tool_output(seed: int, num_tokens: int = NUM_NEW_TOKENS) -> str:
    """Something a tool may print, of about so many tokens."""
    rng = random.Random(seed)
    encode = renderer().tokenizer.encode
    lines: list[str] = []
    size = 0
    while size < num_tokens:
        line = rng.choice(_LINES).format(
            a=rng.choice(_WORDS), b=rng.choice(_WORDS), n=rng.randrange(1000)
        )
        lines.append(line)
        size += len(encode(line + "\n"))
    return "\n".join(lines)
