"""Query strings to values, without I/O: what may be asked of a stored response.

Every fault names its parameter. Parameters that are not known are ignored, like unknown fields
of a body. Sources: protocol.md sections 1 (arrays come as `include[]=a` or `include=a`), 12
(`stream`, `starting_after`) and 14.2 (`limit`, `order`, `after`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol, get_args

from msgspec import Struct

from turnwire.errors import InvalidRequest
from turnwire.protocol.requests import Include

__all__ = ["MAX_LIMIT", "Page", "Query", "Retrieval", "page", "retrieval", "shown"]

MAX_LIMIT: Final = 100
MAX_DIGITS: Final = 18
"""Longer than any number of an event, and short enough to be parsed without a thought."""

INCLUDES: Final[frozenset[str]] = frozenset(get_args(Include))


class Query(Protocol):
    """The part of aiohttp's `request.query` that is used here."""

    def get(self, key: str, /) -> str | None:
        """The first value of a parameter, or None."""
        ...

    def getall(self, key: str, default: Sequence[str], /) -> Sequence[str]:
        """Every value of a parameter."""
        ...


class Page(Struct, frozen=True, kw_only=True):
    """Which part of a list is asked for.

    Attributes:
        limit: Most elements of the answer, 1 to 100.
        order: asc: oldest first. desc: newest first.
        after: Id of the element before the first one, in the chosen order; None from the start.
    """

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None

    def cut(self, ids: Sequence[str]) -> tuple[Sequence[int], bool]:
        """Choose from a list that is given oldest first.

        Args:
            ids: The ids of all elements, each once.

        Returns:
            The positions of the page's elements in its order, and whether more follow.

        Raises:
            InvalidRequest: no element is called `after`.
        """
        positions = range(len(ids)) if self.order == "asc" else range(len(ids) - 1, -1, -1)
        if self.after is not None:
            try:
                found = ids.index(self.after)
            except ValueError:
                raise InvalidRequest(
                    f"'after' names no item of this list: '{self.after}'.", param="after"
                ) from None
            positions = positions[positions.index(found) + 1 :]
        return positions[: self.limit], len(positions) > self.limit


class Retrieval(Struct, frozen=True, kw_only=True):
    """How a stored response is asked for.

    Attributes:
        include: Optional parts to show.
        stream: As events instead of one object.
        starting_after: Only events with a greater `sequence_number`; None for all.
        obfuscate: Pad the deltas of the stream.
    """

    include: frozenset[str] = frozenset()
    stream: bool = False
    starting_after: int | None = None
    obfuscate: bool = False


def page(query: Query) -> Page:
    """Read `limit`, `order` and `after`.

    Raises:
        InvalidRequest: one of them cannot be used; `param` says which.
    """
    order = query.get("order")
    if order is not None and order not in ("asc", "desc"):
        raise _not_one_of("order", order, ("asc", "desc"))
    limit = _integer(query, "limit", least=1, most=MAX_LIMIT)
    return Page(
        limit=20 if limit is None else limit,
        order="asc" if order == "asc" else "desc",
        after=query.get("after"),
    )


def retrieval(query: Query) -> Retrieval:
    """Read `include`, `stream`, `starting_after` and `include_obfuscation`.

    Raises:
        InvalidRequest: one of them cannot be used; `param` says which.
    """
    return Retrieval(
        include=shown(query),
        stream=_boolean(query, "stream"),
        starting_after=_integer(query, "starting_after", least=0),
        obfuscate=_boolean(query, "include_obfuscation"),
    )


def shown(query: Query) -> frozenset[str]:
    """Read `include`, in either spelling.

    Raises:
        InvalidRequest: a value that the protocol does not know.
    """
    values = [*query.getall("include[]", ()), *query.getall("include", ())]
    for value in values:
        if value not in INCLUDES:
            raise _not_one_of("include", value, sorted(INCLUDES))
    return frozenset(values)


def _boolean(query: Query, name: str) -> bool:
    value = query.get(name)
    if value is not None and value not in ("true", "false"):
        raise _not_one_of(name, value, ("true", "false"))
    return value == "true"


def _integer(query: Query, name: str, *, least: int, most: int | None = None) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= MAX_DIGITS):
        raise InvalidRequest(
            f"'{name}' must be an integer, but '{text[:40]}' was given.",
            code="invalid_type",
            param=name,
        )
    number = int(text)
    if number < least:
        raise InvalidRequest(
            f"'{name}' must be at least {least}, but {number} was given.",
            code="integer_below_min_value",
            param=name,
        )
    if most is not None and number > most:
        raise InvalidRequest(
            f"'{name}' must be at most {most}, but {number} was given.",
            code="integer_above_max_value",
            param=name,
        )
    return number


def _not_one_of(name: str, value: str, allowed: Iterable[str]) -> InvalidRequest:
    names = ", ".join(f"'{one}'" for one in allowed)
    return InvalidRequest(
        f"'{name}' must be one of {names}, but '{value[:40]}' was given.", param=name
    )
