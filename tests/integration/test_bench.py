"""The benches run and answer: what they measure here says nothing, that they measure does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("name", ["parts", "render", "request", "load", "chat"])
def test_a_bench_gives_one_json_line_of_numbers(name: str) -> None:
    """Each bench checks its own premises and prints its results with what they depend on."""
    done = bench(name, "--quick", "--json")
    assert (0, "") == (done.returncode, done.stderr)
    (line,) = done.stdout.splitlines()
    record = json.loads(line)
    assert (name, True) == (record["bench"], record["quick"])
    assert {"cpu", "cores", "system", "python", "packages"} == set(record["machine"])
    assert len(record["results"]) > 4
    assert all(result["value"] > 0 and result["unit"] for result in record["results"])


def test_a_bench_that_is_not_there_is_refused_by_name() -> None:
    """A slip in a name ends with the names there are."""
    done = bench("rendre")
    assert 2 == done.returncode
    for name in ("parts", "render", "request", "load", "chat"):
        assert name in done.stderr


def test_the_table_shows_each_bar_beside_its_number() -> None:
    """A person sees what is wanted, and whether it holds."""
    done = bench("render", "--quick")
    assert 0 == done.returncode
    assert "Does rendering a turn cost what is new" in done.stdout
    assert any("<= 1.5" in line and "incremental" in line for line in done.stdout.splitlines())
