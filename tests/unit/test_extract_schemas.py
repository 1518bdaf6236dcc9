"""An extract holds what was asked for, what that refers to, and no prose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tools.extract_schemas import compact, extract, main

DOCUMENT: dict[str, Any] = {
    "info": {"title": "T", "version": "1", "contact": {}},
    "paths": {"/a": {"post": {"schema": {"oneOf": [{"$ref": "#/components/schemas/One"}]}}}},
    "components": {
        "schemas": {
            "One": {
                "type": "object",
                "title": "One",
                "description": "The first.",
                "x-oddity": True,
                "properties": {
                    "description": {"type": "string", "description": "Prose.", "default": ""},
                    "next": {"anyOf": [{"$ref": "#/components/schemas/Two"}, {"type": "null"}]},
                },
                "required": ["description"],
            },
            "Two": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Two"},
                "example": ["x"],
                "minItems": 1,
            },
            "Three": {"enum": ["default", "title"]},
        }
    },
}
ONE = {
    "type": "object",
    "properties": {
        "description": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/Two"}, {"type": "null"}]},
    },
    "required": ["description"],
}
TWO = {"type": "array", "items": {"$ref": "#/$defs/Two"}, "minItems": 1}


def test_what_is_kept() -> None:
    """Schemas that are referred to come along; names stay where prose of that name goes."""
    roots = {"First": "One", "Union": "/paths/~1a/post/schema"}
    assert {
        "source": {"title": "T", "version": "1"},
        "roots": {
            "First": {"$ref": "#/$defs/One"},
            "Union": {"oneOf": [{"$ref": "#/$defs/One"}]},
        },
        "$defs": {"One": ONE, "Two": TWO},
    } == extract(DOCUMENT, roots)


def test_values_are_no_prose() -> None:
    """What an enumeration lists is kept, whatever it is called."""
    assert {"enum": ["default", "title"]} == extract(DOCUMENT, {"T": "Three"})["$defs"]["Three"]


@pytest.mark.parametrize("pointer", ["Four", "/paths/~1b"])
def test_a_pointer_to_nothing(pointer: str) -> None:
    """What is not there is an error, and not an empty schema."""
    with pytest.raises(KeyError):
        extract(DOCUMENT, {"X": pointer})


def test_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output is that extract as JSON, with a line for each schema."""
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(DOCUMENT))
    assert 0 == main([str(path), "First=One"])
    printed = capsys.readouterr().out
    expected = extract(DOCUMENT, {"First": "One"})
    assert expected == json.loads(printed)
    assert compact(expected) == printed
    assert 2 == sum(line.startswith(('  "One": {', '  "Two": {')) for line in printed.splitlines())
