"""Tests of `turnwire.config_layers`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from msgspec import Struct

from turnwire.config_layers import convert, unknown
from turnwire.errors import ConfigError


class Apple(Struct, frozen=True, tag_field="kind", tag="apple"):
    """One kind."""

    size: int = 1


class Pear(Struct, frozen=True, tag_field="kind", tag="pear"):
    """Another."""

    ripe: bool = False


class Pip(Struct, frozen=True):
    """Something in a list."""

    colour: Literal["black", "white"] = "black"


class Basket(Struct, frozen=True):
    """A section."""

    owner: str = ""
    place: Path = Path("here")
    pips: tuple[Pip, ...] = ()


class Market(Struct, frozen=True):
    """A whole configuration."""

    basket: Basket = Basket()
    fruit: dict[str, Apple | Pear] = {}


def test_a_layer_fills_its_structs() -> None:
    """Sections, lists, tables with names, and paths."""
    layer = {
        "basket": {"place": "there", "pips": [{}, {"colour": "white"}]},
        "fruit": {"a.b": {"kind": "apple", "size": 2}, "p": {"kind": "pear"}},
    }
    expected = Market(
        basket=Basket(place=Path("there"), pips=(Pip(), Pip("white"))),
        fruit={"a.b": Apple(2), "p": Pear()},
    )
    assert expected == convert(layer, Market, "the file")
    assert Market() == convert({}, Market, "the file")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"baskt": {}}, "f: unknown key baskt; did you mean basket?"),
        ({"basket": {"ownr": 1}}, "f: unknown key basket.ownr; did you mean owner?"),
        ({"basket": {"pips": [{"color": 1}]}}, "f: unknown key basket.pips.color; did you mean"),
        ({"basket": {"owner": 1}}, "f: basket.owner: expected `str`, got `int`."),
        ({"basket": {"place": 1}}, "f: basket.place: expected `Path`, got `int`."),
        ({"basket": 1}, "f: basket: expected `object`, got `int`."),
        (
            {"fruit": {"x": {"kind": "aple"}}},
            "f: fruit.x: unknown kind 'aple'; did you mean apple?",
        ),
        ({"fruit": {"x": {}}}, "f: fruit.x needs a kind; there are apple, pear."),
        ({"fruit": {"x": {"kind": "pear", "cut": 1}}}, "f: unknown key fruit.x.cut."),
        ({"fruit": {"x": {"kind": "pear", "ripe": 1}}}, "f: fruit.x: ripe: expected `bool`, got"),
        ({"fruit": {"x": 1}}, "f: fruit.x: expected `object`, got `int`."),
        ({"fruit": 1}, "f: fruit: expected `object`, got `int`."),
    ],
)
def test_what_is_wrong_is_named(layer: dict[str, object], message: str) -> None:
    """The source, the place, and what was probably meant."""
    with pytest.raises(ConfigError) as raised:
        convert(layer, Market, "f")
    assert message in str(raised.value)


def test_a_name_that_nobody_knows() -> None:
    """In the environment the nearest is shown as a variable."""
    assert "unknown key a.x." == unknown("key", "a.x", "x", ["owner"])
    assert "unknown variable V; did you mean TURNWIRE_OWNER?" == unknown(
        "variable", "V", "ownr", ["owner"], env=True
    )
