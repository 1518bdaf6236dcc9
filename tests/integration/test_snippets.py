"""The programs in the documentation run as they stand, against a real server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from tests.integration.serving import config, serving

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/start.md", "docs/how-to/point-a-client.md")
ADDRESS = "http://127.0.0.1:8787"
PROGRAMS = [
    pytest.param(program, id=f"{page}-{number}")
    for page in PAGES
    for number, program in enumerate(
        re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    )
]
LIMIT_SEC = 60


@pytest.mark.parametrize("program", PROGRAMS)
async def test_programs_of_the_documentation_run(program: str, tmp_path: Path) -> None:
    """A program that a page shows ends without an error and prints what it was told."""
    assert ADDRESS in program
    async with serving(config(tmp_path)) as server:
        # The simulated models differ in speed only; here the fast one is enough.
        text = program.replace(ADDRESS, server.url).replace('"sim-1000"', '"sim"')
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            text,
            env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(LIMIT_SEC):
            output, errors = await process.communicate()
    assert (0, b"") == (process.returncode, errors)
    assert output.strip()


def test_every_page_has_a_program() -> None:
    """The pages are where the programs are looked for."""
    assert len(PROGRAMS) >= len(PAGES)
