"""Cline's CLI, over HTTP; it has no WebSocket mode.

Its model only talks: none of Cline's tools is on the list of harmless ones.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.clients.conftest import Program, Proven
from tests.clients.install import npm
from tests.clients.loop import sse_responses
from tests.clients.tape import Tape

VERSION = "3.0.65"


async def test_cline(tape: Tape, program: Program, proven: Proven, tmp_path: Path) -> None:
    """A task is answered over HTTP, streamed."""
    modules = npm("cline", [f"cline@{VERSION}"]) / "node_modules" / "@cline"
    binary = modules / "cli-linux-x64" / "bin" / "cline"
    settings = ["-p", "openai-native", "-k", "any", "-m", "harmless", "-b", f"{tape.url}/v1"]
    await program([binary, "auth", *settings])
    options = ["--plan", "--auto-approve", "false", "--json", "--timeout", "60"]
    hub = tmp_path / "hub.json"
    try:
        printed = await program(
            [binary, *options, "Plan the day."], {"CLINE_HUB_DISCOVERY_PATH": str(hub)}
        )
    finally:
        # It leaves a process behind, for those to come.
        if hub.exists():
            os.kill(json.loads(hub.read_text())["pid"], signal.SIGTERM)
    tape.check_clean()
    assert [] == tape.sockets
    (response,) = sse_responses(tape)
    (said,) = response["output"]
    result = json.loads(printed.strip().splitlines()[-1])
    assert ("completed", said["content"][0]["text"]) == (result["finishReason"], result["text"])
    proven("Cline CLI", VERSION, "HTTP", "a task in plan mode, streamed; no tools")
