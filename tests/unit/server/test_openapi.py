"""The document is valid OpenAPI, and says of the structs what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.responses import Response
from turnwire.server.openapi import document


def read(*, keys: bool = False) -> dict[str, Any]:
    """The document."""
    decoded: dict[str, Any] = json.loads(document("1.2.3", keys=keys))
    return decoded


def patterns(schema: Any) -> Iterator[str]:
    """Every regular expression in it."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for value in schema.values():
            yield from patterns(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from patterns(value)


@pytest.mark.parametrize("keys", [True, False])
def test_it_is_valid(*, keys: bool) -> None:
    """It obeys OpenAPI 3.1; whether a key is needed depends on whether there are any."""
    made = read(keys=keys)
    validate(made)
    assert ("3.1.0", "1.2.3") == (made["openapi"], made["info"]["version"])
    assert ({} in made["security"]) is not keys


def test_it_follows_the_structs() -> None:
    """Every field of a request and of a response is there, but for those that are refused."""
    schemas = read()["components"]["schemas"]
    refused = {"generate", "moderation", "prompt"}
    taken = set(schemas["CreateResponse"]["properties"])
    assert set(CreateResponse.__struct_fields__) - refused == taken
    assert ["model"] == schemas["CreateResponse"]["required"]
    assert set(Response.__struct_fields__) == set(schemas["Response"]["properties"])
    maybe = {"conversation", "prompt_cache_options"}
    assert set(Response.__struct_fields__) - maybe == set(schemas["Response"]["required"])


def test_patterns_are_those_of_json_schema() -> None:
    r"""There is no `\A` and no `\Z`, which only Python knows."""
    found = list(patterns(read()))
    assert found
    for pattern in found:
        assert (True, True) == (pattern.startswith("^"), pattern.endswith("$"))
        assert "\\" not in pattern


def test_each_operation_has_its_name() -> None:
    """Generated clients need a distinct name for each method."""
    names = [one["operationId"] for path in read()["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))
