"""Cline's CLI, over HTTP; it has no WebSocket mode.

Its model calls `team_status` and nothing else: that tool has no arguments and changes nothing.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import Program, Proven
from tests.clients.install import npm
from tests.clients.loop import check_rounds, sse_responses
from tests.clients.steady import NUM_ROUNDS
from tests.clients.tape import Tape

VERSION = "3.0.65"


async def run(tape: Tape, program: Program, folder: Path, *options: str) -> dict[str, Any]:
    """Give it a task; what it reports last."""
    modules = npm("cline", [f"cline@{VERSION}"]) / "node_modules" / "@cline"
    binary = modules / "cli-linux-x64" / "bin" / "cline"
    settings = ["-p", "openai-native", "-k", "any", "-m", "harmless", "-b", f"{tape.url}/v1"]
    await program([binary, "auth", *settings])
    hub = folder / "hub.json"
    try:
        printed = await program(
            [binary, *options, "--json", "--timeout", "60", "Plan the day."],
            {"CLINE_HUB_DISCOVERY_PATH": str(hub)},
        )
    finally:
        # It leaves a process behind, for those to come.
        if hub.exists():
            os.kill(json.loads(hub.read_text())["pid"], signal.SIGTERM)
    tape.check_clean()
    assert [] == tape.sockets
    result: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return result


@pytest.mark.parametrize(
    ("mode", "options"),
    [("act", ["--auto-approve", "true"]), ("plan", ["--plan", "--auto-approve", "false"])],
    ids=["act", "plan"],
)
async def test_cline(
    tape: Tape, program: Program, proven: Proven, tmp_path: Path, mode: str, options: list[str]
) -> None:
    """It runs the tool as often as the model calls it, and sends back what came of it."""
    result = await run(tape, program, tmp_path, *options)
    said = check_rounds([post.create for post in tape.posts], sse_responses(tape), "team_status")
    assert ("completed", said) == (result["finishReason"], result["text"])
    assert NUM_ROUNDS + 1 == result["iterations"]
    fact = f"a task in {mode} mode, unattended: tool rounds, streamed"
    proven("Cline CLI", VERSION, "HTTP", fact)
