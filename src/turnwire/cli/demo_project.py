"""The small Python project that the demo's agent works on: a package that converts measures.

It is generated from the tables below, so that it has files of a realistic size without being
one. One factor is wrong, and so one of its tests fails: there is something to look for.

Knows texts only; what is done to the files is in `turnwire.cli.demo_tools`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

__all__ = ["FOLDERS", "PROJECT", "WORDS"]


class _Quantity(Struct, frozen=True):
    """One kind of measure.

    Attributes:
        name: Of its module.
        base: The unit that the others are given in.
        units: Factor of every other unit.
    """

    name: str
    base: str
    units: dict[str, float]


_QUANTITIES: Final = (
    _Quantity(
        "length",
        "metre",
        {
            "millimetre": 1e-3,
            "centimetre": 1e-2,
            "kilometre": 1e3,
            "inch": 0.0254,
            "hand": 0.1016,
            "foot": 0.3048,
            "yard": 0.9144,
            "fathom": 1.8288,
            "rod": 5.0292,
            "chain": 20.1168,
            "furlong": 201.168,
            "mile": 1609.344,
            "nautical_mile": 1852.0,
            "league": 4828.032,
        },
    ),
    _Quantity(
        "mass",
        "kilogram",
        {
            "milligram": 1e-6,
            "gram": 1e-3,
            "tonne": 1e3,
            "grain": 6.479891e-5,
            "carat": 2e-4,
            "ounce": 0.028349523125,
            "troy_ounce": 0.0311034768,
            "pound": 0.45359237,
            "stone": 6.35029318,
            "hundredweight": 50.80234544,
            "short_ton": 907.18474,
            "long_ton": 1016.0469088,
        },
    ),
    _Quantity(
        "duration",
        "second",
        {
            "nanosecond": 1e-9,
            "microsecond": 1e-6,
            "millisecond": 1e-3,
            "minute": 60.0,
            "hour": 3600.0,
            "day": 86_400.0,
            "week": 604_800.0,
            "fortnight": 1_209_600.0,
            "julian_year": 31_557_600.0,
        },
    ),
    _Quantity(
        "area",
        "square_metre",
        {
            "square_inch": 0.00064516,
            "square_foot": 0.09290304,
            "square_yard": 0.83612736,
            "are": 100.0,
            "acre": 4046.8564224,
            "hectare": 1e4,
            "square_kilometre": 1e6,
            "square_mile": 2_589_988.110336,
        },
    ),
    _Quantity(
        "volume",
        "litre",
        {
            "millilitre": 1e-3,
            "centilitre": 1e-2,
            "decilitre": 0.1,
            "hectolitre": 100.0,
            "cubic_metre": 1e3,
            "teaspoon": 0.00492892159375,
            "tablespoon": 0.01478676478125,
            "fluid_ounce": 0.0295735295625,
            "cup": 0.2365882365,
            "pint": 0.473176473,
            "imperial_pint": 0.56826125,
            "gallon": 3.785411784,
            "imperial_gallon": 4.54609,
            "barrel": 158.987294928,
        },
    ),
    _Quantity(
        "energy",
        "joule",
        {
            "erg": 1e-7,
            "kilojoule": 1e3,
            "calorie": 4.184,
            "kilocalorie": 4184.0,
            "watt_hour": 3600.0,
            "kilowatt_hour": 3.6e6,
            "british_thermal_unit": 1055.05585262,
            "therm": 105_505_585.262,
        },
    ),
)

_WRONG: Final = {"furlong": 210.168}
"""What stands in the module in place of the factor above; the tests know the right one."""

_README: Final = """\
# measures

Converts between units of measure.

    >>> from measures.convert import convert
    >>> convert(3, "foot", "metre")
    0.9144000000000001

- `measures/<quantity>.py` has a table of units for each quantity.
- `measures/convert.py` finds a unit in the tables and does the arithmetic.
- `measures/parse.py` reads texts such as "3 ft"; `measures/report.py` writes them.
- `tests/` has a file for each quantity. Run `python -m unittest`.

## Adding a unit

Put its name and its factor into the table of its quantity, in ascending order of size. Names are
in the singular, in lower case, with an underscore between words. Say where the factor comes from
if it is not exact by definition. Then add a line to the cases of that quantity's tests: one that
somebody can check by hand.
"""

_CONVERT: Final = '''\
"""Conversion between any two units of the same quantity."""

from importlib import import_module

QUANTITIES = {quantities}


class UnknownUnit(KeyError):
    """No table has a unit of this name."""


class DifferentQuantities(ValueError):
    """The two units do not measure the same thing."""


def table(quantity):
    """Return the units of a quantity: name to factor, the base unit included."""
    module = import_module("measures." + quantity)
    return {{module.BASE: 1.0, **module.UNITS}}


def find(unit):
    """Return the quantity that a unit measures, and its factor.

    Raises:
        UnknownUnit: there is none.
    """
    for quantity in QUANTITIES:
        units = table(quantity)
        if unit in units:
            return quantity, units[unit]
    raise UnknownUnit(unit)


def convert(value, source, target):
    """Return `value` of the unit `source` in the unit `target`.

    Raises:
        UnknownUnit: one of the two is in no table.
        DifferentQuantities: a length is no mass.
    """
    source_quantity, source_factor = find(source)
    target_quantity, target_factor = find(target)
    if source_quantity != target_quantity:
        raise DifferentQuantities(
            f"{{source}} measures {{source_quantity}}, {{target}} measures {{target_quantity}}"
        )
    return value * source_factor / target_factor


def convert_many(values, source, target):
    """The same for a list of values, which looks the units up once."""
    factor = convert(1.0, source, target)
    return [value * factor for value in values]
'''

_PARSE: Final = '''\
"""Reads texts such as "3 ft" or "12.5 nautical miles"."""

import re

from measures.convert import UnknownUnit, find

ABBREVIATIONS = {
    "mm": "millimetre",
    "cm": "centimetre",
    "m": "metre",
    "km": "kilometre",
    "in": "inch",
    "ft": "foot",
    "feet": "foot",
    "inches": "inch",
    "yd": "yard",
    "mi": "mile",
    "mg": "milligram",
    "g": "gram",
    "kg": "kilogram",
    "t": "tonne",
    "oz": "ounce",
    "lb": "pound",
    "s": "second",
    "min": "minute",
    "h": "hour",
    "ha": "hectare",
    "ml": "millilitre",
    "cl": "centilitre",
    "l": "litre",
    "kJ": "kilojoule",
    "kcal": "kilocalorie",
    "kWh": "kilowatt_hour",
}

PATTERN = re.compile(r"(?P<value>[-+]?[0-9]+([.][0-9]+)?)[ ]*(?P<unit>[A-Za-z][A-Za-z_ ]*)")


class BadText(ValueError):
    """The text is not a number followed by a unit."""


def unit_of(text):
    """Return the name of a unit that was written in full, in the plural or abbreviated."""
    name = ABBREVIATIONS.get(text)
    if name is None:
        name = text.strip().lower().replace(" ", "_")
    for candidate in (name, name.removesuffix("s"), name.removesuffix("es")):
        try:
            find(candidate)
        except UnknownUnit:
            continue
        return candidate
    raise UnknownUnit(text)


def parse(text):
    """Return the value and the unit that a text names.

    Raises:
        BadText: it has another form.
        UnknownUnit: no table has the unit.
    """
    match = PATTERN.fullmatch(text.strip())
    if match is None:
        raise BadText(text)
    return float(match["value"]), unit_of(match["unit"])
'''

_REPORT: Final = '''\
"""Writes values with their units, for people."""

from measures.convert import convert, find, table


def plural(unit, value):
    """Return the word for so many of a unit."""
    words = unit.replace("_", " ")
    if value == 1:
        return words
    if words == "foot":
        return "feet"
    if words.endswith(("inch", "ch")):
        return words + "es"
    return words + "s"


def write(value, unit, digits=3):
    """Return a text such as "2.5 miles"."""
    rounded = round(value, digits)
    if rounded == int(rounded):
        rounded = int(rounded)
    return f"{rounded} {plural(unit, rounded)}"


def best_unit(value, unit):
    """Return the unit in which the value has the fewest digits before the point, but one."""
    quantity, _ = find(unit)
    best, shown = unit, abs(value)
    for candidate in table(quantity):
        size = abs(convert(value, unit, candidate))
        if 1 <= size < shown or shown < 1 <= size:
            best, shown = candidate, size
    return best


def overview(value, unit):
    """Return one line for every unit of the same quantity."""
    quantity, _ = find(unit)
    lines = [f"{write(value, unit)}:"]
    for candidate in table(quantity):
        if candidate != unit:
            lines.append("  " + write(convert(value, unit, candidate), candidate, 6))
    return "\\n".join(lines)
'''


def _module(quantity: _Quantity) -> str:
    name, base = quantity.name, quantity.base.replace("_", " ")
    lines = [
        f'"""Units of {name}, in terms of the {base}.',
        "",
        "A factor says how many of the base unit one of the unit is. Those of the metric units are",
        "exact by definition, those of the others by international agreement.",
        '"""',
        "",
        f'BASE = "{quantity.base}"',
        "",
        "UNITS = {",
    ]
    lines += [f'    "{unit}": {_WRONG.get(unit, factor)!r},' for unit, factor in _sorted(quantity)]
    lines += ["}", ""]
    for unit, _ in _sorted(quantity):
        words = unit.replace("_", " ")
        lines += [
            "",
            f"def from_{unit}(value):",
            f'    """Return so many of the unit {words} in the base unit, {base}."""',
            f'    return value * UNITS["{unit}"]',
            "",
        ]
    return "\n".join(lines)


def _tests(quantity: _Quantity) -> str:
    name = quantity.name
    lines = [
        f'"""Tests of the units of {name}."""',
        "",
        "import unittest",
        "",
        f"from measures import {name}",
        "from measures.convert import DifferentQuantities, UnknownUnit, convert",
        "from measures.parse import parse",
        "from measures.report import write",
        "",
        "",
        f"class {name.capitalize()}Test(unittest.TestCase):",
    ]
    for place, (unit, factor) in enumerate(_sorted(quantity), start=2):
        lines += [
            f"    def test_{unit}(self):",
            f'        converted = convert({place}, "{unit}", "{quantity.base}")',
            f"        self.assertAlmostEqual({place * factor!r}, converted, places=9)",
            "",
        ]
    return "\n".join(
        [
            *lines,
            "    def test_there_and_back(self):",
            f"        for unit in {name}.UNITS:",
            f"            there = convert(7.5, {name}.BASE, unit)",
            f"            self.assertAlmostEqual(7.5, convert(there, unit, {name}.BASE))",
            "",
            "    def test_what_is_written_can_be_read(self):",
            f"        for unit in {name}.UNITS:",
            "            self.assertEqual((2.5, unit), parse(write(2.5, unit)))",
            "",
            "    def test_unknown_unit(self):",
            "        with self.assertRaises(UnknownUnit):",
            f'            convert(1, {name}.BASE, "cubit_of_nowhere")',
            "",
            "    def test_another_quantity(self):",
            "        with self.assertRaises(DifferentQuantities):",
            f'            convert(1, {name}.BASE, "{_other(quantity).base}")',
            "",
        ]
    )


def _sorted(quantity: _Quantity) -> list[tuple[str, float]]:
    return sorted(quantity.units.items(), key=lambda pair: pair[1])


def _other(quantity: _Quantity) -> _Quantity:
    place = _QUANTITIES.index(quantity)
    return _QUANTITIES[place - 1]


def _project() -> dict[str, str]:
    names = [quantity.name for quantity in _QUANTITIES]
    files = {
        "README.md": _README,
        "measures/__init__.py": '"""Units of measure."""\n',
        "measures/convert.py": _CONVERT.format(quantities=names),
        "measures/parse.py": _PARSE,
        "measures/report.py": _REPORT,
        "tests/__init__.py": "",
    }
    for quantity in _QUANTITIES:
        files[f"measures/{quantity.name}.py"] = _module(quantity)
        files[f"tests/test_{quantity.name}.py"] = _tests(quantity)
    return dict(sorted(files.items()))


PROJECT: Final[Mapping[str, str]] = MappingProxyType(_project())
"""Every file: path, with forward slashes, to text."""

FOLDERS: Final = (".", "measures", "tests")

WORDS: Final = (
    "BASE",
    "UNITS",
    "UnknownUnit",
    "assertAlmostEqual",
    "convert",
    "def from_",
    "def test_",
    "find",
    "furlong",
    "import",
    "parse",
    "return",
    "table",
    "unit",
    "write",
)
"""What there is to search for; each is found somewhere."""
