"""Attack for a while: `python -m fuzz [NAME] [--seconds N] [--seed S]`.

Without a name all targets are attacked, one after the other. Inputs that break one are kept in
`fuzz/findings`; `python -m fuzz NAME --replay FILE` plays one of them again.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fuzz.attack import Target, attack, replay
from fuzz.codec import Codec
from fuzz.connection import Connections
from fuzz.http import Http
from fuzz.websocket import WebSockets

TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "codec": Codec,
    "connection": Connections,
    "websocket": WebSockets,
    "http": Http,
}


def main() -> int:
    """Return 1 if something broke."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="of the mutations")
    parser.add_argument("--replay", type=Path, help="play this one input")
    told = parser.parse_args()
    if told.replay is not None:
        if told.name == "all":
            parser.error("--replay needs the name of a target")
        print(replay(TARGETS[told.name](), told.replay.read_bytes()))
        return 0
    seed = told.seed if told.seed is not None else random.randrange(2**32)
    print(f"seed {seed}", flush=True)
    broken = 0
    for name in TARGETS if told.name == "all" else [told.name]:
        report = attack(name, TARGETS[name](), seconds=told.seconds, seed=seed)
        broken += len(report.findings)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
