"""Chat templates made up for tests, after families that spell calls in tags of their own.

All of them are one conversation with other words for calls. Blanks are where the real templates
have them, because those differ within a family.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

__all__ = ["SPELLED", "UNFORCED", "spelled_answer"]

_B, _L = "\uff5c", "\u2581"  # DeepSeek's own bar and blank

_TURNS = r"""
{%- if tools %}{{- "<|system|>" + tools | tojson + "<|end|>" }}{% endif %}
{%- for message in messages %}
    {%- if message.role == "tool" %}
        {{- "<|result|>" + message.content + "<|end|>" }}
    {%- elif message.role == "assistant" %}
        {{- "<|assistant|>" }}@THOUGHT@{{- message.content }}
        {%- if message.tool_calls %}@CALLS@{% endif %}
        {{- "<|end|>" }}
    {%- else %}
        {{- "<|" + message.role + "|>" + message.content + "<|end|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|assistant|>" }}@OPENING@{% endif %}
"""
_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|result|>", "<|end|>")

_ITSELF = (
    r"""{% if message.reasoning_content %}
        {{- "<think>" + message.reasoning_content + "</think>" }}{% endif %}""",
    "",
)
"""The model says itself where it thinks."""
_OPENED = (
    r"""{{- "<think>" + message.reasoning_content if message.reasoning_content }}
        {{- "</think>" }}""",
    r"""{{- "<think>" if enable_thinking else "</think>" }}""",
)
"""The opening says it, and an answer without thoughts begins behind an end tag."""


_SAY = r'{{- "%s" }}'


def _in_jinja(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _elements(function: str, element: str, end: str) -> str:
    """Calls whose arguments come one by one; `NAME`, `KEY`, `VALUE` are where they go."""
    name, key, value = (
        r"{{- call.function.name }}",
        r"{{- key }}",
        r"{{- value if value is string else value | tojson }}",
    )
    is_text = r'{{- "true" if value is string else "false" }}'

    def written(text: str) -> str:
        text = _SAY % _in_jinja(text).replace("'", "\\'")
        for word, hole in (("NAME", name), ("KEY", key), ("VALUE", value), ("STRING", is_text)):
            text = text.replace(word, '" }}' + hole + r'{{- "')
        return text

    return (
        r"{%- for call in message.tool_calls %}"
        + written(function)
        + r"{%- for key, value in call.function.arguments.items() %}"
        + written(element)
        + r"{%- endfor %}"
        + written(end)
        + r"{%- endfor %}"
    )


def _objects(before: str, between: str, after: str) -> str:
    """Calls whose arguments are JSON; `NAME` and `N` are where they go."""

    def written(text: str) -> str:
        text = _SAY % _in_jinja(text)
        for word, hole in (("NAME", "call.function.name"), ("INDEX", "loop.index0")):
            text = text.replace(word, '" }}{{- ' + hole + ' }}{{- "')
        return text

    return (
        r"{%- for call in message.tool_calls %}"
        + written(before)
        + r"{{- call.function.arguments | tojson }}"
        + written(after)
        + r"{%- if not loop.last %}"
        + written(between)
        + r"{%- endif %}{%- endfor %}"
    )


def _between(begin: str, calls: str, end: str) -> str:
    return _SAY % _in_jinja(begin) + calls + _SAY % _in_jinja(end)


_QWEN_CODER = _elements(
    "\n<tool_call>\n<function=NAME>\n", "<parameter=KEY>\nVALUE\n</parameter>\n",
    "</function>\n</tool_call>",
)  # fmt: skip
_DSML = _between(
    f"\n\n<{_B}DSML{_B}function_calls>\n",
    _elements(
        f'<{_B}DSML{_B}invoke name="NAME">\n',
        f'<{_B}DSML{_B}parameter name="KEY" string="STRING">VALUE</{_B}DSML{_B}parameter>\n',
        f"</{_B}DSML{_B}invoke>\n",
    ),
    f"</{_B}DSML{_B}function_calls>",
)
_MINIMAX = _between(
    "\n<minimax:tool_call>\n",
    _elements('<invoke name="NAME">\n', '<parameter name="KEY">VALUE</parameter>\n', "</invoke>\n"),
    "</minimax:tool_call>",
)


_BARE = r"""
{%- macro bare(value) -%}
    {%- if value is string %}{{- '<|"|>' + value + '<|"|>' }}
    {%- elif value is mapping %}
        {{- "{" }}
        {%- for key, one in value.items() %}
            {{- "," if not loop.first }}{{- key }}{{- ":" }}{{- bare(one) }}
        {%- endfor %}
        {{- "}" }}
    {%- elif value is sequence %}
        {{- "[" }}
        {%- for one in value %}{{- "," if not loop.first }}{{- bare(one) }}{%- endfor %}
        {{- "]" }}
    {%- elif value is boolean %}{{- value | tojson }}
    {%- else %}{{- value }}
    {%- endif %}
{%- endmacro %}
{%- for call in message.tool_calls %}
    {{- "<|tool_call>call:" + call.function.name + bare(call.function.arguments) }}
    {{- "<tool_call|>" }}
{%- endfor %}
"""


def _deepseek(name: str) -> str:
    return f"<{_B}tool{_L}{name}{_B}>"


_CALLS_BEGIN, _CALL_BEGIN, _SEP, _CALL_END, _CALLS_END = map(
    _deepseek,
    (f"calls{_L}begin", f"call{_L}begin", "sep", f"call{_L}end", f"calls{_L}end"),
)

_FAMILIES: dict[str, tuple[str, tuple[str, str], tuple[str, ...]]] = {
    "qwen-coder": (_QWEN_CODER, _ITSELF, ("<tool_call>", "</tool_call>", "<think>", "</think>")),
    "qwen-coder, tags as text": (_QWEN_CODER, _ITSELF, ()),
    "glm": (
        _elements(
            "\n<tool_call>NAME\n", "<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>\n",
            "</tool_call>",
        ),
        _OPENED,
        (
            *("<tool_call>", "</tool_call>", "<think>", "</think>", "<arg_key>", "</arg_key>"),
            *("<arg_value>", "</arg_value>"),
        ),
    ),
    "deepseek-v3": (
        _between(
            _CALLS_BEGIN,
            _objects(f"{_CALL_BEGIN}function{_SEP}NAME\n```json\n", "\n", f"\n```{_CALL_END}"),
            _CALLS_END,
        ),
        _ITSELF,
        (_CALLS_BEGIN, _CALL_BEGIN, _SEP, _CALL_END, _CALLS_END),
    ),
    "deepseek-v31": (
        _between(_CALLS_BEGIN, _objects(f"{_CALL_BEGIN}NAME{_SEP}", "", _CALL_END), _CALLS_END),
        _OPENED,
        (_CALLS_BEGIN, _CALL_BEGIN, _SEP, _CALL_END, _CALLS_END, "<think>", "</think>"),
    ),
    "dsml": (_DSML, _OPENED, ("<think>", "</think>")),
    "dsml, a token in tags": (_DSML, _OPENED, ("<think>", "</think>", f"{_B}DSML{_B}")),
    "kimi": (
        _between(
            "<|tool_calls_section_begin|>",
            _objects(
                "<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>", "",
                "<|tool_call_end|>",
            ),
            "<|tool_calls_section_end|>",
        ),
        _ITSELF,
        (
            *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>"),
            *("<|tool_call_argument_begin|>", "<|tool_call_end|>"),
        ),
    ),
    "minimax": (
        _MINIMAX, _OPENED, ("<minimax:tool_call>", "</minimax:tool_call>", "<think>", "</think>")
    ),
    "command": (
        _between(
            "<|START_ACTION|>[\n    ",
            _objects(
                '{"tool_call_id": "INDEX", "tool_name": "NAME", "parameters": ', ",\n    ", "}"
            ),
            "\n]<|END_ACTION|>",
        ),
        _ITSELF,
        ("<|START_ACTION|>", "<|END_ACTION|>"),
    ),
    "gemma4": (_BARE, _ITSELF, ("<|tool_call>", "<tool_call|>", '<|"|>', "<think>", "</think>")),
    "tool-calls": (
        _between(
            "\n<tool_calls>[", _objects('{"name": "NAME", "arguments": ', ", ", "}"),
            "]</tool_calls>",
        ),
        _ITSELF,
        (),
    ),
}  # fmt: skip

SPELLED: dict[str, tuple[str, tuple[str, ...]]] = {
    name: (
        _TURNS.replace("@CALLS@", calls)
        .replace("@THOUGHT@", thought)
        .replace("@OPENING@", opening),
        (*_TOKENS, *special),
    )
    for name, (calls, (thought, opening), special) in _FAMILIES.items()
}
"""By name: a template and the special tokens of its vocabulary."""
UNFORCED = ("gemma4",)
"""Those whose calls no grammar is made of."""


def spelled_answer(
    name: str,
    thought: str,
    text: str,
    calls: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    thinking: bool,
) -> str:
    """An answer as a model of the family writes it, up to its stop token.

    Args:
        name: In `SPELLED`.
        thought: What it thinks; "" for nothing.
        text: What it says.
        calls: Names and arguments.
        thinking: Whether it was asked to think.
    """
    written, kind, _ = _FAMILIES[name]
    before = ""
    if kind is _OPENED:
        before = f"{thought}</think>" if thinking else ""
    elif thought:
        before = f"<think>{thought}</think>"
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    message = {
        "tool_calls": [{"function": {"name": tool, "arguments": given}} for tool, given in calls]
    }
    spelled = environment.from_string(written).render(message=message) if calls else ""
    return f"{before}{text}{spelled}"
