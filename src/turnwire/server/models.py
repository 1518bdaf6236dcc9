"""The endpoints of models: which there are for a key."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from msgspec.json import encode

from turnwire.errors import NotFound
from turnwire.models.registry import Offer, Registry
from turnwire.server.answers import json_answer
from turnwire.server.auth import Authenticator, Caller

__all__ = ["ModelsApi"]


class ModelsApi:
    """Handlers. Errors are raised; `faults.fault_middleware` answers them."""

    def __init__(self, registry: Registry, authenticator: Authenticator) -> None:
        self._registry: Final = registry
        self._authenticator: Final = authenticator
        self._created: Final = int(time.time())

    async def models(self, request: web.Request) -> web.Response:
        """GET /v1/models."""
        caller = self._authenticator.caller(request.headers)
        offers = self._registry.offers
        names = [name for offer in offers for name in _usable(offer, caller)]
        data = [self._model(name) for name in names]
        return json_answer(encode({"object": "list", "data": data}))

    async def model(self, request: web.Request) -> web.Response:
        """GET /v1/models/{id}."""
        caller = self._authenticator.caller(request.headers)
        name = request.match_info["id"]
        if not any(name in _usable(offer, caller) for offer in self._registry.offers):
            raise NotFound(f"The model '{name}' does not exist.", param="model")
        return json_answer(encode(self._model(name)))

    def _model(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "turnwire"}


def _usable(offer: Offer, caller: Caller) -> Sequence[str]:
    """The names by which a caller may ask for a model."""
    if caller.may_use(offer.model.name):
        return offer.names
    return [name for name in offer.aliases if caller.may_use(name)]
