"""What one endpoint turned out to take, learned from what it refuses.

Servers speak chat completions in dialects: OpenAI's newer models insist on
`max_completion_tokens`, Mistral does not know it; LM Studio and llama-server take a word as
`tool_choice`, older vLLM a tool, Mistral a word of its own; and so on. Options say what is known
beforehand. What is not known comes as a refusal that names the field. Then the same is said in
another way, and if that is served, it is said so from then on.

Only that is said in another way which a client cannot tell apart: a limit under its other name, a
choice that means the same, hints, and what the answer is held to here anyway. A refusal of
anything else is the client's to hear.

Pure: fields and words in, fields out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from turnwire.models.chat.options import MessageRules

__all__ = ["Dialect"]

_ChoiceForm = Literal["required", "named", "any"]

# Servers that know a field and find its value wrong say other things.
_UNKNOWN: Final = re.compile(
    r"unsupported|n[o']t support|unrecogni[sz]ed|unknown|not permitted|not allowed|unexpected"
    r"|extra_forbidden|use 'max_",
    re.IGNORECASE,
)
_LIMITS: Final = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
# Without them an answer is the same: token counts are estimated, calls after the first dropped.
_NOT_NEEDED: Final = ("stream_options", "parallel_tool_calls", "prompt_cache_key")
# Of formats that a server does not have; not of a schema that it finds wrong.
_NO_FORMAT: Final = re.compile(
    r"(?!.*schema for).*(?:response_format|json_schema|json_object)"
    r".*(?:unavailable|not available|n[o']t support|unsupported|unknown|must be|not allowed)",
    re.IGNORECASE,
)
_ANY_OBJECT: Final = {
    "type": "json_schema",
    "json_schema": {"name": "object", "schema": {"type": "object"}},
}
_EFFORT: Final = re.compile(r"reasoning|think", re.IGNORECASE)
# The nearest level that more servers know. Whoever knows none of them is not told any.
_NEAREST: Final = {"minimal": "low", "max": "xhigh", "xhigh": "high"}
_SHORT_IDS: Final = re.compile(r"tool.?call.?id.*length of 9", re.IGNORECASE)
_TURNS: Final = re.compile(r"roles must alternate", re.IGNORECASE)
_SYSTEM_FIRST: Final = re.compile(r"system (?:message|prompt|role)|role.{0,9}system", re.IGNORECASE)


class Dialect(Struct, frozen=True, kw_only=True):
    """How requests are put.

    Attributes:
        rules: How items are written as messages.
        limit_field: How the output limit is spelled; "" for as the options say.
        left_out: Fields that are not sent.
        refused_choices: Forms of a `tool_choice` that is required.
        efforts: By level, the one sent in its place; None for none.
        refused_formats: Of `response_format`. A schema is then told in words, and any object asked
            for by a schema.
    """

    rules: MessageRules
    limit_field: str = ""
    left_out: frozenset[str] = frozenset()
    refused_choices: frozenset[_ChoiceForm] = frozenset()
    efforts: Mapping[str, str | None] = {}
    refused_formats: frozenset[str] = frozenset()

    def put(self, fields: Mapping[str, Any], only_tool: str | None) -> dict[str, Any]:
        """Fields as they are sent.

        Args:
            fields: Of a request, as the options have them.
            only_tool: Name of the tool, if a single one is offered.
        """
        sent = {name: value for name, value in fields.items() if name not in self.left_out}
        other = _LIMITS.get(self.limit_field)
        if other in sent:
            sent[self.limit_field] = sent.pop(other)
        if sent.get("tool_choice") == "required":
            form = self._choice_form(only_tool)
            sent["tool_choice"] = _named(only_tool) if form == "named" else form
        if (kind := _format_kind(sent)) in self.refused_formats:
            sent["response_format"] = (
                {"type": "json_object"} if kind == "json_schema" else _ANY_OBJECT
            )
        effort = sent.get("reasoning_effort", "")
        if effort in self.efforts:
            other_effort = self.efforts[effort]
            del sent["reasoning_effort"]
            if other_effort is not None:
                sent["reasoning_effort"] = other_effort
        return sent

    def instructions(self, given: str | None, fields: Mapping[str, Any]) -> str | None:
        """Instructions as they are sent: with the schema, where no field can hold it.

        Args:
            given: The request's own.
            fields: As given to `put`.
        """
        kind = _format_kind(fields)
        if kind != "json_schema" or kind not in self.refused_formats:
            return given
        schema = encode(fields["response_format"]["json_schema"]["schema"]).decode()
        told = f"Answer with JSON that obeys this JSON schema, and nothing else:\n{schema}"
        return f"{given}\n\n{told}" if given else told

    def after(self, fields: Mapping[str, Any], only_tool: str | None, words: str) -> Dialect | None:
        """The dialect to try next when an endpoint refuses; None if there is nothing to try.

        Args:
            fields: As given to `put`.
            only_tool: The same.
            words: What the endpoint said.
        """
        sent = self.put(fields, only_tool)
        for limit, other in _LIMITS.items():
            if limit in sent and _names(words, limit) and not self.limit_field:
                return replace(self, limit_field=other) if _UNKNOWN.search(words) else None
        for name in _NOT_NEEDED:
            if name in sent and _names(words, name):
                return replace(self, left_out=self.left_out | {name})
        if fields.get("tool_choice") == "required" and _names(words, "tool_choice"):
            return self._other_choice(only_tool)
        kind = _format_kind(fields)
        if kind and kind not in self.refused_formats and _NO_FORMAT.match(words):
            return replace(self, refused_formats=self.refused_formats | {kind})
        if "reasoning_effort" in sent and _EFFORT.search(words):
            return self._other_effort(fields["reasoning_effort"], sent["reasoning_effort"])
        rules = self._other_rules(words)
        return None if rules == self.rules else replace(self, rules=rules)

    def _other_rules(self, words: str) -> MessageRules:
        rules = self.rules
        if _TURNS.search(words):
            return replace(rules, later_system_role="user", alternates=True)
        if _SYSTEM_FIRST.search(words):
            return replace(rules, later_system_role="user")
        if _SHORT_IDS.search(words):
            return replace(rules, short_ids=True)
        if rules.reasoning_field is None and _names(words, "reasoning_content"):
            return replace(rules, reasoning_field="reasoning_content")
        return rules

    def _choice_form(self, only_tool: str | None) -> _ChoiceForm:
        for form in _forms(only_tool):
            if form not in self.refused_choices:
                return form
        return "required"

    def _other_choice(self, only_tool: str | None) -> Dialect | None:
        refused = self.refused_choices | {self._choice_form(only_tool)}
        if refused == self.refused_choices or refused >= set(_forms(only_tool)):
            return None
        return replace(self, refused_choices=refused)

    def _other_effort(self, asked: str, sent: str) -> Dialect:
        return replace(self, efforts={**self.efforts, asked: _NEAREST.get(sent)})


def _forms(only_tool: str | None) -> tuple[_ChoiceForm, ...]:
    """What means that a call is required, what most servers know first.

    The choice of one tool is a word as well, because no other is offered then: llama-server takes
    an object for `auto` and says nothing.
    """
    return ("required", "any") if only_tool is None else ("required", "named", "any")


def _format_kind(fields: Mapping[str, Any]) -> str:
    found = fields.get("response_format")
    return str(found.get("type")) if isinstance(found, dict) else ""


def _named(tool: str | None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool}}


def _names(words: str, field: str) -> bool:
    return re.search(rf"\b{field}\b", words) is not None
