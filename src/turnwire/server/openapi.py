"""The OpenAPI document of the endpoints there are.

Bodies are described by the very structs that decode and encode them (`openapi_schemas`), so that
the document cannot say something else; which parameter stands where is in `openapi_paths`. A test
compares its paths with the routes of the server, and its schemas with answers of a server.
"""

from __future__ import annotations

import msgspec

from turnwire.server.openapi_paths import answer_of, paths
from turnwire.server.openapi_schemas import Json, schemas

__all__ = ["document"]


def document(version: str, *, keys: bool) -> bytes:
    """Make the document.

    Args:
        version: Of this package.
        keys: Whether the server has keys; without, everything is open.

    Returns:
        OpenAPI 3.1 as JSON.
    """
    security: list[Json] = [{"key": []}] if keys else [{}, {"key": []}]
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnwire",
            "version": version,
            "description": "The OpenAI Responses API. Unknown fields and parameters are ignored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": security,
        "paths": paths(),
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": answer_of("Error", "Why it was not done")},
        },
    }
    return msgspec.json.encode(whole)
