"""The endpoints of stored responses: read, list what went in, cancel, delete."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from msgspec import Raw, Struct
from msgspec.json import encode

from turnwire.errors import InvalidRequest
from turnwire.history import History
from turnwire.protocol.codec import encode_item
from turnwire.server.answers import json_answer
from turnwire.server.auth import Authenticator
from turnwire.server.query import page, retrieval, shown
from turnwire.server.shown import shown_item, shown_response

__all__ = ["DeletedResponse", "ItemList", "StoredApi"]


class ItemList(Struct, frozen=True, kw_only=True):
    """One page of items; both ids are null if it is empty."""

    object: str = "list"
    data: list[Raw]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(Struct, frozen=True, kw_only=True):
    """What a deletion answers."""

    id: str
    object: str = "response"
    deleted: bool = True


class StoredApi:
    """Handlers. Errors are raised; `faults.fault_middleware` answers them."""

    def __init__(self, history: History, authenticator: Authenticator) -> None:
        self._history: Final = history
        self._authenticator: Final = authenticator

    def _owner(self, request: web.Request) -> str:
        return self._authenticator.authenticate(request.headers.get("Authorization")).owner

    async def retrieve(self, request: web.Request) -> web.Response:
        """GET /v1/responses/{id}."""
        owner = self._owner(request)
        asked = retrieval(request.query)
        turn = await self._history.turn(owner, request.match_info["id"])
        if asked.stream:
            raise InvalidRequest(
                "This response cannot be streamed because it was not created with background=true.",
                param="stream",
            )
        return json_answer(shown_response(turn.response, turn.output, asked.include))

    async def cancel(self, request: web.Request) -> web.Response:
        """POST /v1/responses/{id}/cancel.

        Only background responses can be cancelled; one that is stored without being one has
        ended, and one that runs is not stored yet (protocol.md section 12).
        """
        await self._history.get(self._owner(request), request.match_info["id"])
        raise InvalidRequest("Cannot cancel a synchronous response.")

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /v1/responses/{id}."""
        owner = self._owner(request)
        response_id = request.match_info["id"]
        await self._history.delete(owner, response_id)
        return json_answer(encode(DeletedResponse(id=response_id)))

    async def input_items(self, request: web.Request) -> web.Response:
        """GET /v1/responses/{id}/input_items."""
        owner = self._owner(request)
        wanted, include = page(request.query), shown(request.query)
        items = await self._history.input_items(owner, request.match_info["id"])
        positions, has_more = wanted.cut([item_id for item_id, _ in items])
        chosen = [items[position] for position in positions]
        listed = ItemList(
            data=[Raw(encode_item(shown_item(item, include))) for _, item in chosen],
            first_id=chosen[0][0] if chosen else None,
            last_id=chosen[-1][0] if chosen else None,
            has_more=has_more,
        )
        return json_answer(encode(listed))
