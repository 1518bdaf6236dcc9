"""The document against the server: its routes, its answers, and requests made from it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from openapi_schema_validator import OAS31Validator
from tests.integration.serving import Serving
from tests.integration.wire import Answer, HttpConnection, Json, connect

TOOLS = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
CREATES: list[Json] = [
    {"input": "hi"},
    {"input": "hi", "reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]},
    {"input": "hi", "tools": TOOLS, "tool_choice": "required"},
    {"input": "hi", "tools": TOOLS, "tool_choice": {"type": "function", "name": "look"}},
    {"input": "hi", "metadata": {"a": "b"}, "temperature": 0, "max_output_tokens": 16},
    {"input": "hi", "text": {"format": {"type": "json_object"}}, "user": "u"},
    {"input": "hi", "prompt_cache_options": {"mode": "explicit"}, "store": False},
]


async def read(wire: HttpConnection) -> Json:
    """The document."""
    answer = await wire.request("GET", "/openapi.json")
    assert 200 == answer.status
    return answer.json()


def check(document: Json, name: str, answer: Answer, status: int = 200) -> Json:
    """An answer is what the document says."""
    assert status == answer.status, answer.body
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    body: Json = json.loads(answer.body)
    OAS31Validator(schema).validate(body)
    return body


async def test_its_paths_are_the_routes(server: Serving, http: HttpConnection) -> None:
    """What is served is documented, and what is documented is served."""
    documented = {
        (method.upper(), path)
        for path, methods in (await read(http))["paths"].items()
        for method in methods
    }
    served = {
        (route.method, route.resource.canonical)
        for route in server.server.app().router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == documented


async def test_it_needs_no_key(keyed_server: Serving) -> None:
    """Whoever can reach the server can read it; it says that the rest needs a key."""
    async with connect(keyed_server.url) as wire:
        document = await read(wire)
    assert [{"key": []}] == document["security"]
    assert [] == document["paths"]["/openapi.json"]["get"]["security"]
    assert "sim" not in json.dumps(document["components"]["schemas"]["CreateResponse"])


async def test_answers(http: HttpConnection) -> None:
    """Responses, lists, counts and errors are what their schemas say."""
    document = await read(http)
    for fields in CREATES:
        asked = {"model": "sim", **fields}
        request = {
            "$ref": "#/components/schemas/CreateResponse",
            "components": document["components"],
        }
        OAS31Validator(request).validate(asked)
        made = check(document, "Response", await http.create(**asked))
        if made["store"]:
            path = f"/v1/responses/{made['id']}"
            check(document, "Response", await http.request("GET", path))
            check(document, "ItemList", await http.request("GET", f"{path}/input_items"))
            check(document, "Error", await http.request("POST", f"{path}/cancel"), 400)
            check(document, "DeletedResponse", await http.request("DELETE", path))
            check(document, "Error", await http.request("GET", path), 404)
        counted = await http.request("POST", "/v1/responses/input_tokens", asked)
        check(document, "InputTokens", counted)
    begun = {"items": [{"role": "user", "content": "x"}], "metadata": {"a": "b"}}
    conversation = check(
        document, "Conversation", await http.request("POST", "/v1/conversations", begun)
    )
    path = f"/v1/conversations/{conversation['id']}"
    made = check(document, "Response", await http.create(model="sim", conversation=path[18:]))
    assert conversation["id"] == made["conversation"]["id"]
    page = check(document, "ItemList", await http.request("GET", f"{path}/items"))
    check(document, "ItemList", await http.request("POST", f"{path}/items", begun))
    item = f"{path}/items/{page['first_id']}"
    check(document, "ListedItem", await http.request("GET", item))
    check(document, "Conversation", await http.request("DELETE", item))
    check(document, "Conversation", await http.request("POST", path, {"metadata": None}))
    check(document, "DeletedConversation", await http.request("DELETE", path))
    queued = await http.create(
        model="sim", input="hi", background=True, metadata={"sim.fault": "stall:3600"}
    )
    path = f"/v1/responses/{check(document, 'Response', queued)['id']}"
    check(document, "Response", await http.request("GET", path))
    check(document, "Response", await http.request("POST", f"{path}/cancel"))
    check(document, "ModelList", await http.request("GET", "/v1/models"))
    check(document, "Model", await http.request("GET", "/v1/models/sim"))
    check(document, "Status", await http.request("GET", "/health"))
    check(document, "Error", await http.create(), 400)


async def test_requests_made_from_it(server: Serving, http: HttpConnection, tmp_path: Path) -> None:
    """Requests that a program makes from the document, valid and not, never fail the server.

    Which valid requests are refused is not asked: that a call needs its output, for example, no
    schema can say.
    """
    document: dict[str, Any] = await read(http)
    # Otherwise almost every request would be for a model that there is not.
    document["components"]["schemas"]["CreateResponse"]["properties"]["model"] = {"enum": ["sim"]}
    told = tmp_path / "openapi.json"
    told.write_text(json.dumps(document))
    program = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        "run",
        str(told),
        f"--url={server.url}",
        "--exclude-checks=positive_data_acceptance",
        "--exclude-path=/v1/responses/input_tokens",  # takes what creating takes
        "--phases=coverage,fuzzing",
        "--max-examples=10",
        "--generation-deterministic",
        "--continue-on-failure",
        "--no-color",
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await program.communicate()
    assert 0 == program.returncode, said.decode()[-6000:]
    assert server.count("responses_total", status="completed", transport="http") > 0
    assert 0 == server.count("errors_total", code="server_error")
