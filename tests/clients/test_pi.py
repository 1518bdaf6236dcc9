"""pi, the coding agent, over HTTP; its WebSocket mode is for another path than the API's.

Its own tools are off. The one it has comes from an extension, and changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.conftest import Program, Proven
from tests.clients.install import node, npm
from tests.clients.loop import check_told, sse_responses
from tests.clients.tape import Tape

PACKAGE = "@earendil-works/pi-coding-agent"
VERSION = "1.6.0"
EXTENSION = Path(__file__).parent / "programs" / "pi_weather.mjs"


async def test_pi(tape: Tape, program: Program, proven: Proven, tmp_path: Path) -> None:
    """Two questions, each with a tool round, are streamed over HTTP and resent whole."""
    folder = npm("pi", [f"{PACKAGE}@{VERSION}"]) / "node_modules" / PACKAGE
    models = tmp_path / "pi" / "models.json"
    models.parent.mkdir()
    provider = {"baseUrl": f"{tape.url}/v1", "api": "openai-responses", "apiKey": "any"}
    told = {"providers": {"turnwire": {**provider, "models": [{"id": "sim"}]}}}
    models.write_text(json.dumps(told))
    printed = await program(
        [
            *(node(), folder / "dist" / "bundle" / "cli.js"),
            *("--provider", "turnwire", "--model", "sim", "--mode", "json"),
            *("--no-builtin-tools", "--no-extensions", "-e", EXTENSION),
            *("Where is it warm?", "And where is it cold?"),
        ],
        {"PI_CODING_AGENT_DIR": str(models.parent), "PI_OFFLINE": "1", "PI_TELEMETRY": "0"},
    )
    tape.check_clean()
    assert [] == tape.sockets
    events = [json.loads(line) for line in printed.splitlines()]
    messages = [
        event["message"]
        for event in events
        if event["type"] == "turn_end" and event["message"]["stopReason"] == "stop"
    ]
    answers = ["".join(part["text"] for part in message["content"]) for message in messages]
    calls = [event["args"] for event in events if event["type"] == "tool_execution_start"]
    check_told(sse_responses(tape), json.dumps({"answers": answers, "calls": calls}))
    proven(f"pi (`{PACKAGE}`)", VERSION, "HTTP", "tool rounds in two turns, streamed")
