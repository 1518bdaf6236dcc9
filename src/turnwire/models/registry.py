"""The models a server offers, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from turnwire.errors import ModelNotFound
from turnwire.models.base import Model

__all__ = ["Registry"]


class Registry:
    """Models by the name that clients ask for."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models: Final[Mapping[str, Model]] = {model.name: model for model in models}

    def get(self, name: str) -> Model:
        """Return the model of this name.

        Raises:
            ModelNotFound: there is none.
        """
        model = self._models.get(name)
        if model is None:
            raise ModelNotFound(name)
        return model

    def names(self) -> list[str]:
        """Every model name, in the order given."""
        return list(self._models)

    async def aclose(self) -> None:
        """Close every model."""
        for model in self._models.values():
            await model.aclose()
