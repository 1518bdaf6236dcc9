"""What a request asks for is found, or refused with the field that is at fault."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw
from msgspec.json import encode

from turnwire.asked import LARGE_INPUT_CHARS, Asking
from turnwire.context.chain import Context
from turnwire.context.known import KnownContexts
from turnwire.context.recent import RecentContexts
from turnwire.conversations.keeper import Conversations
from turnwire.errors import ClientError, InvalidRequest
from turnwire.history import History
from turnwire.models.base import Settings
from turnwire.models.embedded import embedded_models
from turnwire.models.registry import Registry
from turnwire.order import Order
from turnwire.protocol.items import Item
from turnwire.protocol.requests import CreateResponse
from turnwire.resent import Resent
from turnwire.sealing import Sealer
from turnwire.store.memory import MemoryStore
from turnwire.telemetry.clock import StageClock


@pytest.fixture
def asking() -> Asking:
    store = MemoryStore(10)
    history = History(store, Sealer([Sealer.generate_key()]), RecentContexts())
    conversations = Conversations(store.conversations, history)
    resent = Resent(KnownContexts(1024 * 1024), history)
    return Asking(Registry(embedded_models()), history, conversations, resent, None)


def order(*, models: frozenset[str] | None = None, **fields: Any) -> Order:
    """An order as HTTP makes it of a body with these fields."""
    given = fields.pop("input", "hi")
    return Order(
        request=CreateResponse(input=Raw(encode(given)), **{"model": "sim", **fields}),
        response_id="resp_1",
        owner="me",
        models=models,
        transport="http",
        clock=StageClock(),
    )


def on_a_thread(parent: Context | None, items: Sequence[Item], settings: Settings) -> bool:
    """A rendering that tells where it runs."""
    return threading.current_thread() is not threading.main_thread()


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        ({"model": None}, "missing_required_parameter", "model"),
        ({"model": "gone"}, "model_not_found", "model"),
        ({"models": frozenset({"sim-65"})}, "permission_denied", "model"),
        ({"prompt": Raw(b'{"id":"p"}')}, "unsupported_parameter", "prompt"),
        ({"moderation": Raw(b"{}")}, "unsupported_parameter", "moderation"),
        ({"input": []}, "missing_required_parameter", "input"),
        (
            {"previous_response_id": "resp_0", "conversation": Raw(b'"conv_0"')},
            "invalid_value",
            "conversation",
        ),
        (
            {"previous_response_id": "resp_0"},
            "previous_response_not_found",
            "previous_response_id",
        ),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    asking: Asking, wrong: dict[str, Any], code: str, param: str
) -> None:
    """Each names the field that is at fault."""
    with pytest.raises(ClientError) as refused:
        await asking.find(order(**wrong))
    assert (code, param) == (refused.value.code, refused.value.param)


@pytest.mark.parametrize(("num_chars", "far"), [(10, False), (LARGE_INPUT_CHARS, True)])
async def test_what_takes_a_while_is_rendered_on_a_thread(
    asking: Asking, num_chars: int, far: bool
) -> None:
    """Where the input is large, other clients go on meanwhile."""
    asked = await asking.find(order(input="x" * num_chars))
    assert far is await asked.render(on_a_thread)


async def test_a_format_of_the_history_is_at_fault_where_it_stands(asking: Asking) -> None:
    """An error of the text format names the item that set it, not the request."""
    form = {"type": "json_schema", "name": "n", "schema": {}}
    update = {"type": "configuration_update", "text": {"format": form}}
    asked = await asking.find(order(input=[{"role": "user", "content": "hi"}, update]))

    def render(*_: object) -> None:
        raise InvalidRequest("no such type", param="text.format.schema")

    with pytest.raises(InvalidRequest) as refused:
        await asked.render(render)
    assert "input[1].text.format.schema" == refused.value.param


async def test_a_summary_is_counted_with_its_question(asking: Asking) -> None:
    """What a `compaction_trigger` asks for is a prompt with one item more."""
    said = [{"role": "user", "content": "hi"}]
    plain = await asking.find(order(input=said))
    asked = await asking.find(order(input=[*said, {"type": "compaction_trigger"}]))
    assert plain is plain.as_counted()
    assert len(plain.items) + 1 == len(asked.as_counted().items)
