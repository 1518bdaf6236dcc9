"""POST /v1/responses/compact: a conversation in, a shorter one to go on with out."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web
from msgspec import Raw, structs
from msgspec.json import encode

from turnwire.ids import new_id
from turnwire.order import Order
from turnwire.protocol.codec import encode_item
from turnwire.protocol.compaction import CompactedResponse, decode_compact
from turnwire.protocol.items import Compaction, ContentPart, InputImage, Item, Message
from turnwire.protocol.responses import Usage
from turnwire.server.answers import json_answer
from turnwire.server.auth import Authenticator
from turnwire.server.bodies import Bodies
from turnwire.server.http import OWNER
from turnwire.telemetry.clock import StageClock
from turnwire.telemetry.metrics import Metrics
from turnwire.turn import Turns

__all__ = ["CompactingApi"]


class CompactingApi:
    """The handler. Errors are raised; `faults.fault_middleware` answers them."""

    def __init__(
        self, turns: Turns, authenticator: Authenticator, metrics: Metrics, bodies: Bodies
    ) -> None:
        self._turns: Final = turns
        self._authenticator: Final = authenticator
        self._metrics: Final = metrics
        self._bodies: Final = bodies

    async def compact(self, request: web.Request) -> web.Response:
        """POST /v1/responses/compact. It stores nothing, and its id names nothing."""
        caller = self._authenticator.caller(request.headers)
        request[OWNER] = caller.owner
        body = await self._bodies.read(request)
        self._metrics.received("http", len(body))
        clock = StageClock()
        asked = decode_compact(body)
        order = Order(
            request=asked.as_create(),
            response_id=new_id("resp"),
            owner=caller.owner,
            client=caller.owner,
            models=caller.models,
            transport="http",
            clock=clock,
        )
        made = await self._turns.summarise(order, asked.instructions)
        item = Compaction(id=new_id("cmp"), encrypted_content=made.encrypted_content)
        output: list[Item] = [_normal(message) for message in made.messages]
        spent = made.spent
        answer = CompactedResponse(
            id=order.response_id,
            created_at=int(time.time()),
            output=[Raw(encode_item(one)) for one in [*output, item]],
            usage=Usage.count(
                prompt=spent.num_prompt_tokens,
                cached=spent.num_cached_tokens,
                output=spent.num_output_tokens,
                reasoning=spent.num_reasoning_tokens,
            ),
        )
        return json_answer(encode(answer))


def _normal(message: Message) -> Message:
    """A message as the protocol shows one: with an id and a status, images with their detail."""
    content = tuple(map(_detailed, message.content))
    return structs.replace(
        message, id=message.id or new_id("msg"), status="completed", content=content
    )


def _detailed(part: ContentPart) -> ContentPart:
    if isinstance(part, InputImage):
        return structs.replace(part, detail=part.detail or "auto")
    return part
