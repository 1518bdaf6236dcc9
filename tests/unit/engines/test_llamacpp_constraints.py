"""Tests of `turnwire.engines.llamacpp_constraints`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from turnwire.constraint import Constraint
from turnwire.engines.base import Generation
from turnwire.engines.constrain import GrammarError
from turnwire.engines.llamacpp_constraints import Constraints
from turnwire.engines.llamacpp_grammar import Dialect
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import EngineError
from turnwire.tokens import EMPTY

STOP = frozenset({0, 2})
PROPERTIES: dict[str, Any] = {f"property_{n}": {"type": "string"} for n in range(200)}
SCHEMA = {"type": "object", "properties": PROPERTIES, "required": list(PROPERTIES)}
LARGE = Constraint(grammar=f"start: %json {json.dumps(SCHEMA)}\n")
YES = Constraint(grammar='start: "yes"\n')


def asking(constraint: Constraint | None, last: int = 30) -> Generation:
    """A request with this constraint."""
    return Generation(prompt=EMPTY.extend([last]), stop=STOP, constraint=constraint)


def said(told: bytes) -> dict[str, Any]:
    """The members of a request."""
    members: dict[str, Any] = json.loads(b"{" + told + b"}")
    return members


@pytest.mark.parametrize("dialect", list(Dialect), ids=lambda dialect: str(dialect.value))
async def test_others_go_on_while_a_constraint_is_made_ready(
    vocabulary: Vocabulary, dialect: Dialect
) -> None:
    """A large schema is compiled beside the loop, once, however many ask for it at a time."""
    constraints = await Constraints.over(vocabulary)
    num_steps = 0

    async def step() -> None:
        nonlocal num_steps
        while True:
            await asyncio.sleep(0)
            num_steps += 1

    stepping = asyncio.create_task(step())
    one, two = await asyncio.gather(
        *(constraints.told(asking(LARGE), dialect) for _ in range(2)),
    )
    stepping.cancel()
    assert num_steps > 3
    assert one is two
    assert one is await constraints.told(asking(LARGE), dialect)
    assert (dialect is not Dialect.NONE) is ("grammar" in said(one))


async def test_no_constraint(vocabulary: Vocabulary) -> None:
    """Nothing is told, and nothing is followed."""
    constraints = await Constraints.over(vocabulary)
    assert b"" == await constraints.told(asking(None), Dialect.GBNF)
    assert constraints.follower(asking(None), "server") is None


async def test_dialects_are_kept_apart(vocabulary: Vocabulary) -> None:
    """A server that comes back as another one is told in its own words."""
    constraints = await Constraints.over(vocabulary)
    guidance, gbnf, none = [
        await constraints.told(asking(YES), dialect)
        for dialect in (Dialect.LLGUIDANCE, Dialect.GBNF, Dialect.NONE)
    ]
    assert said(guidance)["grammar"].startswith("%llguidance")
    assert said(gbnf)["grammar"].startswith("root ::=")
    assert {} == said(none)


async def test_where_the_prompt_ends_makes_a_difference(vocabulary: Vocabulary) -> None:
    """A prompt that ends inside of the free span is told otherwise than one that does not."""
    constraints = await Constraints.over(vocabulary)
    spanned = Constraint(grammar=YES.grammar, free_span=(5, 6))
    outside, inside = [
        await constraints.told(asking(spanned, last), Dialect.LLGUIDANCE) for last in (30, 5)
    ]
    assert outside != inside


async def test_followers(vocabulary: Vocabulary) -> None:
    """An output is followed to its end, whichever of the stop tokens that is; others are not."""
    constraints = await Constraints.over(vocabulary)
    await constraints.told(asking(YES), Dialect.NONE)
    yes = list(vocabulary.encode("yes"))
    for stop in STOP:
        follower = constraints.follower(asking(YES), "server")
        assert follower is not None
        follower.follow([*yes, stop])
    for wrong in ([*vocabulary.encode("no")], [min(STOP)], [*yes, *yes]):
        follower = constraints.follower(asking(YES), "server")
        assert follower is not None
        with pytest.raises(EngineError, match="the server did not obey"):
            follower.follow(wrong)


async def test_a_grammar_that_does_not_compile(vocabulary: Vocabulary) -> None:
    """It fails each time it is asked for, and the next one is made ready."""
    constraints = await Constraints.over(vocabulary)
    for _ in range(2):
        with pytest.raises(GrammarError, match="does not compile"):
            await constraints.told(asking(Constraint(grammar="start: nowhere\n")), Dialect.NONE)
    assert said(await constraints.told(asking(YES), Dialect.GBNF))
