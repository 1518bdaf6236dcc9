"""Measure: `python -m bench [NAME ...] [--quick] [--json] [--save]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from bench.catalog import BENCHES
from bench.report import RESULTS, print_table, record
from bench.soak import main as soak


def main() -> int:
    """Run the benches that were named, or all of them; the exit status is for failures only."""
    if sys.argv[1:2] == ["soak"]:
        return soak(sys.argv[2:])  # not a bench among others: it has a size, and takes minutes
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(f"{name}: {bench.question}" for name, bench in BENCHES.items())
    parser.epilog += "\n\nsoak: thousands of connections for minutes; see `soak --help`"
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="seconds, to see that they work")
    parser.add_argument("--json", action="store_true", help="one JSON line per bench, no table")
    parser.add_argument("--save", action="store_true", help=f"append to {RESULTS.name}/NAME.jsonl")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in BENCHES]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if len(args.names) == 1:
        _measure(args.names[0], quick=args.quick, as_json=args.json, save=args.save)
        return 0
    # Each in a process of its own: one bench's heap and caches are not the next one's.
    flags = [f"--{flag}" for flag in ("quick", "json", "save") if getattr(args, flag)]
    codes = [
        subprocess.run([sys.executable, "-m", "bench", name, *flags], cwd=_root()).returncode
        for name in args.names or BENCHES
    ]
    return max(codes)


def _measure(name: str, *, quick: bool, as_json: bool, save: bool) -> None:
    bench = BENCHES[name]
    results = bench.run(quick)
    line = record(bench, results, quick=quick)
    if as_json:
        print(line.decode(), flush=True)
    else:
        print_table(bench, results, Console(width=120))
    if save:
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"{name}.jsonl").open("ab") as file:
            file.write(line + b"\n")


def _root() -> Path:
    return Path(__file__).parents[1]


if __name__ == "__main__":
    sys.exit(main())
