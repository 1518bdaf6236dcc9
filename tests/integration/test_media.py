"""Images and files: what is taken, by whom, and what is shown of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, BadRequestError
from tests.integration.recorder import check_response
from tests.integration.serving import Serving, config, shipped
from tests.integration.wire import (
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    open_websocket,
)

from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.models.base import Model
from turnwire.models.sim_model import SimModel
from turnwire.models.token_model import TokenModel
from turnwire.server.app import serve

PNG = "data:image/png;base64,iVBORw0KGgo="
IMAGE: Json = {"type": "input_image", "image_url": PNG}
FILE: Json = {"type": "input_file", "file_data": "data:text/plain;base64,eA==", "filename": "a"}
TEXT: Json = {"type": "input_text", "text": "Look."}
CALL: Json = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}


def said(*parts: Json) -> Json:
    """A message of the user."""
    return {"role": "user", "content": list(parts)}


def returned(*parts: Json) -> Json:
    """What a tool returned."""
    return {"type": "function_call_output", "call_id": "call_1", "output": list(parts)}


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server with `sim`, which takes everything, and `words`, which takes text."""
    renderer, vocabulary, author = shipped()
    engines = {name: SimEngine(vocabulary, SimProfile(), author) for name in ("sim", "words")}
    models: list[Model] = [
        SimModel(TokenModel("sim", renderer, engines["sim"])),
        TokenModel("words", renderer, engines["words"]),
    ]
    async with serve(config(tmp_path), models=models) as server:
        yield Serving(server, engines)


@pytest.fixture
async def wire(both: Serving) -> AsyncIterator[HttpConnection]:
    """A connection to `both`."""
    async with connect(both.url) as connection:
        yield connection


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([said(IMAGE)], "input[0].content[0]"),
        ([said(TEXT), said(TEXT, FILE)], "input[1].content[1]"),
        ([said(TEXT), CALL, returned(TEXT, IMAGE)], "input[2].output[1]"),
    ],
    ids=["image", "file", "output"],
)
async def test_a_model_of_words(
    both: Serving, wire: HttpConnection, items: list[Json], param: str
) -> None:
    """What is no text is refused, with its place, on every transport; `sim` takes it."""
    fields: Json = {"model": "words", "input": items}
    extras: list[Json] = [{}, {"stream": True}, {"background": True}]
    for extra in extras:
        answer = await wire.create(**fields, **extra)
        error = answer.error()
        assert (400, param, "unsupported_value") == (answer.status, error["param"], error["code"])
    counted = await wire.request("POST", "/v1/responses/input_tokens", fields)
    assert (400, param) == (counted.status, counted.error()["param"])
    async with open_websocket(both.url) as websocket:
        event = await websocket.refused(**fields)
        assert (400, param) == (event["status"], event["error"]["param"])
        await websocket.create(model="words", input="Hello")
    check_response((await wire.create(model="sim", input=items)).json())


async def test_a_history_that_holds_an_image(both: Serving, wire: HttpConnection) -> None:
    """Another model cannot go on from it, by id, by conversation or on its connection."""
    first = (await wire.create(model="sim", input=[said(TEXT, IMAGE)])).json()
    second = (await wire.create(model="sim", input="And?", previous_response_id=first["id"])).json()
    words: Json = {"model": "words", "input": "And now?"}
    answer = await wire.create(**words, previous_response_id=second["id"])
    error = answer.error()
    assert (400, "previous_response_id", "unsupported_value") == (
        answer.status,
        error["param"],
        error["code"],
    )
    begun = (await wire.request("POST", "/v1/conversations", {"items": [said(FILE)]})).json()["id"]
    answer = await wire.create(**words, conversation=begun)
    assert (400, "conversation") == (answer.status, answer.error()["param"])
    assert 200 == (await wire.create(model="sim", input="x", conversation=begun)).status
    answer = await wire.create(**words, conversation=begun)
    assert (400, "conversation") == (answer.status, answer.error()["param"])
    async with open_websocket(both.url) as websocket:
        events = await websocket.create(model="sim", input=[said(IMAGE)], store=False)
        event = await websocket.refused(
            **words, previous_response_id=events[-1]["response"]["id"], stream_id="other"
        )
        assert "previous_response_id" == event["error"]["param"]
    # A text conversation may change its model.
    plain = (await wire.create(model="sim", input="Hello")).json()
    assert 200 == (await wire.create(**words, previous_response_id=plain["id"])).status


async def test_a_reference_to_an_image(wire: HttpConnection) -> None:
    """An item that is only referred to is judged by what it is."""
    item = {**said(IMAGE), "type": "message", "id": "msg_mine"}
    reference = {"type": "item_reference", "id": "msg_mine"}
    answer = await wire.create(model="words", input=[item, reference])
    assert "input[0].content[0]" == answer.error()["param"]
    first = (await wire.create(model="sim", input=[item])).json()
    answer = await wire.create(
        model="words", input=[said(TEXT), reference], previous_response_id=first["id"]
    )
    assert (400, "input[1].content[0]") == (answer.status, answer.error()["param"])


@pytest.mark.parametrize(
    ("part", "field", "code"),
    [
        ({"type": "input_image"}, "image_url", "missing_required_parameter"),
        ({"type": "input_image", "image_url": "cat.png"}, "image_url", "invalid_value"),
        ({"type": "input_image", "image_url": "data:image/png,x"}, "image_url", "invalid_value"),
        ({"type": "input_image", "image_url": 3}, "image_url", "invalid_type"),
        ({"type": "input_image", "file_id": "file_1"}, "file_id", "unsupported_parameter"),
        ({"type": "input_file", "filename": "a"}, "file_data", "missing_required_parameter"),
        ({"type": "input_file", "file_id": "file_1"}, "file_id", "unsupported_parameter"),
        ({"type": "input_file", "file_data": "eA=="}, "file_data", "invalid_value"),
        ({"type": "input_file", "file_url": "a.txt"}, "file_url", "invalid_value"),
        (
            {"type": "input_image", "image_url": "https://e.org/" + "x" * 20_971_520},
            "image_url",
            "string_above_max_length",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_bad_shapes(
    http: HttpConnection, websocket: WebSocketConnection, part: Json, field: str, code: str
) -> None:
    """What cannot be an image or a file is a 400 with the path of the field."""
    items = [said(TEXT), CALL, returned(part)]
    path = "input[2].output[0]"
    answer = await http.create(model="sim", input=items)
    error = answer.error()
    assert (400, f"{path}.{field}", code) == (answer.status, error["param"], error["code"])
    event = await websocket.refused(model="sim", input=[said(TEXT, part)])
    assert f"input[0].content[1].{field}" == event["error"]["param"]
    added = await http.request("POST", "/v1/conversations", {"items": [said(part)]})
    assert (400, f"items[0].content[0].{field}") == (added.status, added.error()["param"])


async def test_images_in_outputs_are_shown_on_demand(http: HttpConnection) -> None:
    """An image that a tool returned follows the rule of those in messages."""
    items = [said(TEXT), CALL, returned(TEXT, IMAGE)]
    created = (await http.create(model="sim", input=items)).json()
    path = f"/v1/responses/{created['id']}/input_items"
    bare = (await http.request("GET", path)).json()["data"][0]
    assert [TEXT, {"type": "input_image", "detail": "auto"}] == bare["output"]
    query = "?include[]=message.input_image.image_url"
    whole = (await http.request("GET", path + query)).json()["data"][0]
    assert [TEXT, {**IMAGE, "detail": "auto"}] == whole["output"]


async def test_the_official_client(client: AsyncOpenAI) -> None:
    """It sends images and files in its own types, and raises what is refused."""
    response = await client.responses.create(
        model="sim",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look."},
                    {"type": "input_image", "image_url": PNG, "detail": "low"},
                    {"type": "input_file", "file_url": "https://example.org/a.pdf"},
                ],
            }
        ],
    )
    assert response.output_text
    with pytest.raises(BadRequestError) as refused:
        await client.responses.create(
            model="sim",
            input=[
                {
                    "role": "user",
                    "content": [{"type": "input_image", "file_id": "file_1", "detail": "auto"}],
                }
            ],
        )
    assert ("input[0].content[0].file_id", "unsupported_parameter") == (
        refused.value.param,
        refused.value.code,
    )
