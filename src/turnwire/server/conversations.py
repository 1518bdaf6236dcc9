"""The endpoints of conversations and of their items."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from aiohttp import web
from msgspec import Raw
from msgspec.json import encode

from turnwire.conversations.keeper import Conversations
from turnwire.protocol.codec import decode_items, encode_item
from turnwire.protocol.conversations import (
    DeletedConversation,
    decode_new_conversation,
    decode_new_items,
    decode_new_metadata,
    encode_conversation,
    items_of,
)
from turnwire.protocol.items import Item
from turnwire.server.answers import json_answer
from turnwire.server.auth import Authenticator
from turnwire.server.bodies import Bodies
from turnwire.server.query import page, shown
from turnwire.server.shown import shown_item
from turnwire.server.stored import ItemList
from turnwire.store.conversations import StoredConversation

__all__ = ["ConversationApi"]

ITEM: Final = "{item:[^/]+}"
"""Clients choose ids of items; braces, which a plain `{item}` does not match, may be in one."""


class ConversationApi:
    """Handlers. Errors are raised; `faults.fault_middleware` answers them."""

    def __init__(
        self, conversations: Conversations, authenticator: Authenticator, bodies: Bodies
    ) -> None:
        self._conversations: Final = conversations
        self._authenticator: Final = authenticator
        self._bodies: Final = bodies

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers are."""
        one = "/v1/conversations/{id}"
        return [
            web.post("/v1/conversations", self.create),
            web.get(one, self.retrieve, allow_head=False),
            web.post(one, self.update),
            web.delete(one, self.delete),
            web.get(f"{one}/items", self.list_items, allow_head=False),
            web.post(f"{one}/items", self.add_items),
            web.get(f"{one}/items/{ITEM}", self.retrieve_item, allow_head=False),
            web.delete(f"{one}/items/{ITEM}", self.delete_item),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """POST /v1/conversations."""
        owner = self._keeper(request)
        asked = decode_new_conversation(await self._bodies.read(request))
        made = await self._conversations.create(owner, items_of(asked.items), asked.metadata or {})
        return _answer(made)

    async def retrieve(self, request: web.Request) -> web.Response:
        """GET /v1/conversations/{id}."""
        owner = self._owner(request)
        return _answer(await self._conversations.get(owner, request.match_info["id"]))

    async def update(self, request: web.Request) -> web.Response:
        """POST /v1/conversations/{id}."""
        owner = self._keeper(request)
        asked = decode_new_metadata(await self._bodies.read(request))
        return _answer(
            await self._conversations.set_metadata(
                owner, request.match_info["id"], asked.metadata or {}
            )
        )

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /v1/conversations/{id}."""
        owner, conversation_id = self._owner(request), request.match_info["id"]
        await self._conversations.delete(owner, conversation_id)
        return json_answer(encode(DeletedConversation(id=conversation_id)))

    async def list_items(self, request: web.Request) -> web.Response:
        """GET /v1/conversations/{id}/items."""
        owner = self._owner(request)
        wanted, include = page(request.query), shown(request.query)
        found = await self._conversations.items(
            owner,
            request.match_info["id"],
            after=wanted.after,
            limit=wanted.limit + 1,  # one more, to know whether there is
            descending=wanted.order == "desc",
        )
        chosen = found[: wanted.limit]
        bodies = [one.body for one in chosen]
        return _listed(_decoded(bodies), include, has_more=len(found) > wanted.limit)

    async def add_items(self, request: web.Request) -> web.Response:
        """POST /v1/conversations/{id}/items."""
        owner, include = self._keeper(request), shown(request.query)
        asked = decode_new_items(await self._bodies.read(request))
        added = await self._conversations.add(
            owner, request.match_info["id"], items_of(asked.items, least=1)
        )
        return _listed(added, include, has_more=False)

    async def retrieve_item(self, request: web.Request) -> web.Response:
        """GET /v1/conversations/{id}/items/{item}."""
        owner, include = self._owner(request), shown(request.query)
        found = await self._conversations.item(
            owner, request.match_info["id"], request.match_info["item"]
        )
        [item] = _decoded([found.body])
        return json_answer(encode_item(shown_item(item, include)))

    async def delete_item(self, request: web.Request) -> web.Response:
        """DELETE /v1/conversations/{id}/items/{item}."""
        owner = self._owner(request)
        left = await self._conversations.delete_item(
            owner, request.match_info["id"], request.match_info["item"]
        )
        return _answer(left)

    def _owner(self, request: web.Request) -> str:
        return self._authenticator.caller(request.headers).owner

    def _keeper(self, request: web.Request) -> str:
        """The owner, if it may have something stored."""
        caller = self._authenticator.caller(request.headers)
        caller.require_storing()
        return caller.owner


def _answer(conversation: StoredConversation) -> web.Response:
    return json_answer(
        encode_conversation(conversation.id, conversation.created_at, conversation.metadata)
    )


def _decoded(bodies: Iterable[bytes]) -> Sequence[Item]:
    return decode_items(Raw(b"[" + b",".join(bodies) + b"]"))


def _listed(items: Sequence[Item], include: Collection[str], *, has_more: bool) -> web.Response:
    return json_answer(
        encode(
            ItemList(
                data=[Raw(encode_item(shown_item(item, include))) for item in items],
                first_id=items[0].id if items else None,
                last_id=items[-1].id if items else None,
                has_more=has_more,
            )
        )
    )
