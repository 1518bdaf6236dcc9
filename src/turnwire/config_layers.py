"""One layer of configuration (a file, the environment, flags) against the structs it fills.

Unknown keys are refused with the key that was probably meant, wrong values with their place. This
knows structs, dictionaries of structs told apart by a tag, and nothing of what they mean.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from turnwire.errors import ConfigError
from turnwire.model_config import Secrets

__all__ = ["ENV_PREFIX", "convert", "fields_of", "lower_first", "section_of", "to_path", "unknown"]

T = TypeVar("T", bound=Struct)

ENV_PREFIX: Final = "TURNWIRE_"


def convert(layer: Mapping[str, Any], struct: type[T], source: str) -> T:
    """Return what a layer says, as the struct it fills.

    Args:
        layer: Sections by name.
        struct: The whole configuration.
        source: Where it comes from, for messages.

    Raises:
        ConfigError: an unknown key, or a value that does not fit; names both and the mend.
    """
    _reject_unknown(layer, struct, "", source)
    for section, hint in fields_of(struct).items():
        if get_origin(hint) is dict:
            for name, table in _tables(layer, section):
                _convert({section: {name: table}}, struct, f"{source}: {section}.{name}", section)
    return _convert(layer, struct, source, "")


def _convert(layer: Mapping[str, Any], struct: type[T], source: str, section: str) -> T:
    try:
        return msgspec.convert(layer, struct, dec_hook=to_path)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        where = where.rstrip("`")
        if section:  # the name is in `source`; msgspec shows [...] for it
            place = where.removeprefix(f"{section}[...]").lstrip(".")
        else:
            place = where or "the top level"
        raise ConfigError(
            ": ".join(filter(None, (source, place, lower_first(what)))) + "."
        ) from error


def _tables(layer: Mapping[str, Any], section: str) -> list[tuple[str, Any]]:
    tables = layer.get(section)
    return list(tables.items()) if isinstance(tables, Mapping) else []


def _reject_unknown(value: Any, struct: type[Struct], place: str, source: str) -> None:
    if not isinstance(value, Mapping):
        return  # of the wrong type: the conversion says so
    fields = {name: hint for name, hint in fields_of(struct).items() if hint is not Secrets}
    for key, inner in value.items():
        if key not in fields and key != struct.__struct_config__.tag_field:
            raise ConfigError(f"{source}: " + unknown("key", f"{place}{key}", key, list(fields)))
        hint = fields.get(key)
        if get_origin(hint) is dict:
            for name, table in inner.items() if isinstance(inner, Mapping) else ():
                kind = _kind_of(table, hint, f"{place}{key}.{name}", source)
                if kind is not None:
                    _reject_unknown(table, kind, f"{place}{key}.{name}.", source)
            continue
        of = _struct_of(hint)
        if of is None:
            continue
        elements = inner if isinstance(inner, list | tuple) else [inner]
        for element in elements:
            _reject_unknown(element, of, f"{place}{key}.", source)


def _kind_of(table: Any, hint: Any, place: str, source: str) -> type[Struct] | None:
    """The struct of a table that says which one it is; None if it is no table of structs."""
    kinds = {
        str(struct.__struct_config__.tag): struct
        for struct in map(section_of, get_args(get_args(hint)[1]))
        if struct is not None
    }
    if not kinds or not isinstance(table, Mapping):
        return None
    kind = table.get("kind")
    if kind in kinds:
        return kinds[kind]
    there = f"there are {', '.join(kinds)}"
    if kind is None:
        raise ConfigError(f"{source}: {place} needs a kind; {there}.")
    nearest = difflib.get_close_matches(str(kind), list(kinds), n=1, cutoff=0.5)
    mend = f"did you mean {nearest[0]}?" if nearest else f"{there}."
    raise ConfigError(f"{source}: {place}: unknown kind {kind!r}; {mend}")


def unknown(kind: str, shown: str, name: str, known: Sequence[str], *, env: bool = False) -> str:
    """A sentence about a name that nobody knows, with the one that was probably meant.

    Args:
        kind: What it should be: `key`, `environment variable`.
        shown: As it was written.
        name: The part of it that is compared.
        known: What there is.
        env: Show the nearest as a variable.
    """
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not nearest:
        return f"unknown {kind} {shown}."
    best = f"{ENV_PREFIX}{nearest[0].upper()}" if env else nearest[0]
    return f"unknown {kind} {shown}; did you mean {best}?"


def to_path(kind: type, value: Any) -> Any:
    """A decoding hook of msgspec: strings become paths."""
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def fields_of(struct: type[Struct]) -> dict[str, Any]:
    """Type hints by field."""
    return get_type_hints(struct, include_extras=True)


def section_of(hint: Any) -> type[Struct] | None:
    """The hint itself where it is a struct."""
    return hint if isinstance(hint, type) and issubclass(hint, Struct) else None


def _struct_of(hint: Any) -> type[Struct] | None:
    """The struct behind `T`, `T | None` or `tuple[T, ...]`, if there is one."""
    if (section := section_of(hint)) is not None:
        return section
    if get_origin(hint) in (tuple, Union, UnionType):
        return next((found for part in get_args(hint) if (found := _struct_of(part))), None)
    return None


def lower_first(text: str) -> str:
    """The text, to go on a sentence with."""
    return text[:1].lower() + text[1:]
