"""What two published descriptions of the API say a value must look like.

The files in `tests/spec` are extracts of them (`tools/extract_schemas.py`). Where we send what a
description does not have, `exceptions.py` says so, case by case and with its source; the
descriptions are amended with those before they are compiled, so that all else still counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema_rs import Draft202012Validator
from tests.judges.exceptions import BEYOND, OPEN_RESPONSES, OPENAI, Amendment

__all__ = ["Description", "Json", "open_responses", "openai", "within"]

Json = dict[str, Any]

SPEC: Final = Path(__file__).parent.parent / "spec"


class Description:
    """The schemas of one description, each compiled when it is first asked for."""

    def __init__(self, document: Json, amendments: Sequence[Amendment] = ()) -> None:
        document = deepcopy(document)
        for amendment in amendments:
            amendment.apply(document["$defs"])
        self._roots: Final[Json] = document["roots"]
        self._definitions: Final[Json] = document["$defs"]
        self._validators: Final[dict[str, Draft202012Validator]] = {}
        self._events: Final = {
            root: dict(self._by_type(self._roots[root]))
            for root in ("StreamEvent", "WebSocketEvent", "Item", "ConversationItem")
            if root in self._roots
        }

    @property
    def roots(self) -> frozenset[str]:
        """The names that can be asked for."""
        return frozenset(self._roots)

    def events(self, root: str = "StreamEvent") -> frozenset[str]:
        """The types of the events of a union."""
        return frozenset(self._events[root])

    def complaints(self, root: str, value: Json) -> list[str]:
        """What is wrong with a value; nothing, if it is as the description says."""
        return self._check(root, self._roots[root], value)

    def event_complaints(self, event: Json, root: str = "StreamEvent") -> list[str]:
        """What is wrong with an event: it must be as those of its type are.

        The unions are many schemas long; an event is compared with those of its type alone, so
        that the complaints are about what is wrong with it.
        """
        kind = event["type"]
        schema = self._events[root].get(kind)
        if schema is None:
            return [f"type: no event is called {kind!r}"]
        return self._check(f"{root}/{kind}", schema, event)

    def _check(self, name: str, schema: Json, value: Json) -> list[str]:
        validator = self._validators.get(name)
        if validator is None:
            validator = Draft202012Validator({**schema, "$defs": self._definitions})
            self._validators[name] = validator
        if validator.is_valid(value):
            return []
        return [
            f"{'.'.join(map(str, error.instance_path)) or '(all)'}: {_short(error.message)}"
            for error in validator.iter_errors(value)
        ]

    def _by_type(self, schema: Json) -> Iterator[tuple[str, Json]]:
        """The schemas of a union, by what they want `type` to be."""
        types: dict[str, list[Json]] = {}
        for member, kinds in self._members(schema):
            for kind in kinds:
                types.setdefault(kind, []).append(member)
        for kind, members in types.items():
            yield kind, members[0] if len(members) == 1 else {"anyOf": members}

    def _members(self, schema: Json) -> Iterator[tuple[Json, Sequence[str]]]:
        """Schemas of the union that are no unions themselves, and the types that each is for."""
        resolved = self._resolve(schema)
        union = resolved.get("anyOf") or resolved.get("oneOf")
        if union is not None:
            for member in union:
                yield from self._members(member)
        else:
            yield schema, self._types(schema)

    def _types(self, schema: Json) -> Sequence[str]:
        resolved = self._resolve(schema)
        kind = resolved.get("properties", {}).get("type", {})
        kinds = kind.get("enum") or ([kind["const"]] if "const" in kind else [])
        for part in resolved.get("allOf", ()):
            # A member may add `stream_id` to an event, or to a union of them.
            for _, more in self._members(part):
                kinds = [*kinds, *more]
        return kinds

    def _resolve(self, schema: Json) -> Json:
        while set(schema) == {"$ref"}:
            schema = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
        return schema


def within(value: Json) -> Json | None:
    """What Open Responses has a name for in an event, a response or a list of items.

    Its unions are closed, and what OpenAI has beyond them goes by OpenAI's names here
    (protocol.md section 17). Items and tools of such types are taken out; of the rest everything
    must be as Open Responses says.

    Returns:
        None if all of it is beyond Open Responses.
    """
    if value.get("type") in BEYOND["event"] or _is_beyond("item", value.get("item")):
        return None
    if "response" in value:
        return {**value, "response": _within_response(value["response"])}
    return _within_response(value) if "output" in value else value


def _within_response(response: Json) -> Json:
    kept = dict(response)
    kept["output"] = [item for item in response["output"] if not _is_beyond("item", item)]
    if "tools" in response:
        # Of those it has functions alone; any others come back as the client sent them.
        kept["tools"] = [tool for tool in response["tools"] if _is_function(tool)]
    choice = response.get("tool_choice")
    if _is_beyond("choice", choice):
        kept["tool_choice"] = "auto"
    elif isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        tools = [tool for tool in choice["tools"] if not _is_beyond("choice", tool)]
        kept["tool_choice"] = {**choice, "tools": tools}
    return kept


def _is_function(tool: Any) -> bool:
    return isinstance(tool, Mapping) and tool.get("type") == "function"


def _is_beyond(what: str, value: Any) -> bool:
    return isinstance(value, Mapping) and str(value.get("type")) in BEYOND[what]


def _short(message: str) -> str:
    return message if len(message) < 400 else f"{message[:200]} ... {message[-200:]}"


@cache
def _read(name: str) -> Json:
    document: Json = json.loads((SPEC / name).read_text(encoding="utf-8"))
    return document


@cache
def openai() -> Description:
    """OpenAI's own, with its known exceptions."""
    return Description(_read("openai-2.3.0.json"), OPENAI)


@cache
def open_responses() -> Description:
    """That of Open Responses, with its known exceptions."""
    return Description(_read("openresponses-2026-04-24.json"), OPEN_RESPONSES)
