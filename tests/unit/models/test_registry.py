"""Tests of `turnwire.models.registry`."""

from __future__ import annotations

import pytest

from turnwire.errors import ConfigError, ModelNotFound
from turnwire.models.embedded import embedded_models
from turnwire.models.registry import Offer, Registry


def test_a_model_answers_to_its_aliases() -> None:
    """By any of its names one model is found, and it has one name itself."""
    first, second, *_ = embedded_models()
    registry = Registry([Offer(model=first, aliases=("a", "b")), second])
    assert [first, first, first, second] == [
        registry.get(name) for name in (first.name, "a", "b", second.name)
    ]
    assert [first.name, second.name] == registry.names()
    with pytest.raises(ModelNotFound, match="'c'"):
        registry.get("c")


def test_names_are_told_apart() -> None:
    """Two models of one name would be found by chance."""
    first, second, *_ = embedded_models()
    with pytest.raises(ConfigError, match="embedded"):
        Registry([Offer(model=first, aliases=(second.name,)), second])


@pytest.mark.parametrize(
    ("most", "asked", "given"),
    [(None, None, None), (None, 5, 5), (100, None, 100), (100, 50, 50), (100, 200, 100)],
)
def test_an_answer_is_as_long_as_both_allow(
    most: int | None, asked: int | None, given: int | None
) -> None:
    """What is configured is the most, and what a request without a limit gets."""
    assert given == Offer(model=embedded_models()[0], max_output_tokens=most).limit(asked)


def test_places_are_those_of_the_engine_or_fewer() -> None:
    """A limit above the engine's slots is none."""
    model = embedded_models()[0]
    assert [model.num_slots, 2, model.num_slots] == [
        Offer(model=model, max_concurrent=most).num_places for most in (None, 2, 10**6)
    ]
