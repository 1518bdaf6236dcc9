"""Where does the server's time go under load? Its functions by their own time, with cProfile.

cProfile makes many small calls look dearer than they are: use it to find what is called, and
how often, and the load bench to see what a change is worth. Run: python -m bench.load.profile
"""

from __future__ import annotations

import argparse
import pstats
import tempfile
from pathlib import Path

from bench.load.drive import Arm, load

__all__: list[str] = []


def main() -> None:
    """Profile one arm and print the functions that took most, per turn of the whole run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--transport", choices=["ws", "sse"], default="ws")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--sec", type=float, default=5.0)
    parser.add_argument("--top", type=int, default=40)
    args = parser.parse_args()
    arm = Arm(transport=args.transport, store=args.store, connections=args.connections)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "server.prof"
        seen = load(arm, sec=args.sec, profile=file)
        print(f"{arm}: {seen.cpu_ms_per_turn:.3f} ms CPU a turn under the profiler")
        pstats.Stats(str(file)).strip_dirs().sort_stats("tottime").print_stats(args.top)


if __name__ == "__main__":
    main()
