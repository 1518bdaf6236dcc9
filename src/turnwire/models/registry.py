"""The models a server offers, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from turnwire.errors import ConfigError, ModelNotFound
from turnwire.model_config import Prices
from turnwire.models.base import Model

__all__ = ["Offer", "Registry"]


class Offer(Struct, frozen=True, kw_only=True, eq=False):
    """A model, and on what terms it is offered.

    Attributes:
        model: Who answers.
        aliases: Further names that clients may ask for it by; responses name the model itself.
        max_output_tokens: Most tokens of an answer, whatever a request asks for.
        max_concurrent: Most answers at the same time; None for as many as it has slots.
        effort: Reasoning effort of requests that name none.
        prices: Of a million tokens, if anybody said so.
    """

    model: Model
    aliases: Sequence[str] = ()
    max_output_tokens: int | None = None
    max_concurrent: int | None = None
    effort: str | None = None
    prices: Prices | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that clients may ask for."""
        return (self.model.name, *self.aliases)

    @property
    def num_places(self) -> int:
        """Turns that may be answered at the same time."""
        slots = self.model.num_slots
        return slots if self.max_concurrent is None else min(slots, self.max_concurrent)

    def limit(self, max_output_tokens: int | None) -> int | None:
        """What a request that asks for so many output tokens may have."""
        if max_output_tokens is None or self.max_output_tokens is None:
            return max_output_tokens or self.max_output_tokens
        return min(max_output_tokens, self.max_output_tokens)


class Registry:
    """Models by the name that clients ask for."""

    def __init__(self, models: Iterable[Model | Offer]) -> None:
        """
        Raises:
            ConfigError: two have the same name.
        """
        offers = [one if isinstance(one, Offer) else Offer(model=one) for one in models]
        by_name: dict[str, Offer] = {}
        for offer in offers:
            for name in offer.names:
                if name in by_name:
                    raise ConfigError(
                        f"Two models are called {name!r}; rename one, or leave it out of "
                        "models.embedded."
                    )
                by_name[name] = offer
        self.offers: Final[Sequence[Offer]] = offers
        self._by_name: Final[Mapping[str, Offer]] = by_name

    def offer(self, name: str) -> Offer:
        """Return the offer of this name or alias.

        Raises:
            ModelNotFound: there is none.
        """
        offer = self._by_name.get(name)
        if offer is None:
            raise ModelNotFound(name)
        return offer

    def get(self, name: str) -> Model:
        """Return the model of this name or alias.

        Raises:
            ModelNotFound: there is none.
        """
        return self.offer(name).model

    def names(self) -> list[str]:
        """The name of every model, in the order given; without aliases."""
        return [offer.model.name for offer in self.offers]

    async def aclose(self) -> None:
        """Close every model."""
        for offer in self.offers:
            await offer.model.aclose()
