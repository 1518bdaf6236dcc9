"""The endpoints of stored responses: read, list what went in, cancel, delete."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from msgspec import Raw, Struct
from msgspec.json import encode

from turnwire.errors import InvalidRequest, NotFound
from turnwire.history import History
from turnwire.protocol.codec import encode_item
from turnwire.protocol.encoded import Outline, outline
from turnwire.server.answers import json_answer
from turnwire.server.auth import Authenticator
from turnwire.server.background import Background
from turnwire.server.query import page, retrieval, shown
from turnwire.server.replay import replay
from turnwire.server.shown import shown_item, shown_response, unscored
from turnwire.server.streams import Streams
from turnwire.store.base import StoredTurn

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

    def __init__(
        self,
        history: History,
        background: Background,
        authenticator: Authenticator,
        streams: Streams,
    ) -> None:
        self._history: Final = history
        self._background: Final = background
        self._authenticator: Final = authenticator
        self._streams: Final = streams

    def _owner(self, request: web.Request) -> str:
        return self._authenticator.caller(request.headers).owner

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/responses/{id}."""
        owner = self._owner(request)
        asked = retrieval(request.query)
        response_id = request.match_info["id"]
        run = self._background.find(owner, response_id)
        if asked.stream and run is not None and run.log is not None:
            after = -1 if asked.starting_after is None else asked.starting_after
            return await replay(
                request, run, run.log, after, self._streams, obfuscate=asked.obfuscate
            )
        # While it runs, and with store:false, memory is all there is.
        response = unscored(run.response, asked.include) if run is not None else b""
        if run is None or (run.ended and run.stored):
            turn = await self._turn(owner, response_id)
            if run is None or not outline(turn.response).running:  # else its end was not stored
                response = shown_response(turn.response, turn.output, asked.include)
        if asked.stream:
            raise _not_streamable(outline(response), kept=run is not None)
        return json_answer(response)

    async def cancel(self, request: web.Request) -> web.Response:
        """POST /v1/responses/{id}/cancel.

        Only background responses can be cancelled; one that is stored without being one has
        ended, and one that runs is not stored yet (protocol.md section 12).
        """
        owner = self._owner(request)
        response_id = request.match_info["id"]
        run = self._background.find(owner, response_id)
        if run is not None:
            await self._background.cancel(run)
            response = run.response
        else:
            response = (await self._turn(owner, response_id)).response
        about = outline(response)
        if not about.background:
            raise InvalidRequest("Cannot cancel a synchronous response.")
        if about.running:
            raise _elsewhere()
        if about.status != "cancelled":
            article = "an" if about.status == "incomplete" else "a"
            raise InvalidRequest(f"Cannot cancel {article} {about.status} response.")
        return json_answer(response)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /v1/responses/{id}."""
        owner = self._owner(request)
        response_id = request.match_info["id"]
        run = self._background.find(owner, response_id)
        if run is not None:
            running = not run.ended
        else:
            running = outline((await self._turn(owner, response_id)).response).running
        if running:
            raise InvalidRequest("Cannot delete an in-flight response.")
        if run is None or run.stored:
            await self._history.delete(owner, response_id)
        if run is not None:
            self._background.forget(run)
        return json_answer(encode(DeletedResponse(id=response_id)))

    async def lives_in_memory(self, request: web.Request) -> bool:
        """Whether one worker may know more of the response than the store does."""
        try:
            turn = await self._history.turn(self._owner(request), request.match_info["id"])
        except NotFound:
            return True
        return outline(turn.response).background

    async def _turn(self, owner: str, response_id: str) -> StoredTurn:
        """Return a stored turn; if a process died over it, this is where that comes out.

        Raises:
            NotFound: unknown, deleted or another owner's.
        """
        turn = await self._history.turn(owner, response_id)
        if outline(turn.response).running and await self._background.recover():
            turn = await self._history.turn(owner, response_id)
        return turn

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


def _not_streamable(about: Outline, *, kept: bool) -> InvalidRequest:
    """Why a response cannot be replayed.

    Args:
        kept: What it was created with is still known.
    """
    if not about.background:
        why = "it was not created with background=true"
    elif kept:
        why = "it was not created with stream=true"
    elif about.running:
        return _elsewhere("stream")
    else:
        why = "its events are no longer kept, or it was not created with stream=true"
    return InvalidRequest(f"This response cannot be streamed because {why}.", param="stream")


def _elsewhere(param: str | None = None) -> InvalidRequest:
    return InvalidRequest(
        "This response runs on another server that shares the store; ask there.", param=param
    )
