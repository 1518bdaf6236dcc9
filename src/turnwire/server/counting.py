"""How many tokens would it be? Without running it."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from msgspec import Struct
from msgspec.json import encode

from turnwire.order import Order
from turnwire.protocol.codec import decode_create
from turnwire.protocol.requests import ABSENT
from turnwire.server.answers import json_answer
from turnwire.server.auth import Authenticator
from turnwire.server.bodies import Bodies
from turnwire.telemetry.clock import StageClock
from turnwire.turn import Turns

__all__ = ["CountingApi", "InputTokens"]


class InputTokens(Struct, frozen=True, kw_only=True):
    """What counting answers."""

    object: str = "response.input_tokens"
    input_tokens: int


class CountingApi:
    """Handlers. Errors are raised; `faults.fault_middleware` answers them."""

    def __init__(self, turns: Turns, authenticator: Authenticator, bodies: Bodies) -> None:
        self._turns: Final = turns
        self._authenticator: Final = authenticator
        self._bodies: Final = bodies

    async def input_tokens(self, request: web.Request) -> web.Response:
        """POST /v1/responses/input_tokens.

        Takes what creating takes, so that a client may count the very body it is about to send.
        What says how to answer, and not what is asked (protocol.md section 14.1 has none of it),
        is ignored.
        """
        caller = self._authenticator.caller(request.headers)
        clock = StageClock()
        asked = decode_create(await self._bodies.read(request))
        asked.background = None
        asked.moderation = ABSENT
        order = Order(
            request=asked,
            response_id="",
            owner=caller.owner,
            models=caller.models,
            zero_data_retention=caller.zero_data_retention,
            transport="http",
            clock=clock,
        )
        return json_answer(encode(InputTokens(input_tokens=await self._turns.count(order))))
