"""Models made up for tests: vocabularies and chat templates after those of real families.

The templates are written for these tests. Each has what makes its family hard: system prompts of
its own, tools in odd places, reasoning that is dropped, texts that are trimmed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from tests.unit.rendering.spelled_imitations import SPELLED

from turnwire.gguf import GgufHeader
from turnwire.rendering.load import Loaded, load_template
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.rendering.vocabulary import from_gguf
from turnwire.tokens import TokenArray, token_array

__all__ = [
    "BARE",
    "DEEPSEEK",
    "GEMMA",
    "HARMONY_TOKENS",
    "LLAMA3",
    "MISTRAL",
    "MISTRAL_NAMED",
    "QWEN2",
    "QWEN3",
    "TEMPLATES",
    "byte_level",
    "encoded",
    "loaded",
    "sentence_piece",
    "shown",
]

_TOOLS = r"""
{%- macro listing() -%}
# Tools\n<tools>{% for tool in tools %}{{ "\n" + tool | tojson }}{% endfor %}{{ "\n</tools>" }}
{%- endmacro -%}
"""

_CHATML_TURNS = r"""
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n" }}
    {%- elif message.role == "assistant" %}
        {{- "<|im_start|>assistant\n" }}
        {%- set text = message.content %}
        @THOUGHTS@
        {{- text }}
        {%- for call in message.tool_calls or [] %}
            {{- "\n" if text or not loop.first }}
            {{- "<tool_call>\n{\"name\": \"" + call.function.name + "\", \"arguments\": " }}
            {{- call.function.arguments | tojson }}
            {{- "}\n</tool_call>" }}
        {%- endfor %}
        {{- "<|im_end|>\n" }}
    {%- elif message.role == "tool" %}
        {%- if messages[loop.index0 - 1].role != "tool" %}{{- "<|im_start|>user" }}{% endif %}
        {{- "\n<tool_response>\n" + message.content + "\n</tool_response>" }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}
            {{- "<|im_end|>\n" }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
"""

QWEN2 = (
    _TOOLS
    + r"""
{%- set own = messages[0].content if messages[0].role == "system" else "You are a model." %}
{{- "<|im_start|>system\n" + own }}{% if tools %}{{- "\n\n" + listing() }}{% endif %}
{{- "<|im_end|>\n" }}
"""
    + _CHATML_TURNS.replace("@THOUGHTS@", "")
    + '{% if add_generation_prompt %}{{- "<|im_start|>assistant\\n" }}{% endif %}'
)
"""A system prompt of its own, which a client's system message replaces."""

QWEN3 = (
    _TOOLS
    + r"""
{%- if messages[0].role == "system" or tools %}
    {{- "<|im_start|>system\n" }}
    {%- if messages[0].role == "system" %}{{- messages[0].content + "\n\n" }}{% endif %}
    {%- if tools %}{{- listing() }}{% endif %}{{- "<|im_end|>\n" }}
{%- endif %}
{%- set at = namespace(query=-1) %}
{%- for message in messages %}
    {%- if message.role == "user" %}{% set at.query = loop.index0 %}{% endif %}
{%- endfor %}
"""
    + _CHATML_TURNS.replace(
        "@THOUGHTS@",
        r"""{%- if message.reasoning_content and loop.index0 > at.query %}
            {{- "<think>\n" + message.reasoning_content.strip("\n") + "\n</think>\n\n" }}
            {%- set text = text.lstrip("\n") %}
        {%- endif %}""",
    )
    + r"""
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\n" }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- "<think>\n\n</think>\n\n" }}
    {%- endif %}
{%- endif %}
"""
)
"""Drops reasoning once a user speaks again; an empty thought stands where there is to be none."""

LLAMA3 = r"""
{{- bos_token }}
{%- set begin = namespace(at=0, tools=tools) %}
{{- "<|start_header_id|>system<|end_header_id|>\n\nDate: " + strftime_now("%Y") + "\n\n" }}
{%- if messages[0].role == "system" %}
    {{- messages[0].content | trim }}{% set begin.at = 1 %}
{%- endif %}
{{- "<|eot_id|>" }}
{%- if tools and messages[begin.at].role != "user" %}{{- raise_exception("No user") }}{% endif %}
{%- for message in messages[begin.at:] %}
    {%- if message.role == "tool" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" + message.content | tojson }}
        {{- "<|eot_id|>" }}
    {%- elif message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}{{- raise_exception("One call.") }}{% endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}
        {{- '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + "}" }}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>" + message.role + "<|end_header_id|>\n\n" }}
        {%- if begin.tools and message.role == "user" %}
            {%- for tool in tools %}{{- tool | tojson(indent=4) + "\n\n" }}{% endfor %}
            {%- set begin.tools = none %}
        {%- endif %}
        {{- message.content | trim + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}
{%- endif %}
"""
"""Trims, quotes outputs, puts tools into the first user's message and takes one call a turn."""

_MISTRAL_TURNS = r"""
{{- bos_token }}
{%- set last = namespace(user=-1) %}
{%- for message in messages %}
    {%- if message.role == "user" %}{% set last.user = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "system" %}
        {%- if not loop.first %}{{- raise_exception("Only one, and first.") }}{% endif %}
        {{- "[SYSTEM_PROMPT]" + message.content + "[/SYSTEM_PROMPT]" }}
    {%- elif message.role == "user" %}
        {%- if loop.index0 and messages[loop.index0 - 1].role == "user" %}
            {{- raise_exception("Roles must alternate.") }}
        {%- endif %}
        {%- if tools and loop.index0 == last.user %}
            {{- "[AVAILABLE_TOOLS]" + tools | tojson + "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST]" + message.content + "[/INST]" }}
    {%- elif message.tool_calls %}
        @CALLS@
        {{- eos_token }}
    {%- elif message.role == "assistant" %}
        {{- message.content + eos_token }}
    {%- else %}
        @RESULT@
    {%- endif %}
{%- endfor %}
"""

MISTRAL = _MISTRAL_TURNS.replace(
    "@CALLS@",
    r"""{{- "[TOOL_CALLS][" }}
        {%- for call in message.tool_calls %}
            {%- if call.id | length != 9 %}{{- raise_exception("Nine letters.") }}{% endif %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
            {{- "]" if loop.last else ", " }}
        {%- endfor %}""",
).replace(
    "@RESULT@",
    r"""{{- '[TOOL_RESULTS]{"content": ' + message.content + ', "call_id": "' }}
        {{- message.tool_call_id + '"}[/TOOL_RESULTS]' }}""",
)
"""Tools before the last user's message, calls as a list with ids, roles that alternate."""

MISTRAL_NAMED = _MISTRAL_TURNS.replace(
    "@CALLS@",
    r"""{%- for call in message.tool_calls %}
            {{- "[TOOL_CALLS]" + call.function.name + "[CALL_ID]" + call.id + "[ARGS]" }}
            {{- call.function.arguments | tojson }}
        {%- endfor %}""",
).replace(
    "@RESULT@",
    r"""{{- "[TOOL_RESULTS]" + message.tool_call_id + "[TOOL_CONTENT]" + message.content }}
        {{- "[/TOOL_RESULTS]" }}""",
)
"""The same with calls by name."""

GEMMA = r"""
{{- bos_token }}
{%- if messages[0].role == "system" %}{{- raise_exception("System role not supported") }}{% endif %}
{%- for message in messages %}
    {%- if (message.role == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Roles must alternate user/assistant/user/assistant/...") }}
    {%- endif %}
    {%- set role = "model" if message.role == "assistant" else message.role %}
    {{- "<start_of_turn>" + role + "\n" + message.content | trim + "<end_of_turn>\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<start_of_turn>model\n" }}{% endif %}
"""
"""No system messages, no tools, roles that alternate: a family that no renderer of ours knows."""

BARE = r"""
{%- for message in messages %}
    {{- "### " + message.role + ":\n" + message.content + "\n\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "### assistant:\n" }}{% endif %}
"""
"""No special token anywhere."""

_DEEPSEEK_TOKENS = tuple(
    f"<\uff5c{name}\uff5c>"
    for name in ("begin\u2581of\u2581sentence", "end\u2581of\u2581sentence", "User", "Assistant")
)
_BEGIN, _END, _USER, _ASSISTANT = _DEEPSEEK_TOKENS

DEEPSEEK = rf"""
{{{{- bos_token }}}}
{{%- for message in messages %}}
    {{%- if message.role == "system" %}}{{{{- message.content }}}}
    {{%- elif message.role == "assistant" %}}
        {{{{- "{_ASSISTANT}" + message.content + "{_END}" }}}}
    {{%- else %}}{{{{- "{_USER}" + message.content }}}}
    {{%- endif %}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}{{{{- "{_ASSISTANT}" }}}}{{% endif %}}
"""
"""Nothing ends a message but an answer, and the tags are not of ASCII."""

_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
HARMONY_TOKENS = (
    *("<|endoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>"),
    *("<|return|>", "<|call|>"),
)
_MISTRAL_TOKENS = (
    *("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
)
_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
_RESPONSES = ("<tool_response>", "</tool_response>")

TEMPLATES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "qwen2": (QWEN2, (*_CHATML, "<tool_call>", "</tool_call>")),
    "qwen2, tags as text": (QWEN2, _CHATML),
    "qwen3": (QWEN3, (*_CHATML, *_TAGS, *_RESPONSES)),
    "qwen3, tags as text": (QWEN3, _CHATML),
    "llama3": (
        LLAMA3,
        (
            *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
            *("<|eot_id|>", "<|eom_id|>", "<|python_tag|>"),
        ),
    ),
    "mistral": (MISTRAL, _MISTRAL_TOKENS),
    "mistral, named": (
        MISTRAL_NAMED,
        (*_MISTRAL_TOKENS, "[ARGS]", "[CALL_ID]", "[TOOL_CONTENT]"),
    ),
    "gemma": (GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")),
    "bare": (BARE, ("<s>", "</s>")),
    "deepseek": (DEEPSEEK, _DEEPSEEK_TOKENS),
    "harmony": (None, HARMONY_TOKENS),
    **SPELLED,
}
"""By name: a template and the special tokens of its vocabulary."""


@cache
def _shipped() -> str:
    file = resources.files("turnwire.rendering") / "data" / "turnwire.json"
    return file.read_text("utf-8")


def byte_level(special: Iterable[str], added: Sequence[str] = ()) -> Tokenizer:
    """The shipped vocabulary's words with other special tokens.

    Args:
        special: Names of special tokens.
        added: Names of added tokens that are not called special, as Qwen's `<tool_call>`.
    """
    tree: dict[str, Any] = json.loads(_shipped())
    free = 1 + max(tree["model"]["vocab"].values())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tree["added_tokens"] = [
        {"id": free + n, "content": name, "special": name not in added, **flags}
        for n, name in enumerate((*special, *added))
    ]
    return Tokenizer(json.dumps(tree))


def sentence_piece(special: Sequence[str], *, prefix: bool) -> Tokenizer:
    """A small vocabulary of SentencePiece's kind, through the metadata of a GGUF file."""
    blank = "\N{LOWER ONE EIGHTH BLOCK}"
    words = ["file", "read", "Hello", f"{blank}the", f"{blank}a", "name", "arguments", "  "]
    tokens = ["<unk>", *special, *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [2, *(3 for _ in special), *(6 for _ in range(256))]
    pieces: dict[str, None] = dict.fromkeys((blank, *map(chr, range(33, 127))))
    for word in words:
        spelled = word.replace(" ", blank)
        pieces.update(dict.fromkeys(spelled[:end] for end in range(1, len(spelled) + 1)))
    tokens += pieces
    types += [1] * len(pieces)
    scores = [0.0] * (1 + len(special) + 256) + [-float(n) for n in range(len(pieces))]
    return from_gguf(
        GgufHeader(
            "test.gguf",
            3,
            0,
            {
                "tokenizer.ggml.model": "llama",
                "tokenizer.ggml.tokens": tuple(tokens),
                "tokenizer.ggml.token_type": tuple(types),
                "tokenizer.ggml.scores": tuple(scores),
                "tokenizer.ggml.add_space_prefix": prefix,
            },
        )
    )


@cache
def loaded(
    name: str,
    family: str | None = None,
    *,
    pieces: bool = False,
    tokenizer: Tokenizer | None = None,
) -> Loaded:
    """A model of `TEMPLATES`, loaded.

    Args:
        name: Which.
        family: A family to ask for.
        pieces: Whether its vocabulary is of SentencePiece's kind.
        tokenizer: A vocabulary with its special tokens; else a small one is made.
    """
    source, special = TEMPLATES[name]
    if tokenizer is None:
        tokenizer = sentence_piece(special, prefix=True) if pieces else byte_level(special)
    ends = ("</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", _END, "<|end|>")
    begins = ("<s>", "<bos>", "<|begin_of_text|>", _BEGIN)
    bos = next((token for token in begins if token in special), "")
    eos = next((token for token in ends if token in special), "")
    return load_template(
        tokenizer,
        source,
        family=family,
        variables={"bos_token": bos, "eos_token": eos},
        stop=frozenset((tokenizer.special[eos],)),
    )


def spoken(family: str, thought: str, text: str, calls: Sequence[tuple[str, str]]) -> str:
    """What a model of a family writes, with its stop token; calls are names and arguments."""
    match family:
        case "hermes":
            body = [f"<think>\n{thought}\n</think>\n\n" if thought else "", text]
            for n, (name, arguments) in enumerate(calls):
                body.append("\n" if text or n else "")
                body.append(
                    f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
                )
            return "".join(body) + "<|im_end|>"
        case "llama3":
            if calls:
                name, arguments = calls[0]
                return f'{{"name": "{name}", "parameters": {arguments}}}<|eot_id|>'
            return f"{text}<|eot_id|>"
        case "mistral":
            listed = ", ".join(f'{{"name": "{n}", "arguments": {a}}}' for n, a in calls)
            return f"[TOOL_CALLS][{listed}]</s>" if calls else f"{text}</s>"
        case "named":
            listed = "".join(f"[TOOL_CALLS]{n}[CALL_ID]abcdefghi[ARGS]{a}" for n, a in calls)
            return f"{listed or text}</s>"
        case "harmony":
            body = []
            if thought:
                body.append(f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant")
            if text:
                channel = "commentary" if calls else "final"
                body.append(f"<|channel|>{channel}<|message|>{text}")
            if calls:
                name, arguments = calls[0]
                body.append("<|end|><|start|>assistant" if text else "")
                body.append(
                    f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
                    f"{arguments}<|call|>"
                )
            return "".join(body) + ("" if calls else "<|return|>")
        case "gemma":
            return f"{text}<end_of_turn>"
        case "deepseek":
            return f"{text}<\uff5cend\u2581of\u2581sentence\uff5c>"
        case _:
            return f"{text}</s>"


def encoded(tokenizer: Tokenizer, text: str) -> TokenArray:
    """Text with special tokens by name, as a model would sample it."""
    names = sorted(tokenizer.special, key=len, reverse=True)
    ids = token_array()
    for piece in re.split("(" + "|".join(map(re.escape, names)) + ")", text):
        if piece in tokenizer.special:
            ids.append(tokenizer.special[piece])
        elif piece:
            ids += tokenizer.encode(piece)
    return ids


def shown(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Ids as text, special tokens by name."""
    return tokenizer.decode(ids)
