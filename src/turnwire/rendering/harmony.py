"""gpt-oss: OpenAI's harmony format.

A message is `<|start|>AUTHOR<|channel|>CHANNEL<|message|>TEXT<|end|>`:

    system, developer      what stands in front; no channel
    user                   no channel
    assistant, analysis    reasoning
    assistant, commentary  text before a call, or a call: `commentary to=functions.NAME
                           <|constrain|>json`, which ends with `<|call|>`
    assistant, final       the answer
    functions.NAME         `to=assistant`, commentary: what a call returned

It is written here from OpenAI's guide to the format, and needs no library: the vocabulary is the
model's own. Two points where the guide leaves a choice:

* A call's recipient stands in its channel's header, as in the guide's examples and as the model
  samples it, so that what was sampled stands in the next prompt.
* Reasoning is dropped once a final answer was given and somebody spoke after it; until then, in a
  chain of calls, it stays. So a chain of calls only ever appends.

There is no date in front, as it would change every prompt at midnight.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from turnwire.errors import ConfigError
from turnwire.protocol.tools import OfferedTool
from turnwire.rendering.messages import ChatMessage, Head, tool_schema
from turnwire.rendering.pieces import Pieces, joined
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["HARMONY_NAMES", "Harmony", "HarmonyMarks", "harmony_marks", "type_of"]


class HarmonyMarks(Struct, frozen=True):
    """Ids of the format's special tokens."""

    start: int
    end: int
    message: int
    channel: int
    constrain: int
    ret: int
    call: int


HARMONY_NAMES: Final = (
    *("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>"),
    "<|call|>",
)
"""The format's special tokens."""


def harmony_marks(tokenizer: Tokenizer) -> HarmonyMarks:
    """The marks in a vocabulary.

    Raises:
        ConfigError: it lacks one.
    """
    missing = [name for name in HARMONY_NAMES if name not in tokenizer.special]
    if missing:
        raise ConfigError(f"the tokenizer has no special token {', '.join(missing)}")
    return HarmonyMarks(*(tokenizer.special[name] for name in HARMONY_NAMES))


_SYSTEM: Final = """You are ChatGPT, a large language model trained by OpenAI.
Knowledge cutoff: 2024-06

Reasoning: {effort}

# Valid channels: analysis, commentary, final. Channel must be included for every message."""
_WITH_TOOLS: Final = "\nCalls to these tools must go to the commentary channel: 'functions'."
# What the model was trained on; others mean the nearest of them.
_EFFORTS: Final[Mapping[str | None, str]] = {
    None: "low",
    "none": "low",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}


class Harmony:
    """The words of the format; a `Family`.

    Attributes:
        name: Of the format.
        effort_in_start: Yes, the system message says it.
    """

    name: Final = "harmony-1"
    effort_in_start: Final = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Raises:
            ConfigError: the vocabulary lacks a special token of the format.
        """
        self._marks: Final = harmony_marks(tokenizer)

    def head(self, head: Head) -> Pieces:
        """The system message, and the developer's if there is anything in it."""
        tools = head.tools.offered.values()
        system = _SYSTEM.format(effort=_EFFORTS.get(head.effort, "medium"))
        sections = [f"# Instructions\n\n{head.instructions}"] if head.instructions else []
        if tools:
            system += _WITH_TOOLS
            body = "\n\n".join(map(_function, tools))
            sections.append(
                f"# Tools\n\n## functions\n\nnamespace functions {{\n\n{body}\n\n"
                "} // namespace functions"
            )
        pieces = self._message("system", system)
        if sections:
            pieces += self._message("developer", "\n\n".join(sections))
        return pieces

    def separable(self, head: Head) -> bool:
        """Always."""
        return True

    def first(self, head: Head, message: ChatMessage | None, *, past: bool) -> Pieces:
        """What stands in front, and the first message."""
        pieces = self.head(head)
        return pieces if message is None else pieces + self.message(head, message, past=past)

    def message(self, head: Head, message: ChatMessage, *, past: bool) -> Pieces:
        """A message; past ones without reasoning."""
        marks = self._marks
        pieces: Pieces = []
        match message.role:
            case "user":
                return self._message("user", message.text)
            case "system" | "developer":
                return self._message("developer", f"# Instructions\n\n{message.text}")
            case "tool":
                for result in message.results:
                    author = f"functions.{result.name} to=assistant"
                    pieces += self._message(author, result.text, "commentary")
                return pieces
        if message.reasoning and not past:
            pieces += self._message("assistant", message.reasoning, "analysis")
        if message.text:
            channel = "commentary" if _is_commentary(message) else "final"
            pieces += self._message("assistant", message.text, channel)
        for call in message.calls:
            header = f"commentary to=functions.{call.name} "
            pieces += (marks.start, "assistant", marks.channel, header, marks.constrain)
            pieces += ("json", marks.message, call.arguments, marks.call)
        return joined(pieces)

    def ends_past(self, before: ChatMessage | None, message: ChatMessage) -> bool:
        """Whether a final answer was given before this message."""
        return (
            before is not None
            and before.role == "assistant"
            and bool(before.text)
            and not _is_commentary(before)
        )

    def opening(self, *, reasoning: bool) -> Pieces:
        """The model goes on with a channel of its choice."""
        return [self._marks.start, "assistant"]

    def _message(self, author: str, text: str, channel: str = "") -> Pieces:
        marks = self._marks
        header: Pieces = [marks.channel, channel] if channel else []
        return joined([marks.start, author, *header, marks.message, text, marks.end])


def _is_commentary(message: ChatMessage) -> bool:
    return message.phase == "commentary" or (message.phase is None and bool(message.calls))


# -- tools as TypeScript, which the model was trained to read


def _function(tool: OfferedTool) -> str:
    function = tool_schema(tool)["function"]
    lines = [f"// {line}" for line in function["description"].splitlines()]
    if tool.kind == "function" and tool.parameters is None:
        lines.append(f"type {tool.name} = () => any;")
    else:
        fields = "".join(_fields(function["parameters"], ""))
        lines.append(f"type {tool.name} = (_: {{\n{fields}}}) => any;")
    return "\n".join(lines)


def _fields(schema: dict[str, Any], indent: str) -> Iterator[str]:
    """The properties of an object, one or more lines each."""
    properties = schema.get("properties")
    required = schema.get("required")
    for name, field in (properties if isinstance(properties, dict) else {}).items():
        field = field if isinstance(field, dict) else {}
        yield from (f"{indent}// {line}".rstrip() + "\n" for line in _notes(field))
        mark = "" if isinstance(required, list) and name in required else "?"
        if isinstance(field.get("oneOf"), list):
            yield f"{indent}{name}{mark}:\n"
            for one in field["oneOf"]:
                kind = type_of(one, f"{indent}   ")
                yield f"{indent} | {kind}{_default(one)}\n"
            yield f"{indent},\n"
        else:
            yield f"{indent}{name}{mark}: {type_of(field, indent)},{_default(field)}\n"


def _notes(field: dict[str, Any]) -> Iterator[str]:
    if isinstance(title := field.get("title"), str):
        yield title
        yield ""
    if isinstance(description := field.get("description"), str):
        yield description
    if isinstance(examples := field.get("examples"), list) and examples:
        yield "Examples:"
        yield from (f"- {json.dumps(example, ensure_ascii=False)}" for example in examples)


def _default(field: Any) -> str:
    if not isinstance(field, dict) or "default" not in field:
        return ""
    value = field["default"]
    plain = isinstance(value, str) and "enum" in field
    return f" // default: {value if plain else json.dumps(value, ensure_ascii=False)}"


def type_of(schema: Any, indent: str = "") -> str:
    """A JSON schema as a type; `any` where TypeScript would need more words than it is worth."""
    if not isinstance(schema, dict):
        return "any"
    kind = schema.get("type")
    if isinstance(kind, list):
        found = " | ".join(_NAMES_OF_TYPES.get(str(one), "any") for one in kind)
    elif kind == "object":
        fields = "".join(_fields(schema, f"{indent}    "))
        found = f"{{\n{fields}{indent}    }}" if fields else "object"
    elif kind == "array":
        items = type_of(schema["items"], indent) if "items" in schema else "any"
        found = f"Array<{items}>" if " | " in items and "{" not in items else f"{items}[]"
    elif isinstance(schema.get("enum"), list):
        found = " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    else:
        found = _NAMES_OF_TYPES.get(str(kind), "any")
    return f"{found} | null" if schema.get("nullable") is True else found


_NAMES_OF_TYPES: Final = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
    "array": "any[]",
    "object": "object",
}
