"""The table of clients: which version of which was seen to do what, by these tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from msgspec import Struct

__all__ = ["MATRIX", "Proof", "write_matrix"]

HEAD: Final = """\
# Clients that were seen to work

Written by `make test-clients`, which installs each client as its makers publish it, unmodified,
and lets it talk to a server while a proxy between them notes what is said. "Tool rounds" are two
in each turn, of two parallel calls each (one call with Pipecat), all of them carried out.
[How to point them at your server](../how-to/point-a-client.md).

| client | version | transport | what was seen |
|---|---|---|---|
"""


class Proof(Struct, frozen=True, order=True):
    """One line of the table.

    Attributes:
        client: Its name.
        version: As its registry counts.
        transport: WebSocket, or HTTP.
        fact: What the test saw.
    """

    client: str
    version: str
    transport: str
    fact: str


MATRIX: Final = pytest.StashKey[list[Proof]]()


def write_matrix(path: Path, proofs: Sequence[Proof]) -> None:
    """Write the page, lines in order of their names."""
    rows = sorted(proofs, key=lambda proof: (proof.client.lower(), proof))
    lines = [f"| {p.client} | {p.version} | {p.transport} | {p.fact} |\n" for p in rows]
    path.write_text(HEAD + "".join(lines), encoding="utf-8")
