"""What a run of benches leaves: a table for people, a JSON line for machines."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.measure import Bench, Result

__all__ = ["RESULTS", "machine", "print_table", "record"]

RESULTS: Final = Path(__file__).with_name("results")
PACKAGES: Final = ("aiohttp", "llguidance", "msgspec", "tokenizers", "uvloop")


def machine() -> dict[str, Any]:
    """What the numbers depend on, apart from our code. Names no machine."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit that was measured, with a `+` if files differ from it; None outside of git."""
    git = ["git", "-C", str(RESULTS.parent)]
    try:
        name = _output([*git, "rev-parse", "--short=12", "HEAD"]).strip()
        changed = _output([*git, "status", "--porcelain", "--untracked-files=no", "--", "../src"])
    except (OSError, subprocess.CalledProcessError):
        return None
    return name + ("+" if changed.strip() else "")


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def record(bench: Bench, results: Iterable[Result], *, quick: bool) -> bytes:
    """One run of one bench as a JSON line."""
    return msgspec.json.encode(
        {
            "bench": bench.name,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "quick": quick,
            "machine": machine(),
            "results": list(results),
        }
    )


def print_table(bench: Bench, results: Iterable[Result], console: Console) -> None:
    """Print the question, what is fixed, and each number next to its bar."""
    console.print(f"\n[bold]{bench.name}[/bold]: {bench.question}")
    console.print(f"fixed: {bench.fixed}\nvaries: {bench.varies}", style="dim", highlight=False)
    table = Table("case", box=None, pad_edge=False)
    for heading in ("median", "best"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    table.add_column("wanted", justify="right")
    table.add_column("")
    verdicts = {None: "", True: "[green]holds[/green]", False: "[red]missed[/red]"}
    for one in results:
        sign = "<=" if one.bar_is == "most" else ">="
        table.add_row(
            one.case,
            _number(one.value),
            "" if one.best is None else _number(one.best),
            one.unit,
            "" if one.bar is None else f"{sign} {_number(one.bar)}",
            verdicts[one.holds],
        )
    console.print(table)


def _number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1e}"
