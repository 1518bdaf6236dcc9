"""What Open Responses asks of a server, its compliance suite above all, over each transport.

The suite (17 cases, 2026-04-24) sends requests and validates the answers against the schemas of
the specification. The cases in `compliance/` ask that, and what else the specification says that a
server can be asked for. They are the tables of the reference, docs/reference/compliance.md.
"""

from __future__ import annotations

from collections import Counter

import pytest
from tests.integration.compliance.page import CASES, Case, tables, written
from tests.integration.compliance.stage import Stage
from tests.integration.compliance.suite import SUITE
from tests.integration.serving import Serving


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_cases(keyed_server: Serving, case: Case) -> None:
    """Each case goes as the specification wants it, over the transports that the page names."""
    stage = Stage(keyed_server)
    await case.play(stage)
    assert set(case.transports) == stage.used


def test_the_suite() -> None:
    """Each case of the suite has one of ours, and none stands for what is not in the suite."""
    assert set(SUITE) == {name for case in CASES for name in case.suite}
    assert [1] * len(CASES) == list(Counter(case.name for case in CASES).values())


def test_the_page() -> None:
    """The reference lists these cases and no others, where they are played and what they ask."""
    assert tables() == written()
