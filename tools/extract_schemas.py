"""Take what the tests need out of a published description of the API: the shapes, nothing else.

    python -m tools.extract_schemas SPEC NAME=POINTER ... > tests/spec/FILE.json

`SPEC` is an OpenAPI 3.1 document as JSON. Each `NAME=POINTER` is a schema that a test asks for by
that name; the pointer is a JSON pointer into the document (RFC 6901), or the bare name of one of
its `components/schemas`. What comes out holds these, every schema that they refer to, and which
document they are from. Prose, examples and vendors' keys are left behind, since no validator
reads them; so are defaults, which say what a server does and not what a value looks like.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["compact", "extract", "main"]

Json = dict[str, Any]

COMPONENTS: Final = "#/components/schemas/"
DEFINITIONS: Final = "#/$defs/"
PROSE: Final = frozenset(
    {"default", "deprecated", "description", "discriminator", "example", "examples", "externalDocs"}
    | {"title"}
)
# Under these the keys are names of ours or theirs, not words of JSON Schema.
NAMED: Final = frozenset({"properties", "$defs", "patternProperties"})


def extract(document: Json, roots: Mapping[str, str]) -> Json:
    """The schemas of `roots` and all that they refer to.

    Args:
        document: An OpenAPI document.
        roots: A name for each schema wanted, and where it is.

    Returns:
        `source`, `roots` (schemas by the names asked for) and `$defs`, to which every `$ref`
        points.

    Raises:
        KeyError: a pointer leads nowhere.
    """
    wanted = {name: strip(_find(document, pointer)) for name, pointer in roots.items()}
    schemas = document["components"]["schemas"]
    found: dict[str, Any] = {}
    waiting = [name for schema in wanted.values() for name in _referred(schema)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = strip(schemas[name])
            waiting.extend(_referred(found[name]))
    info = document["info"]
    source = {key: info[key] for key in ("title", "version", "x-source") if key in info}
    return {"source": source, "roots": wanted, "$defs": dict(sorted(found.items()))}


def strip(schema: Any) -> Any:
    """A schema without what no validator reads, its references made local."""
    if isinstance(schema, list):
        return [strip(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept: Json = {}
    for key, value in schema.items():
        if key == "$ref":
            kept[key] = value.replace(COMPONENTS, DEFINITIONS)
        elif key in NAMED:
            kept[key] = {name: strip(one) for name, one in value.items()}
        elif key in ("enum", "const", "required"):
            kept[key] = value
        elif key not in PROSE and not key.startswith("x-"):
            kept[key] = strip(value)
    return kept


def compact(extract: Json) -> str:
    """As JSON with a line for each schema, so that two versions can be compared."""
    lines = [f'"source": {json.dumps(extract["source"])}']
    for part in ("roots", "$defs"):
        schemas = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(schema, separators=(',', ':'))}"
            for name, schema in extract[part].items()
        )
        lines.append(f'"{part}": {{\n{schemas}\n}}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _find(document: Json, pointer: str) -> Any:
    if not pointer.startswith("/"):
        return {"$ref": COMPONENTS + pointer}
    found: Any = document
    for step in pointer.removeprefix("/").split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


def _referred(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        ref = schema.get("$ref")
        if isinstance(ref, str):
            yield ref.removeprefix(DEFINITIONS)
        for value in schema.values():
            yield from _referred(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _referred(value)


def main(argv: Sequence[str]) -> int:
    """Print the extract."""
    document = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    roots = dict(argument.split("=", 1) for argument in argv[1:])
    sys.stdout.write(compact(extract(document, roots)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
